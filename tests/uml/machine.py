"""A User-Mode Linux machine: Debian's kernel as a program, with this machine's files as its root and cgroup v2 alone.

It has what its kernel was built with: the controllers cpu, io, memory and pids, overlayfs and loop devices as modules,
no packet filter, and no boot time in /proc/stat, without which ps has no clock.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.packages import PROJECT, static_busybox, unpack

MEMORY = "1500M"
MODULES = ("fs/overlayfs/overlay.ko", "drivers/block/loop.ko")
LIMIT = 600.0  # seconds until a machine that should have halted has failed


class Halted:
    """What a machine wrote, and the status of its command; None when it did not come that far."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = re.search(r"^status (\d+)\s*$", text, re.MULTILINE)
        self.status = int(found[1]) if found else None


def run(command: str) -> Halted:
    """Boot, run a line of shell in the project's folder, halt. Raises Missing without the package."""
    root = unpack("user-mode-linux")
    modules = [str(next((root / "usr/lib/uml/modules").glob(f"*/kernel/{name}"))) for name in MODULES]
    argv = [
        *(str(root / "usr/bin/linux.uml"), f"mem={MEMORY}", "quiet", "con=null", "con0=fd:0,fd:1"),
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"init={Path(__file__).with_name('init')}"),
        f"UML_FOLDER={PROJECT}",
        f"UML_MODULES={','.join(modules)}",
        f"UML_BUSYBOX={static_busybox()}",
        f'UML_COMMAND="{command}"',
    ]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT
    )
    return Halted(done.stdout.decode(errors="replace"))


def pytest_command(*arguments: str) -> str:
    """Return the line that runs tests of this checkout by this interpreter, and writes nothing into it."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "--color=no",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    quoted = " ".join(f"'{word}'" if " " in word else word for word in words)
    kept = {name: os.environ[name] for name in ("WINDLASS_TEST_CACHE", "WINDLASS_TEST_DOCKER") if name in os.environ}
    settings = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"} | kept
    return " ".join([*(f"{name}={value}" for name, value in settings.items()), quoted])
