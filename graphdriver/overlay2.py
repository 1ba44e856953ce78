"""Layers for overlayfs: each is the folder of its own changes, and the kernel lays them over each other.

    layers/ID/diff/        what the layer changes; whiteouts are 0:0 devices, opaque folders have an xattr
    containers/ID/upper/   what the container changes
    containers/ID/work/    overlayfs's own

Source: https://docs.kernel.org/filesystems/overlayfs.html.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from windlass.lib.rootfs import Overlay, RootFS

from . import changes
from .driver import Change
from .layers import LayerFolders


class Overlay2(LayerFolders):
    """The default driver. Nothing is mounted here: the exec driver makes the mount in the container's namespace."""

    name = "overlay2"
    flavour = "overlay"
    changed = "upper"
    needs_parent = False

    def _prepare(self, folder: Path, parent: str | None) -> Path:
        (folder / "diff").mkdir(mode=0o755)
        return folder / "diff"

    def _prepare_container(self, folder: Path, parent: str | None) -> None:
        for name, mode in (("upper", 0o755), ("work", 0o700)):
            (folder / name).mkdir(mode=mode)
        lower = self._chain(parent)
        if lower:  # the merged root's own mode and owner are the upper folder's
            found = os.stat(lower[0] / "diff")
            os.chown(folder / "upper", found.st_uid, found.st_gid)
            os.chmod(folder / "upper", stat.S_IMODE(found.st_mode))
        else:
            (folder / "empty").mkdir(mode=0o755)  # overlayfs wants one lower folder at least

    def _rootfs(self, folder: Path, parent: str | None) -> RootFS:
        lower = tuple(str(layer / "diff") for layer in self._chain(parent)) or (str(folder / "empty"),)
        return Overlay(lower, str(folder / "upper"), str(folder / "work"))

    def _view(self, chain: list[Path]) -> RootFS:
        return Overlay(tuple(str(layer / "diff") for layer in chain), "", "")

    def _changes(self, folder: Path, parent: str | None) -> list[Change]:
        return changes.of_upper(folder / "upper", [layer / "diff" for layer in self._chain(parent)])
