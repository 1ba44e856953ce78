"""What supervises containers dies: the shim, the daemon, both; and pids come back as other processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from tests.support.networks import until
from tests.support.wire import Wire, frames, output

pytestmark = [pytest.mark.root, pytest.mark.slow]

LINES = 500_000
# Runs `sleep` under the pid that is given, by set_tid of clone3(2), and waits for it.
AS_PID = """
import ctypes, os, sys
pid = (ctypes.c_int * 1)(int(sys.argv[1]))
args = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(pid), 1, 0)
child = ctypes.CDLL(None, use_errno=True).syscall(435, args, ctypes.sizeof(args))
if child == 0:
    os.execv("/bin/sleep", ["sleep", "600"])
print("started" if child > 0 else os.strerror(ctypes.get_errno()), flush=True)
if child > 0:
    os.waitpid(child, 0)
"""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon().start()
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", tag="latest")
    assert answer.status == 200, answer.body
    yield daemon
    if not daemon.answers():
        daemon.start()
    daemon.close()


def run(wire: Wire, name: str, script: str, rule: str = "no") -> int:
    """Start a container; return the pid of its first process."""
    host = {"NetworkMode": "none", "RestartPolicy": {"Name": rule}}
    answer = wire.post(
        "/containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host}, name=name
    )
    assert answer.status == 201, answer.body
    assert wire.post(f"/containers/{name}/start").status == 204
    return int(info(wire, name)["State"]["Pid"])


def info(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json


def status(wire: Wire, name: str) -> str:
    return str(info(wire, name)["State"]["Status"])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def groups(id: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"*/windlass/{id}*"), *Path("/sys/fs/cgroup").glob(f"windlass/{id}*")]


@pytest.mark.parametrize("with_daemon", [False, True], ids=["shim", "daemon-and-shim"])
def test_a_container_ends_with_its_supervisor(daemon: Daemon, with_daemon: bool) -> None:
    wire = daemon.wire
    pid, again = run(wire, "plain", "exec sleep 600"), run(wire, "again", "exec sleep 600", "always")
    shims = [parent(pid), parent(again)]
    if with_daemon:
        daemon.kill()
    for shim in shims:
        os.kill(shim, signal.SIGKILL)
    if with_daemon:
        daemon.start()
    until(lambda: status(wire, "plain") == "exited", "the end")
    assert info(wire, "plain")["State"]["ExitCode"] == 137
    until(lambda: status(wire, "again") == "running" and info(wire, "again")["RestartCount"] == 1, "a restart")
    until(lambda: is_gone(pid) and is_gone(again), "the old processes to be gone")
    id = info(wire, "plain")["Id"]
    until(lambda: not groups(id), "its cgroups to be gone")
    assert wire.delete("/containers/plain").status == 204


def test_no_foreign_process_is_taken_for_a_container(daemon: Daemon) -> None:
    """The pids of an init and its shim belong to others when the next daemon comes."""
    wire = daemon.wire
    pid = run(wire, "victim", "exec sleep 600")
    shim = parent(pid)
    daemon.kill()
    for each in (shim, pid):
        os.kill(each, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() and not Path(f"/proc/{shim}").exists(), "the pids to be free")
    others = [_as_pid(each) for each in (pid, shim)]
    try:
        daemon.start()
        assert (status(wire, "victim"), info(wire, "victim")["State"]["ExitCode"]) == ("exited", 137)
        assert wire.post("/containers/victim/kill").status == 409
        assert wire.post("/containers/victim/start").status == 204
        assert wire.delete("/containers/victim", force=1).status == 204
        assert not is_gone(pid) and not is_gone(shim)
    finally:
        for each in (pid, shim):
            os.kill(each, signal.SIGKILL)
        for other in others:
            other.communicate()


def _as_pid(pid: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", AS_PID, str(pid)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_a_container_that_writes_much_without_a_daemon_is_not_held_up(daemon: Daemon) -> None:
    """Every line is there, and the container has ended by itself."""
    wire = daemon.wire
    pid = run(wire, "writer", f"while [ ! -e /go ]; do usleep 1000; done; seq {LINES}; exit 5")
    root = Path(f"/proc/{pid}/root")
    daemon.kill()
    (root / "go").touch()
    until(lambda: is_gone(pid), "the end")
    daemon.start()
    until(lambda: status(wire, "writer") == "exited", "the end to be known")
    assert info(wire, "writer")["State"]["ExitCode"] == 5
    body = wire.get("/containers/writer/logs", stdout=1).body
    assert output(frames(body))[0].split() == [str(n + 1).encode() for n in range(LINES)]
