"""The local driver's options: `type`, `o` and `device`, as mount(8) has them.

What they name is mounted on the volume's folder, in the daemon's mount namespace, while a container uses it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from windlass.engine.errors import BadParameter, Internal
from windlass.kernel.mount import MNT_DETACH, MS, mount, mounts, unmount

_KNOWN = ("type", "o", "device", "size")
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
# Words of `o` that are flags of the mount, and whether they set or clear them (mount(8)); others are the file system's.
_FLAGS: dict[str, tuple[MS, bool]] = {
    "defaults": (MS(0), True), "ro": (MS.RDONLY, True), "rw": (MS.RDONLY, False),
    "nosuid": (MS.NOSUID, True), "suid": (MS.NOSUID, False), "nodev": (MS.NODEV, True), "dev": (MS.NODEV, False),
    "noexec": (MS.NOEXEC, True), "exec": (MS.NOEXEC, False), "sync": (MS.SYNCHRONOUS, True),
    "async": (MS.SYNCHRONOUS, False), "noatime": (MS.NOATIME, True), "atime": (MS.NOATIME, False),
    "nodiratime": (MS.NODIRATIME, True), "diratime": (MS.NODIRATIME, False), "relatime": (MS.RELATIME, True),
    "norelatime": (MS.RELATIME, False), "strictatime": (MS.STRICTATIME, True), "bind": (MS.BIND, True),
    "rbind": (MS.BIND | MS.REC, True), "private": (MS.PRIVATE, True), "rprivate": (MS.PRIVATE | MS.REC, True),
    "shared": (MS.SHARED, True), "rshared": (MS.SHARED | MS.REC, True), "slave": (MS.SLAVE, True),
    "rslave": (MS.SLAVE | MS.REC, True),
}  # fmt: skip
_PROPAGATION = MS.PRIVATE | MS.SHARED | MS.SLAVE
_NETWORKED = re.compile(r"nfs4?|cifs|smb3")


def check_options(options: Mapping[str, str]) -> None:
    """Raises BadParameter, in Docker's words (moby: volume/local, validateOpts)."""
    for key in options:
        if key not in _KNOWN:
            raise BadParameter(f'invalid option: "{key}"', key="DriverOpts")
    for key, needed in _NEEDS.items():
        for other in needed if key in options else ():
            if other not in options:
                raise BadParameter(f'missing required option: "{other}"', key="DriverOpts")
    if options.get("size"):
        raise BadParameter("quota size requested but no quota support", key="DriverOpts")
    if any("\0" in value for value in options.values()):
        raise BadParameter("a NUL byte cannot be in an option", key="DriverOpts")


@dataclass(frozen=True, slots=True)
class Device:
    """What is to be mounted: the arguments of mount(2)."""

    source: str
    kind: str
    flags: MS
    data: str

    @classmethod
    async def of(cls, options: Mapping[str, str]) -> Device:
        """Raises Internal when a host of the network cannot be found."""
        kind, flags, data = options.get("type", ""), MS(0), []
        for word in filter(None, options.get("o", "").split(",")):
            key, equals, value = word.partition("=")
            if word in _FLAGS:
                flag, is_set = _FLAGS[word]
                flags = flags | flag if is_set else flags & ~flag
            elif equals and key == "addr" and _NETWORKED.fullmatch(kind):
                data.append(f"addr={await _address(value)}")  # the kernel knows no names
            else:
                data.append(word)
        return cls(options.get("device", ""), kind, flags, ",".join(data))


async def _address(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    try:
        found = await trio.socket.getaddrinfo(host, None)
    except OSError as exc:
        raise Internal(f"error resolving passed in network volume address: {host}: {exc}") from None
    return str(found[0][4][0])


def mount_device(device: Device, path: Path) -> None:
    """Mount, unless something is mounted there already. Blocks, on a network perhaps for long. Raises OSError."""
    if is_mounted(path):
        return
    propagation, flags = device.flags & (_PROPAGATION | MS.REC), device.flags & ~_PROPAGATION
    if not flags & MS.BIND:
        flags &= ~MS.REC
    try:
        mount(device.source, str(path), device.kind, flags, device.data)
        if flags & MS.BIND and flags & ~(MS.BIND | MS.REC):  # a bind takes its flags from a second call
            mount("", str(path), "", (flags | MS.REMOUNT) & ~MS.REC)
        if propagation & _PROPAGATION:
            mount("", str(path), "", propagation)
    except OSError as exc:
        with contextlib.suppress(OSError):
            unmount(str(path), MNT_DETACH)
        text = f"failed to mount local volume: mount {device.source}:{path}, flags: {flags:#x}"
        text += f", data: {device.data}" if device.data else ""
        raise OSError(exc.errno, f"{text}: {os.strerror(exc.errno or 0).lower()}") from None


def unmount_device(path: Path) -> None:
    """Unmount; nothing to do when nothing is mounted there. Blocks. Raises OSError."""
    while is_mounted(path):
        try:
            unmount(str(path), MNT_DETACH)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                return
            raise


def is_mounted(path: Path) -> bool:
    target = os.path.realpath(path)
    return any(each.target == target for each in mounts())
