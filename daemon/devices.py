"""`Devices`, `DeviceCgroupRules`, `DeviceRequests`: which nodes a container gets, and which it may use.

A device of the host is looked up when the container starts (moby: oci/devices_linux.go). A link leads to what it
points to; a directory gives every node below it. The paths are the caller's, who is root: they are the host's, and
nothing of an image has a say in them.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator

from windlass.engine.errors import BadParameter
from windlass.execdriver.driver import Device, DeviceRule
from windlass.jobs.container_config import DeviceMapping, DeviceRequest, HostConfig

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z", re.ASCII)
_MAX_NUMBER = 0xFFFF_FFFF  # rules have 32 bits for each number


def check_devices(host: HostConfig) -> None:
    """Check what can be seen at create. Raises BadParameter."""
    for device in host.Devices or ():
        _check_device(device)
    for rule in host.DeviceCgroupRules or ():
        _parse_rule(rule)
    for request in host.DeviceRequests or ():
        _refuse(request)


def find_devices(host: HostConfig) -> tuple[Device, ...]:
    """Look up the devices of the host that a container gets by name. Blocks. Raises BadParameter when one is none."""
    found = []
    for mapping in host.Devices or ():
        if host.Privileged and mapping.PathOnHost == mapping.PathInContainer:
            continue  # it has them all
        found += _resolve(mapping)
    return tuple(found)


def device_rules(host: HostConfig) -> tuple[DeviceRule, ...]:
    """The rules of `--device-cgroup-rule`."""
    return tuple(_parse_rule(rule) for rule in host.DeviceCgroupRules or ())


def _check_device(device: DeviceMapping) -> None:
    access = device.CgroupPermissions
    if set(access) - set("rwm") or len(set(access)) < len(access):
        raise BadParameter(f"invalid device mode: {access}", key="Devices")
    for path in (device.PathOnHost, device.PathInContainer or device.PathOnHost):
        if not path.startswith("/") or "\0" in path:
            raise BadParameter(f"invalid device path: {path} must be absolute", key="Devices")


def _parse_rule(text: str) -> DeviceRule:
    match = _RULE.match(text)
    if match is None:
        raise BadParameter(f"invalid device cgroup rule format: '{text}'", key="DeviceCgroupRules")
    major, minor = (None if number == "*" else int(number) for number in match.group(2, 3))
    if max(major or 0, minor or 0) > _MAX_NUMBER:
        raise BadParameter(f"invalid device cgroup rule format: '{text}': no such number", key="DeviceCgroupRules")
    if match[1] == "a":  # as the kernel reads it: all devices, whatever else is said
        return DeviceRule("a")
    return DeviceRule("c" if match[1] == "c" else "b", major, minor, match[4])


def _refuse(request: DeviceRequest) -> None:
    """There is no driver for devices by capability, nor a registry of CDI names: told as by a Docker without."""
    if request.Driver == "cdi":
        names = ", ".join(request.DeviceIDs or ())
        raise BadParameter(f"CDI device injection failed: unresolvable CDI devices {names}", key="DeviceRequests")
    wanted = " ".join(f"[{' '.join(some)}]" for some in request.Capabilities or ())
    raise BadParameter(
        f'could not select device driver "{request.Driver}" with capabilities: [{wanted}]', key="DeviceRequests"
    )


def _resolve(mapping: DeviceMapping) -> list[Device]:
    inside = posixpath.normpath(mapping.PathInContainer or mapping.PathOnHost)
    real = os.path.realpath(mapping.PathOnHost)
    access = mapping.CgroupPermissions or "rwm"
    try:
        status = os.stat(real, follow_symlinks=False)
    except OSError as exc:
        raise _failure(mapping, (exc.strerror or "").lower()) from None
    found = [_device(status, real, inside, access)] if _is_node(status) else list(_nodes_below(real, inside, access))
    if not found:
        raise _failure(mapping, "not a device node")
    return found


def _failure(mapping: DeviceMapping, why: str) -> BadParameter:
    return BadParameter(
        f'error gathering device information while adding custom device "{mapping.PathOnHost}": {why}', key="Devices"
    )


def _nodes_below(folder: str, inside: str, access: str) -> Iterator[Device]:
    """The nodes in a directory and below it; links are passed over, as is what vanishes meanwhile."""
    for path, _, names in os.walk(folder):
        place = posixpath.join(inside, posixpath.relpath(path, folder))
        for name in sorted(names):
            source = posixpath.join(path, name)
            try:
                status = os.stat(source, follow_symlinks=False)
            except OSError:
                continue
            if _is_node(status):
                yield _device(status, source, posixpath.normpath(posixpath.join(place, name)), access)


def _is_node(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def _device(status: os.stat_result, source: str, inside: str, access: str) -> Device:
    return Device(
        path=inside,
        kind="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
        source=source,
    )
