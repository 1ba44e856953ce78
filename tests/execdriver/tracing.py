"""Decides a race between two processes of the shim, by ptrace(2)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.execdriver import harness

_CONT, _DETACH, _GETEVENTMSG, _SEIZE = 7, 17, 0x4201, 0x4206
_OPTIONS = 0x2 | 0x8  # PTRACE_O_TRACEFORK, PTRACE_O_TRACECLONE: the new process is traced as well
_WALL = 0x40000000  # also children that end without SIGCHLD
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@contextlib.contextmanager
def child_first(shim: int) -> Iterator[Callable[[], None]]:
    """Give a function that stops the next exec's middle process once it has made the child.

    The function returns when the child has executed its program or has ended; the end of the block lets the middle
    process go on.
    """
    stopped: list[int] = []

    def hold() -> None:
        middle = _made_by(shim)
        _ptrace(_DETACH, shim)
        _wait(middle)
        _ptrace(_CONT, middle)
        child = _made_by(middle)
        stopped.append(middle)
        _wait(child)
        _ptrace(_DETACH, child)
        harness.eventually(lambda: _name(child) != "windlass-shim" or harness.is_zombie(child))

    _ptrace(_SEIZE, shim, _OPTIONS)
    try:
        yield hold
    finally:
        for middle in stopped:
            _ptrace(_DETACH, middle)


def _made_by(parent: int) -> int:
    """Wait until a traced process stops with a new one made; return the new one's pid."""
    _wait(parent)
    pid = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, parent, ctypes.addressof(pid))
    return pid.value


def _wait(pid: int) -> None:
    seen: list[int] = []

    def has_stopped() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG | _WALL)
        if found:
            assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP, f"{pid} did not stop: {status:#x}"
            seen.append(status)
        return bool(seen)

    harness.eventually(has_stopped)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")
