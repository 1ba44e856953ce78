"""Project quotas: how many bytes the files of one folder may take, however many users they have (quotactl(2), xfs).

A folder carries a project's number, which what is made in it inherits; the file system counts by number, and refuses
with ENOSPC. XFS alone lets a folder's owner be told apart so, when it is mounted with `pquota`.

Source: <linux/fs.h>, <linux/dqblk_xfs.h>; quotactl_fd is there since Linux 5.14.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from ._sys import ffi, lib

_GET_XATTR, _SET_XATTR = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
_XATTR = struct.Struct("<5I8x")  # flags, extent size, extents, project, copy-on-write extent size
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
_PROJECT = 2  # PRJQUOTA
_GET_LIMIT, _SET_LIMIT, _GET_STATE = (ord("X") << 8 | number for number in (3, 4, 5))
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_LIMIT = struct.Struct("<bbHI6Q40x16x")  # version, flags, mask, project, hard, soft, inodes hard, soft, used, inodes
_BLOCKS = 1 << 3 | 1 << 2  # FS_DQ_BHARD, FS_DQ_BSOFT
_BLOCK = 512  # bytes


def is_enforced(folder: Path) -> bool:
    """Tell whether the folder's file system counts projects, and refuses them what is too much."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state = _quotactl(fd, _GET_STATE, 0, bytes(256))
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(struct.unpack_from("<H", state, 2)[0] & _ENFORCED)


def limit(folder: Path, project: int, size: int) -> None:
    """Make an empty folder a project with at most `size` bytes. Raises OSError; EEXIST when the project has files."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _is_used(fd, project):
            raise OSError(errno.EEXIST, f"project {project} is in use", str(folder))
        _set(fd, project, size)
        flags, extent, extents, _, copy = _XATTR.unpack(fcntl.ioctl(fd, _GET_XATTR, bytes(_XATTR.size)))
        fcntl.ioctl(fd, _SET_XATTR, _XATTR.pack(flags | _INHERIT, extent, extents, project, copy))
    finally:
        os.close(fd)


def lift(folder: Path) -> None:
    """Take a project's limit away, if the folder is one: its number is free when its files are. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        project = _XATTR.unpack(fcntl.ioctl(fd, _GET_XATTR, bytes(_XATTR.size)))[3]
        if project:
            _set(fd, project, 0)
    finally:
        os.close(fd)


def _is_used(fd: int, project: int) -> bool:
    try:
        found = _LIMIT.unpack(_quotactl(fd, _GET_LIMIT, project, bytes(_LIMIT.size)))
    except FileNotFoundError:  # nobody has ever had the number
        return False
    return any(found[4:6]) or any(found[8:10])


def _set(fd: int, project: int, size: int) -> None:
    blocks = -(-size // _BLOCK)
    _quotactl(fd, _SET_LIMIT, project, _LIMIT.pack(1, 2, _BLOCKS, project, blocks, blocks, 0, 0, 0, 0))


def _quotactl(fd: int, command: int, project: int, data: bytes) -> bytes:
    buffer = bytearray(data)
    if lib.sys_quotactl_fd(fd, command << 8 | _PROJECT, project, ffi.from_buffer("char[]", buffer)) < 0:
        raise OSError(ffi.errno, f"quotactl: {os.strerror(ffi.errno)}")
    return bytes(buffer)
