"""Starting again what has ended: Docker's restart policies, as the job `supervise`, and the wait before a restart.

    ended ──supervise──▶ nothing                               exited
                     └─▶ restart, after a delay                restarting ──delay──▶ running
                                                                   └── stop, kill, rm -f ──▶ exited

The delay doubles with every restart from 100 ms to a minute, and is forgotten by a run of 10 seconds (moby:
restartmanager). A container's labels may set another curve. What has to be known over the daemon's death is in the
Outcome: how often it was started again, the last delay, and whether a client has stopped it.
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import JobError
from windlass.execdriver.driver import Exit
from windlass.jobs.supervision import Supervise, Verdict, Why
from windlass.lib import duration
from windlass.lib.timestamp import SECOND

from .container import Container, Outcome
from .daemon import Daemon

FIRST, LONGEST, FORGOTTEN = 0.1, 60.0, 10.0  # seconds
FACTOR, MOST = 2.0, 100
LONGEST_OF_ALL = 86400.0  # seconds; what a plugin may ask for at most
PATIENCE = 5.0  # seconds that a plugin has for its verdict

DELAY, DELAY_MAX = "windlass.restart.delay", "windlass.restart.delay-max"
DELAY_FACTOR, DELAY_RESET = "windlass.restart.delay-factor", "windlass.restart.delay-reset"
ON_UNHEALTHY = "windlass.health.on-failure"
WHEN_UNHEALTHY = {
    "none": Verdict(),
    "restart": Verdict("restart"),
    "stop": Verdict("stop"),
    "kill": Verdict("kill"),
}

Starter = Callable[[Daemon, Container], Awaitable[None]]

logger = logging.getLogger("windlass.daemon")


# -- the rule --------------------------------------------------------------------------------------------------------


async def supervise(daemon: Daemon, job: Job[Supervise]) -> Verdict:
    """Decide by the container's restart policy, and by its labels."""
    return judge(job.params)


def judge(case: Supervise) -> Verdict:
    """Docker's rule."""
    if case.why == "unhealthy":
        return WHEN_UNHEALTHY.get(case.labels.get(ON_UNHEALTHY, ""), Verdict())
    match case.policy.Name:
        case "always":
            wanted = True
        case "unless-stopped":
            wanted = not case.stopped
        case "on-failure":
            wanted = case.exit_code != 0 and not case.stopped
        case _:
            wanted = False
    if not wanted:
        return Verdict()
    if case.policy.MaximumRetryCount and case.restarts >= case.policy.MaximumRetryCount:
        return Verdict(gives_up=True)
    return Verdict("restart", 0.0 if case.why == "daemon-start" else next_delay(case))


def next_delay(case: Supervise) -> float:
    """Seconds until the next restart: the first delay after a long run, a longer one than the last after a short."""
    first = max(FIRST, _seconds(case.labels, DELAY, FIRST))
    longest = max(first, _seconds(case.labels, DELAY_MAX, LONGEST))
    if case.last_delay <= 0 or case.ran >= _seconds(case.labels, DELAY_RESET, FORGOTTEN):
        return first
    return min(max(case.last_delay * _factor(case.labels, FACTOR), first), longest)


def _seconds(labels: Mapping[str, str], key: str, otherwise: float) -> float:
    try:
        return duration.parse(labels[key]) / SECOND
    except (KeyError, ValueError):
        return otherwise


def _factor(labels: Mapping[str, str], otherwise: float) -> float:
    try:
        factor = float(labels[DELAY_FACTOR])
    except (KeyError, ValueError):
        return otherwise
    return factor if 1 <= factor <= MOST else otherwise


def warn_of_labels(labels: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Tell which labels of ours say nothing that makes sense; they are left out of account."""
    for key in (DELAY, DELAY_MAX, DELAY_RESET):
        if key in labels and _seconds(labels, key, -1) < 0:
            warn(f'The label {key}={labels[key]:.100} is no duration such as "1m30s": it is ignored.')
    if DELAY_FACTOR in labels and _factor(labels, 0) == 0:
        warn(f"The label {DELAY_FACTOR}={labels[DELAY_FACTOR]:.100} is no number from 1 to {MOST}: it is ignored.")
    if (given := labels.get(ON_UNHEALTHY, "none")) not in WHEN_UNHEALTHY:
        warn(f"The label {ON_UNHEALTHY}={given:.100} is none of {', '.join(WHEN_UNHEALTHY)}: it is ignored.")


# -- asking ----------------------------------------------------------------------------------------------------------


async def ask(daemon: Daemon, container: Container, why: Why, end: Exit | None = None) -> Verdict:
    """Ask `supervise` about a container that has just ended as `end` says, or else as is known.

    Never raises: our own rule holds when nobody else answers in time, or with sense.
    """
    outcome = container.outcome
    finished_ns = end.time_ns if end else outcome.finished_ns
    case = Supervise(
        id=container.id,
        name=container.name,
        why=why,
        policy=container.host.RestartPolicy,
        exit_code=end.code if end else outcome.code,
        oom_killed=end.oom_killed if end else outcome.oom_killed,
        ran=max(0, finished_ns - outcome.started_ns) / SECOND,
        restarts=outcome.restarts,
        last_delay=outcome.delay,
        stopped=outcome.stopped,
        labels=container.config.Labels,
    )
    verdict: object = "no answer"
    with trio.move_on_after(PATIENCE):
        try:
            verdict = await daemon.engine.call(case)
        except JobError as exc:
            verdict = exc
    if isinstance(verdict, Verdict) and math.isfinite(verdict.delay):
        return msgspec.structs.replace(verdict, delay=min(max(verdict.delay, 0.0), LONGEST_OF_ALL))
    logger.warning("supervise does not decide about container %s, so its policy does: %s", container.id, verdict)
    return judge(case)


# -- the wait before a restart ---------------------------------------------------------------------------------------


async def back_off(daemon: Daemon, container: Container, delay: float, start: Starter) -> None:
    """Start a container that is restarting, after `delay` seconds, unless that is called off meanwhile."""
    exits = container.exits

    def is_on() -> bool:
        return container.is_restarting and container.exits == exits

    with trio.move_on_after(delay):
        while is_on():
            await container.changed.wait()
    async with container.lock:
        if is_on():
            await _start_again(daemon, container, start)


async def _start_again(daemon: Daemon, container: Container, start: Starter) -> None:
    """Start it, or give up, as Docker does."""
    try:
        await start(daemon, container)
    except Exception as exc:
        trace = None if isinstance(exc, JobError) else exc
        logger.error("container %s could not be started again: %s", container.id, exc, exc_info=trace)
        if container.is_restarting:
            container.note_end_of_restarts()
        await daemon.tell(container, "give_up", exitCode=str(container.outcome.code))


async def call_off(daemon: Daemon, container: Container) -> bool:
    """Let a container that is restarting be as it ended, for good. False when it is not restarting."""
    if not container.is_restarting:
        return False
    async with container.lock:
        if not container.is_restarting:
            return False
        container.note_end_of_restarts()
    return True


# -- what a client wants ---------------------------------------------------------------------------------------------


async def note_stop(daemon: Daemon, container: Container) -> None:
    """Remember that a client wants it stopped, before it is: the next daemon is to know it, too."""
    await _remember(daemon, container, msgspec.structs.replace(container.outcome, stopped=True))


async def note_start(daemon: Daemon, container: Container) -> None:
    """Remember that a client wants it to run; its restarts are counted anew."""
    await _remember(daemon, container, msgspec.structs.replace(container.outcome, stopped=False, restarts=0, delay=0.0))


async def _remember(daemon: Daemon, container: Container, outcome: Outcome) -> None:
    """Keep an outcome; durably where it decides what the next daemon does. A full disk is no reason not to stop."""
    if outcome == container.outcome:
        return
    container.outcome = outcome
    if container.host.RestartPolicy.Name in ("", "no"):
        return
    with trio.CancelScope(shield=True):
        try:
            await daemon.store.save_outcome(container.id, outcome)
        except sqlite3.Error as exc:
            logger.error("what is wanted of container %s could not be written down: %s", container.id, exc)
