"""Files in memory that nobody can change afterwards: the shim itself, op lists, stdin that came early."""

from __future__ import annotations

import fcntl
import os

_MFD_EXEC = 0x10  # Linux 6.3; where vm.memfd_noexec says so, a memfd without it cannot be executed
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_ABOVE = 50


def sealed_memfd(name: str, content: bytes, *, executable: bool = False) -> int:
    """Make a sealed memfd, CLOEXEC, at offset 0; the caller owns it. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | (_MFD_EXEC if executable else 0))
    except OSError:
        if not executable:
            raise
        fd = os.memfd_create(name, flags)  # before Linux 6.3
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lifted(fd: int) -> int:
    """Duplicate a descriptor to a number above those that posix_spawn's file actions will overwrite."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
