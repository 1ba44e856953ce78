"""The daemon's end of the control connection to one shim, and what hangs on it: the container, execs, sessions.

One task per connection reads records and resolves promises; whoever asks sends a record and waits for its promise.
The shim answers requests in the order in which they came, so answers are told apart by type and process number alone.

The socket is only notification. That a container has ended is true when the file `exit` is there; when the connection
ends without it, the shim is dead, and the container, which nobody watches any more, is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Literal, TypeVar

import trio

from windlass.execdriver.driver import Attached, Detached, Exit, Program, Resources, Session, StartError
from windlass.kernel.cgroup import Cgroup
from windlass.kernel.cgroup_stats import Usage

from . import message
from .failure import reason, start_error
from .limits import limits
from .memfd import sealed_memfd
from .message import Attach, Rec, Record
from .spec import compile_exec, stdio_flags

T = TypeVar("T")
_MAX_KEYS = 103  # of the record's 104 bytes one ends them
_DETACHED: dict[int, Literal["keys", "client", "end"]] = {0: "client", 1: "keys", 2: "end"}


class Promise(Generic[T]):
    """A value that comes once, for any number of waiters; later ones are ignored."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.value: T | None = None

    def keep(self, value: T) -> None:
        if self.value is None:
            self.value = value
            self.event.set()

    async def wait(self) -> T:
        await self.event.wait()
        assert self.value is not None
        return self.value


class AttachedSession:
    """One session; see `driver.Attached`."""

    def __init__(self) -> None:
        self.ended: Promise[Detached] = Promise()

    async def wait(self) -> Detached:
        return await self.ended.wait()


class ExecProcess:
    """A further process in a container; see `driver.Executing`. `answer` is STARTED or FAILED."""

    def __init__(self, shim: Shim, number: int, session: AttachedSession | None) -> None:
        self._shim = shim
        self.number = number
        self.session: Attached | None = session
        self.pid = 0
        self.answer: Promise[Record] = Promise()
        self.exit: Promise[Exit] = Promise()

    async def wait(self) -> Exit:
        return await self.exit.wait()

    async def signal(self, number: int) -> None:
        await self._shim.tell(Rec.SIGNAL, self.number, number)

    async def resize(self, rows: int, columns: int) -> None:
        await self._shim.resize_process(self.number, rows, columns)


class Shim:
    """The connection to a container's shim, and, once the init runs, the container; see `driver.Running`.

    Owns the socket and the shim's pidfd; `run` closes both.
    """

    def __init__(self, id: str, connection: socket.socket, pidfd: int, rundir: Path, cgroup: Cgroup) -> None:
        self.id = id
        self.pid = 0
        self.answer: Promise[Record] = Promise()
        self.gone = trio.Event()
        self._socket = connection
        self._pidfd = pidfd
        self._rundir = rundir
        self._cgroup = cgroup
        self._exit: Promise[Exit] = Promise()
        self._sending = trio.Lock()
        self._asked: defaultdict[tuple[int, int], deque[Promise[Record]]] = defaultdict(deque)
        self._execs: dict[int, ExecProcess] = {}
        self._sessions: dict[int, AttachedSession] = {}
        # An earlier daemon's sessions and execs may still be there, with numbers of its own.
        self._last_session = random.getrandbits(31)
        self._last_exec = random.getrandbits(16)
        self._closed = False
        connection.setblocking(False)

    # -- what a container can do ----------------------------------------------------------------------------------

    async def wait(self) -> Exit:
        return await self._exit.wait()

    async def signal(self, number: int) -> None:
        await self.tell(Rec.SIGNAL, 0, number)

    async def kill_all(self) -> None:
        await trio.lowlevel.checkpoint()
        self._cgroup.kill()

    async def pause(self) -> None:
        await self._cgroup.freezer().freeze()

    async def resume(self) -> None:
        await trio.lowlevel.checkpoint()
        self._cgroup.freezer().thaw()

    def is_paused(self) -> bool:
        return self._cgroup.freezer().is_frozen()

    def processes(self) -> list[int]:
        return self._cgroup.processes()

    def usage(self) -> Usage:
        return self._cgroup.usage()

    async def update(self, old: Resources, new: Resources) -> None:
        # In a thread: the kernel may have to free memory before it answers.
        await trio.to_thread.run_sync(self._cgroup.update, limits(old), limits(new))

    async def resize(self, rows: int, columns: int) -> None:
        await self.resize_process(0, rows, columns)

    async def attach(self, session: Session) -> AttachedSession:
        number, attached = self._new_session()
        try:
            with _records_fds(session) as fds:
                await self._ask(_attach_record(session, number, fds))
        except BaseException:
            self._sessions.pop(number, None)
            raise
        return attached

    async def exec(self, program: Program, session: Session | None) -> ExecProcess:
        try:
            ops = compile_exec(program, self.id, self._cgroup)
            encoded = ops.encode()
        except ValueError as error:
            raise StartError("command", errno.EINVAL, str(error)) from error
        while True:
            process, answer = await self._exec(program, session, encoded)
            if answer.type is Rec.STARTED:
                process.pid = answer.a
                return process
            if answer.b >= len(ops.names) and answer.a == errno.ESRCH:
                raise ProcessLookupError(errno.ESRCH, "the container is not running")
            if answer.b < len(ops.names) or answer.a != errno.EEXIST:
                raise start_error(ops.names, program, answer)

    # -- records out ----------------------------------------------------------------------------------------------

    def queue(self, sessions: list[tuple[int, Session]]) -> None:
        """Send ATTACH for each session, and GO, before the shim is there to read them."""
        for number, session in sessions:
            with _records_fds(session) as fds:
                message.send(self._socket, _attach_record(session, number, fds))
        message.send(self._socket, Record(Rec.GO))

    def new_sessions(self, sessions: list[Session]) -> tuple[list[tuple[int, Session]], list[AttachedSession]]:
        """Give numbers to the sessions of a start."""
        made = [self._new_session() for _ in sessions]
        return [(number, s) for (number, _), s in zip(made, sessions, strict=True)], [a for _, a in made]

    async def status(self) -> bool:
        """Ask for the init's pid; False when it has not started. Raises ProcessLookupError when there is none."""
        state = await self._ask(Record(Rec.STATUS))
        self.pid = state.a
        return bool(state.data[0])

    async def tell(self, kind: Rec, number: int, a: int = 0) -> None:
        """Send a request about one process. Raises ProcessLookupError when it has ended, OSError if it fails."""
        await self._ask(Record(kind, number, a))

    async def resize_process(self, number: int, rows: int, columns: int) -> None:
        try:
            await self.tell(Rec.RESIZE, number, rows << 16 | columns)
        except OSError as error:
            if error.errno != errno.ENOTTY:  # as in Docker: a size is for terminals, and others do not mind
                raise

    def owns(self, pidfd: int) -> None:
        """Take the shim's pidfd, once it is there."""
        self._pidfd = pidfd

    async def recorded(self) -> None:
        """Wait until the shim writes nothing more into its folder; the container must have been killed."""
        if not self.gone.is_set():
            async with trio.open_nursery() as nursery:
                for event in (self._exit.event, self.gone):
                    nursery.start_soon(_first, event, nursery.cancel_scope)

    def kill_shim(self) -> None:
        """End the shim and the container, when a start is given up."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._cgroup.kill()

    async def _ask(self, record: Record) -> Record:
        promise: Promise[Record] = Promise()
        async with self._sending:
            await self._send(record)
            self._asked[record.type, record.proc].append(promise)
        answer = await promise.wait()
        if answer.type is Rec.ERROR:
            raise OSError(answer.a, f"{record.type.name.lower()}: {reason(answer.a)}")
        return answer

    async def _exec(self, program: Program, session: Session | None, encoded: bytes) -> tuple[ExecProcess, Record]:
        number, attached = self._new_session() if session else (0, None)
        process = ExecProcess(self, self._next_exec(), attached)
        self._execs[process.number] = process
        size = program.rows << 16 | program.columns
        flags = stdio_flags(program) | (_attach_flags(session) if session else 0) << 8
        keys = session.detach_keys if session else b""
        try:
            with _records_fds(session, sealed_memfd("oplist", encoded)) as fds:
                record = Record(Rec.EXEC, process.number, flags, number << 32 | size, _keys(keys), tuple(fds))
                async with self._sending:
                    await self._send(record)
            answer = await process.answer.wait()
        except OSError:
            self._forget_exec(process, number)
            raise
        if answer.type is not Rec.STARTED:
            self._forget_exec(process, number)
        return process, answer

    def _forget_exec(self, process: ExecProcess, session: int) -> None:
        self._sessions.pop(session, None)
        self._execs = {n: p for n, p in self._execs.items() if p is not process}

    async def _send(self, record: Record) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self._closed:
                raise ProcessLookupError(errno.ESRCH, "the container is not running")
            try:
                message.send(self._socket, record)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except (BrokenPipeError, ConnectionResetError):
                raise ProcessLookupError(errno.ESRCH, "the container is not running") from None

    def _new_session(self) -> tuple[int, AttachedSession]:
        self._last_session = self._last_session % 0x7FFF_FFFF + 1
        session = self._sessions[self._last_session] = AttachedSession()
        return self._last_session, session

    def _next_exec(self) -> int:
        while True:
            self._last_exec = self._last_exec % 0xFFFF + 1
            if self._last_exec not in self._execs:
                return self._last_exec

    # -- records in -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read records until the shim has gone, and reap it. When cancelled, the container goes on without us."""
        try:
            while record := await self._receive():
                for fd in record.fds:  # pidfds: signals go through the shim, which cannot hit a stranger either
                    os.close(fd)
                self._dispatch(record)
            self._closed = True
            self._conclude()
            await trio.lowlevel.wait_readable(self._pidfd)
            self._reap()
        finally:
            self._closed = True
            self._socket.close()
            os.close(self._pidfd)
            self._pidfd = -1
            self.gone.set()

    async def _receive(self) -> Record | None:
        while True:
            try:
                return message.receive(self._socket)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except ValueError:  # a type of record that a later shim may have
                continue
            except ConnectionResetError:
                return None

    def _dispatch(self, record: Record) -> None:
        match record.type:
            case Rec.STARTED | Rec.FAILED:
                self._started(record)
            case Rec.EXIT:
                self._ended(record)
            case Rec.DETACHED:
                if session := self._sessions.pop(record.b, None):
                    session.ended.keep(Detached(_DETACHED.get(record.a, "end")))
            case Rec.STATE:
                self._answer(Rec.STATUS, record)
            case Rec.OK | Rec.ERROR:
                self._answer(record.b, record)

    def _answer(self, kind: int, record: Record) -> None:
        if waiting := self._asked[kind, record.proc]:
            waiting.popleft().keep(record)

    def _started(self, record: Record) -> None:
        if record.proc == 0:
            self.pid = record.a
            self.answer.keep(record)
        elif process := self._execs.get(record.proc):
            process.answer.keep(record)

    def _ended(self, record: Record) -> None:
        ended = Exit(record.a, record.data[0], record.b)
        if record.proc == 0:
            # The file has one thing more: whether memory ran out, which may be told later than the end.
            self._exit.keep(read_exit(self._rundir) or ended)
        elif process := self._execs.pop(record.proc, None):
            process.exit.keep(ended)

    def _conclude(self) -> None:
        """The connection has ended: give everybody who waits the last word."""
        lost = Exit(137, signal.SIGKILL, time.time_ns())
        failed = Record(Rec.FAILED, a=errno.EPIPE, b=message.NONE, data=b"windlass-shim")
        if self._exit.value is None and not (self.answer.value and self.answer.value.type is Rec.FAILED):
            ended = read_exit(self._rundir)
            if ended is None:
                self._cgroup.kill()
            self._exit.keep(ended or lost)
        self.answer.keep(failed)
        for process in self._execs.values():
            process.answer.keep(Record(Rec.FAILED, a=errno.ESRCH, b=message.NONE))
            process.exit.keep(lost)
        for (kind, number), promises in self._asked.items():
            for promise in promises:
                promise.keep(Record(Rec.ERROR, number, errno.ESRCH, kind))
        for session in self._sessions.values():
            session.ended.keep(Detached("end"))
        self._execs.clear()
        self._asked.clear()
        self._sessions.clear()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # an earlier daemon's child
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)


async def _first(event: trio.Event, others: trio.CancelScope) -> None:
    await event.wait()
    others.cancel()


def read_exit(rundir: Path) -> Exit | None:
    """Read the file that a shim leaves when its container has ended; None when there is none."""
    try:
        code, number, time_ns, ooms = map(int, (rundir / "exit").read_text().split())
    except (FileNotFoundError, ValueError):
        return None
    return Exit(code, number, time_ns, ooms > 0)


def _attach_flags(session: Session) -> int:
    flags = Attach(0)
    for flag, is_set in (
        (Attach.STDIN, session.stdin),
        (Attach.STDOUT, session.stdout),
        (Attach.STDERR, session.stderr),
        (Attach.RAW, session.raw),
    ):
        flags |= flag if is_set else Attach(0)
    return flags


def _attach_record(session: Session, number: int, fds: list[int]) -> Record:
    return Record(Rec.ATTACH, 0, _attach_flags(session), number, _keys(session.detach_keys), tuple(fds))


def _keys(keys: bytes) -> bytes:
    if len(keys) > _MAX_KEYS:
        raise ValueError(f"more than {_MAX_KEYS} detach keys")
    return keys + b"\0"


@contextlib.contextmanager
def _records_fds(session: Session | None, *own: int) -> Iterator[list[int]]:
    """Give the descriptors that a record carries; those that are `own`, or made here, are closed afterwards."""
    made = list(own)
    try:
        fds = [*own]
        if session:
            fds.append(session.fd)
            if session.early:
                made.append(sealed_memfd("stdin", session.early))
                fds.append(made[-1])
        yield fds
    finally:
        for fd in made:
            os.close(fd)
