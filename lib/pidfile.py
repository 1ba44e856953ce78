"""Files that say who is there: a lock that ends with its holder, and the pid file.

The lock is flock(2)'s: the kernel lets go of it when the holder dies, however it dies, so that a pid which somebody
else has meanwhile means nothing. Files stay when they are unlocked: to delete one could delete a successor's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class Held(Exception):
    """Somebody else holds the lock; `pid` is who, 0 if unknown."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path} is held by process {pid}" if pid else f"{path} is held by another process")
        self.path = path
        self.pid = pid


class Lock:
    """A locked file with our pid in it. Close it to let go; a pid file is emptied then."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises Held at once when it is taken, OSError when the file cannot be made."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = _pid_in(self._fd)
            os.close(self._fd)
            if exc.errno == errno.EWOULDBLOCK:
                raise Held(path, pid) from None
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _pid_in(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
