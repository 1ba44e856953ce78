"""Btrfs, through the suite that every graph driver runs, and what is its own: subvolumes come and go."""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suites.graphdriver import GraphDriverSuite, stream, tar
from tests.support.btrfs import mounted
from tests.support.packages import Missing
from tests.support.shim import FILES
from windlass.graphdriver.btrfs import Btrfs
from windlass.kernel import btrfs

pytestmark = pytest.mark.root

CONTAINER = "c" * 64


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    try:
        with mounted(tmp_path_factory.mktemp("disk")) as place:
            yield place
    except Missing as why:
        pytest.skip(f"not run: {why}")


@pytest.fixture
def driver(disk: Path) -> Btrfs:
    return Btrfs(disk / secrets.token_hex(4), FILES)


class TestBtrfs(GraphDriverSuite):
    @pytest.fixture
    def driver(self, disk: Path) -> Btrfs:
        return Btrfs(disk / secrets.token_hex(4), FILES)


def subvolumes(root: Path) -> set[Path]:
    """The subvolumes below a folder, by their inode number."""
    return {path for path in root.rglob("*") if path.is_dir() and path.lstat().st_ino == 256}


async def test_each_layer_and_container_is_a_subvolume_that_goes_with_it(driver: Btrfs) -> None:
    low, _ = await driver.apply(None, None, stream(tar(("a", b"1"))))
    high, _ = await driver.apply(None, low, stream(tar(("b", b"2"))))
    await driver.create(CONTAINER, high)
    folders = [driver.root / "layers" / low, driver.root / "layers" / high, driver.root / "containers" / CONTAINER]
    await driver.sweep()
    assert subvolumes(driver.root) == {folder / "root" for folder in folders}
    for id in (CONTAINER, high, low):
        await driver.remove(id)
    await driver.sweep()
    assert not subvolumes(driver.root) and not list((driver.root / "trash").iterdir())


async def test_subvolumes_that_a_container_has_made_go_with_it(driver: Btrfs) -> None:
    """Made anywhere, one in the other, and with files in them; a link to one is but a link."""
    await driver.create(CONTAINER, None)
    root = driver.root / "containers" / CONTAINER / "root"
    (root / "deep" / "er").mkdir(parents=True)
    for path in (root / "one", root / "deep" / "er" / "two", root / "one" / "three"):
        btrfs.create(path)
        (path / "file").write_text("x")
    outside = driver.root / "outside"
    btrfs.create(outside)
    (root / "link").symlink_to(outside)
    await driver.remove(CONTAINER)
    await driver.sweep()
    assert subvolumes(driver.root) == {outside}


def nest(root: Path) -> None:
    """Folders and subvolumes in each other, 1200 deep; at the bottom 1500 folders, and the whole of it read-only."""
    at = os.open(root, os.O_RDONLY)
    for number in range(1200):
        if number % 2:
            btrfs._call(at, btrfs._SUBVOL_CREATE, 0, "n" * 100)
        else:
            os.mkdir("n" * 100, dir_fd=at)
        inner = os.open("n" * 100, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    for number in range(1500):
        os.mkdir(f"wide{number}", dir_fd=at)
    btrfs._call(at, btrfs._SUBVOL_CREATE, 0, "last")
    make_readonly(at)
    os.close(at)


def make_readonly(subvolume: Path | int) -> None:
    fd = os.open(subvolume, os.O_RDONLY) if isinstance(subvolume, Path) else os.dup(subvolume)
    fcntl.ioctl(fd, btrfs._SET_FLAGS, struct.pack("<Q", 2))  # BTRFS_SUBVOL_RDONLY
    os.close(fd)


async def test_no_nesting_of_folders_and_subvolumes_is_too_deep_or_too_wide(driver: Btrfs) -> None:
    """Beyond what recursion, a path, or one descriptor for each folder could do."""
    await driver.create(CONTAINER, None)
    nest(driver.root / "containers" / CONTAINER / "root")
    await driver.remove(CONTAINER)
    await driver.sweep()
    assert not list((driver.root / "trash").iterdir())


async def test_a_container_that_has_made_its_root_read_only_can_be_removed(driver: Btrfs) -> None:
    await driver.create(CONTAINER, None)
    root = driver.root / "containers" / CONTAINER / "root"
    btrfs.create(root / "inner")
    for path in (root / "inner", root):
        make_readonly(path)
    await driver.remove(CONTAINER)
    await driver.sweep()
    assert not list((driver.root / "trash").iterdir())


async def test_a_failed_layer_leaves_no_subvolume(driver: Btrfs) -> None:
    with pytest.raises(Exception, match="invalid layer"):
        await driver.apply(None, None, stream(b"no tar" * 1000))
    assert not subvolumes(driver.root)


async def test_what_was_cut_is_swept_at_the_next_start(driver: Btrfs) -> None:
    btrfs.create(driver.root / "ingest" / "half")
    again = Btrfs(driver.root, FILES)
    await again.sweep()
    assert not subvolumes(driver.root)


def test_another_file_system_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"graph is not on btrfs"):
        Btrfs(tmp_path / "graph", FILES)


@pytest.mark.parametrize("name", ["a/b", "n" * 300])
def test_a_subvolume_has_one_component_as_its_name(disk: Path, name: str) -> None:
    with pytest.raises(OSError, match="no name of a subvolume|File name too long"), btrfs._Folder(disk) as fd:
        btrfs.destroy(name, fd)
