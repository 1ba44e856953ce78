"""Swap two names for each other, over and over, as fast as the kernel can: the other side of a race."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)


def exchange(one: Path, other: Path) -> None:
    """Let two names change places at once. Raises OSError."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Swap in a thread; names that are not there yet are waited for."""
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(FileNotFoundError):
                exchange(one, other)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
