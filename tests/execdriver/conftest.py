"""Shims for tests: each in a folder of its own, all ended afterwards."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import NewShim, Shim


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """Return an unpacked image: busybox."""
    with harness.folder() as folder:
        yield harness.make_rootfs(folder / "image")


@pytest.fixture
def new_shim(root: Path) -> Iterator[NewShim]:
    """Return a maker of shims; what runs afterwards is ended, and no descriptor or mount of ours may be left."""
    made: list[Shim] = []
    before = len(os.listdir("/proc/self/fd"))
    with harness.folder() as folder:

        def make() -> Shim:
            made.append(Shim(folder / f"c{len(made)}", root))
            return made[-1]

        yield make
        for shim in made:
            shim.end()
        assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def shim(new_shim: NewShim) -> Shim:
    return new_shim()
