"""Reading a container's kept output. A C program reads the log files and formats; here the bytes are only carried.

    windlass-shim logs PATH MAXFILES FLAGS TAIL SINCE UNTIL      1 = where it writes   3 = ends the following

Python reads a line in ten microseconds, the program in a tenth of one (native/c/logs.c).
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import IntFlag
from typing import IO

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Unsupported
from windlass.engine.streams import CHUNK, Demultiplexer
from windlass.jobs.containers import Logs, Streaming
from windlass.lib import timestamp

from .container import Container
from .daemon import Daemon
from .log_config import log_config

ALL = -1  # lines, for TAIL
_NULL = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


class Flag(IntFlag):
    """FLAGS of the reader; the numbers are those of `native/c/logs.c`."""

    STDOUT = 1
    STDERR = 2
    TIMESTAMPS = 4
    FOLLOW = 8
    FRAMES = 16


async def logs(daemon: Daemon, job: Job[Logs]) -> None:
    """Write a container's kept output to the job's stdout and stderr; `ready` carries a `Streaming`."""
    params = job.params
    container = daemon.containers.get(params.name)
    flags = _flags(params, container.config.Tty)
    since, until = _time(params.since, "since"), _time(params.until, "until")
    if container.host.LogConfig.Type == "none":
        raise Unsupported("configured logging driver does not support reading")
    await job.ready(Streaming(Tty=container.config.Tty))
    readable, writable = os.pipe2(os.O_CLOEXEC)
    async with (
        trio.lowlevel.FdStream(readable) as stream,
        _reader(daemon, container, writable, flags, _tail(params.tail), since, until),
    ):
        await _carry(job, stream, parted=Flag.FRAMES in flags and not params.frames)


async def replay(daemon: Daemon, container: Container, fd: int, *, stdout: bool, stderr: bool) -> None:
    """Write all of a container's kept output to `fd`, framed unless it has a terminal."""
    flags = _flags(Logs(name=container.id, stdout=stdout, stderr=stderr), container.config.Tty)
    if container.host.LogConfig.Type == "none":
        return
    async with _reader(daemon, container, os.dup(fd), flags, ALL, 0, 0):
        pass


def _flags(params: Logs, tty: bool) -> Flag:
    flags = Flag(0)
    for flag, is_set in (
        (Flag.STDOUT, params.stdout),
        (Flag.STDERR, params.stderr),
        (Flag.TIMESTAMPS, params.timestamps),
        (Flag.FOLLOW, params.follow),
        (Flag.FRAMES, not tty),
    ):
        flags |= flag if is_set else Flag(0)
    if not flags & (Flag.STDOUT | Flag.STDERR):
        raise BadParameter("Bad parameters: you must choose at least one stream", key="stdout")
    return flags


def _tail(text: str) -> int:
    """Docker takes what is no number for `all`."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else ALL


def _time(text: str, key: str) -> int:
    """Nanoseconds since the epoch; 0 for no limit. Raises BadParameter."""
    if not text:
        return 0
    try:
        return timestamp.parse(text)
    except ValueError:
        raise BadParameter(f'invalid value for "{key}": {text!r:.60} is no time', key=key) from None


@asynccontextmanager
async def _reader(
    daemon: Daemon, container: Container, output: int, flags: Flag, tail: int, since: int, until: int
) -> AsyncIterator[None]:
    """Run the reader with its output on the descriptor `output`, which is closed here; wait for its end.

    When the body is left early the reader is killed. While it follows, it is told when the container has ended.
    """
    path = str(daemon.log_path(container.id))
    files = log_config(container.host, path).max_files
    words = ["windlass-shim", "logs", path, *map(str, (files, int(flags), tail, since, until))]
    ends, end = os.pipe2(os.O_CLOEXEC)
    with open(end, "wb", buffering=0) as told:  # noqa: ASYNC230, PTH123 - a descriptor
        try:
            pidfd = _spawn(daemon.driver.log_reader(), words, output, ends)
        finally:
            os.close(ends)
            os.close(output)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_end, container, told)
                yield
                await trio.lowlevel.wait_readable(pidfd)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await _reap(pidfd)


def _spawn(program: str, words: list[str], output: int, ends: int) -> int:
    """Start the reader; return its pidfd."""
    lifted = [_lift(output), _lift(ends)]
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, _NULL, 0),
            (os.POSIX_SPAWN_DUP2, lifted[0], 1),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, lifted[1], 3),
        ]
        return os.pidfd_open(os.posix_spawn(program, words, {}, file_actions=actions))
    finally:
        for fd in lifted:
            os.close(fd)


def _lift(fd: int) -> int:
    """Duplicate a descriptor above those that the file actions overwrite."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 50)


async def _tell_end(container: Container, told: IO[bytes]) -> None:
    """Hang up when the container does not run (any more): everything is in the log by then."""
    while container.running is not None:
        await container.changed.wait()
    told.close()


async def _reap(pidfd: int) -> None:
    """End the reader if it has not ended, and reap it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await trio.lowlevel.wait_readable(pidfd)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)  # noqa: ASYNC222 - it has ended, as the line above knows
    os.close(pidfd)


async def _carry(job: Job[Logs], stream: trio.lowlevel.FdStream, *, parted: bool) -> None:
    """Copy to stdout; `parted`, the frames are taken apart into stdout and stderr."""
    demultiplexer = Demultiplexer()
    outputs = {1: job.stdout, 2: job.stderr}
    while data := await stream.receive_some(CHUNK):
        for number, payload in demultiplexer.feed(data) if parted else [(1, data)]:
            if (output := outputs.get(number)) is not None:
                await output.send_all(payload)
