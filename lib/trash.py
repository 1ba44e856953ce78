"""A folder of what is no longer wanted: to put something there is one rename, to unlink it takes as long as it takes.

What is unlinked may hold anything. It is taken apart flat: a folder inside a folder is first renamed up into the trash
itself. So nothing recurses, however deep a container has nested its folders, and no path is ever resolved.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("windlass.trash")

SLICE = 0.1  # seconds of unlinking between two looks at whether somebody has had enough


class Trash:
    """One folder of trash. All its methods block.

    `destroy` is asked first for each name in the folder, which it gets open: True when it has taken that away itself.
    """

    def __init__(self, folder: Path, destroy: Callable[[int, str], bool] = lambda folder, name: False) -> None:
        self.folder = folder
        self._destroy = destroy
        self._stuck: set[str] = set()  # what could not be unlinked; the next start tries again

    def put(self, path: Path) -> bool:
        """Move `path` here; False when it is not there."""
        try:
            path.rename(self.folder / secrets.token_hex(8))
        except FileNotFoundError:
            return False
        return True

    def empty(self, seconds: float = SLICE) -> bool:
        """Unlink for at most `seconds`, at least one folder's files; True when something is left to do."""
        until = time.monotonic() + seconds
        top = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while names := [name for name in listed(top) if name not in self._stuck]:
                for name in names:
                    self._unlink(top, name)
                    if time.monotonic() > until:
                        return True
            return False
        finally:
            os.close(top)

    def _unlink(self, top: int, name: str) -> None:
        try:
            if not self._destroy(top, name):
                _take_apart(top, name)
        except FileNotFoundError:
            return  # another sweep was quicker
        except OSError as exc:
            self._stuck.add(name)
            logger.warning("%s/%s cannot be removed: %s, ignoring", self.folder, name, exc.strerror)


def listed(folder: int) -> list[str]:
    """The names in an open folder as it is now: btrfs shows through a descriptor what was there when it was opened."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _take_apart(top: int, name: str) -> None:
    """Unlink `name` in `top`; the folders in it move up into `top`."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except OSError:
        os.unlink(name, dir_fd=top)  # no folder; otherwise this raises, and says why
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    os.rename(entry.name, secrets.token_hex(8), src_dir_fd=fd, dst_dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)
