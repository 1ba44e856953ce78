"""The jobs `log`, `events` and `subscribers_count`."""

import json
import time
from typing import Any

import pytest
import trio

from windlass import events
from windlass.engine import Engine, Job, streams
from windlass.engine.errors import BadParameter, Unavailable
from windlass.events.events import BEHIND, KEPT
from windlass.jobs.events import Log


@pytest.fixture
async def engine():
    async with Engine() as engine:
        events.install(engine)
        yield engine


async def replay(engine: Engine, **env: Any) -> list[dict[str, Any]]:
    """Return what the ring holds."""
    job = engine.job("events", **{"since": 0, "until": time.time(), **env})
    job.stdout = capture = streams.Capture()
    await job.run()
    return [json.loads(line) for line in capture.data.splitlines()]


async def listen(engine: Engine, **env: Any) -> tuple[Job[Any], trio.abc.ReceiveStream]:
    job = engine.job("events", **env)
    job.stdout, reader = streams.pipe(1)
    await job.start()
    return job, reader


async def ended(job: Job[Any]) -> None:
    with trio.fail_after(5):
        while job.state == "running":
            await trio.lowlevel.checkpoint()


async def test_an_event_reaches_a_listener_as_one_line_of_json(engine: Engine) -> None:
    job, reader = await listen(engine)
    await engine.call(Log(action="start", id="c1", from_="busybox", attributes={"name": "web"}))
    line = await reader.receive_some()
    job.cancel()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    event = json.loads(line)
    nanoseconds, seconds = event.pop("timeNano"), event.pop("time")
    assert seconds == nanoseconds // 10**9 and abs(seconds - time.time()) < 60
    assert event == {
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "c1", "Attributes": {"name": "web", "image": "busybox"}},
        "scope": "local",
        "status": "start",
        "id": "c1",
        "from": "busybox",
    }


async def test_log_takes_its_arguments_in_1_3s_order(engine: Engine) -> None:
    await engine.job("log", "die", "c1", "busybox").run()
    (event,) = await replay(engine)
    assert (event["Action"], event["Actor"]["ID"], event["from"]) == ("die", "c1", "busybox")


async def test_networks_have_no_legacy_fields(engine: Engine) -> None:
    await engine.call(Log(action="create", id="n1", type="network"))
    (event,) = await replay(engine)
    assert not {"status", "id", "from"} & set(event)


async def test_until_in_the_past_replays_and_ends(engine: Engine) -> None:
    await engine.job("log", "create", "c1").run()
    with trio.fail_after(5):
        assert [event["id"] for event in await replay(engine)] == ["c1"]


async def test_without_since_and_until_nothing_is_replayed(engine: Engine) -> None:
    await engine.job("log", "create", "old").run()
    job, reader = await listen(engine)
    await engine.job("log", "create", "new").run()
    assert json.loads(await reader.receive_some())["id"] == "new"
    job.cancel()


async def test_since_replays_and_goes_on_without_loss_or_doubling(engine: Engine) -> None:
    await engine.job("log", "create", "a").run()
    job, reader = await listen(engine, since=0)
    await engine.job("log", "create", "b").run()
    seen = [json.loads(await reader.receive_some())["id"] for _ in range(2)]
    job.cancel()
    assert seen == ["a", "b"]


async def test_since_leaves_out_what_was_before(engine: Engine) -> None:
    await engine.job("log", "create", "a").run()
    between = time.time_ns()
    await engine.job("log", "create", "b").run()
    since = f"{between // 10**9}.{between % 10**9:09d}"
    assert [event["id"] for event in await replay(engine, since=since)] == ["b"]


async def test_until_in_the_future_ends_the_job(engine: Engine) -> None:
    with trio.fail_after(5):
        job = engine.job("events", until=time.time() + 0.05)
        await job.run()
    assert job.state == "done"


async def test_the_ring_keeps_the_last_256(engine: Engine) -> None:
    for number in range(KEPT + 4):
        await engine.job("log", "create", str(number)).run()
    kept = [event["id"] for event in await replay(engine)]
    assert kept == [str(number) for number in range(4, KEPT + 4)]


async def test_a_listener_that_falls_behind_is_cut_off_and_holds_up_nobody(engine: Engine) -> None:
    job, reader = await listen(engine)
    with trio.fail_after(5):
        for number in range(BEHIND + 10):
            await engine.job("log", "create", str(number)).run()
        while job.state == "running":
            with trio.move_on_after(0.1):
                await reader.receive_some()
    assert isinstance(job.error, Unavailable) and "behind" in job.error.message


async def test_the_job_is_ready_at_once(engine: Engine) -> None:
    with trio.fail_after(1):
        job, _ = await listen(engine)
    job.cancel()


async def test_subscribers_are_counted_while_they_listen(engine: Engine) -> None:
    job, _ = await listen(engine)
    assert (await engine.job("subscribers_count").run()).count == 1
    job.cancel()
    await ended(job)
    assert (await engine.job("subscribers_count").run()).count == 0


async def test_since_after_until_is_refused(engine: Engine) -> None:
    with pytest.raises(BadParameter, match="cannot be after"):
        await engine.job("events", since=20, until=10).run()


async def test_a_time_that_is_none_is_refused(engine: Engine) -> None:
    with pytest.raises(BadParameter, match="'since'"):
        await engine.job("events", since="yesterday").run()


async def test_a_since_in_the_future_replays_nothing_and_goes_on_with_what_happens(engine: Engine) -> None:
    await engine.call(Log(action="start", id="c1"))
    job, reader = await listen(engine, since=time.time() + 3600, until=time.time() + 7200)
    await engine.call(Log(action="die", id="c1"))
    assert json.loads(await reader.receive_some())["Action"] == "die"
    job.cancel()
