"""Mounts in the daemon's own mount namespace, and what is mounted there. Containers' mounts are the shim's business."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import IntFlag
from pathlib import Path
from typing import NamedTuple

from ._sys import ffi, lib

MNT_DETACH = 2


class MS(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24


class MountAttr(IntFlag):
    """Attributes of a mount for mount_setattr(2), in the numbering of <linux/mount.h>."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8


class Mounted(NamedTuple):
    """One line of /proc/self/mountinfo, as far as we use it (proc(5))."""

    root: str
    target: str
    kind: str
    source: str
    options: frozenset[str]
    super_options: frozenset[str]
    tags: frozenset[str]  # `shared:N`, `master:N` …: the peer groups, none for a private mount


def mount(source: str, target: str, kind: str = "", flags: MS = MS(0), options: str = "") -> None:
    """Mount. Raises OSError that names the target. mount(2)."""
    if lib.mount(os.fsencode(source), os.fsencode(target), os.fsencode(kind), flags, os.fsencode(options)):
        raise OSError(ffi.errno, f"mount: {os.strerror(ffi.errno)}", target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount; with MNT_DETACH at once, whoever uses it. Raises OSError that names the target. umount2(2)."""
    if lib.umount2(os.fsencode(target), flags):
        raise OSError(ffi.errno, f"umount: {os.strerror(ffi.errno)}", target)


def mounts() -> Iterator[Mounted]:
    """List what is mounted in our namespace, in the order of mounting."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        root, target, options, *tags = before.split(" ")[3:]
        kind, source, super_options = after.split(" ")
        yield Mounted(
            _unescape(root),
            _unescape(target),
            kind,
            _unescape(source),
            frozenset(options.split(",")),
            frozenset(super_options.split(",")),
            frozenset(tags),
        )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
