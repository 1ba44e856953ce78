"""Writing to a file of a cgroup."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write `text` at once. Raises OSError naming text and file."""
    # Path.write_text would open with O_CREAT, which cgroup file systems refuse with EPERM and not ENOENT.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {text.strip()!r}: {os.strerror(error.errno or 0)}", str(path)) from None
    finally:
        os.close(fd)
