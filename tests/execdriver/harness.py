"""Drives the real windlass-shim: builds op lists for a busybox root, speaks the control protocol, knows leaks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from windlass.execdriver.native import message
from windlass.execdriver.native.message import NONE, Attach, Log, Op, OpList, Rec, Record, Stdio

NATIVE = Path(message.__file__).resolve().parent
SHIM = NATIVE / "windlass-shim"
NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
NAMESPACES = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALL = Attach.STDIN | Attach.STDOUT | Attach.STDERR
PATIENCE = 10.0


def make_rootfs(where: Path) -> Path:
    """A root file system of Debian's static busybox and empty folders."""
    for folder in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        (where / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", where / "bin/busybox")
    for name in "sh true false cat echo sleep ls head wc stty tty id env readlink dd kill yes printf chmod seq".split():
        (where / "bin" / name).symlink_to("busybox")
    return where


def prefix(folder: Path, root: Path, *, stdio: int = 0, size: int = 0, log: tuple[int, int] | None = (0, 1)) -> OpList:
    """The ops of the shim itself: RUNDIR, LOG, STDIO and the overlay, without CLONE."""
    ops = OpList()
    ops.add(Op.RUNDIR, folder / "run")
    if log:
        ops.add(Op.LOG, folder / "log", a=Log.JSON, b=log[0], c=log[1])
    ops.add(Op.STDIO, a=stdio, b=size)
    ops.add(Op.OVERLAY, folder / "upper", folder / "work", root, a=0)
    return ops


def mounts(ops: OpList, folder: Path) -> None:
    """Mounts and nodes that every container has, in the order that the driver uses."""
    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    ops.add(Op.PRIVATE)
    ops.add(Op.ROOT, folder / "root", a=0)
    ops.add(Op.MOUNT, "/proc", "proc", "proc", "", a=quiet)
    ops.add(Op.MOUNT, "/dev", "tmpfs", "tmpfs", "mode=755,size=65536k", a=MS_NOSUID)
    ops.add(Op.MKDIR, "/dev/pts", a=0o755)
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    ops.add(Op.MOUNT, "/dev/pts", "devpts", "devpts", options, a=MS_NOSUID | MS_NOEXEC)
    for name, minor in (("null", 3), ("zero", 5), ("full", 7)):
        ops.add(Op.MKNOD, f"/dev/{name}", a=0o20666, b=os.makedev(1, minor))
    ops.add(Op.MKNOD, "/dev/tty", a=0o20666, b=os.makedev(5, 0))
    ops.add(Op.SYMLINK, "pts/ptmx", "/dev/ptmx")
    ops.add(Op.MASK, "/proc/kcore")
    ops.add(Op.MASK, "/proc/acpi")
    ops.add(Op.MASK, "/proc/no-such-file")
    ops.add(Op.READONLY, "/proc/sys")
    ops.add(Op.PIVOT)


def program(
    ops: OpList, args: Sequence[str], *, tty: bool = False, cwd: str = "/", env: Sequence[str] = (PATH,)
) -> None:
    """The ops from the terminal on."""
    if tty:
        ops.add(Op.CONSOLE)
    ops.add(Op.BOUNDING, a=0xA80425FB)
    ops.add_raw(Op.GROUPS, struct.pack("<I", 0), a=1)
    ops.add(Op.IDS, a=0, b=0)
    ops.add(Op.CAPS, a=0xA80425FB)
    ops.add(Op.CHDIR, cwd)
    ops.add(Op.EXEC, *args, *env, a=len(args))


class Gone(Exception):
    """The shim has closed its end."""


class Control:
    """One end of a control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.queue: list[Record] = []

    def send(
        self, kind: Rec, *, proc: int = 0, a: int = 0, b: int = 0, data: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        message.send(self.sock, Record(kind, proc, a, b, data, tuple(fds)))

    def receive(self) -> Record:
        record = message.receive(self.sock)
        if record is None:
            raise Gone
        return record

    def expect(self, kind: Rec, proc: int = 0) -> Record:
        """Return the next record of this kind and process; others are kept for later."""
        for i, record in enumerate(self.queue):
            if record.type == kind and record.proc == proc:
                return self.queue.pop(i)
        while True:
            record = self.receive()
            if record.type == kind and record.proc == proc:
                return record
            self.queue.append(record)

    def ask(self, kind: Rec, **fields: object) -> Record:
        """Send a request and return OK or ERROR."""
        self.send(kind, **fields)  # type: ignore[arg-type]
        while True:
            record = self.receive()
            if record.type in (Rec.OK, Rec.ERROR) and record.b == kind:
                return record
            self.queue.append(record)

    def close(self) -> None:
        """Close it, with what has come and nobody has asked for."""
        with contextlib.suppress(OSError):
            self.sock.settimeout(0)
            while record := message.receive(self.sock):
                self.queue.append(record)
        for record in self.queue:
            for fd in record.fds:
                os.close(fd)
        self.queue.clear()
        self.sock.close()


def sealed(name: str, content: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def close(record: Record) -> Record:
    """Close a record's descriptors."""
    for fd in record.fds:
        os.close(fd)
    return record


def started(control: Control, proc: int = 0) -> int:
    """Wait for STARTED and return the pid."""
    return close(control.expect(Rec.STARTED, proc)).a


class Client:
    """One client of a session: our end of a socket pair."""

    def __init__(self) -> None:
        self.sock, self.other = socket.socketpair()
        self.sock.settimeout(PATIENCE)

    def read_all(self) -> bytes:
        parts = []
        while part := self.sock.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)

    def read_until(self, text: bytes) -> bytes:
        seen = b""
        while text not in seen:
            part = self.sock.recv(1 << 16)
            assert part, f"the end came before {text!r}: {seen!r}"
            seen += part
        return seen

    def close(self) -> None:
        self.sock.close()
        self.other.close()


def frames(stream: bytes) -> dict[int, bytes]:
    """Take Docker's frames apart: bytes by stream number."""
    out: dict[int, bytes] = {1: b"", 2: b""}
    while stream:
        number, size = struct.unpack(">BxxxI", stream[:8])
        assert len(stream) >= 8 + size, "a frame is cut"
        out[number] += stream[8 : 8 + size]
        stream = stream[8 + size :]
    return out


class Shim:
    """One windlass-shim and the folder that it works in."""

    def __init__(self, folder: Path, root: Path, binary: Path = SHIM, env: dict[str, str] | None = None) -> None:
        self.folder, self.root, self.binary, self.env = folder, root, binary, env or {}
        for name in ("run", "upper", "work", "root"):
            (folder / name).mkdir(parents=True)
        self.pid = 0
        self.controls: list[Control] = []

    def spawn(self, content: bytes) -> Control:
        """Start the program with an op list, without GO."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ops = sealed("ops", content)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (ops, theirs.fileno())]
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
        actions = [*null, (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
        self.pid = os.posix_spawn(
            self.binary, ["windlass-shim", "run", self.folder.name], self.env, file_actions=actions
        )
        for fd in (*high, ops):
            os.close(fd)
        theirs.close()
        self.control = Control(ours)
        self.controls.append(self.control)
        return self.control

    def start(
        self,
        args: Sequence[str],
        *,
        stdio: int = 0,
        size: int = 0,
        log: tuple[int, int] | None = (0, 1),
        clients: Sequence[tuple[Client, int]] = (),
        keys: bytes = b"",
        cwd: str = "/",
        early: bytes = b"",
    ) -> Control:
        """Start a container and send GO; sessions get the numbers 1, 2, …"""
        ops = prefix(self.folder, self.root, stdio=stdio, size=size, log=log)
        ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
        mounts(ops, self.folder)
        program(ops, args, tty=bool(stdio & Stdio.TTY), cwd=cwd)
        control = self.spawn(ops.encode())
        for number, (client, flags) in enumerate(clients, 1):
            self.attach(client, flags, number, keys=keys, early=early)
        control.send(Rec.GO)
        return control

    def attach(
        self, client: Client, flags: int = ALL, number: int = 1, *, proc: int = 0, keys: bytes = b"", early: bytes = b""
    ) -> None:
        """Send ATTACH; the client's far end is closed here."""
        fds = [client.other.fileno()]
        if early:
            fds.append(sealed("early", early))
        self.control.send(Rec.ATTACH, proc=proc, a=flags, b=number, data=keys + b"\0", fds=fds)
        client.other.close()
        for fd in fds[1:]:
            os.close(fd)

    def exec(
        self,
        args: Sequence[str],
        number: int = 1,
        client: Client | None = None,
        *,
        stdio: int = 0,
        cwd: str = "/",
        size: int = 0,
    ) -> None:
        """Send EXEC; its session has the number 100 + `number`."""
        ops = OpList()
        ops.add(Op.JOIN, a=NAMESPACES, b=NONE)
        program(ops, args, tty=bool(stdio & Stdio.TTY), cwd=cwd)
        fds = [sealed("exec", ops.encode())]
        if client:
            fds.append(client.other.fileno())
        where = (100 + number) << 32 | size
        self.control.send(Rec.EXEC, proc=number, a=stdio | ALL << 8, b=where, data=b"\x10\x11\0", fds=fds)
        os.close(fds[0])
        if client:
            client.other.close()

    def connect(self) -> Control:
        """Come back as a later daemon does."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(self.folder / "run", os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{folder}/ctl.sock")
        finally:
            os.close(folder)
        self.controls.append(Control(sock))
        return self.controls[-1]

    def join(self, patience: float = PATIENCE) -> int:
        """Wait for the shim's own end; return its exit status."""
        pidfd = os.pidfd_open(self.pid)
        try:
            assert select.select([pidfd], [], [], patience)[0], "the shim does not leave"
        finally:
            os.close(pidfd)
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def end(self) -> None:
        """End whatever is left."""
        for control in self.controls:
            with contextlib.suppress(OSError, Gone):
                control.send(Rec.SIGNAL, a=signal.SIGKILL)
            control.close()
        if self.pid:
            try:
                self.join()
            except AssertionError:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise

    @property
    def exit_file(self) -> list[int]:
        return [int(field) for field in (self.folder / "run/exit").read_text().split()]


NewShim = Callable[[], Shim]


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder on tmpfs or disk that is removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="windlass-shim-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def eventually(true: object, patience: float = PATIENCE) -> None:
    """Wait until `true()` is."""
    end = time.monotonic() + patience
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.005)


def is_zombie(pid: int | str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
