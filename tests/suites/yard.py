"""Where the suites of exec drivers build containers: a busybox root, clients, and an eye for what is left behind."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from windlass.execdriver.driver import Command, Driver, Exit, LogConfig, Program, Running, Session
from windlass.kernel import caps
from windlass.lib.rootfs import Overlay

PATIENCE = 15.0  # seconds for anything that happens at all
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = Path("/sys/fs/cgroup")
_PROGRAM_FIELDS = {field.name for field in dataclasses.fields(Program)}

OpenDriver = Callable[[], AbstractAsyncContextManager[Driver]]


class Result(NamedTuple):
    stdout: bytes
    stderr: bytes
    exit: Exit


class Client:
    """One client of a process: it holds our end of a socket pair, the session has the other."""

    def __init__(self, **fields: Any) -> None:
        ours, self._theirs = socket.socketpair()
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.session = Session(self._theirs.fileno(), **fields)

    def handed_over(self) -> None:
        """Close our copy of the session's end, as the daemon does after the call."""
        self._theirs.close()

    async def read_all(self) -> bytes:
        with trio.fail_after(PATIENCE):
            return b"".join([part async for part in self.stream])

    async def read_until(self, text: bytes) -> bytes:
        seen = b""
        with trio.fail_after(PATIENCE):
            while text not in seen:
                part = await self.stream.receive_some()
                assert part, f"the end came before {text!r}: {seen!r}"
                seen += part
        return seen

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_eof(self) -> None:
        await self.stream.send_eof()


def frames(stream: bytes) -> dict[int, bytes]:
    """Take Docker's frames apart: bytes by stream number."""
    out = {1: b"", 2: b""}
    while stream:
        number, size = struct.unpack(">BxxxI", stream[:8])
        assert len(stream) >= 8 + size, "a frame is cut"
        out[number] += stream[8 : 8 + size]
        stream = stream[8 + size :]
    return out


def make_root(where: Path) -> Path:
    """Make a root file system of Debian's static busybox."""
    for folder in ("bin", "etc", "tmp", "usr", "var"):
        (where / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", where / "bin/busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (where / "bin" / name).symlink_to("busybox")
    return where


class Yard:
    """Builds containers with one driver below one folder; what it started is ended when the test is over."""

    def __init__(self, driver: Driver, open_driver: OpenDriver, root: Path, folder: Path) -> None:
        self.driver = driver
        self.open_driver = open_driver
        self.root = root
        self.folder = folder
        self._numbers = itertools.count(1)
        self._started: list[str] = []

    def command(self, *args: str, **fields: Any) -> Command:
        """Make a Command for the busybox root; `fields` are those of Command and of Program."""
        id = f"{os.getpid():x}x{next(self._numbers)}"
        upper, work = self.folder / id / "upper", self.folder / id / "work"
        for folder in (upper, work):
            folder.mkdir(parents=True)
        own = {name: fields.pop(name) for name in list(fields) if name in _PROGRAM_FIELDS}
        fields.setdefault("rootfs", Overlay((str(self.root),), str(upper), str(work)))
        fields.setdefault("log", LogConfig(path=str(self.log(id))))
        return Command(id=id, program=self.program(*args, **own), **fields)

    def program(self, *args: str, **fields: Any) -> Program:
        fields.setdefault("env", (PATH,))
        fields.setdefault("capabilities", caps.DEFAULT)
        return Program(args=args, **fields)

    def log(self, id: str) -> Path:
        return self.folder / id / "json.log"

    def upper(self, id: str) -> Path:
        """Give the folder into which the container writes."""
        return self.folder / id / "upper"

    async def start(self, command: Command, *clients: Client) -> Running:
        self._started.append(command.id)
        with trio.fail_after(PATIENCE):
            running, _ = await self.driver.start(command, [client.session for client in clients])
        for client in clients:
            client.handed_over()
        return running

    async def run(self, *args: str, stdin: bytes | None = None, **fields: Any) -> Result:
        """Run a container to its end."""
        client = Client()
        running = await self.start(self.command(*args, stdin=stdin is not None, stdin_once=True, **fields), client)
        async with trio.open_nursery() as nursery:

            async def give() -> None:
                await client.send(stdin or b"")
                await client.send_eof()

            nursery.start_soon(give)
            return await self.finish(running, client)

    async def sh(self, script: str, **fields: Any) -> str:
        """Run a shell script in a container; return what it says. It must succeed."""
        result = await self.run("sh", "-ec", script, **fields)
        assert result.exit.code == 0, result
        return result.stdout.decode()

    async def finish(self, running: Running, client: Client) -> Result:
        out = frames(await client.read_all())
        return Result(out[1], out[2], await self.end_of(running))

    async def end_of(self, running: Running) -> Exit:
        with trio.fail_after(PATIENCE):
            return await running.wait()

    async def exec(self, running: Running, *args: str, **fields: Any) -> Result:
        """Run a further process in a container to its end."""
        client = Client()
        with trio.fail_after(PATIENCE):
            process = await running.exec(self.program(*args, **fields), client.session)
            client.handed_over()
            out = frames(await client.read_all())
            return Result(out[1], out[2], await process.wait())

    async def close(self) -> None:
        for id in self._started:
            with trio.move_on_after(PATIENCE):
                await self.driver.destroy(id)


@asynccontextmanager
async def open_yard(open_driver: OpenDriver, root: Path, folder: Path) -> AsyncIterator[Yard]:
    """Give a yard, and see that nothing is left of what happened in it."""
    fds = _descriptors()
    async with open_driver() as driver:
        yard = Yard(driver, open_driver, root, folder)
        try:
            yield yard
        finally:
            with trio.CancelScope(shield=True):
                await yard.close()
        assert await driver.leftovers() == set()
        assert [path for id in yard._started for path in cgroups_of(id)] == []
    assert _mounts_of(folder.parent) == []
    await _until_no_shim(yard._started)
    assert _descriptors() <= fds + 1  # trio's, at its first use


def cgroups_of(id: str) -> list[Path]:
    tops = [CGROUPS / "windlass", *(path / "windlass" for path in CGROUPS.iterdir())]  # v2, and v1 or hybrid
    return [path for top in tops if top.is_dir() for path in top.iterdir() if path.name.partition(".")[0] == id]


def _mounts_of(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _until_no_shim(ids: list[str]) -> None:
    with trio.fail_after(PATIENCE):
        while any(is_shim_of(id) for id in ids):
            await trio.sleep(0.01)


def is_shim_of(id: str) -> bool:
    """Whether a shim of this container runs, or is a zombie that nobody has reaped."""
    return any(id in arguments for arguments in shims())


def shims() -> list[list[str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if arguments[0] == "windlass-shim":
            found.append(arguments)
    return found
