"""A file system of its own for a test: XFS in a file, on a loop device, with or without project quotas."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .packages import Missing, unpack

PACKAGES = ("xfsprogs", "libinih1", "liburcu8")
SIZE = 320 << 20  # bytes: mkfs.xfs makes nothing smaller than 300 MiB


def _mkfs() -> tuple[str, dict[str, str]]:
    """Return mkfs.xfs and the environment that it needs, out of Debian's packages. Raises Missing."""
    roots = [unpack(package) for package in PACKAGES]
    libraries = {str(path.parent) for root in roots for path in root.rglob("*.so.*")}
    return str(roots[0] / "sbin" / "mkfs.xfs"), {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}


@contextlib.contextmanager
def mounted(folder: Path, options: str = "pquota") -> Iterator[Path]:
    """Give the folder of a new XFS below `folder`; it is unmounted afterwards.

    Raises Missing without mkfs.xfs, and on a kernel whose XFS has no quotas.
    """
    mkfs, environment = _mkfs()
    image, place = folder / "xfs.img", folder / "xfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([mkfs, "-q", str(image)], env=environment, check=True)
    mount = ["mount", "-t", "xfs", "-o", f"loop,{options}", str(image), str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        image.unlink()
        raise Missing(f"this kernel does not mount XFS with {options}: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()
