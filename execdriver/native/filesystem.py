"""What a container sees as its file system: Docker's default mounts, devices and links, the user's, and the masks.

The shim opens what comes from the host (`OPEN_TREE`) before the container exists; the child only moves those mounts
to their places. All places are resolved inside the root by the kernel, so no path of an image is looked at here.

Facts after moby v28.5.2 (oci/defaults.go) and runc (libcontainer/rootfs_linux.go).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from windlass.execdriver.driver import Command, Device
from windlass.kernel.cgroup import Cgroup
from windlass.kernel.mount import MS, MountAttr
from windlass.lib.rootfs import Overlay

from .message import SLOTS, Op, OpList, Place, Tree
from .mounts import CONFINED, UserMounts, clean, common_base

_READONLY = MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC

MASKED = tuple(
    f"/proc/{name}"
    for name in (
        *("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi"),
        *("timer_list", "timer_stats"),
    )
) + ("/sys/devices/virtual/powercap", "/sys/firmware")
READONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))

_NODES = tuple(
    Device(f"/dev/{name}", "c", major, minor)
    for name, major, minor in (
        *(("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)),
        ("tty", 5, 0),
    )
)
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}
# Folders of the host's /dev that are no devices, or mounts of the container's own (moby: oci.HostDevices).
_NOT_DEVICES = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"))


_NODE_ATTRIBUTES = MountAttr.NOSUID | MountAttr.NOEXEC


def is_mapped(command: Command) -> bool:
    """Whether the container has a user namespace."""
    return command.userns != "host"


class FileSystem:
    """Adds the ops of one container's file system to a list, in three parts that others come between.

    `open` is the shim's part, `build` the child's, `cover` comes last, when everything is mounted.
    """

    def __init__(self, ops: OpList, command: Command, cgroup: Cgroup, is_v2: bool, private_cgroupns: bool) -> None:
        self._ops = ops
        self._command = command
        self._cgroup = cgroup
        self._is_v2 = is_v2
        self._private_cgroupns = private_cgroupns
        self._slots = 0
        self._opened: dict[str, tuple[int, str]] = {}  # by target: slot, and what to call it
        self._mounts = UserMounts(ops, command.mounts, self.slot)

    def slot(self) -> int:
        """Give the number of a slot that is not in use. Raises ValueError when there is none."""
        if self._slots == SLOTS:
            raise ValueError(f"more than {SLOTS} mounts and cgroups")
        self._slots += 1
        return self._slots - 1

    def open(self) -> None:
        """Open the root file system and everything else of the host's that will be mounted."""
        self._root = self.slot()
        match self._command.rootfs:
            case Overlay(lower, upper, work) as rootfs:
                base = common_base(rootfs) if is_mapped(self._command) else 0
                self._ops.add(Op.OVERLAY, upper, work, *lower, a=self._root, c=base, what="root file system")
            case directory:
                self._ops.add(Op.OPEN_TREE, directory.path, a=self._root, b=Tree.MAPPED, what="root file system")
        self._mounts.open()
        if self._is_default("/dev/shm"):
            self._open_shm()
        if self._is_default("/sys/fs/cgroup"):
            self._open_cgroups()
        if self._is_default("/dev") and is_mapped(self._command):
            for device in self._nodes():
                self._open(device.source or device.path, clean(device.path), _NODE_ATTRIBUTES)

    def build(self, place: str) -> None:
        """Move the root to `place` (a folder of the host), and mount and make everything in it."""
        self._ops.add(Op.ROOT, place, a=self._root, what="root file system")
        self._mount_defaults()
        if self._is_default("/dev"):
            self._make_devices()
        self._mounts.build()
        if self._command.program.cwd != "/":
            # Docker makes a missing working directory as root, whoever the user is.
            self._ops.add(Op.MKDIR, self._command.program.cwd, a=0o755, what=f"mkdir {self._command.program.cwd}")

    def cover(self) -> None:
        """Mask and protect paths, as the last step before the root itself becomes read-only."""
        defaults: tuple[tuple[str, ...], ...] = ((), ()) if self._command.privileged else (_masked(), READONLY)
        masked, readonly = self._command.masked_paths, self._command.readonly_paths
        for path in defaults[1] if readonly is None else readonly:
            self._ops.add(Op.READONLY, path, what=f"read-only path {path}")
        for path in defaults[0] if masked is None else masked:
            self._ops.add(Op.MASK, path, what=f"masked path {path}")
        if self._command.readonly_rootfs:
            self._ops.add(Op.READONLY_ROOT)

    def _is_default(self, target: str) -> bool:
        """Whether we mount there: not where the user mounts something, on it or above it."""
        return not any(target == own or target.startswith(own + "/") for own in self._mounts.targets)

    def _open(self, source: str, target: str, attributes: MountAttr) -> None:
        what = f'error mounting "{source}" to rootfs at "{target}"'
        slot, _ = self._opened[target] = self.slot(), what
        self._ops.add(Op.OPEN_TREE, source, a=slot, c=attributes, what=what)

    def _open_shm(self) -> None:
        """Open the /dev/shm that is shared with the host or another container, if any."""
        shm = self._command.shm
        if shm == "host":
            self._open("/dev/shm", "/dev/shm", MountAttr(0))
        elif shm not in ("private", "none"):
            slot, what = self._opened["/dev/shm"] = self.slot(), f"/dev/shm of {shm}"
            self._ops.add(Op.OPEN_SHM, shm, a=slot, what=what)

    def _mount_defaults(self) -> None:
        sys_flags = CONFINED if self._command.privileged else CONFINED | MS.RDONLY
        shm = f"mode=1777,size={self._command.shm_size}"
        dev_flags = MS.NOSUID | MS.STRICTATIME
        self._mount_default("/proc", "proc", "proc", "", CONFINED)
        self._mount_default("/dev", "tmpfs", "tmpfs", "mode=755,size=65536k", dev_flags)
        options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
        self._mount_default("/dev/pts", "devpts", "devpts", options, MS.NOSUID | MS.NOEXEC)
        self._mount_default("/sys", "sysfs", "sysfs", "", sys_flags)
        if self._is_default("/sys/fs/cgroup"):
            self._mount_cgroups()
        self._mount_default("/dev/mqueue", "mqueue", "mqueue", "", CONFINED)
        if "/dev/shm" in self._opened and self._is_default("/dev/shm"):
            self._bind("/dev/shm")
        elif self._command.shm != "none":
            self._mount_default("/dev/shm", "tmpfs", "shm", shm, CONFINED)

    def _mount_default(self, target: str, kind: str, source: str, options: str, flags: MS) -> None:
        if self._is_default(target):
            self._ops.add(Op.MKDIR, target, a=0o755, what=f"mkdir {target}")
            self._ops.add(Op.MOUNT, target, kind, source, options, a=flags, what=f"mount {kind} on {target}")

    def _bind(self, target: str) -> None:
        slot, what = self._opened[target]
        self._ops.add(Op.BIND, target, a=slot, b=Place.MAKE, what=what)

    def _open_cgroups(self) -> None:
        """Open the container's own groups, to be bound; where it has a cgroup namespace, they are mounted anew."""
        if self._private_cgroupns:
            return
        attributes = _READONLY & ~MountAttr.RDONLY if self._has_writable_cgroups() else _READONLY
        if self._is_v2:
            # A new mount would reset the options of the host's: all mounts of cgroup2 share them.
            self._open("/sys/fs/cgroup", "/sys/fs/cgroup", attributes)
            return
        for name, _, path in self._cgroup.v1_views():
            self._open(path, f"/sys/fs/cgroup/{name}", attributes)

    def _has_writable_cgroups(self) -> bool:
        return self._command.privileged or self._command.writable_cgroups

    def _mount_cgroups(self) -> None:
        flags = CONFINED if self._has_writable_cgroups() else CONFINED | MS.RDONLY
        if not self._is_v2:
            self._mount_cgroups_v1(flags)
        elif self._private_cgroupns:
            self._mount_default("/sys/fs/cgroup", "cgroup2", "cgroup", "", flags)
        else:
            self._bind("/sys/fs/cgroup")

    def _mount_cgroups_v1(self, flags: MS) -> None:
        top = "/sys/fs/cgroup"
        self._ops.add(Op.MOUNT, top, "tmpfs", "tmpfs", "mode=755", a=CONFINED, what=f"mount tmpfs on {top}")
        for name, controllers, _ in self._cgroup.v1_views():
            target = f"{top}/{name}"
            if self._private_cgroupns:
                options = ",".join(c if not c.startswith("name=") else f"none,{c}" for c in sorted(controllers))
                self._mount_default(target, "cgroup", "cgroup", options, flags)
            else:
                self._bind(target)
            for controller in sorted(controllers - {name}):
                if not controller.startswith("name="):  # cpu and cpuacct are links where "cpu,cpuacct" is mounted
                    self._ops.add(Op.SYMLINK, name, f"{top}/{controller}")
        if MS.RDONLY in flags:
            self._ops.add(Op.MOUNT, top, "", "", "", a=MS.REMOUNT | flags, what=f"remount {top} read-only")

    def _nodes(self) -> list[Device]:
        nodes = {device.path: device for device in _NODES}
        if self._command.privileged:
            nodes |= {device.path: device for device in _host_devices()}
        nodes |= {clean(device.path): device for device in self._command.devices}
        return list(nodes.values())

    def _make_devices(self) -> None:
        for device in self._nodes():
            path = clean(device.path)
            if is_mapped(self._command):
                self._bind(path)
                continue
            kind = stat.S_IFCHR if device.kind == "c" else stat.S_IFBLK
            number = os.makedev(device.major, device.minor)
            owner = device.uid << 32 | device.gid
            self._ops.add(Op.MKNOD, path, a=kind | device.mode, b=number, c=owner, what=f"device {path}")
        for link, target in _LINKS.items():
            self._ops.add(Op.SYMLINK, target, link)
        if _host_has_kcore():
            self._ops.add(Op.SYMLINK, "/proc/kcore", "/dev/core")


@cache
def _masked() -> tuple[str, ...]:
    """Give the masked paths of this host: with the thermal counters of each possible processor (moby 28.0.2)."""
    throttles = (f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(os.cpu_count() or 1))
    return MASKED + tuple(path for path in throttles if Path(path).exists())


@cache
def _host_has_kcore() -> bool:
    return Path("/proc/kcore").exists()


def _host_devices() -> Iterator[Device]:
    """List the device nodes of the host's /dev, for a privileged container."""
    folders = ["/dev"]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name in _NOT_DEVICES:
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.path)
                elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    yield _device(entry.path, status)


def _device(path: str, status: os.stat_result) -> Device:
    kind: Literal["c", "b"] = "c" if stat.S_ISCHR(status.st_mode) else "b"
    number, mode = status.st_rdev, stat.S_IMODE(status.st_mode)
    return Device(path, kind, os.major(number), os.minor(number), mode, status.st_uid, status.st_gid)
