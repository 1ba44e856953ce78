"""How many bytes a volume's files have: on descriptors only, since containers may be at work in it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

DEPTH = 200  # folders inside each other; what is deeper is not counted


def usage(path: Path) -> int:
    """Bytes of all files, each once whatever names it has (moby: directory.Size). Blocks. What is gone counts 0."""
    seen: set[int] = set()
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return _count(fd, seen, DEPTH)
    return 0


def _count(fd: int, seen: set[int], depth: int) -> int:
    total = 0
    try:
        device = os.fstat(fd).st_dev
        with os.scandir(fd) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if depth and status.st_dev == device:
                            total += _count(_open(entry.name, fd), seen, depth - 1)
                    elif status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_size
    finally:
        os.close(fd)
    return total


def _open(name: str, folder: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
