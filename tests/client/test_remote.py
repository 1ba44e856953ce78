"""An engine in a daemon: the same calls, the same errors, over a connection."""

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

import windlass
from windlass import events
from windlass.api import serve as api
from windlass.client.remote import RemoteEngine, connect, signatures
from windlass.engine import Commands, Describe, Engine, Job, Portal, Progress, Signature, Warning, errors
from windlass.engine.introspect import JobInfo
from windlass.jobs.events import Count, SubscribersCount


class Local(Signature[None], frozen=True):
    NAME: ClassVar[str] = "local"
    LOCAL: ClassVar[bool] = True


async def upper(job: Job[Any]) -> dict[str, Any]:
    """Copy stdin to stdout, in capitals; count on stderr."""
    job.emit(Progress("begun", current=1))
    job.emit(Warning("loud"))
    await job.ready()
    count = 0
    while job.stdin is not None and (data := await job.stdin.receive_some()):
        count += len(data)
        await job.stdout.send_all(data.upper())
    await job.stderr.send_all(str(count).encode())
    return {"env": job.params.env, "args": job.params.args}


async def fail(job: Job[Any]) -> None:
    raise errors.from_code(job.params.args[0], "as you wish", {"key": "x"})


async def break_(job: Job[Any]) -> None:
    raise ZeroDivisionError("secret")


async def forever(job: Job[Any]) -> None:
    await job.stdout.send_all(b"begun")
    await trio.sleep_forever()


async def local(job: Job[Local]) -> None:
    return None


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with Portal() as portal:
        portal.run(lambda: _install(portal.engine, tmp_path))
        yield portal


async def _install(engine: Engine, tmp_path: Path) -> None:
    api.install(engine)
    events.install(engine)
    for name, handler in {"upper": upper, "fail": fail, "break": break_, "forever": forever, "local": local}.items():
        engine.register(name, handler)
    await engine.job("serveapi", f"unix://{tmp_path}/s").start()
    await engine.job("acceptconnections").run()


@pytest.fixture
def remote(portal: Portal, tmp_path: Path) -> RemoteEngine:
    return windlass.connect(f"unix://{tmp_path}/s")


def running(portal: Portal, name: str) -> list[JobInfo]:
    return [each for each in portal.job("jobs").run() if each.name == name]


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_results_have_their_types(remote: RemoteEngine) -> None:
    assert remote.job("subscribers_count").run() == Count(0)
    assert remote.call(SubscribersCount()) == Count(0)
    assert "upper" in remote.call(Commands())
    assert remote.call(Describe(name="upper")).doc.startswith("Copy stdin")
    assert isinstance(remote.job("jobs").run()[0], JobInfo)


def test_streams_are_bytes_or_files(remote: RemoteEngine) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    remote.job("upper").run(stdin=b"abc", stdout=out, stderr=err)
    assert (out.getvalue(), err.getvalue()) == (b"ABC", b"3")
    assert remote.job("upper").output(b"quiet") == b"QUIET"
    big = b"x" * 3_000_000
    assert remote.job("upper").output(big) == big.upper()


def test_arguments_and_env_arrive_as_they_are(remote: RemoteEngine) -> None:
    result = remote.job("upper", "a", Key={"n": 2**60, "l": [None, True, 1.5]}).run()
    assert result == {"args": ["a"], "env": {"Key": {"n": 2**60, "l": [None, True, 1.5]}}}


def test_events_and_warnings_are_told_while_the_job_runs(remote: RemoteEngine) -> None:
    told: list[Any] = []
    job = remote.job("upper")
    job.run(on_event=told.append)
    assert told == [Progress("begun", current=1), Warning("loud")]
    assert (job.warnings, job.state, job.exit_status) == (["loud"], "done", 0)


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_errors_keep_their_class_and_details(remote: RemoteEngine, code: str) -> None:
    job = remote.job("fail", code)
    with pytest.raises(errors.BY_CODE[code]) as caught:
        job.run()
    assert (caught.value.code, caught.value.message, caught.value.detail) == (code, "as you wish", {"key": "x"})
    assert job.exit_status == caught.value.exit_status


def test_our_own_faults_are_internal_and_tell_no_secrets(remote: RemoteEngine) -> None:
    with pytest.raises(errors.Internal) as caught:
        remote.job("break").run()
    assert "secret" not in str(caught.value)


def test_refusals_before_the_job_are_errors_too(remote: RemoteEngine) -> None:
    with pytest.raises(errors.NoSuchJob, match="no such job: b c"):
        remote.job("b c").run()
    with pytest.raises(errors.Denied, match="own process"):
        remote.job("local").run()
    with pytest.raises(errors.BadParameter, match="did you mean 'name'"):
        remote.job("describe", nam="x").run()
    with pytest.raises(errors.BadParameter, match="at most 1 argument"):
        remote.job("describe", "a", "b").run()


def test_text_is_parsed_where_the_job_runs(remote: RemoteEngine) -> None:
    with pytest.raises(errors.NotFound, match="no such job running: 999"):
        remote.parse_job("cancel id=999").run()
    with pytest.raises(errors.BadParameter):
        remote.job("cancel", id="999").run()


def test_cancel_ends_the_job_over_there(portal: Portal, remote: RemoteEngine) -> None:
    job = remote.job("forever")
    threading.Timer(0.1, job.cancel).start()
    with pytest.raises(errors.Cancelled):
        job.run()
    assert (job.state, running(portal, "forever")) == ("cancelled", [])


def test_ctrl_c_ends_the_job_over_there(portal: Portal, remote: RemoteEngine) -> None:
    class Interrupting(io.BytesIO):
        def write(self, data: Any) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.job("forever").run(stdout=Interrupting())
    wait_until(lambda: not running(portal, "forever"))


def test_a_job_runs_once(remote: RemoteEngine) -> None:
    job = remote.job("commands")
    job.run()
    with pytest.raises(errors.Conflict, match="already ran"):
        job.run()


def test_a_daemon_that_goes_away_is_unavailable(portal: Portal, remote: RemoteEngine) -> None:
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            remote.job("forever").run()
        except errors.JobError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: running(portal, "forever"))
    portal.run(lambda: portal.engine.shutdown(grace=0.1))
    thread.join(10)
    assert isinstance(outcome[0], errors.Unavailable | errors.Cancelled)


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="cannot connect to the daemon at unix://"):
        connect(f"unix://{tmp_path}/none").job("commands").run()


def test_the_host_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portal: Portal
) -> None:
    monkeypatch.setenv("WINDLASS_HOST", f"unix://{tmp_path}/s")
    with connect() as engine:
        assert "upper" in engine.job("commands").run()


def test_every_signature_of_the_vocabulary_is_known() -> None:
    assert {"create", "info", "events", "commands", "images"} <= set(signatures())
