"""`--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`: whose namespaces a container's processes are in.

Joining those of another container. A process is named by a number, and numbers are used again: a namespace is opened
below a descriptor of the process's folder in /proc, which stands for that process alone, once its cgroup has shown
that it is the container's. The exec driver is given the descriptors, as paths; they are held until the start is over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from windlass.engine.errors import BadParameter, Conflict
from windlass.jobs.container_config import HostConfig

from .container import Container
from .daemon import Daemon
from .endpoints import shared_container

# What each mode may be besides empty, and whether it may be another container; then what dockerd calls it.
_MODES: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "IpcMode": (("none", "private", "host", "shareable"), True, "invalid IPC mode"),
    "PidMode": (("host",), True, "invalid PID mode"),
    "UTSMode": (("host",), False, "invalid UTS mode"),
    "UsernsMode": (("host",), False, "invalid userns mode"),
    "CgroupnsMode": (("private", "host"), False, "invalid cgroup namespace mode"),
}
RUNTIMES = ("", "windlass", "runc")  # clients ask for Docker's by name


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a container's namespaces come from, as the exec driver takes them; network: as the attachment says."""

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    shm: str = "private"
    network: str = ""


def check_namespaces(host: HostConfig) -> None:
    """Check the modes at create. Raises BadParameter in dockerd's words."""
    for field, (words, may_share, what) in _MODES.items():
        mode = getattr(host, field)
        kind, colon, name = mode.partition(":")
        if mode and mode not in words and not (may_share and colon and kind == "container" and name):
            raise BadParameter(f"{what}: {mode}", key=field)
    if host.Isolation.lower() not in ("", "default"):
        raise BadParameter(f"invalid isolation '{host.Isolation}' on linux", key="Isolation")
    if host.Runtime not in RUNTIMES:
        raise BadParameter(f"unknown or invalid runtime name: {host.Runtime}", key="Runtime")


def is_shareable(container: Container) -> bool:
    """True when other containers may join its IPC namespace and its /dev/shm."""
    mode = container.host.IpcMode
    return mode in ("shareable", "host") or bool(shared_container(mode))


@contextmanager
def joined(daemon: Daemon, container: Container) -> Iterator[Joined]:
    """Open what a start joins, and hold it for as long.

    Raises BadParameter for a container that is not there or does not share, Conflict for one that does not run.
    """
    host = container.host
    found = Joined(pid=_host_or_private(host.PidMode), uts=_host_or_private(host.UTSMode))
    if host.IpcMode == "host":
        found = replace(found, ipc="host", shm="host")
    elif host.IpcMode == "none":
        found = replace(found, shm="none")
    with ExitStack() as held:
        if word := shared_container(host.PidMode):
            folder = _open_process(held, _running(daemon, word, "PID"), "PID")
            found = replace(found, pid=_open(held, folder, "pid"))
        if word := shared_container(host.IpcMode):
            found = _join_ipc(held, daemon, word, found)
        if word := shared_container(host.NetworkMode):
            folder = _open_process(held, _running(daemon, word, "network"), "network")
            found = replace(found, network=_open(held, folder, "net"))
        yield found


def _host_or_private(mode: str) -> str:
    return "host" if mode == "host" else "private"


def _join_ipc(held: ExitStack, daemon: Daemon, word: str, found: Joined) -> Joined:
    other = _running(daemon, word, "IPC")
    if not is_shareable(other):
        raise BadParameter(
            f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)",
            key="IpcMode",
        )
    if other.host.IpcMode == "host":
        return replace(found, ipc="host", shm="host")
    folder = _open_process(held, other, "IPC")
    return replace(found, ipc=_open(held, folder, "ipc"), shm=_open(held, folder, "mnt"))


def _running(daemon: Daemon, word: str, kind: str) -> Container:
    other = daemon.containers.find(word)
    if other is None:
        raise BadParameter(f"failed to join {kind} namespace: No such container: {word}", key=f"{kind}Mode")
    if not other.is_running or other.running is None:
        raise Conflict(f"failed to join {kind} namespace: container {other.id} is not running")
    return other


def _open_process(held: ExitStack, container: Container, kind: str) -> int:
    """Open the folder in /proc of a container's first process, and of no other one."""
    assert container.running is not None
    try:
        folder = os.open(f"/proc/{container.running.pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, folder)
        fd = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        with open(fd) as file:  # noqa: PTH123 - a descriptor
            is_its = f"/{container.id}" in file.read()
    except OSError:  # it has just ended
        is_its = False
    if not is_its:
        raise Conflict(f"failed to join {kind} namespace: container {container.id} is not running")
    return folder


def _open(held: ExitStack, folder: int, name: str) -> str:
    try:
        fd = os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as exc:
        raise Conflict(f"failed to join a namespace that has just ended: {exc.strerror}") from None
    held.callback(os.close, fd)
    return f"/proc/{os.getpid()}/fd/{fd}"
