"""Layers as subvolumes of btrfs: each is a snapshot of the one below, with what the layer changes unpacked into it.

    layers/ID/root/        the whole file system up to this layer, a subvolume
    containers/ID/root/    likewise, the container's own

A snapshot costs a few milliseconds and no space, and the kernel shares its pages among containers as overlayfs does.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from windlass.kernel import btrfs
from windlass.lib.trash import Trash, listed

from .trees import WholeTrees

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Btrfs(WholeTrees):
    """For a data root that is on btrfs."""

    name = "btrfs"

    def __init__(self, root: Path, program: str) -> None:
        """Raises OSError when `root` is not on btrfs, or this user may not make subvolumes."""
        super().__init__(root, program)
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


def _destroyed(trash: int, name: str) -> bool:
    """Take `name` in the trash away in one go, if it is a subvolume; those in it become trash of their own."""
    if not btrfs.is_subvolume(name, trash):
        _make_writable(f"{name}/root", trash)  # a layer's folder, whose parts move up next
        return False
    try:
        btrfs.destroy(name, trash)
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise
        _lift_inner(name, trash)
        btrfs.destroy(name, trash)
    return True


def _lift_inner(name: str, trash: int) -> None:
    """Move the subvolumes that a container has made in its own into the trash.

    It may have nested them, and folders between them, for as long as it liked: so folders move up into the topmost
    one, as in the trash itself, and nothing recurses.
    """
    top = os.open(name, _FOLDER, dir_fd=trash)
    try:
        done: set[str] = set()
        while names := [each for each in listed(top) if each not in done]:
            for each in names:
                if btrfs.is_subvolume(each, top):
                    _make_writable(each, top)
                    os.rename(each, secrets.token_hex(8), src_dir_fd=top, dst_dir_fd=trash)
                else:
                    _flatten(each, top)
                    done.add(each)
    finally:
        os.close(top)


def _flatten(name: str, top: int) -> None:
    """Move the folders in the folder `name` up into `top`."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=top)
    except OSError:  # no folder
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _make_writable(entry.name, fd)
                    os.rename(entry.name, secrets.token_hex(8), src_dir_fd=fd, dst_dir_fd=top)
    finally:
        os.close(fd)


def _make_writable(name: str, parent: int) -> None:
    """Let a subvolume be moved whatever its container has said; does nothing to what is none."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=parent)
    except OSError:
        return
    try:
        with suppress(OSError):
            btrfs.make_writable(fd)
    finally:
        os.close(fd)
