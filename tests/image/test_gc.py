"""The job `image_gc`: what a policy takes away, and what it tells beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.image.support import Images
from tests.support.images import docker_archive, layer
from tests.support.shim import FILES
from windlass import image
from windlass.engine import Engine, Handler, Job
from windlass.engine.errors import BadParameter, Conflict
from windlass.graphdriver.overlay2 import Overlay2
from windlass.image import gc
from windlass.lib import config
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database

pytestmark = pytest.mark.root

NAMES = {"one": "team/app:1", "two": "team/app:2", "three": "team/app:3", "tool": "tool:1", "none": ""}


@pytest.fixture
async def ids(images: Images) -> dict[str, str]:
    """Five images, the oldest first: three of one repository, one with a label, one without a name."""
    found = {}
    for key, name in NAMES.items():
        labels = {"keep": "yes"} if key == "tool" else {}
        data = docker_archive(
            [layer(shared="12345678"), layer(**{key: "x" * len(key)})], *filter(None, [name]), Labels=labels
        )
        await images.run("load", stdin=data)
        (found[key],) = {each.Id for each in await images.list()} - set(found.values())
    return found


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        ({"dangling": True}, "none"),
        ({"dangling": False}, "one two three tool none"),
        ({"keep_last": 2}, "one none"),
        ({"keep_labels": ["keep"]}, "one two three none"),
        ({"keep_labels": ["keep=no", "other"]}, "one two three tool none"),
        ({"pinned": ["team/*"]}, "tool none"),
        ({"pinned": ["tool", "team/app:2"]}, "one three none"),
        ({"min_age": "1h"}, ""),
        ({"min_age": "0s"}, "one two three tool none"),
        ({"keep_last": 1, "keep_labels": ["keep"]}, "one two none"),
    ],
)
async def test_the_plan_is_what_happens(images: Images, ids: dict[str, str], policy: dict[str, Any], gone: str) -> None:
    plan = await images.run("image_gc", **policy)
    assert [each.Id for each in plan.Remove] == [ids[key] for key in gone.split()]
    assert all(each.Reason for each in plan.Keep) and len(plan.Keep) + len(plan.Remove) == len(ids)
    assert plan.ImagesDeleted is None and len(await images.list()) == len(ids)
    done = await images.run("image_gc", run=True, **policy)
    assert done.Remove == plan.Remove
    assert {each.Id for each in await images.list()} == set(ids.values()) - {each.Id for each in plan.Remove}
    assert done.SpaceReclaimed == sum(each.Size for each in plan.Remove)


async def test_a_layer_is_counted_where_its_last_image_goes(images: Images, ids: dict[str, str]) -> None:
    plan = await images.run("image_gc", dangling=False)
    assert [each.Size for each in plan.Remove] == [3, 3, 5, 4, 4 + 8]


def disk(percent: int) -> os.statvfs_result:
    """A disk of 100 bytes; statvfs(3) counts blocks, which are of one byte here."""
    return os.statvfs_result((1, 1, 100, 100 - percent, 100 - percent, 0, 0, 0, 0, 255))


@pytest.mark.parametrize(
    ("used", "gone"), [(79, ""), (80, "one two three"), (83, "one two three tool"), (99, "one two three tool none")]
)
async def test_between_thresholds_the_oldest_go_until_it_is_enough(
    images: Images, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch, used: int, gone: str
) -> None:
    monkeypatch.setattr("windlass.image.gc.os.statvfs", lambda _: disk(used))
    plan = await images.run("image_gc", high=80, low=70)
    assert plan.DiskUsedPercent == used
    assert [each.Id for each in plan.Remove] == [ids[key] for key in gone.split()]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({}, "there is no policy"),
        ({"high": 70, "low": 80}, "low=80, high=70"),
        ({"high": 101}, "high=101"),
        ({"keep_last": -1}, "keep_last"),
        ({"min_age": "soon"}, "min_age must be a duration"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(images: Images, policy: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        await images.run("image_gc", run=True, **policy)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Images]:
    def make(**settings: Any) -> Images:
        engine, graph = Engine(), Overlay2(tmp_path / "overlay2", FILES)
        database, blobs = Database(tmp_path / "windlass.db", "OFF"), Blobs(tmp_path / "blobs")
        image.install(engine, database=database, graph=graph, blobs=blobs, data_root=tmp_path, gc_settings=settings)
        return Images(engine, graph, tmp_path)

    return make


async def test_what_is_configured_holds_until_the_job_says_otherwise(configured: Callable[..., Images]) -> None:
    images = configured(pinned=["a"])
    await images.run("load", stdin=docker_archive([layer(a="a")], "a:1"))
    assert (await images.run("image_gc")).Remove == []
    assert len((await images.run("image_gc", pinned=[])).Remove) == 1
    with pytest.raises(BadParameter, match="keep_last"):
        configured(keep_last=-1)


async def test_it_runs_regularly_and_outlives_what_goes_wrong(
    configured: Callable[..., Images], autojump_clock: trio.testing.MockClock
) -> None:
    images, runs = configured(dangling=True), []

    async def fail_first(job: Job[Any], call: Handler) -> Any:
        runs.append(job)
        if len(runs) == 1:
            raise Conflict("not now")
        return await call(job)

    images.engine.around("image_gc", fail_first)
    await images.run("load", stdin=docker_archive([layer(a="a")]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gc.run_regularly, images.engine, 3600)
        await trio.sleep(7190)
        assert len(runs) == 1 and len(await images.list()) == 1
        await trio.sleep(20)
        while await images.list():
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


def test_the_daemons_configuration_has_its_keys_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "daemon.yaml"
    file.write_text("image-gc: {interval: 6h, high: 85, low: 80, keep-last: 2, pinned: [busybox]}")
    found = config.make({}, file).image_gc
    assert (found.interval, found.high, found.keep_last, found.pinned) == ("6h", 85, 2, ["busybox"])
    file.write_text("image-gc: {intervall: 6h}")
    with pytest.raises(config.ConfigError, match="intervall"):
        config.make({}, file)
