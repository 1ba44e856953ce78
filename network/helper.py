"""The helper: one process a daemon, which answers names and carries or holds ports, and outlives the daemon.

`windlass-net net` (execdriver/native/c/net*.c) is started with the first container that needs it. A later daemon
finds it by its control socket and goes on with it; should it have died, a new one is started, and the owner hands over
everything again. What names mean is in files that it reads at each question, so writing them needs no helper.

On the folder, which nobody needs root to read, since the helper is nobody:

    ctl.sock            0600; requests by datagram, descriptors beside them (net_control.c)
    zones/NETWORK       `network NAME`, then `NAME ADDRESS` lines
    hosts/CONTAINER     `net NETWORK`, `server IP [PORT]` and `internal` lines
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from windlass.execdriver.native.memfd import lifted, sealed_memfd

_PROTOCOL = 1
_ANSWER = 65536  # bytes: the longest datagram
_PATIENCE = 10.0  # seconds for an answer
_NULL_STREAMS = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
    (os.POSIX_SPAWN_DUP2, 0, 1),
    (os.POSIX_SPAWN_DUP2, 0, 2),
]


class Helper:
    """The daemon's end of the helper that serves `folder`; `program` is the shim's path, `arguments` its mode.

    Requests raise OSError: with the helper's errno when it refuses, ConnectionError when it is not there, TimeoutError
    when it does not answer. Sockets and pidfds given to it remain the caller's to close: the helper has its own.
    """

    def __init__(self, folder: Path, program: str, *arguments: str) -> None:
        self._folder = folder
        self._program = program
        self._arguments = arguments or ("net",)
        self._starting = trio.Lock()
        self._asking = trio.Lock()
        self._connection: trio.socket.SocketType | None = None
        self._pidfd = -1
        self._found = trio.Event()  # there is a pidfd
        # Helpers by number: the one of the pidfd, the last that died, the last whose death `died` has told.
        self._number = self._lost = self._told = 0

    # -- its life ---------------------------------------------------------------------------------------------------

    async def ensure(self) -> bool:
        """See to it that a helper answers. True when it is a new one, which knows nothing of any container."""
        async with self._starting:
            if self.is_alive or await self._find():
                return False
            await self._bury()
            self._start()
            if not await self._find():
                raise ConnectionError("the network helper ended at once")
            return True

    @property
    def is_alive(self) -> bool:
        """Whether we are connected to a helper that runs."""
        return self._connection is not None and not _has_ended(self._pidfd)

    async def died(self) -> None:
        """Wait until a helper that `ensure` found has ended though nobody stopped it; each end is told once."""
        while self._lost == self._told:
            await self._found.wait()
            number, pidfd = self._number, os.dup(self._pidfd)
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
            if number == self._number:
                await self._bury()
        self._told = self._lost

    async def stop(self) -> None:
        """End the helper, of whichever daemon it is, with everything that it holds. Nothing happens without one."""
        async with self._starting:
            if self.is_alive or await self._find():
                self._lost = self._told = self._number  # nobody is to be told
                await self._bury(kill=True)
            (self._folder / "ctl.sock").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the helper, which runs on."""
        self._disconnect()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            self._found = trio.Event()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _bury(self, kill: bool = False) -> None:
        """See the end of the helper that we knew, who does not listen any more."""
        if self._pidfd < 0:
            return
        if self._lost < self._number:
            self._lost = self._number
        pidfd = os.dup(self._pidfd)
        self.close()
        try:
            await _end(pidfd, patience=0 if kill else 1)
        finally:
            os.close(pidfd)

    async def _find(self) -> bool:
        """Connect to the helper that listens; False when none does."""
        self._disconnect()
        connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            try:
                with self._place() as place:
                    await connection.connect(f"{place}/ctl.sock")
                protocol, pid = map(int, (await self._exchange(connection, "version", []))[0].split()[1:])
                pidfd = os.pidfd_open(pid)
                undo.callback(os.close, pidfd)
                await self._exchange(connection, "version", [])  # it has not ended: the number is not another's
            except (FileNotFoundError, ConnectionError, ProcessLookupError):
                return False
            if protocol != _PROTOCOL:
                await _end(pidfd, patience=0)
                return False
            if self._pidfd >= 0 and not _has_ended(self._pidfd):  # the one that we knew
                os.close(pidfd)
            else:
                await self._bury()
                self._pidfd, self._number = pidfd, self._number + 1
                self._found.set()
            undo.pop_all()
        self._connection = connection
        return True

    def _start(self) -> None:
        for folder in (self._folder, self._folder / "zones", self._folder / "hosts"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        with contextlib.ExitStack() as undo, self._place() as place:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{place}/ctl.sock")
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.bind(f"{place}/ctl.sock")
            os.chmod(f"{place}/ctl.sock", 0o600)
            listener.listen()
            fds: list[int] = []
            undo.callback(_close_all, fds)
            fds.append(sealed_memfd("windlass-net", Path(self._program).read_bytes(), executable=True))
            fds.append(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            fds += [lifted(fds[0]), lifted(listener.fileno()), lifted(fds[1])]
            actions = [*_NULL_STREAMS, (os.POSIX_SPAWN_DUP2, fds[3], 3), (os.POSIX_SPAWN_DUP2, fds[4], 4)]
            arguments = ["windlass-net", *self._arguments]
            os.posix_spawn(f"/proc/self/fd/{fds[2]}", arguments, {}, file_actions=actions)

    @contextlib.contextmanager
    def _place(self) -> Iterator[str]:
        """Give a short name of the folder: sun_path has 108 bytes, which the exec root's path may not leave."""
        fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def watch(self, id: str, pidfd: int) -> None:
        """Let everything of `id` end with a process."""
        await self._ask(f"watch {id}", pidfd)

    async def dns(self, id: str, udp: socket.socket, tcp: socket.socket) -> None:
        """Answer names on a bound and on a listening socket, both in the container's namespace."""
        await self._ask(f"dns {id}", udp.fileno(), tcp.fileno())

    async def hold(self, id: str, proto: str, ip: str, port: int, sock: socket.socket) -> None:
        """Keep a port's socket open."""
        await self._ask(f"hold {id} {proto} {ip} {port}", sock.fileno())

    async def proxy(
        self, id: str, proto: str, ip: str, port: int, target_ip: str, target_port: int, sock: socket.socket
    ) -> None:
        """Carry what comes to a port's socket, which listens when it is TCP's, to an address and back."""
        await self._ask(f"proxy {id} {proto} {ip} {port} {target_ip} {target_port}", sock.fileno())

    async def release(self, id: str) -> None:
        """Close everything of `id`; it need not have anything."""
        await self._ask(f"release {id}")

    async def release_port(self, id: str, proto: str, ip: str, port: int) -> None:
        """Close one port and its connections; it need not be there."""
        await self._ask(f"release {id} {proto} {ip} {port}")

    async def ids(self) -> set[str]:
        """Return whom the helper has something of."""
        return {id for answer in await self._ask("list") for id in answer.split()[1:]}

    async def _ask(self, request: str, *fds: int) -> list[str]:
        async with self._asking:
            if self._connection is None:
                raise ConnectionError("the network helper is not there")
            try:
                return await self._exchange(self._connection, request, list(fds))
            except BaseException as exc:
                # Cancelled, or late: the answer would be taken for the next request's.
                if not isinstance(exc, OSError) or isinstance(exc, (ConnectionError, TimeoutError)):
                    self._disconnect()
                raise

    async def _exchange(self, connection: trio.socket.SocketType, request: str, fds: list[int]) -> list[str]:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        answers: list[str] = []
        with trio.move_on_after(_PATIENCE):
            await connection.sendmsg([request.encode()], rights)
            while True:
                answer = (await connection.recv(_ANSWER)).decode()
                if not answer:
                    raise ConnectionError("the network helper has ended")
                if answer.startswith("error "):
                    _, number, text = answer.split(" ", 2)
                    raise OSError(int(number), text, request)
                if answer == "end":
                    return answers
                answers.append(answer)
                if request != "list":
                    return answers
        raise TimeoutError("the network helper does not answer")

    # -- what names mean --------------------------------------------------------------------------------------------

    def write_zone(self, network_id: str, network_name: str, entries: Iterable[tuple[str, str]]) -> None:
        """Say which names a network has: pairs of a name, in lower case, and an address."""
        lines = [f"network {network_name}", *(f"{name} {address}" for name, address in entries)]
        self._write("zones", network_id, lines)

    def write_host(self, id: str, networks: Iterable[str], servers: Iterable[str], internal: bool) -> None:
        """Say which zones a container sees, in order, and whom to ask for the rest; nobody when `internal`."""
        lines = [f"net {network}" for network in networks] + [f"server {server}" for server in servers]
        self._write("hosts", id, lines + ["internal"] * internal)

    def forget_zone(self, network_id: str) -> None:
        """Take a network's names away, if there are any."""
        self._path("zones", network_id).unlink(missing_ok=True)

    def forget_host(self, id: str) -> None:
        """Take away what a container sees."""
        self._path("hosts", id).unlink(missing_ok=True)

    def _path(self, kind: str, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"{name!r} is no file's name")
        return self._folder / kind / name

    def _write(self, kind: str, name: str, lines: list[str]) -> None:
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{name}")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.chmod(0o644)
        new.replace(path)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def _end(pidfd: int, patience: float) -> None:
    """Wait for a process to end, or end it, and reap it."""
    with trio.move_on_after(patience):
        await trio.lowlevel.wait_readable(pidfd)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await trio.lowlevel.wait_readable(pidfd)
    with contextlib.suppress(ChildProcessError):  # an earlier daemon's child
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)  # noqa: ASYNC222  # it has ended
