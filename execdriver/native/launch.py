"""The native driver: starts containers by windlass-shim, and finds them again.

A start blocks the loop for less than a millisecond of Python: a folder, cgroups, an op list of some kilobytes, and
posix_spawn, which costs the same whatever the daemon's size. Nothing of Python is ever forked. The shim is executed
from a sealed memfd made once: a container that gets hold of /proc/self/exe cannot write to it (CVE-2019-5736).

On the exec root:

    containers/ID/          0700; ctl.sock, exit (by the shim), cgroup (by us: the name of the group)
    root/                   empty; the place where each container's root is mounted, in its own namespace
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from windlass.execdriver.driver import Attached, Command, Exit, IdMap, Running, Session, StartError, View
from windlass.kernel import caps, devicecg
from windlass.kernel.cgroup import Cgroup, Hierarchies

from .control import Shim, read_exit
from .failure import reason, start_error
from .files import NativeFiles, world_of_process, world_of_view
from .limits import limits
from .memfd import lifted, sealed_memfd
from .message import OpList, Rec
from .spec import compile_start
from .userns import make_user_namespace

_BINARY = Path(__file__).with_name("windlass-shim")
_FILES = _BINARY.with_name("windlass-files")
_DEFAULT_EXEC_ROOT = Path("/run/windlass")
_TREE = "windlass"
_PATIENCE = 10.0  # seconds for a shim to put on record that its container has been killed
_NULL_STREAMS = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
    (os.POSIX_SPAWN_DUP2, 0, 1),
    (os.POSIX_SPAWN_DUP2, 0, 2),
]
# What a limit needs, and what Docker says in `info` when it is not there.
_WANTED = {
    "memory": "No memory limit support",
    "cpu": "No cpu cfs quota support",
    "cpuset": "No cpuset support",
    "pids": "No pids limit support",
}


class NativeDriver:
    """Starts containers on one exec root; see `driver.Driver`. Its tasks run in the nursery that it is given.

    Raises OSError when the exec root or the shim's program is not usable. `close` gives back what it holds; containers
    do not care.
    """

    name = "native"

    def __init__(self, exec_root: Path, nursery: trio.Nursery, binary: Path = _BINARY) -> None:
        self._root = exec_root.resolve()
        self._containers = self._root / "containers"
        self._place = self._root / "root"
        for folder in (self._containers, self._place):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._nursery = nursery
        self._program = binary
        self._shims: dict[str, Shim] = {}
        self._hierarchies = Hierarchies.of_host()
        # Two daemons on one host must not take each other's containers for leftovers.
        is_default = self._root == _DEFAULT_EXEC_ROOT.resolve()
        self._suffix = "" if is_default else f".{hashlib.sha256(os.fsencode(self._root)).hexdigest()[:8]}"
        low = sealed_memfd("windlass-shim", binary.read_bytes(), executable=True)
        self._binary = lifted(low)
        os.close(low)

    def close(self) -> None:
        """Close the shim's program; no container can be started afterwards."""
        if self._binary >= 0:
            os.close(self._binary)
            self._binary = -1

    async def start(self, command: Command, sessions: Sequence[Session] = ()) -> tuple[Running, list[Attached]]:
        await trio.lowlevel.checkpoint()
        cgroup = self._make(command)
        shim = None
        try:
            ops = self._prepare(command, cgroup)
            shim, attached = self._spawn(command.id, ops, cgroup, list(sessions))
            answer = await shim.answer.wait()
            if answer.type is not Rec.STARTED:
                raise start_error(ops.names, command.program, answer)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._undo(command.id, shim)
            raise
        return shim, list(attached)

    async def adopt(self, id: str) -> Running | Exit | None:
        shim = self._connect(id)
        if shim:
            self._watch(shim)
            with contextlib.suppress(ProcessLookupError):
                if await shim.status():
                    return shim
            if not read_exit(self._folder(id)):
                shim.kill_shim()  # an earlier daemon died in the middle of its start
            await shim.gone.wait()
        await trio.lowlevel.checkpoint()
        if ended := read_exit(self._folder(id)):
            return ended
        self._cgroup_of(id).kill()
        return None

    async def destroy(self, id: str) -> None:
        cgroup = self._cgroup_of(id)
        cgroup.kill()
        if shim := self._shims.pop(id, None):
            with trio.move_on_after(_PATIENCE):
                await shim.recorded()
        await cgroup.remove()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder(id))

    async def leftovers(self) -> set[str]:
        await trio.lowlevel.checkpoint()
        found = {path.name for path in self._containers.iterdir()}
        for name in self._hierarchies.names(_TREE):
            id, dot, suffix = name.partition(".")
            if dot + suffix == self._suffix:
                found.add(id)
        return found

    def user_namespace(self, uids: IdMap, gids: IdMap, *, network: bool, within: str = "") -> tuple[int, int]:
        return make_user_namespace(self.log_reader(), uids, gids, network=network, within=within)

    def files(self, id: str, view: View | None = None) -> NativeFiles:
        if view is not None:
            return NativeFiles(str(_FILES), lambda held: world_of_view(held, view, str(self._place)))
        shim = self._shims.get(id)
        return NativeFiles(str(_FILES), lambda held: world_of_process(held, id, shim.pid if shim else 0))

    def log_reader(self) -> str:
        return f"/proc/self/fd/{self._binary}"

    def init_program(self) -> str:
        return str(self._program)

    def warnings(self) -> list[str]:
        there = self._hierarchies.controllers
        found = [f"WARNING: {sentence}" for controller, sentence in _WANTED.items() if controller not in there]
        memory = self._hierarchies.mount_of("memory")
        if memory and not (memory / "memory.memsw.limit_in_bytes").exists():
            found.append("WARNING: No swap limit support")
        if "CAP_SYS_RESOURCE" not in caps.own():
            found.append("WARNING: no CAP_SYS_RESOURCE: ulimits cannot be raised, oom-score-adj not be lowered")
        return found

    # -- folders and cgroups --------------------------------------------------------------------------------------

    def _folder(self, id: str) -> Path:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]*", id):
            raise ValueError(f"{id!r} is not a container's id")
        return self._containers / id

    def _cgroup(self, id: str, parent: str = "") -> Cgroup:
        if ".." in parent.split("/"):
            raise ValueError(f"cgroup parent {parent!r} leads upwards")
        above = [part for part in parent.split("/") if part not in ("", ".")]
        return Cgroup(self._hierarchies, "/".join((*above, _TREE, f"{id}{self._suffix}")))

    def _cgroup_of(self, id: str) -> Cgroup:
        """Find the groups of a container that this or an earlier daemon started.

        What the file says counts only if it is a name that `_cgroup` gives: what these groups hold will be killed.
        """
        own = self._cgroup(id)
        try:
            name = (self._folder(id) / "cgroup").read_text()
        except FileNotFoundError:
            return own
        return Cgroup(self._hierarchies, name) if f"/{name}".endswith(f"/{own.name}") else own

    def _make(self, command: Command) -> Cgroup:
        """Make the container's folder, which says which cgroup is its."""
        try:
            cgroup = self._cgroup(command.id, command.cgroup_parent)
            folder = self._folder(command.id)
        except ValueError as error:
            raise StartError("command", errno.EINVAL, str(error)) from error
        try:
            folder.mkdir(mode=0o700)
            # Whole or not there: a crash in between must not leave half a name of what the next daemon will kill.
            (folder / "cgroup.new").write_text(cgroup.name)
            (folder / "cgroup.new").rename(folder / "cgroup")
        except OSError as error:
            raise StartError("run folder", error.errno or 0, f"{folder}: {reason(error.errno or 0)}") from error
        return cgroup

    def _prepare(self, command: Command, cgroup: Cgroup) -> OpList:
        try:
            cgroup.create(limits(command.resources), _device_rules(command))
            folder, place = str(self._folder(command.id)), str(self._place)
            return compile_start(command, cgroup, folder, place, is_v2=self._hierarchies.is_v2)
        except ValueError as error:
            raise StartError("command", errno.EINVAL, str(error)) from error
        except OSError as error:
            raise StartError("cgroup", error.errno or 0, f"cgroup: {error.strerror}: {error.filename}") from error

    async def _undo(self, id: str, shim: Shim | None) -> None:
        if shim:
            shim.kill_shim()
            await shim.gone.wait()
        await self.destroy(id)

    # -- the shim -------------------------------------------------------------------------------------------------

    def _spawn(self, id: str, ops: OpList, cgroup: Cgroup, sessions: list[Session]) -> tuple[Shim, list[Attached]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo, theirs:
            undo.callback(ours.close)
            try:
                shim = Shim(id, ours, -1, self._folder(id), cgroup)
                numbered, attached = shim.new_sessions(sessions)
                shim.queue(numbered)
                shim.owns(self._execute(id, ops.encode(), theirs))
            except (OSError, ValueError) as error:
                number = getattr(error, "errno", None) or errno.EINVAL
                raise StartError("shim", number, f"windlass-shim: {error}") from error
            undo.pop_all()
        self._watch(shim)
        return shim, list(attached)

    def _watch(self, shim: Shim) -> None:
        self._shims[shim.id] = shim
        self._nursery.start_soon(shim.run)

    def _execute(self, id: str, encoded: bytes, theirs: socket.socket) -> int:
        """Start the program; returns its pidfd."""
        fds = [sealed_memfd("oplist", encoded)]
        try:
            fds.append(lifted(fds[0]))
            fds.append(lifted(theirs.fileno()))
            actions = [*_NULL_STREAMS, (os.POSIX_SPAWN_DUP2, fds[1], 3), (os.POSIX_SPAWN_DUP2, fds[2], 4)]
            arguments = ["windlass-shim", "run", id]
            pid = os.posix_spawn(f"/proc/self/fd/{self._binary}", arguments, {}, file_actions=actions)
        finally:
            for fd in fds:
                os.close(fd)
        return os.pidfd_open(pid)

    def _connect(self, id: str) -> Shim | None:
        """Connect to the shim of an earlier daemon; None when there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            try:
                folder = os.open(self._folder(id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, folder)
                # sun_path has 108 bytes, which the exec root's path may not leave.
                connection.connect(f"/proc/self/fd/{folder}/ctl.sock")
                size = struct.calcsize("iII")
                pid, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
                pidfd = os.pidfd_open(pid)
            except (FileNotFoundError, ConnectionRefusedError, ProcessLookupError):
                return None
            undo.pop_all()
            os.close(folder)
        return Shim(id, connection, pidfd, self._folder(id), self._cgroup_of(id))


@asynccontextmanager
async def open_native_driver(exec_root: Path) -> AsyncIterator[NativeDriver]:
    """Give a driver with a nursery of its own; at the end it lets go of its containers, which run on."""
    async with trio.open_nursery() as nursery:
        driver = NativeDriver(exec_root, nursery)
        try:
            yield driver
        finally:
            driver.close()
            nursery.cancel_scope.cancel()


def _device_rules(command: Command) -> tuple[devicecg.Rule, ...]:
    if command.privileged:
        return devicecg.EVERYTHING
    named = tuple(devicecg.Rule(True, d.kind, d.major, d.minor, d.access) for d in command.devices)
    more = tuple(devicecg.Rule(True, r.kind, r.major, r.minor, r.access) for r in command.device_rules)
    return devicecg.DEFAULT + named + more
