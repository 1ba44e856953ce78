"""Subvolumes of btrfs: trees of a file system that are copied by taking note of it, however large they are.

Each is a folder, whose inode number tells it apart. Names are given by an open folder and one component, so that
nobody can put a link in the way.

Source: <linux/btrfs.h>, btrfs-ioctl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

_SNAP_CREATE, _SUBVOL_CREATE, _SNAP_DESTROY = 0x50009401, 0x5000940E, 0x5000940F
_SET_FLAGS = 0x4008941A
_ARGS = struct.Struct("<q4088s")  # struct btrfs_ioctl_vol_args: a descriptor, and a name that ends with a zero
_NAME_MAX = 255
_ROOT_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID: that of the root of each subvolume


def create(path: Path) -> None:
    """Make an empty subvolume. Raises OSError; ENOTTY where the file system is none that has them."""
    with _Folder(path.parent) as parent:
        _call(parent, _SUBVOL_CREATE, 0, path.name)


def snapshot(source: Path, path: Path) -> None:
    """Make the subvolume `path` with what is in the subvolume `source`. Raises OSError."""
    with _Folder(path.parent) as parent, _Folder(source) as fd:
        _call(parent, _SNAP_CREATE, fd, path.name)


def is_subvolume(name: str, parent: int) -> bool:
    """Tell whether `name` in the folder `parent`, which is on btrfs, is a subvolume."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == _ROOT_INODE
    except FileNotFoundError:
        return False


def destroy(name: str, parent: int) -> None:
    """Take away the subvolume `name` in the folder `parent`. Raises OSError; ENOTEMPTY when there are others in it.

    It is gone at once; the file system frees its space in the background.
    """
    _call(parent, _SNAP_DESTROY, 0, name)


def make_writable(folder: int) -> None:
    """Let what is in an open subvolume be changed, whatever was said before. Raises OSError."""
    fcntl.ioctl(folder, _SET_FLAGS, struct.pack("<Q", 0))


_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Folder:
    """An open folder, for a `with`."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _FLAGS)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _call(parent: int, command: int, fd: int, name: str) -> None:
    raw = os.fsencode(name)
    if not raw or len(raw) > _NAME_MAX or b"/" in raw:
        raise OSError(errno.EINVAL, f"no name of a subvolume: {name!r:.100}")
    try:
        fcntl.ioctl(parent, command, bytearray(_ARGS.pack(fd, raw)))
    except OSError as exc:
        raise OSError(exc.errno, f"btrfs: {os.strerror(exc.errno or 0)}", name) from None
