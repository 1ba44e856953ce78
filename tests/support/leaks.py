"""Find what a test run has left on the machine: processes, mounts, cgroups, links, tables, files.

Only resources that carry our marks count (the machine has others, and other runs of this suite may
go on at the same time): the run's own folders in a process, a mount or a socket; the name `windlass`
in a cgroup, a table, a link or a folder under /run, if it was not there when the run began.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .daemon import SESSION

PATIENCE = 5.0  # seconds for a supervisor that was told to end, and for the kernel to reap it
CGROUPS = Path("/sys/fs/cgroup")
Found = dict[str, set[str]]
_before: Found = {}


def remember() -> None:
    """Note what carries our marks before the first test runs."""
    _before.update(snapshot(roots()))


def roots() -> list[str]:
    """Return the folders that only this run uses."""
    return [str(SESSION), *_pytest_folders]


_pytest_folders: list[str] = []


def watch(folder: Path) -> None:
    """Count what names this folder as ours, too."""
    _pytest_folders.append(str(folder))


def left() -> Found:
    """Return what is there now and was not before, after some patience with what is just ending."""
    deadline = time.monotonic() + PATIENCE
    while found := _difference():
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def _difference() -> Found:
    now = snapshot(roots())
    return {kind: new for kind, names in now.items() if (new := names - _before.get(kind, set()))}


def snapshot(ours: list[str]) -> Found:
    """Return everything with a mark, by kind."""
    return {
        "process": processes(ours),
        "mount": mounts(ours),
        "cgroup": cgroups(),
        "network link": links(),
        "nft table": tables(),
        "socket": sockets(ours),
        "file": files(),
    }


def processes(ours: list[str]) -> set[str]:
    """Return processes that name one of our folders in arguments, environment, cwd or open files."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if any(root in text for text in _process_texts(folder) for root in ours):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(f"{folder.name} {words[:200]}")
        except OSError:  # it ended while we looked
            continue
    return found


def _process_texts(folder: Path) -> list[str]:
    texts = [(folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
    texts += [os.readlink(link) for link in (folder / "cwd", folder / "root")]
    for link in (folder / "fd").iterdir():
        texts.append(_target(link))
    return texts


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # the file was closed meanwhile
        return ""


def mounts(ours: list[str]) -> set[str]:
    """Return mount points of our namespace that lie in our folders or are made of them (proc(5))."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if any(root in line for root in ours)}


def cgroups() -> set[str]:
    """Return cgroups below one named windlass that no process of another run holds."""
    found = set()
    for top in (*CGROUPS.glob("windlass"), *CGROUPS.glob("*/windlass")):
        found |= {str(path) for path in top.rglob("*") if path.is_dir() and not _has_processes(path)}
    return found


def _has_processes(cgroup: Path) -> bool:
    try:
        return bool((cgroup / "cgroup.procs").read_text())
    except OSError:
        return False


def links() -> set[str]:
    """Return network links of this namespace whose alias or name says windlass."""
    found = set()
    for link in Path("/sys/class/net").iterdir():
        alias = link / "ifalias"
        if "windlass" in link.name or (alias.exists() and "windlass" in alias.read_text()):
            found.add(link.name)
    return found


def tables() -> set[str]:
    """Return nftables tables named after us; none where nft is missing."""
    if not shutil.which("nft"):
        return set()
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    return {line for line in listed.splitlines() if "windlass" in line}


def sockets(ours: list[str]) -> set[str]:
    """Return Unix sockets bound in our folders."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {fields[7] for line in lines if len(fields := line.split()) > 7 and fields[7].startswith(tuple(ours))}


def files() -> set[str]:
    """Return this run's folder, and what of ours lies in the default places."""
    default = [Path("/run/windlass"), Path("/var/lib/windlass"), Path("/var/run/windlass.sock")]
    named = [path for path in Path("/run/netns").glob("*") if "windlass" in path.name]
    mine = [path for path in Path(tempfile.gettempdir()).glob(SESSION.name) if path.exists()]
    return {str(path) for path in (*default, *named, *mine) if path.exists()}
