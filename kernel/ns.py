"""Namespaces (namespaces(7)): flags, leaving and joining.

Both calls change the calling thread alone, and a thread that has left a namespace must not go back into a pool:
use them in a thread made for the purpose.
"""

from __future__ import annotations

import os
from enum import IntFlag

from ._sys import ffi, lib


class Namespace(IntFlag):
    """CLONE_NEW* of <linux/sched.h>."""

    NEWNS = 0x0002_0000
    NEWCGROUP = 0x0200_0000
    NEWUTS = 0x0400_0000
    NEWIPC = 0x0800_0000
    NEWUSER = 0x1000_0000
    NEWPID = 0x2000_0000
    NEWNET = 0x4000_0000


def process_folder(pid: int, group: str) -> int:
    """Open the folder in /proc of the process `pid`, which must be in a cgroup with `group` in its path.

    A process is named by a number, and numbers are used again: the descriptor stands for this process alone, so that
    what is opened below it is its own. Raises ProcessLookupError when it has ended, or is another one. proc(5).
    """
    try:
        folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
    try:
        with open(os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)) as file:  # noqa: PTH123 - a descriptor
            if f"/{group}" not in file.read():
                raise ProcessLookupError(f"process {pid} is in no cgroup {group}")
    except BaseException as exc:
        os.close(folder)
        if isinstance(exc, FileNotFoundError):
            raise ProcessLookupError(f"process {pid} has ended") from None
        raise
    return folder


def unshare(kinds: Namespace) -> None:
    """Move the calling thread into new namespaces. Raises OSError. unshare(2)."""
    if lib.unshare(kinds):
        raise OSError(ffi.errno, f"unshare({kinds!r}): {os.strerror(ffi.errno)}")


def setns(fd: int, kinds: Namespace) -> None:
    """Move the calling thread into the namespaces behind `fd`: a namespace file or pidfd. Raises OSError. setns(2)."""
    if lib.setns(fd, kinds):
        raise OSError(ffi.errno, f"setns({fd}, {kinds!r}): {os.strerror(ffi.errno)}")
