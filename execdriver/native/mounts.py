"""The user's mounts in a container: binds, tmpfs, images.

The shim opens what comes from the host, before the container exists; the child moves it to its place, which the kernel
resolves inside the root, and makes the place when it is missing. Rules after runc (libcontainer/rootfs_linux.go).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence

from windlass.execdriver.driver import Mount
from windlass.kernel.mount import MS, MountAttr
from windlass.lib.rootfs import Directory, Overlay

from .message import Op, OpList, Place, Tree

CONFINED = MS.NOSUID | MS.NOEXEC | MS.NODEV
# Files of /proc that may be covered, by lxcfs or for tests (runc: checkProcMount).
_COVERABLE = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev"),
        *("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"),
    )
)
# Words of a tmpfs's options that are flags of the mount, and whether they set or clear them.
_TMPFS_FLAGS = {
    "ro": (MS.RDONLY, True), "rw": (MS.RDONLY, False), "nosuid": (MS.NOSUID, True), "suid": (MS.NOSUID, False),
    "nodev": (MS.NODEV, True), "dev": (MS.NODEV, False), "noexec": (MS.NOEXEC, True), "exec": (MS.NOEXEC, False),
    "noatime": (MS.NOATIME, True), "atime": (MS.NOATIME, False), "nodiratime": (MS.NODIRATIME, True),
    "diratime": (MS.NODIRATIME, False), "relatime": (MS.RELATIME, True), "norelatime": (MS.RELATIME, False),
    "strictatime": (MS.STRICTATIME, True), "nostrictatime": (MS.STRICTATIME, False),
}  # fmt: skip
# Words without effect on a tmpfs of one's own: there is no disk to write to, and nobody to propagate to.
_TMPFS_NEUTRAL = frozenset(
    ("defaults", "sync", "async", "dirsync", "mand", "nomand")
    + ("private", "rprivate", "shared", "rshared", "slave", "rslave")
)
_PROPAGATION = {"private": Tree(0), "slave": Tree.SLAVE, "shared": Tree.SHARED}


class UserMounts:
    """Adds the ops of the user's mounts to a list: `open` is the shim's part, `build` the child's.

    Raises ValueError for a place where nothing may be mounted.
    """

    def __init__(self, ops: OpList, mounts: Sequence[Mount], slot: Callable[[], int]) -> None:
        self._ops = ops
        self._slot = slot
        # A mount below another one has to come after it.
        self._mounts = sorted(mounts, key=lambda mount: clean(mount.target).count("/"))
        self._slots: list[int] = []
        self.targets = {clean(mount.target) for mount in mounts}
        for target in self.targets:
            check_target(target)

    def open(self) -> None:
        for mount in self._mounts:
            slot = self._slot() if mount.kind != "tmpfs" else -1
            self._slots.append(slot)
            if mount.kind == "bind":
                self._open_bind(mount, slot)
            elif mount.kind == "image":
                self._open_image(mount, slot)

    def build(self) -> None:
        for mount, slot in zip(self._mounts, self._slots, strict=True):
            target = clean(mount.target)
            place = Place.MAKE | (Place.PROC if target in _COVERABLE else Place(0))
            if mount.kind == "tmpfs":
                flags, options = _tmpfs(mount)
                what = f'error mounting "tmpfs" to rootfs at "{target}"'
                self._ops.add(Op.MOUNT, target, "tmpfs", "tmpfs", options, a=flags, b=place, what=what)
            else:
                paths = (target, mount.subpath) if mount.subpath else (target,)
                self._ops.add(Op.BIND, *paths, a=slot, b=place, what=_what(mount))

    def _open_bind(self, mount: Mount, slot: int) -> None:
        flags = _PROPAGATION[mount.propagation]
        flags |= Tree.RECURSIVE if mount.recursive else Tree(0)
        flags |= Tree(0) if mount.readonly_below else Tree.TOP
        flags |= Tree.MAPPED if mount.mapped else Tree(0)
        attributes = MountAttr.RDONLY if mount.readonly else MountAttr(0)
        self._ops.add(Op.OPEN_TREE, mount.source, a=slot, b=flags, c=attributes, what=_what(mount))

    def _open_image(self, mount: Mount, slot: int) -> None:
        attributes = MountAttr.RDONLY
        match mount.layers:
            case Overlay((_, _, *_) as lower, upper, work):  # overlayfs wants two of them at least
                base = common_base(mount.layers)
                self._ops.add(Op.OVERLAY, upper, work, *lower, a=slot, b=attributes, c=base, what=_what(mount))
            case Overlay((path,)) | Directory(path):
                self._ops.add(Op.OPEN_TREE, path, a=slot, b=Tree.MAPPED, c=attributes, what=_what(mount))
            case _:
                raise ValueError(f"no image to mount at {mount.target}")


def common_base(layers: Overlay) -> int:
    """The length of the path of the folder that all layers are in; see OP_OVERLAY."""
    return len(os.path.commonpath([path for path in (layers.upper, layers.work, *layers.lower) if path]))


def clean(target: str) -> str:
    """A place in the container in its shortest spelling."""
    return posixpath.normpath("/" + target.lstrip("/"))


def check_target(target: str) -> None:
    """Raises ValueError for a place that nothing may be mounted on, whatever the image's links make of it."""
    if (target == "/proc" or target.startswith("/proc/")) and target not in _COVERABLE:
        raise ValueError(f'"{target}" cannot be mounted because it is inside /proc')
    if target == "/":
        raise ValueError("the root itself cannot be mounted over")


def _what(mount: Mount) -> str:
    source = f"{mount.source}/{mount.subpath}" if mount.subpath else mount.source
    return f'error mounting "{source}" to rootfs at "{clean(mount.target)}"'


def _tmpfs(mount: Mount) -> tuple[MS, str]:
    """Split a tmpfs's options into flags of the mount and those of the file system; Docker's flags are the default."""
    flags, rest = CONFINED, []
    for option in filter(None, mount.options.split(",")):
        if option in _TMPFS_FLAGS:
            flag, is_set = _TMPFS_FLAGS[option]
            flags = flags | flag if is_set else flags & ~flag
        elif option not in _TMPFS_NEUTRAL:
            rest.append(option)
    return flags | MS.RDONLY if mount.readonly else flags, ",".join(rest)
