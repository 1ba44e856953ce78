"""A rule of one's own for containers that end: the last lines first, then three more tries at most, jittered.

windlass daemon --plugin examples/plugins/supervise.py
"""

import logging
import random

from windlass.engine import Engine, Handler, Job
from windlass.engine.streams import Capture
from windlass.jobs.supervision import Supervise, Verdict


async def patient(job: Job[Supervise], call: Handler) -> Verdict:
    verdict: Verdict = await call(job)
    case = job.params
    if verdict.action != "restart" or case.why != "exit":
        return verdict
    logs = job.engine.job("logs", case.id, stdout=True, stderr=True, tail="5")
    logs.stdout = logs.stderr = last = Capture()
    await logs.run()
    logging.getLogger("supervise").warning("%s ended with %d: %s", case.name, case.exit_code, last.text)
    if case.restarts >= 3:
        return Verdict(gives_up=True)
    return Verdict("restart", verdict.delay * random.uniform(1, 1.5))


def install(engine: Engine) -> None:
    engine.around("supervise", patient)
