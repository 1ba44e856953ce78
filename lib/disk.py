"""What has to reach the disk before something else may rely on it."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make durable what a file holds, or a folder: the names in it, also those that have gone. Blocks. fsync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
