"""Runs `windlass-files unpack`: a tar stream in, a filled folder and its digest out.

The child is the one that parses what a stranger sent; here the stream is only hashed and passed on.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import trio

from .driver import Applied, LayerError

ANSWER_MAX = 8192
PIPE = 1 << 20  # bytes

# What is the host's fault, not the archive's.
HOST_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM})


async def unpack(program: str, folder: Path, flavour: str, tar: AsyncIterator[bytes]) -> Applied:
    """Unpack `tar` into `folder` and sync it; return the stream's digest and the bytes of the files in it.

    Raises LayerError when the archive is refused, OSError when the host fails (ENOSPC …); `folder` is then in an
    undefined state. The child is gone when this returns or raises.
    """
    tar_read, tar_write = os.pipe2(os.O_CLOEXEC)
    answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _spawn(program, folder, flavour, tar_read, answer_write)
    except BaseException:
        os.close(tar_write)
        os.close(answer_read)
        raise
    finally:
        os.close(tar_read)
        os.close(answer_write)
    with suppress(OSError):  # EPERM when this user has many large pipes already
        fcntl.fcntl(tar_write, fcntl.F_SETPIPE_SZ, PIPE)
    digest = hashlib.sha256()
    answer = b""
    pidfd = os.pidfd_open(pid)
    try:
        async with trio.lowlevel.FdStream(answer_read) as answers:
            async with trio.lowlevel.FdStream(tar_write) as child:
                await _feed(child, tar, digest)
            while chunk := await answers.receive_some(ANSWER_MAX):
                answer += chunk
        await trio.lowlevel.wait_readable(pidfd)
    except BaseException:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        raise
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(pidfd)
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended: the pidfd says so
        os.close(pidfd)
    return Applied(f"sha256:{digest.hexdigest()}", _size(answer.decode(errors="replace"), status))


async def _feed(child: trio.lowlevel.FdStream, tar: AsyncIterator[bytes], digest: hashlib._Hash) -> None:
    """Hash and pass on; when the child has refused, the rest of the stream is left alone: the answer tells why."""
    async for chunk in tar:
        if len(chunk) > 64 << 10:
            await trio.to_thread.run_sync(digest.update, chunk)
        else:
            digest.update(chunk)
        try:
            await child.send_all(chunk)
        except trio.BrokenResourceError:
            return


def _spawn(program: str, folder: Path, flavour: str, stdin: int, stdout: int) -> int:
    # High numbers first: an action must not overwrite the source of the next one.
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    argv = ["windlass-files", "unpack", str(folder), flavour]
    return os.posix_spawn(program, argv, {}, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGPIPE])


def _size(answer: str, status: int) -> int:
    """The bytes of the files, out of the child's answer. Raises LayerError or OSError for what it refused."""
    words = answer.rstrip("\n").split(" ", 2)
    if words[0] == "ok" and status == 0:
        return int(words[2])
    if words[0] != "error" or len(words) < 3:
        raise LayerError(f"the layer's unpacking ended with status {os.waitstatus_to_exitcode(status)} and no answer")
    error = int(words[1])
    if error in HOST_ERRORS:
        raise OSError(error, f"{os.strerror(error)} while unpacking a layer: {words[2]}")
    raise LayerError(f"invalid layer: {words[2]}")
