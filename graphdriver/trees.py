"""Layers that are whole file systems, each in a folder of its own. How one comes to be is the driver's."""

from __future__ import annotations

from pathlib import Path

from windlass.lib.rootfs import Directory, RootFS

from . import changes
from .driver import Change
from .layers import LayerFolders


class WholeTrees(LayerFolders):
    """layers/ID/root/ is the whole file system up to this layer, containers/ID/root/ likewise the container's own."""

    flavour = "plain"

    def _prepare_container(self, folder: Path, parent: str | None) -> None:
        self._prepare(folder, parent)

    def _rootfs(self, folder: Path, parent: str | None) -> RootFS:
        return Directory(str(folder / "root"))

    def _view(self, chain: list[Path]) -> RootFS:
        return Directory(str(chain[0] / "root"))

    def _changes(self, folder: Path, parent: str | None) -> list[Change]:
        return changes.of_trees(folder / "root", self._layer(parent) / "root" if parent else None)
