"""Ending an engine, in order."""

from typing import Any

import pytest
import trio

from windlass.engine import Engine, Job
from windlass.engine.errors import Cancelled, Unavailable


async def quick(job: Job[Any]) -> str:
    await trio.lowlevel.checkpoint()
    return job.name


async def forever(job: Job[Any]) -> None:
    await trio.sleep_forever()


def an_engine(**handlers: Any) -> Engine:
    engine = Engine()
    for name, handler in {"quick": quick, "forever": forever, **handlers}.items():
        engine.register(name, handler)
    return engine


async def test_an_idle_engine_ends_at_once_and_refuses_afterwards() -> None:
    engine = an_engine()
    assert await engine.job("quick").run() == "quick"
    assert not engine.is_closing
    report = await engine.shutdown()
    assert report.is_clean and engine.is_closing
    job = engine.job("quick")
    with pytest.raises(Unavailable, match="shutting down"):
        await job.run()
    assert (job.state, job.exit_status) == ("failed", 1)


async def test_a_running_job_finishes_and_may_run_children() -> None:
    go = trio.Event()

    async def parent(job: Job[Any]) -> Any:
        await go.wait()
        return await job.engine.job("quick").run()

    engine = an_engine(parent=parent)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            results.append(await engine.job("parent").run())

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(engine.shutdown)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await engine.job("quick").run()
        go.set()
    assert results == ["quick"]


async def test_what_does_not_finish_in_its_grace_is_cancelled(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0
    engine = an_engine()
    job = engine.job("forever")
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(Cancelled):
                await job.run()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        report = await engine.shutdown(grace=3)
    assert report.cancelled == [str(job)] and not report.is_clean
    assert 3 <= trio.current_time() - began < 4


async def test_a_job_that_resists_is_abandoned_and_named(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0

    async def stubborn(job: Job[Any]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    engine = an_engine(stubborn=stubborn)
    job = engine.job("stubborn")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_swallow, job)
        await trio.testing.wait_all_tasks_blocked()
        report = await engine.shutdown(grace=1)
        assert report.abandoned == [str(job)]


async def _swallow(job: Job[Any]) -> None:
    try:
        await job.run()
    except Cancelled:
        return


async def test_services_are_told_to_stop_the_last_first() -> None:
    order: list[str] = []

    async def serve(job: Job[Any]) -> None:
        await job.ready()
        await job.stopping.wait()
        order.append(job.args[0])

    async with an_engine(serve=serve) as engine:
        for name in ("first", "second"):
            await engine.job("serve", name).start()
        report = await engine.shutdown(grace=5)
    assert report.is_clean and sorted(order) == ["first", "second"]


async def test_hooks_run_in_reverse_order_with_the_right_to_run_jobs() -> None:
    """Q4: in 1.3 callbacks could run no job, and the network's rules leaked."""
    engine = an_engine()
    order: list[str] = []

    def hook(name: str) -> Any:
        async def run() -> None:
            order.append(name + await engine.job("quick").run())

        return run

    engine.on_shutdown(hook("a "))
    engine.on_shutdown(hook("b "))
    assert (await engine.shutdown()).is_clean
    assert order == ["b quick", "a quick"]


async def test_a_hook_that_fails_or_hangs_is_named_and_the_others_run(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0
    engine, ran = an_engine(), []

    async def last() -> None:
        ran.append(True)

    async def fails() -> None:
        raise OSError("no space")

    engine.on_shutdown(last)
    engine.on_shutdown(fails, name="fails")
    engine.on_shutdown(trio.sleep_forever, name="hangs", timeout=2)
    report = await engine.shutdown()
    assert ran == [True]
    assert report.failed_hooks == {"fails": "OSError: no space", "hangs": "took longer than 2 s"}


async def test_a_second_caller_waits_for_the_same_report() -> None:
    """Q3: in 1.3 the second call returned at once."""
    engine, reports = an_engine(), []
    go = trio.Event()
    engine.on_shutdown(go.wait, name="slow")

    async def shut() -> None:
        reports.append(await engine.shutdown())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut)
        nursery.start_soon(shut)
        await trio.testing.wait_all_tasks_blocked()
        assert reports == []
        go.set()
    assert len(reports) == 2 and reports[0] is reports[1]


async def test_a_job_may_shut_its_own_engine_down() -> None:
    async def poweroff(job: Job[Any]) -> bool:
        return (await job.engine.shutdown(grace=1)).is_clean

    with trio.fail_after(5):
        assert await an_engine(poweroff=poweroff).job("poweroff").run()


async def test_leaving_the_engines_block_shuts_it_down_even_when_cancelled() -> None:
    ran: list[bool] = []

    async def hook() -> None:
        await trio.lowlevel.checkpoint()
        ran.append(True)

    with trio.move_on_after(0.01):
        async with an_engine() as engine:
            engine.on_shutdown(hook)
            await trio.sleep_forever()
    assert ran == [True]
