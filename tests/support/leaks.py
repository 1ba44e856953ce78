"""Find what a test run has left on the machine: processes, mounts, cgroups, links, tables, files.

Only resources that carry our marks count, since the machine has others and other runs of this suite
may go on at the same time. A run keeps everything below a folder that is named after its process;
what names such a folder is left over when that process is this one, or is gone. What cannot name a
folder (cgroups, links, tables) counts when it says `windlass`. Nothing counts that was there when the
run began: a run that was killed long ago is no fault of this one.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .daemon import MARK

PATIENCE = 5.0  # seconds for a supervisor that was told to end, and for the kernel to reap it
CGROUPS = Path("/sys/fs/cgroup")
Found = dict[str, set[str]]
_before: Found = {}


def remember() -> None:
    """Note what is there before the first test runs, in the file WINDLASS_BEFORE for who looks after the last one."""
    path = Path(os.environ.get("WINDLASS_BEFORE", os.devnull))
    if noted := path.read_text():
        _before.update({kind: set(names) for kind, names in json.loads(noted).items()})
        return
    _before.update(_present())
    path.write_text(json.dumps({kind: sorted(names) for kind, names in _before.items()}))


def left() -> Found:
    """Return what is left, after some patience with what is just ending."""
    deadline = time.monotonic() + PATIENCE
    while (found := _found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _found() -> Found:
    new = {kind: names - _before.get(kind, set()) for kind, names in _present().items()}
    return {kind: names for kind, names in new.items() if names}


def _present() -> Found:
    named = {"process": processes(), "mount": mounts(), "socket": sockets(), "file": files()}
    return named | {"cgroup": cgroups(), "network link": links(), "nft table": tables(), "default": defaults()}


def is_ours(text: str) -> bool:
    """Tell whether a text names the folder of this run, or of one whose process is gone."""
    owners = {int(pid) for pid in re.findall(re.escape(MARK) + r"(\d+)", text)}
    return any(pid == os.getpid() or not Path(f"/proc/{pid}").exists() for pid in owners)


def processes() -> set[str]:
    """Return processes that name a run's folder in arguments, environment, cwd, root or open files."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if any(is_ours(text) for text in _process_texts(folder)):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(f"{folder.name} {words[:200]}")
        except OSError:  # it ended while we looked
            continue
    return found


def _process_texts(folder: Path) -> Iterator[str]:
    yield from ((folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ"))
    for link in (folder / "cwd", folder / "root", *(folder / "fd").iterdir()):
        try:
            yield os.readlink(link)
        except FileNotFoundError:  # the file was closed meanwhile
            continue


def mounts() -> set[str]:
    """Return mount points of our namespace that lie in a run's folder or are made of it (proc(5))."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if is_ours(line)}


def sockets() -> set[str]:
    """Return Unix sockets bound in a run's folder."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {fields[7] for line in lines if len(fields := line.split()) > 7 and is_ours(fields[7])}


def files() -> set[str]:
    """Return the folders of runs that are over."""
    return {str(path) for path in Path(tempfile.gettempdir()).glob(f"{Path(MARK).name}*") if is_ours(str(path))}


def cgroups() -> set[str]:
    """Return cgroups below one named windlass that no process of another run holds."""
    found = set()
    for top in (*CGROUPS.glob("windlass"), *CGROUPS.glob("*/windlass")):
        # os.walk, unlike rglob, does not mind what goes away meanwhile.
        below = [Path(folder, name) for folder, names, _ in os.walk(top) for name in names]
        found |= {str(path) for path in below if path.exists() and not _has_processes(path)}
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


def defaults() -> set[str]:
    """Return what lies in the places that a daemon uses when it is told no others; tests always tell."""
    places = [Path("/run/windlass"), Path("/var/lib/windlass"), Path("/var/run/windlass.sock")]
    places += [path for path in Path("/run/netns").glob("*") if "windlass" in path.name]
    return {str(path) for path in places if path.exists()}
