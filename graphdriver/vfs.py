"""Layers as full copies: slow and large, but it works on every file system, and it is easy to see what is where.

layers/ID/root/        the whole file system up to this layer
containers/ID/root/    likewise, the container's own
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from .trees import WholeTrees


class Vfs(WholeTrees):
    """Copies for want of anything better, and the measure of the other drivers."""

    name = "vfs"

    def _prepare(self, folder: Path, parent: str | None) -> Path:
        if parent is None:
            (folder / "root").mkdir(mode=0o755)
        else:
            copy_tree(self._layer(parent) / "root", folder / "root")
        return folder / "root"


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with everything in it: owners, modes, times, xattrs, links (hard ones too), devices.

    No link is followed. `target` must not exist.
    """
    target.mkdir(mode=0o700)
    try:
        _copy_folder(source, target, {})
    except RecursionError:
        raise OSError(errno.ELOOP, "the layer's folders are nested too deep to be copied") from None


def _copy_folder(source: Path, target: Path, inodes: dict[int, Path]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            to = target / entry.name
            if info.st_ino in inodes:
                os.link(inodes[info.st_ino], to, follow_symlinks=False)
                continue
            _copy_entry(Path(entry.path), to, info, inodes)
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                inodes[info.st_ino] = to
    _copy_attributes(source, target, source.lstat())


def _copy_entry(source: Path, to: Path, info: os.stat_result, inodes: dict[int, Path]) -> None:
    if stat.S_ISDIR(info.st_mode):
        to.mkdir(mode=0o700)
        _copy_folder(source, to, inodes)
        return
    if stat.S_ISREG(info.st_mode):
        shutil.copyfile(source, to, follow_symlinks=False)
    elif stat.S_ISLNK(info.st_mode):
        to.symlink_to(source.readlink())
    else:
        os.mknod(to, info.st_mode, info.st_rdev)
    _copy_attributes(source, to, info)


def _copy_attributes(source: Path, to: Path, info: os.stat_result) -> None:
    os.chown(to, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(to, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(to, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(to, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
