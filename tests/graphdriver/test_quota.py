"""Layers of a size: on XFS with project quotas, and refused where there are none."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.packages import Missing
from tests.support.xfs import mounted
from windlass.graphdriver.overlay2 import Overlay2
from windlass.kernel import quota
from windlass.lib.rootfs import Overlay

pytestmark = pytest.mark.root

MIB = 1 << 20
ONE, OTHER = "1" * 64, "2" * 64


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    try:
        with mounted(tmp_path) as place:
            yield place
    except Missing as why:
        pytest.skip(f"not run: {why}")


async def upper(graph: Overlay2, id: str) -> Path:
    rootfs = await graph.rootfs(id)
    assert isinstance(rootfs, Overlay)
    return Path(rootfs.upper)


async def test_a_layer_holds_what_it_may_and_no_more(xfs: Path) -> None:
    graph = Overlay2(xfs / "graph", "")
    assert graph.can_limit_size()
    await graph.create(ONE, None, 2 * MIB)
    await graph.create(OTHER, None)
    folder = await upper(graph, ONE)
    (folder / "fits").write_bytes(bytes(MIB))
    with pytest.raises(OSError, match="No space left") as caught:
        (folder / "too-much").write_bytes(bytes(2 * MIB))
    assert caught.value.errno == errno.ENOSPC
    (await upper(graph, OTHER) / "more").write_bytes(bytes(3 * MIB))


async def test_a_layer_that_is_removed_frees_its_project(xfs: Path) -> None:
    graph = Overlay2(xfs / "graph", "")
    await graph.create(ONE, None, 2 * MIB)
    (await upper(graph, ONE) / "file").write_bytes(bytes(MIB))
    await graph.remove(ONE)
    await graph.sweep()
    assert list((xfs / "graph" / "trash").iterdir()) == []
    await graph.create(ONE, None, 2 * MIB)
    (await upper(graph, ONE) / "file").write_bytes(bytes(MIB))


async def test_a_project_of_somebody_elses_is_left_alone(xfs: Path) -> None:
    one, other = xfs / "one", xfs / "other"
    for folder in (one, other):
        folder.mkdir()
    quota.limit(one, 77, MIB)
    with pytest.raises(FileExistsError, match="project 77 is in use"):
        quota.limit(other, 77, 2 * MIB)
    quota.lift(one)
    quota.lift(other)
    quota.limit(other, 78, MIB)
    quota.lift(other)


def test_a_file_system_without_quotas_has_none(tmp_path: Path) -> None:
    assert not quota.is_enforced(tmp_path)
    assert not Overlay2(tmp_path / "graph", "").can_limit_size()


def test_xfs_without_pquota_has_none(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path, "noquota") as place:
            assert not quota.is_enforced(place)
    except Missing as why:
        pytest.skip(f"not run: {why}")
