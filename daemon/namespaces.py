"""`--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`: whose namespaces a container's processes are in.

Those of another container are opened below the folder in /proc of its first process. The exec driver is given the
descriptors, as paths; they are held until the start is over.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import trio

from windlass.engine.errors import BadParameter, Conflict
from windlass.jobs.container_config import HostConfig
from windlass.kernel.ns import process_folder

from .container import Container
from .daemon import Daemon
from .endpoints import has_sandbox, shared_container
from .remap import Remap, check_remap, choose, first_user, is_mapped, load_pool

# What each mode may be besides empty, and whether it may be another container; then what dockerd calls it.
_MODES: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "IpcMode": (("none", "private", "host", "shareable"), True, "invalid IPC mode"),
    "PidMode": (("host",), True, "invalid PID mode"),
    "UTSMode": (("host",), False, "invalid UTS mode"),
    "UsernsMode": (("host", "auto"), False, "invalid userns mode"),
    "CgroupnsMode": (("private", "host"), False, "invalid cgroup namespace mode"),
}
_JOINED = {"PidMode": "PID", "IpcMode": "IPC"}
RUNTIMES = ("", "windlass", "runc")  # clients ask for Docker's by name


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a container's namespaces come from, as the exec driver takes them; network: as the attachment says."""

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    shm: str = "private"
    network: str = ""
    user: str = "host"
    sandbox: str = ""  # a new network namespace that belongs to `user`, for the network subsystem


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


@asynccontextmanager
async def joined(daemon: Daemon, container: Container) -> AsyncIterator[Joined]:
    """Open what a start joins, and hold it for as long.

    Raises BadParameter for a container that is not there or does not share, Conflict for one that does not run.
    """
    host = container.host
    check_remap(host, daemon.remap)
    found = Joined(pid=_host_or_private(host.PidMode), uts=_host_or_private(host.UTSMode))
    if host.IpcMode == "host":
        found = replace(found, ipc="host", shm="host")
    elif host.IpcMode == "none":
        found = replace(found, shm="none")
    with ExitStack() as held:
        donors = {field: _donor(held, daemon, getattr(host, field), kind) for field, kind in _JOINED.items()}
        donors["NetworkMode"] = _network_donor(held, daemon, shared_container(host.NetworkMode))
        if (folder := donors["PidMode"]) is not None:
            found = replace(found, pid=_open(held, folder, "pid"))
        if (folder := donors["IpcMode"]) is not None:
            found = _join_ipc(held, daemon, host, folder, found)
        if (folder := donors["NetworkMode"]) is not None:
            found = replace(found, network=_open(held, folder, "net"))
        if is_mapped(host, daemon.remap):
            folders = [folder for folder in donors.values() if folder is not None]
            found = await _with_user(held, daemon, container, found, folders)
        yield found


async def _mapping(held: ExitStack, daemon: Daemon, container: Container) -> Remap:
    """Whose ids the container's users have: the daemon's for all, or those that no other running container has."""
    if container.host.UsernsMode != "auto":
        assert daemon.remap is not None
        return daemon.remap
    pool = await trio.to_thread.run_sync(load_pool)
    others = [each.running.pid for each in daemon.containers if each.running and each.host.UsernsMode == "auto"]
    mapping = choose(pool, {first_user(pid) for pid in others} | daemon.starting_users)
    first = mapping.uids[0][1]
    daemon.starting_users.add(first)  # until it runs, or does not
    held.callback(daemon.starting_users.discard, first)
    return mapping


async def _with_user(held: ExitStack, daemon: Daemon, container: Container, found: Joined, donors: list[int]) -> Joined:
    """Make the user namespace, or take that of the containers whose other namespaces are joined: they belong to it."""
    within = [_open(held, folder, "user") for folder in donors]
    if within and {os.stat(path).st_ino for path in within} != {os.stat(within[0]).st_ino} - {_own_user()}:
        raise BadParameter(
            "cannot share a namespace with a container that is in another user namespace", key="UsernsMode"
        )
    network = has_sandbox(container)
    if within and not network:
        return replace(found, user=within[0])
    remap = Remap((), ()) if within else await _mapping(held, daemon, container)
    make = functools.partial(daemon.driver.user_namespace, network=network, within=within[0] if within else "")
    user, net = await trio.to_thread.run_sync(make, *remap)
    for fd in (user, net):
        if fd >= 0:
            held.callback(os.close, fd)
    return replace(found, user=_path(user), sandbox=_path(net) if net >= 0 else "")


def _own_user() -> int:
    return os.stat("/proc/self/ns/user").st_ino


def _host_or_private(mode: str) -> str:
    return "host" if mode == "host" else "private"


def _join_ipc(held: ExitStack, daemon: Daemon, host: HostConfig, folder: int, found: Joined) -> Joined:
    other = daemon.containers.get(shared_container(host.IpcMode))
    if not is_shareable(other):
        raise BadParameter(
            f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)",
            key="IpcMode",
        )
    if other.host.IpcMode == "host":
        return replace(found, ipc="host", shm="host")
    return replace(found, ipc=_open(held, folder, "ipc"), shm=_open(held, folder, "mnt"))


def _donor(held: ExitStack, daemon: Daemon, mode: str, kind: str) -> int | None:
    """Open the folder in /proc of the container that a mode names, if it names one."""
    word = shared_container(mode)
    return _open_process(held, _running(daemon, word, kind), kind) if word else None


def _network_donor(held: ExitStack, daemon: Daemon, word: str) -> int | None:
    """The same for a network; that it is not there or does not run, the attachment tells in its own words."""
    other = daemon.containers.find(word) if word else None
    return _open_process(held, other, "network") if other is not None and other.running is not None else None


def _running(daemon: Daemon, word: str, kind: str) -> Container:
    other = daemon.containers.find(word)
    if other is None:
        raise BadParameter(f"failed to join {kind} namespace: No such container: {word}", key=f"{kind}Mode")
    if other.running is None:
        raise Conflict(f"failed to join {kind} namespace: container {other.id} is not running")
    return other


def _open_process(held: ExitStack, container: Container, kind: str) -> int:
    """Open the folder in /proc of a container's first process, and of no other one."""
    assert container.running is not None
    try:
        folder = process_folder(container.running.pid, container.id)
    except OSError:  # it has just ended
        raise Conflict(f"failed to join {kind} namespace: container {container.id} is not running") from None
    held.callback(os.close, folder)
    return folder


def _open(held: ExitStack, folder: int, name: str) -> str:
    try:
        fd = os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as exc:
        raise Conflict(f"failed to join a namespace that has just ended: {exc.strerror}") from None
    held.callback(os.close, fd)
    return _path(fd)


def _path(fd: int) -> str:
    return f"/proc/{os.getpid()}/fd/{fd}"
