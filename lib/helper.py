"""Runs one of the modes of windlass-files, which do a single thing: streams in and out, a report in lines, an end.

The program is never known by a name that others choose; what it gets besides its arguments are descriptors.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

import trio

CHUNK = 256 << 10
REPORT_MAX = 64 << 10
_ABOVE = 50


class Helper:
    """A helper that runs: what it reads, what it writes, and what it reports."""

    def __init__(self, stdin: int, stdout: int, report: int) -> None:
        self._stdin, self._stdout, self._report = (trio.lowlevel.FdStream(fd) for fd in (stdin, stdout, report))
        self._reported = b""

    async def feed(self, chunks: AsyncIterator[bytes]) -> None:
        """Send all of `chunks` and close; a helper that wants no more is left alone: its report tells why."""
        async with self._stdin:
            async for chunk in chunks:
                try:
                    await self._stdin.send_all(chunk)
                except trio.BrokenResourceError:
                    return

    async def output(self) -> AsyncIterator[bytes]:
        """What it writes, to the end."""
        while chunk := await self._stdout.receive_some(CHUNK):
            yield bytes(chunk)

    async def line(self) -> str:
        """The next line of the report, empty when there is none."""
        while b"\n" not in self._reported and len(self._reported) < REPORT_MAX:
            chunk = await self._report.receive_some(REPORT_MAX)
            if not chunk:
                break
            self._reported += chunk
        line, _, self._reported = self._reported.partition(b"\n")
        return line.decode(errors="surrogateescape")

    async def aclose(self) -> None:
        for stream in (self._stdin, self._stdout, self._report):
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def helper(
    program: str, arguments: Sequence[str], fds: Sequence[int] = (), stdin: int | None = None
) -> AsyncIterator[Helper]:
    """Run `program` with `fds` from number 3 on; it has ended when this is left, by KILL if it did not by itself.

    With `stdin` it reads that, and is not to be fed. Raises OSError when it cannot be run, ValueError for an argument
    with a NUL in it.
    """
    with ExitStack() as theirs, ExitStack() as undo:
        ends = [_pipe(theirs, undo, writes=number == 0) for number in range(3)]
        ours, sources = [end for end, _ in ends], [end for _, end in ends]
        if stdin is not None:
            sources[0] = stdin
        pid = _spawn(program, arguments, [*sources, *fds], theirs)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # not waited for yet: nobody else can have the number
            os.waitpid(pid, 0)  # noqa: ASYNC222 - it is being killed
            raise
        undo.pop_all()
    running = Helper(*ours)
    try:
        yield running
    finally:
        with trio.CancelScope(shield=True):
            await running.aclose()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await trio.lowlevel.wait_readable(pidfd)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended: the pidfd says so
        os.close(pidfd)


def _pipe(theirs: ExitStack, ours: ExitStack, *, writes: bool) -> tuple[int, int]:
    """A pipe's end for us and the one for the helper; we write to it or read from it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    mine, other = (writing, reading) if writes else (reading, writing)
    ours.callback(os.close, mine)
    theirs.callback(os.close, other)
    return mine, other


def _spawn(program: str, arguments: Sequence[str], sources: Sequence[int], undo: ExitStack) -> int:
    # Copies above all targets first: an action must not overwrite the source of the next one.
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in sources]
    for fd in lifted:
        undo.callback(os.close, fd)
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(lifted)]
    return os.posix_spawn(
        program, ["windlass-files", *arguments], {}, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGPIPE]
    )
