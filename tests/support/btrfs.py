"""A file system of its own for tests: btrfs in a file, on a loop device."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .packages import Missing, unpack, with_libraries

LIBRARIES = ("liblzo2-2", "libblkid1", "libuuid1", "libudev1", "libzstd1", "zlib1g")
SIZE = 300 << 20  # bytes


def _mkfs() -> tuple[str, dict[str, str]]:
    """Return mkfs.btrfs and the environment that it needs. Raises Missing."""
    if found := shutil.which("mkfs.btrfs"):
        return found, dict(os.environ)
    root = unpack("btrfs-progs")
    return str(next(path for path in root.rglob("mkfs.btrfs"))), with_libraries(*LIBRARIES)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """Give the folder of a new btrfs below `folder`; it is unmounted afterwards.

    Raises Missing without mkfs.btrfs, and on a kernel without btrfs or loop devices.
    """
    mkfs, environment = _mkfs()
    image, place = folder / "btrfs.img", folder / "btrfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([mkfs, "-q", str(image)], env=environment, check=True, capture_output=True)
    mount = ["mount", "-t", "btrfs", "-o", "loop", str(image), str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        image.unlink()
        raise Missing(f"this kernel does not mount btrfs: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()
