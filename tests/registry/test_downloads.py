"""Layers on their way in: resumed, shared, cancelled, bounded."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import pytest
import trio

from tests.registry.conftest import Engines
from tests.registry.server import Answer, Server, times, until
from tests.support.images import Tar, digest, layer
from windlass.engine.errors import JobError

pytestmark = [pytest.mark.root, pytest.mark.slow]

PATH = "a/b"
MEBI = 1 << 20


@pytest.fixture(scope="module")
def big() -> bytes:
    """Return the tar of a layer of 20 MiB that nothing compresses."""
    tar = Tar()
    tar.file("data", os.urandom(20 * MEBI))
    return tar.finish()


def blob(data: bytes) -> str:
    return f"/v2/{PATH}/blobs/{digest(data)}"


@pytest.mark.parametrize("percent", [10, 50, 99])
async def test_a_cut_layer_goes_on_where_it_was_cut(images: Engines, server: Server, big: bytes, percent: int) -> None:
    server.image(PATH, [big], how="plain")
    server.rules = [(digest(big), times(1, Answer(body=big, cut=len(big) * percent // 100)))]
    told = await images.pull(f"{server.host}/{PATH}")
    assert any("Retrying in" in line for line in told)
    assert server.sent <= len(big) * 1.05
    ranges = [asked.headers.get("range", "") for asked in server.asked if digest(big) in asked.path]
    assert ranges[0] == "" and int(ranges[1][6:-1]) >= len(big) * (percent - 5) // 100
    assert len(await images.list()) == 1


async def test_a_registry_without_ranges_sends_it_all_again(images: Engines, server: Server, big: bytes) -> None:
    server.image(PATH, [big], how="plain")
    server.answers[blob(big)] = Answer(body=big, ranges=False)
    server.rules = [(digest(big), times(1, Answer(body=big, cut=5 * MEBI)))]
    await images.pull(f"{server.host}/{PATH}")
    assert len(await images.list()) == 1


async def test_a_range_that_is_another_is_not_taken(images: Engines, server: Server, big: bytes) -> None:
    server.image(PATH, [big], how="plain")
    wrong = Answer(206, big[: 10 * MEBI], {"Content-Range": f"bytes 0-{10 * MEBI - 1}/{len(big)}"})
    first, second = times(1, Answer(body=big, cut=5 * MEBI)), times(1, wrong)
    server.rules = [(digest(big), first), (digest(big), second)]
    await images.pull(f"{server.host}/{PATH}")
    assert len(await images.list()) == 1


async def test_what_was_left_and_is_damaged_is_fetched_again(images: Engines, server: Server, big: bytes) -> None:
    """A power cut may leave zeros where bytes were."""
    server.image(PATH, [big], how="plain")
    (images.blobs / "ingest" / digest(big)[7:]).write_bytes(b"\0" * 5 * MEBI)
    await images.pull(f"{server.host}/{PATH}")
    assert images.kept() == [digest(big)[7:]]
    assert len(await images.list()) == 1


async def test_a_cancelled_pull_is_taken_up_by_the_next(images: Engines, server: Server, big: bytes) -> None:
    server.image(PATH, [big], how="plain")
    server.rules = [(digest(big), times(1, Answer(body=big, stall=15 * MEBI)))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.pull, f"{server.host}/{PATH}")
        await trio.to_thread.run_sync(until, lambda: server.sent >= 15 * MEBI)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert await images.list(all=True) == []
    server.go.set()
    await images.pull(f"{server.host}/{PATH}")
    assert server.sent <= len(big) * 1.05


async def test_two_pulls_fetch_a_layer_once(images: Engines, server: Server, big: bytes) -> None:
    server.image(PATH, [big], how="plain")
    server.image("c/d", [big, layer(more="more")], how="plain")
    server.rules = [(digest(big), times(1, Answer(body=big, stall=10 * MEBI)))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.pull, f"{server.host}/{PATH}")
        nursery.start_soon(images.pull, f"{server.host}/c/d")
        await trio.to_thread.run_sync(until, lambda: server.sent >= 10 * MEBI)
        server.go.set()
    assert len(server.paths(digest(big))) == 1
    assert len(await images.list()) == 2


async def test_a_layer_that_two_want_goes_on_when_one_leaves(images: Engines, server: Server, big: bytes) -> None:
    server.image(PATH, [big], how="plain")
    server.image("c/d", [big], tag="other", how="plain")
    server.rules = [(digest(big), times(1, Answer(body=big, stall=10 * MEBI)))]
    first = trio.CancelScope()

    async def leave() -> None:
        with first:
            await images.pull(f"{server.host}/{PATH}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.to_thread.run_sync(until, lambda: server.sent >= 10 * MEBI)
        nursery.start_soon(functools.partial(images.pull, f"{server.host}/c/d", tag="other"))
        await trio.to_thread.run_sync(until, lambda: bool(server.paths("c/d/manifests")))
        await trio.sleep(0.1)
        first.cancel()
    (found,) = await images.list()
    assert found.RepoTags == [f"{server.host}/c/d:other"]
    assert server.sent <= len(big) * 1.05


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_layers_at_a_time_than_allowed(
    new_engine: Callable[..., Engines], server: Server, limit: int
) -> None:
    images = new_engine(downloads=limit)
    layers = [layer(**{f"file{at}": os.urandom(MEBI).hex()}) for at in range(6)]
    server.image(PATH, layers, how="plain")
    server.rules = [(digest(each), times(1, Answer(body=each, stall=MEBI))) for each in layers]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.pull, f"{server.host}/{PATH}")
        with trio.fail_after(30):
            while server.most < limit:
                await trio.sleep(0.01)
        server.go.set()
    assert server.most == limit
    assert any(getattr(event, "status", "") == "Waiting" for event in images.said)


async def test_layers_are_unpacked_while_others_come(images: Engines, server: Server, big: bytes) -> None:
    """The first is unpacked to its end while nothing more comes of the second."""
    server.image(PATH, [layer(a="a"), big], how="plain")
    server.rules = [(digest(big), times(1, Answer(body=big, stall=10 * MEBI)))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.pull, f"{server.host}/{PATH}")
        done = f"{digest(layer(a='a'))[7:19]}"
        with trio.fail_after(30):
            while not any(getattr(event, "status", "") == "Pull complete" for event in images.said):
                await trio.sleep(0.01)
        assert [event.id for event in images.said if getattr(event, "status", "") == "Pull complete"] == [done]  # type: ignore[attr-defined]
        server.go.set()


async def test_a_foreign_layer_comes_from_its_own_place(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    elsewhere = new_server()
    data = layer(a="a")
    elsewhere.answers["/layer"] = Answer(body=data)
    descriptor = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "size": len(data),
        "digest": digest(data),
        "urls": [f"{elsewhere.url}/nothing", f"{elsewhere.url}/layer"],
    }
    server.image(PATH, [data], layers=[descriptor])
    await images.pull(f"{server.host}/{PATH}")
    assert elsewhere.paths() == ["/nothing", "/layer"] and not server.paths(digest(data))


async def test_a_full_disk_is_named(images: Engines, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    server.image(PATH, [layer(a="a")])
    monkeypatch.setattr("windlass.lib.blobs.Writer.write_now", full)
    with pytest.raises(JobError, match="No space left on device"):
        await images.pull(f"{server.host}/{PATH}")
    assert await images.is_empty()
