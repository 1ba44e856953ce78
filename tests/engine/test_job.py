"""One invocation: state, cancellation, deadlines, events, readiness."""

from typing import Any, ClassVar

import pytest
import trio

from windlass.engine import Engine, Job, Peer, Progress, Signature, Warning
from windlass.engine.errors import BadParameter, Cancelled, Conflict, DeadlineExceeded


class Login(Signature[None], frozen=True):
    NAME: ClassVar[str] = "login"
    SECRET: ClassVar[frozenset[str]] = frozenset({"password"})
    user: str
    password: str = ""


async def login(job: Job[Login]) -> None:
    return None


async def forever(job: Job[Any]) -> None:
    await trio.sleep_forever()


def an_engine(**handlers: Any) -> Engine:
    engine = Engine()
    for name, handler in handlers.items():
        engine.register(name, handler)
    return engine


async def test_a_job_runs_once() -> None:
    job = an_engine(login=login).job("login", "me")
    await job.run()
    with pytest.raises(Conflict, match="already ran"):
        await job.run()
    assert (job.state, job.exit_status) == ("done", 0)


async def test_the_handler_is_looked_up_when_the_job_runs() -> None:
    engine = Engine()
    job = engine.job("login", "me")
    engine.register("login", login)
    await job.run()
    assert job.params == Login(user="me")


async def test_cancel_ends_the_job_and_says_so() -> None:
    job = an_engine(forever=forever).job("forever")
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(Cancelled, match="was cancelled"):
                await job.run()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        job.cancel()
        job.cancel()
    assert (job.state, job.exit_status) == ("cancelled", 1)


async def test_cancel_comes_from_any_thread() -> None:
    job = an_engine(forever=forever).job("forever")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, lambda: trio.from_thread.run_sync(lambda: None))
        nursery.start_soon(_cancel_in_thread, job)
        with trio.fail_after(5), pytest.raises(Cancelled):
            await job.run()


async def _cancel_in_thread(job: Job[Any]) -> None:
    await trio.testing.wait_all_tasks_blocked()
    await trio.to_thread.run_sync(job.cancel)


async def test_a_job_cancelled_before_it_runs_does_nothing() -> None:
    job = an_engine(forever=forever).job("forever")
    job.cancel()
    with trio.fail_after(5), pytest.raises(Cancelled):
        await job.run()


async def test_the_callers_own_cancellation_passes_through() -> None:
    job = an_engine(forever=forever).job("forever")
    with trio.move_on_after(0.01) as scope:
        await job.run()
    assert scope.cancelled_caught and job.state == "cancelled"


async def test_a_deadline_is_told_apart(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0
    job = Job(an_engine(forever=forever), "forever", deadline=2.5)
    with pytest.raises(DeadlineExceeded, match=r"2\.5 s"):
        await job.run()
    assert job.state == "cancelled"


async def test_a_warning_is_told_and_kept() -> None:
    async def warn(job: Job[Any]) -> None:
        job.emit(Warning("mind the gap"))
        job.emit(Progress("pulling"))

    told: list[Any] = []
    job = an_engine(warn=warn).job("warn")
    job.on_event = told.append
    await job.run()
    assert told == [Warning("mind the gap"), Progress("pulling")]
    assert job.warnings == ["mind the gap"]


async def test_ready_calls_back_once() -> None:
    async def serve(job: Job[Any]) -> None:
        await job.ready(1)
        await job.ready(2)

    values: list[Any] = []

    async def on_ready(value: Any) -> None:
        values.append(value)

    job = an_engine(serve=serve).job("serve")
    job.on_ready = on_ready
    await job.run()
    assert (values, job.ready_value, job.is_ready) == ([1], 1, True)


async def test_streams_are_lent_and_never_closed() -> None:
    class Sink(trio.abc.SendStream):
        closed = False

        async def send_all(self, data: Any) -> None:
            await trio.lowlevel.checkpoint()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            self.closed = True

    job = an_engine(login=login).job("login", "me")
    job.stdout = sink = Sink()
    await job.run()
    assert not sink.closed


async def test_env_shows_bound_arguments_and_hides_secrets() -> None:
    job = an_engine(login=login).job("login", "me", password="hunter2")
    assert job.env == {"user": "me", "password": "hunter2"}
    assert job.shown_env == {"user": "me", "password": "***"}
    assert job.args == ("me",)


async def test_too_many_arguments_are_refused_where_the_job_runs() -> None:
    job = an_engine(login=login).job("login", 1, 2, 3)
    assert job.shown_env == {}
    with pytest.raises(BadParameter, match="at most 2 arguments, got 3"):
        await job.run()


async def test_children_inherit_who_asked() -> None:
    seen: list[Any] = []

    async def outer(job: Job[Any]) -> None:
        await job.engine.job("inner").run()

    async def inner(job: Job[Any]) -> None:
        seen.append(job.peer)

    peer = Peer(pid=1, uid=1000, gid=1000)
    await Job(an_engine(outer=outer, inner=inner), "outer", peer=peer).run()
    assert seen == [peer]


async def test_ids_count_up() -> None:
    engine = Engine()
    assert engine.job("a").id < engine.job("b").id
