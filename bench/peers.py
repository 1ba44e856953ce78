"""Start the engines that are compared, each on private roots, and look at their processes."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from wire import Refused, Wire, ping

IMAGE = "windlass-bench:latest"
MARK = {"windlass-bench": str(os.getpid())}
START_LIMIT, STOP_LIMIT = 60.0, 30.0  # seconds
NO_DOCKERD = "dockerd is missing, so there is nothing to compare with: apt-get install docker.io (or --alone)"
NO_BUSYBOX = "no static busybox for the image: apt-get install busybox-static"


class Peer:
    """An engine under measurement: how it is started, where it listens, which processes are its own.

    A peer with a socket that was given is used as it is, and neither started nor stopped.
    """

    def __init__(self, name: str, command: list[str] | None = None, path: str | None = None) -> None:
        self.name, self._command = name, command
        self._base = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        self.socket = path or str(self._base / "s.sock")
        self._process: subprocess.Popen[bytes] | None = None
        self.wire = Wire(self.socket)

    def can_start(self) -> bool:
        return self._command is not None

    def start(self, fresh: bool = False) -> float:
        """Start it and return the seconds from exec to the first `_ping`; `fresh` empties its roots first."""
        assert self._command is not None
        if fresh:
            self._empty()
        words = {"base": self._base, "socket": self.socket}
        with (self._base / "log").open("ab") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                [part.format(**words) for part in self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not ping(self.socket):
            if self._process.poll() is not None or time.perf_counter() - began > START_LIMIT:
                raise Refused(f"{self.name} did not come up: {(self._base / 'log').read_text()[-1500:]}")
            time.sleep(0.001)
        self.wire = Wire(self.socket)
        return time.perf_counter() - began

    def stop(self) -> None:
        """End it by SIGTERM, by SIGKILL after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def prepare(self) -> None:
        """Give it the image, unless it has it."""
        with contextlib.suppress(Refused):
            self.wire.get(f"/images/{IMAGE}/json")
            return
        name, _, tag = IMAGE.partition(":")
        path = f"/images/create?fromSrc=-&repo={name}&tag={tag}"
        out = self.wire.request("POST", path, image_tar(), kind="application/x-tar")
        if b'"error"' in out:
            raise Refused(f"{self.name}: import: {out[-300:]!r}")

    def remove_containers(self) -> None:
        """Remove every container that this run made."""
        label = "%22,%22".join(f"{key}={value}" for key, value in MARK.items())
        for container in self.wire.get(f"/containers/json?all=1&filters=%7B%22label%22:[%22{label}%22]%7D"):
            self.wire.delete(f"/containers/{container['Id']}?force=1&v=1")

    def close(self) -> None:
        """Remove what was made, stop it if it was started here, and delete its roots."""
        with contextlib.suppress(OSError, Refused):
            self.remove_containers()
        with contextlib.suppress(OSError, Refused):
            self.wire.delete(f"/images/{IMAGE}?force=1")
        self.stop()
        self._empty()
        shutil.rmtree(self._base, ignore_errors=True)

    def _empty(self) -> None:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        inside = [line.split()[4] for line in lines if line.split()[4].startswith(f"{self._base}/")]
        for point in sorted(inside, reverse=True):
            subprocess.run(["umount", "-l", point], check=False)
        for path in self._base.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()

    # -- processes

    def pid(self) -> int:
        """Return the daemon's pid: who bound the socket (SO_PEERCRED, unix(7)) where we did not start it."""
        if self._process is not None:
            return self._process.pid
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.socket)
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])

    def processes(self) -> set[int]:
        """Return the daemon and all its descendants."""
        parents = parent_table()
        found = {self.pid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def supervisors(self, payloads: list[int]) -> set[int]:
        """Return the processes between the payloads and the daemon or init: the shims."""
        parents, daemon, found = parent_table(), self.pid(), set()
        for pid in payloads:
            while (pid := parents.get(pid, 0)) > 1 and pid not in (daemon, os.getpid()):
                found.add(pid)
        return found


def parent_table() -> dict[int, int]:
    """Return pid → parent's pid of every process (proc(5), stat)."""
    table = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            table[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return table


def pss(pids: set[int]) -> int:
    """Return the proportional set size of these processes together, in bytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            total += int(found[1]) * 1024 if found else 0
    return total


def windlass() -> Peer:
    """Return ours, from the interpreter that runs this."""
    command = [sys.executable, "-P", "-m", "windlass", "daemon", "-H", "unix://{socket}"]
    roots = ["--data-root", "{base}/root", "--exec-root", "{base}/exec", "--pidfile", "{base}/pid"]
    return Peer("windlass", command + roots)


def dockerd() -> Peer:
    """Return Debian's as it comes, with its bridge and rules in a network namespace where they disturb nobody."""
    program = shutil.which("dockerd")
    if program is None:
        raise SystemExit(NO_DOCKERD)
    command = ["unshare", "--net", program, "-H", "unix://{socket}"]
    roots = ["--data-root", "{base}/root", "--exec-root", "{base}/exec", "--pidfile", "{base}/pid"]
    return Peer("dockerd", command + roots)


def image_tar() -> bytes:
    """Return a root file system with busybox and the applets that the cases run."""
    busybox = next((path for path in map(Path, ("/bin/busybox", "/usr/bin/busybox")) if path.exists()), None)
    if busybox is None:
        raise SystemExit(NO_BUSYBOX)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox.resolve(), "bin/busybox")
        for applet in ("true", "sh", "sleep"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()
