"""Find programs that the tests need, on the machine or in a Debian package.

Nothing is installed: a package that is missing is downloaded with apt-get and unpacked into a cache,
so a machine with only git, Python and apt can run the whole suite.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

SKOPEO_LIBRARIES = ("libgpgme11", "libassuan0", "libgpg-error0", "libdevmapper1.02.1")
PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("WINDLASS_TEST_CACHE") or PROJECT / ".venv" / "test-cache")


class Missing(Exception):
    """A program is neither here nor to be had; the message says what was tried."""


def unpack(package: str) -> Path:
    """Download a Debian package and unpack it into the cache; return its root."""
    root = CACHE / package
    if root.exists():
        return root
    download = CACHE / f"{package}.download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    # apt drops to the user _apt for downloads, and complains where it may not write.
    fetch = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", package]
    done = subprocess.run(fetch, cwd=download, capture_output=True, text=True)
    archives = list(download.glob("*.deb"))
    if done.returncode or not archives:
        raise Missing(f"`{' '.join(fetch)}` failed: {done.stderr.strip()}")
    subprocess.run(["dpkg", "-x", str(archives[0]), str(download / "root")], check=True)
    (download / "root").rename(root)
    shutil.rmtree(download)
    return root


def program(name: str, package: str, inside: str) -> str:
    """Return the path of a program: from PATH, else from `inside` the Debian package."""
    return shutil.which(name) or str(unpack(package) / inside)


@cache
def docker_cli() -> str:
    """Return the docker CLI on PATH, else Debian's (package docker.io, version 20.10)."""
    return os.environ.get("WINDLASS_TEST_DOCKER") or program("docker", "docker.io", "usr/bin/docker")


@cache
def static_busybox() -> Path:
    """Return a statically linked busybox: the machine's own, else that of package busybox-static."""
    for candidate in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(candidate).exists() and is_static(Path(candidate)):
            return Path(candidate)
    root = unpack("busybox-static")
    return next(p for p in (root / "bin/busybox", root / "usr/bin/busybox") if p.exists())


def is_static(path: Path) -> bool:
    """Tell whether an ELF file names no program interpreter (PT_INTERP, elf(5))."""
    data = path.read_bytes()
    offset = int.from_bytes(data[32:40], "little")
    size, count = (int.from_bytes(data[at : at + 2], "little") for at in (54, 56))
    kinds = (int.from_bytes(data[offset + size * n :][:4], "little") for n in range(count))
    return data[:4] == b"\x7fELF" and 3 not in kinds


@cache
def umoci() -> str:
    return program("umoci", "umoci", "usr/bin/umoci")


@cache
def skopeo() -> tuple[list[str], dict[str, str]]:
    """Return skopeo's argv, which trusts any image, and an environment with the libraries that a bare machine lacks."""
    if found := shutil.which("skopeo"):
        return [found, "--insecure-policy"], dict(os.environ)
    return [str(unpack("skopeo") / "usr/bin/skopeo"), "--insecure-policy"], with_libraries(*SKOPEO_LIBRARIES)


def with_libraries(*packages: str) -> dict[str, str]:
    """Return an environment in which a program finds the shared libraries of these packages."""
    folders = [path.parent for package in packages for path in unpack(package).rglob("*.so.*")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(dict.fromkeys(map(str, folders)))}
