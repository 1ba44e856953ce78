"""The blocking view: for scripts, without async."""

import io
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from windlass.engine import Commands, Engine, Job, Portal, Progress, Warning
from windlass.engine.errors import BadParameter, Cancelled, Conflict, NoSuchJob, Unavailable


async def upper(job: Job[Any]) -> int:
    """Copy stdin to stdout, in capitals."""
    count = 0
    job.emit(Progress("begun"))
    job.emit(Warning("loud"))
    while job.stdin is not None and (data := await job.stdin.receive_some()):
        count += len(data)
        await job.stdout.send_all(data.upper())
    return count


async def forever(job: Job[Any]) -> None:
    await job.ready("ready")
    await trio.sleep_forever()


@pytest.fixture
def portal() -> Any:
    with Portal() as portal:
        portal.register("upper", upper)
        portal.register("forever", forever)
        yield portal


def test_a_job_blocks_until_its_result(portal: Portal) -> None:
    job = portal.job("commands")
    assert "upper" in job.run()
    assert (job.state, job.exit_status) == ("done", 0)
    assert portal.call(Commands()) == portal.parse_job("commands").run()


def test_streams_are_bytes_or_files(portal: Portal) -> None:
    out = io.BytesIO()
    assert portal.job("upper").run(stdin=b"abc", stdout=out) == 3
    assert out.getvalue() == b"ABC"
    assert portal.job("upper").run(stdin=io.BytesIO(b"x" * 100_000), stdout=io.BytesIO()) == 100_000
    assert portal.job("upper").output(b"quiet") == b"QUIET"


def test_events_and_warnings_are_told(portal: Portal) -> None:
    told: list[Any] = []
    job = portal.job("upper")
    job.run(on_event=told.append)
    assert told == [Progress("begun"), Warning("loud")] and job.warnings == ["loud"]


def test_errors_are_raised_in_the_script(portal: Portal) -> None:
    with pytest.raises(NoSuchJob):
        portal.job("nope").run()
    with pytest.raises(BadParameter):
        portal.job("describe").run()
    with pytest.raises(Conflict):
        portal.register("upper", upper)


def test_wrappers_work_from_a_script(portal: Portal) -> None:
    async def zero(job: Job[Any], call: Any) -> int:
        return 0

    portal.around("upper", zero)
    assert portal.job("upper").run() == 0


def test_a_service_lives_between_calls(portal: Portal) -> None:
    job = portal.job("forever")
    assert job.start() == "ready"
    assert "forever" in [each.name for each in portal.job("jobs").run()]
    job.cancel()
    while job.state == "running":
        time.sleep(0.01)
    assert job.state == "cancelled"


def test_cancel_comes_from_another_thread(portal: Portal) -> None:
    job = portal.job("forever")
    threading.Timer(0.05, job.cancel).start()
    with pytest.raises(Cancelled):
        job.run()


def test_ctrl_c_cancels_the_job_that_the_script_waits_for(portal: Portal) -> None:
    job = portal.job("forever")
    threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        job.run()
    while job.state == "running":
        time.sleep(0.01)
    assert job.state == "cancelled"


def test_a_closed_engine_says_so() -> None:
    portal = Portal()
    job = portal.job("commands")
    portal.close()
    portal.close()
    with pytest.raises(Unavailable, match="closed"):
        job.run()


def test_a_script_that_waits_hears_of_the_engines_end() -> None:
    with Portal() as portal:
        portal.register("forever", forever)
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                portal.run(trio.sleep_forever)
            except Cancelled as exc:
                outcome.append(exc)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
    thread.join(5)
    assert outcome and "closed" in str(outcome[0])


def test_what_fails_at_the_start_is_raised_in_the_script() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Engine]:
        async with Engine():
            raise Conflict("the root is taken")
            yield Engine()

    with pytest.raises(Conflict, match="taken"):
        Portal(broken)


def test_several_portals_live_side_by_side() -> None:
    with Portal() as one, Portal() as two:
        one.register("upper", upper)
        with pytest.raises(NoSuchJob):
            two.job("upper").run()
