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


def unshare(kinds: Namespace) -> None:
    """Move the calling thread into new namespaces. Raises OSError. unshare(2)."""
    if lib.unshare(kinds):
        raise OSError(ffi.errno, f"unshare({kinds!r}): {os.strerror(ffi.errno)}")


def setns(fd: int, kinds: Namespace) -> None:
    """Move the calling thread into the namespaces behind `fd`: a namespace file or pidfd. Raises OSError. setns(2)."""
    if lib.setns(fd, kinds):
        raise OSError(ffi.errno, f"setns({fd}, {kinds!r}): {os.strerror(ffi.errno)}")
