"""Layers as subvolumes of btrfs: each is a snapshot of the one below, with what the layer changes unpacked into it.

    layers/ID/root/        the whole file system up to this layer, a subvolume
    containers/ID/root/    likewise, the container's own

A snapshot costs a few milliseconds and no space, and the kernel shares its pages among containers as overlayfs does.
"""

from __future__ import annotations

import errno
from pathlib import Path

from windlass.kernel import btrfs
from windlass.lib.rootfs import Directory, RootFS
from windlass.lib.trash import Trash

from . import changes
from .driver import Change
from .layers import LayerFolders


class Btrfs(LayerFolders):
    """For a data root that is on btrfs."""

    name = "btrfs"
    flavour = "plain"

    def __init__(self, root: Path, shim: str) -> None:
        """Raises OSError when `root` is not on btrfs, or this user may not make subvolumes."""
        super().__init__(root, shim)
        self._trash = Trash(root / "trash", _destroyed)
        probe = root / "ingest" / "probe"
        try:
            btrfs.create(probe)
        except OSError as exc:
            if exc.errno == errno.ENOTTY:
                raise OSError(errno.ENOTTY, f"{root} is not on btrfs") from None
            raise
        self._discard(probe)

    def status(self) -> list[tuple[str, str]]:
        return [("Root Dir", str(self.root)), ("Backing Filesystem", "btrfs")]

    def _prepare(self, folder: Path, parent: str | None) -> Path:
        if parent is None:
            btrfs.create(folder / "root")
            (folder / "root").chmod(0o755)
        else:
            btrfs.snapshot(self._layer(parent) / "root", folder / "root")
        return folder / "root"

    def _prepare_container(self, folder: Path, parent: str | None) -> None:
        self._prepare(folder, parent)

    def _rootfs(self, folder: Path, parent: str | None) -> RootFS:
        return Directory(str(folder / "root"))

    def _view(self, chain: list[Path]) -> RootFS:
        return Directory(str(chain[0] / "root"))

    def _changes(self, folder: Path, parent: str | None) -> list[Change]:
        return changes.of_trees(folder / "root", self._layer(parent) / "root" if parent else None)


def _destroyed(folder: int, name: str) -> bool:
    """Take `name` away in one go, if it is a subvolume."""
    if not btrfs.is_subvolume(name, folder):
        return False
    try:
        btrfs.destroy(name, folder)
    except RecursionError:  # a container may make subvolumes in subvolumes for as long as it likes
        raise OSError(errno.ELOOP, "subvolumes are nested too deeply", name) from None
    return True
