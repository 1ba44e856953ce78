"""A root file system in memory, from this machine's static busybox: no registry, no download."""

import io
import shutil
import subprocess
import tarfile


def rootfs() -> bytes:
    """The tar of a small root file system. Raises FileNotFoundError where busybox is not installed."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox is missing: apt-get install busybox-static")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                tar.addfile(_link(f"bin/{applet}", "busybox"))
        for name, text in {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}.items():
            tar.addfile(_file(name, text), io.BytesIO(text.encode()))
    return buffer.getvalue()


def _link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def _file(name: str, text: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    return info
