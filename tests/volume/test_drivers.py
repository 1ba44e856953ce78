"""Drivers of plugins: what they are asked, and that one which does not answer keeps nobody else waiting."""

from typing import Any

import pytest
import trio
import trio.testing

from windlass.engine import Engine
from windlass.engine.errors import Conflict, Internal, JobError, NotFound, Unavailable
from windlass.jobs.volumes import (
    VolumeCreate,
    VolumeDelete,
    VolumeHold,
    VolumeInspect,
    VolumeMount,
    VolumePrune,
    VolumeRelease,
    Volumes,
    VolumeUnmount,
)
from windlass.volume import drivers
from windlass.volume.model import Volume

from .conftest import Home


class Remote:
    """A driver that notes what it is asked. `fault`, when set, is raised by every call; None: no answer."""

    name = "remote"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.is_stuck = False

    async def _asked(self, what: str, volume: Volume) -> None:
        self.asked.append((what, volume.name))
        if self.fault:
            raise self.fault
        if self.is_stuck:
            await trio.sleep_forever()

    async def create(self, volume: Volume) -> None:
        await self._asked("create", volume)

    async def remove(self, volume: Volume) -> None:
        await self._asked("remove", volume)

    async def path(self, volume: Volume) -> str:
        await self._asked("path", volume)
        return f"/far/{volume.name}"

    async def mount(self, volume: Volume) -> str:
        await self._asked("mount", volume)
        return f"/far/{volume.name}"

    async def unmount(self, volume: Volume) -> None:
        await self._asked("unmount", volume)

    async def status(self, volume: Volume) -> dict[str, Any] | None:
        return {"size": "12 GB"}


@pytest.fixture
def remote(engine: Engine) -> Remote:
    driver = Remote()
    engine.provide("volume-driver", driver)
    return driver


async def test_a_driver_is_asked_for_the_first_user_and_after_the_last(engine: Engine, remote: Remote) -> None:
    for user in ("a", "b"):
        await engine.call(VolumeHold(name="far", container=user, driver="remote", options={"k": "v"}))
        assert (await engine.call(VolumeMount(name="far", container=user))).path == "/far/far"
    for user in ("a", "b", "a"):
        await engine.call(VolumeUnmount(name="far", container=user))
    asked = [what for what, _ in remote.asked if what != "path"]
    assert asked == ["create", "mount", "unmount"]
    with pytest.raises(Conflict, match=r"remove far: volume is in use - \[a, b\]"):
        await engine.call(VolumeDelete(name="far"))
    for user in ("a", "b"):
        await engine.call(VolumeRelease(names=["far"], container=user))
    found = await engine.call(VolumeInspect(name="far"))
    assert (found.Driver, found.Mountpoint, found.Options, found.Status) == (
        "remote", "/far/far", {"k": "v"}, {"size": "12 GB"}
    )  # fmt: skip
    await engine.call(VolumeDelete(name="far"))
    assert remote.asked[-1] == ("remove", "far")
    assert (await engine.call(Volumes())).Volumes == []


async def test_a_driver_that_does_not_answer_fails_its_own_calls_alone(
    engine: Engine, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.call(VolumeCreate(Name="far", Driver="remote"))
    remote.is_stuck = True
    monkeypatch.setattr(drivers, "TIMEOUT", 0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, engine)
        await trio.testing.wait_all_tasks_blocked()
        assert [each.Name for each in (await engine.call(Volumes())).Volumes] == ["far"]
        await engine.call(VolumeCreate(Name="near"))
        await engine.call(VolumeDelete(name="near"))
    with pytest.raises(Unavailable, match="remove far: volume driver remote did not answer"):
        await engine.call(VolumeDelete(name="far"))
    assert (await engine.call(VolumeInspect(name="far"))).Mountpoint == ""
    with pytest.raises(Unavailable, match="create other: volume driver remote did not answer"):
        await engine.call(VolumeCreate(Name="other", Driver="remote"))
    assert [each.Name for each in (await engine.call(Volumes())).Volumes] == ["far"]
    await engine.call(VolumeDelete(name="far", force=True))


async def _fails(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="error while mounting volume 'far': volume driver remote did not answer"):
        await engine.call(VolumeMount(name="far", container="a"))


async def test_what_a_driver_raises_is_told(engine: Engine, remote: Remote) -> None:
    remote.fault = OSError(5, "Input/output error", "/dev/far")
    with pytest.raises(Internal, match="create far: /dev/far: Input/output error"):
        await engine.call(VolumeCreate(Name="far", Driver="remote"))
    remote.fault = Conflict("full")
    with pytest.raises(Conflict, match="create far: full"):
        await engine.call(VolumeCreate(Name="far", Driver="remote"))
    assert (await engine.call(Volumes())).Volumes == []


async def test_a_volume_outlives_its_driver(home: Home) -> None:
    """Nobody hides it, and nobody pretends that it is there: it can be removed by force."""
    async with home.life() as engine:
        engine.provide("volume-driver", Remote())
        await engine.call(VolumeCreate(Name="far", Driver="remote"))
    async with home.life() as engine:
        assert [each.Name for each in (await engine.call(Volumes())).Volumes] == ["far"]
        assert (await engine.call(VolumeInspect(name="far"))).Driver == "remote"
        for params in (VolumeMount(name="far", container="a"), VolumeDelete(name="far")):
            with pytest.raises(NotFound, match='plugin "remote" not found'):
                await engine.call(params)
        await engine.call(VolumeDelete(name="far", force=True))
        assert (await engine.call(Volumes())).Volumes == []


async def test_a_name_belongs_to_one_driver(engine: Engine, remote: Remote) -> None:
    await engine.call(VolumeCreate(Name="near"))
    with pytest.raises(Conflict, match="create near: driver 'local' already has volume 'near': volume name must be"):
        await engine.call(VolumeCreate(Name="near", Driver="remote"))
    assert remote.asked == []


async def test_prune_leaves_volumes_of_other_drivers(engine: Engine, remote: Remote) -> None:
    await engine.call(VolumeCreate(Name="far", Driver="remote"))
    await engine.call(VolumeCreate(Name="near"))
    assert (await engine.call(VolumePrune(all=True))).VolumesDeleted == ["near"]


async def test_a_holder_and_a_removal_never_meet(engine: Engine) -> None:
    """Whoever comes first wins: held and there, or gone and made anew; never held and gone."""
    for _ in range(20):
        await engine.call(VolumeCreate(Name="both"))
        outcomes = []

        async def attempt(params: Any) -> None:
            try:
                await engine.call(params)
            except JobError as exc:
                outcomes.append(exc.code)  # noqa: B023

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, VolumeDelete(name="both"))
            nursery.start_soon(attempt, VolumeHold(name="both", container="a"))
        assert outcomes in ([], ["conflict"])
        assert (await engine.call(VolumeInspect(name="both"))).Name == "both"
        await engine.call(VolumeRelease(names=["both"], container="a"))
        await engine.call(VolumeDelete(name="both"))
