"""The volume jobs as a script calls them, and what the disk says."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from windlass.engine import Engine
from windlass.engine.errors import BadParameter, Conflict, Internal, NotFound
from windlass.jobs.volumes import (
    VolumeCreate,
    VolumeDelete,
    VolumeHold,
    VolumeInspect,
    VolumeMount,
    VolumePopulate,
    VolumePrune,
    VolumeRelease,
    Volumes,
)
from windlass.volume.local import check_name
from windlass.volume.usage import usage

from .conftest import Home


async def test_a_volume_that_could_not_be_made_leaves_nothing(engine: Engine, home: Home) -> None:
    (home.root / "volumes" / "taken").write_text("a file in the way")
    with pytest.raises(Internal, match="create taken: .*taken"):
        await engine.call(VolumeCreate(Name="taken"))
    assert (await engine.call(Volumes())).Volumes == []
    assert (home.root / "volumes" / "taken").read_text() == "a file in the way"


async def test_usage_is_told_when_it_is_asked_for(engine: Engine) -> None:
    path = Path((await engine.call(VolumeCreate(Name="used"))).Mountpoint)
    (path / "file").write_bytes(b"x" * 1000)
    await engine.call(VolumeHold(name="used", container="a"))
    (plain,) = (await engine.call(Volumes())).Volumes
    (told,) = (await engine.call(Volumes(usage=True))).Volumes
    assert not plain.UsageData
    assert told.UsageData and (told.UsageData.Size, told.UsageData.RefCount) == (1000, 1)


def test_usage_counts_a_file_once_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 100)
    os.link(tmp_path / "folder" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    os.mkfifo(tmp_path / "fifo")
    deep = tmp_path
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    assert usage(tmp_path) == 100 + len("/usr")
    assert usage(tmp_path / "nosuch") == 0


@pytest.mark.parametrize("name", ["ab", "a" * 255, "a.b-c_d", "0x"])
def test_names_that_may_be(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "a", ".a", "-a", "_a", "a b", "a/b", "..", "a\n", "é-", "a" * 256, "a\0b"])
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(BadParameter):
        check_name(name)


async def test_a_release_deletes_what_nobody_else_has(engine: Engine) -> None:
    for container in ("a", "b"):
        await engine.call(VolumeHold(name="both", container=container))
    await engine.call(VolumeRelease(names=["both"], container="a", delete=["both"]))
    assert (await engine.call(VolumeInspect(name="both"))).Name == "both"
    await engine.call(VolumeRelease(names=["both"], container="b", delete=["both"]))
    with pytest.raises(NotFound, match="get both: no such volume"):
        await engine.call(VolumeInspect(name="both"))


@pytest.fixture
def too_deep(tmp_path: Path) -> Path:
    """Return a layer whose /srv is deeper than the copy may have descriptors open."""
    deep = tmp_path / "layer" / "srv"
    for _ in range(250):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (tmp_path / "layer" / "srv" / "a").write_text("x")
    return tmp_path / "layer"


async def populate(engine: Engine, layer: Path) -> None:
    with pytest.raises(Internal, match="populate part: failed to copy the image's .*: Too many open files"):
        await engine.call(VolumePopulate(name="part", container="a", path="/srv", layers=[str(layer)]))


async def test_half_a_copy_is_taken_back(engine: Engine, too_deep: Path) -> None:
    """Otherwise it would pass for content, and the volume would never get the rest."""
    path = (await engine.call(VolumeCreate(Name="part"))).Mountpoint
    await populate(engine, too_deep)
    assert os.listdir(path) == []


async def test_half_a_copy_stays_where_somebody_else_may_have_written(engine: Engine, too_deep: Path) -> None:
    path = (await engine.call(VolumeCreate(Name="part"))).Mountpoint
    await engine.call(VolumeMount(name="part", container="b"))
    await populate(engine, too_deep)
    assert "d" in os.listdir(path)


async def test_prune_goes_on_when_one_cannot_be_deleted(engine: Engine, home: Home) -> None:
    for name in ("one", "two"):
        await engine.call(VolumeCreate(Name=name))
    # What is in the way of the first one's removal can only be a fault of the disk.
    (home.root / "volumes" / ".removing" / "one").write_text("in the way")
    (home.root / "volumes" / ".trash").rmdir()
    assert (await engine.call(VolumePrune(all=True))).VolumesDeleted == ["two"]
    (home.root / "volumes" / ".trash").mkdir()
    (home.root / "volumes" / ".removing" / "one").unlink()
    await engine.call(VolumeDelete(name="one"))


async def test_a_record_that_cannot_be_read_keeps_its_folder_and_its_name(home: Home) -> None:
    async with home.life() as engine:
        for name in ("good", "torn"):
            path = Path((await engine.call(VolumeCreate(Name=name))).Mountpoint)
            (path / "file").write_text(name)
    with contextlib.closing(sqlite3.connect(home.root / "db")) as db, db:
        db.execute("UPDATE volumes SET definition = 'torn' WHERE name = 'torn'")
    async with home.life() as engine:
        assert [each.Name for each in (await engine.call(Volumes())).Volumes] == ["good"]
        with pytest.raises(Conflict, match="create torn: its record cannot be read"):
            await engine.call(VolumeCreate(Name="torn"))
        await engine.call(VolumePrune(all=True))
    assert (home.root / "volumes/torn/_data/file").read_text() == "torn"
