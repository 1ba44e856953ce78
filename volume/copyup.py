"""Runs `windlass-shim copyup`: a new volume gets what an image has at its place. See native/c/copyup.c."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import trio

from windlass.engine.errors import BadParameter

ANSWER_MAX = 8192


async def copy_up(shim: str, volume: Path, path: str, layers: Sequence[str]) -> None:
    """Copy what `layers` have at `path` into the folder `volume`, if it is empty and there is something.

    Raises BadParameter when the image has something else than a folder there, OSError for the rest; what has been
    copied stays then. The child is gone when this returns or raises.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(  # noqa: ASYNC221 - under a millisecond: it shares memory until the exec
            shim,
            ["windlass-shim", "copyup", str(volume), path, *layers],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
            setsigmask=[],
            setsigdef=[signal.SIGPIPE],
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    answer, pidfd = b"", os.pidfd_open(pid)
    try:
        async with trio.lowlevel.FdStream(reading) as stream:
            while chunk := await stream.receive_some(ANSWER_MAX):
                answer += chunk
    except BaseException:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        raise
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(pidfd)
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended: the pidfd says so
        os.close(pidfd)
    _check(answer.decode(errors="replace").rstrip("\n"), status, path)


def _check(answer: str, status: int, path: str) -> None:
    if status == 0 and answer in ("copied", "kept", "missing"):
        return
    words = answer.split(" ", 2)
    if words[0] != "error" or len(words) < 3 or not words[1].isdigit():
        raise OSError(errno.EIO, f"copying the image's {path} ended with {os.waitstatus_to_exitcode(status)}")
    number = int(words[1])
    if number == errno.ENOTDIR:
        raise BadParameter(f"cannot mount volume over existing file, file exists {path}")
    raise OSError(number, f"failed to copy the image's {words[2]} into the volume: {os.strerror(number)}")
