"""Containers outlive a daemon that is killed: same process, no log line lost or doubled, exit code kept.

`--rounds N` sets how often the daemon is killed under one writing container.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from tests.support.wire import Wire, frames, output

pytestmark = [pytest.mark.root, pytest.mark.slow]

LIMIT = 30.0  # seconds
WRITER = "n=0; while [ ! -e /stop ]; do echo line $n; n=$((n+1)); usleep 1000; done; echo last $n; exit 7"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Return a daemon of the test's own, with an image, to be killed at will."""
    daemon = Daemon().start()
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", tag="latest")
    assert answer.status == 200, answer.body
    yield daemon
    if not daemon.answers():
        daemon.start()
    daemon.close()


def run(wire: Wire, name: str, script: str, **config: Any) -> int:
    """Start a container in the background; return the pid of its first process."""
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}, **config}
    answer = wire.post("/containers/create", body, name=name)
    assert answer.status == 201, answer.body
    answer = wire.post(f"/containers/{name}/start")
    assert answer.status == 204, answer.body
    return state(wire, name)["Pid"]


def state(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json["State"]


def log(wire: Wire, name: str) -> list[str]:
    body = wire.get(f"/containers/{name}/logs", stdout=1, stderr=1).body
    return output(frames(body))[0].decode().splitlines()


def execute(wire: Wire, name: str, *command: str) -> tuple[bytes, int]:
    """Run a command in a container; return its output and exit code."""
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
    id = wire.post(f"/containers/{name}/exec", body).json["Id"]
    with wire.hijack(f"/exec/{id}/start", {}) as stream:
        out, _ = output(stream.frames())
    return out, wire.get(f"/exec/{id}/json").json["ExitCode"]


def until(true: Callable[[], bool], what: str) -> None:
    """Look until it is so; fail after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline, f"waited {LIMIT} s for: {what}"
        time.sleep(0.01)


def crash(daemon: Daemon, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Kill the daemon, let something happen without it, and start it again."""
    daemon.kill()
    meanwhile()
    daemon.start()


def is_gone(pid: int) -> Callable[[], bool]:
    return lambda: not Path(f"/proc/{pid}").exists()


def test_a_writing_container_survives_every_kill(daemon: Daemon, rounds: int) -> None:
    """Every line from the first to the last is in the log once; the exit code comes after the last kill."""
    pid = run(daemon.wire, "writer", WRITER)
    for _ in range(rounds):
        lines = len(log(daemon.wire, "writer"))
        until(lambda lines=lines: len(log(daemon.wire, "writer")) > lines + 20, "more lines")  # type: ignore[misc]
        crash(daemon)
        found = state(daemon.wire, "writer")
        assert (found["Status"], found["Pid"]) == ("running", pid)
    assert execute(daemon.wire, "writer", "touch", "/stop") == (b"", 0)
    assert daemon.wire.post("/containers/writer/wait").json["StatusCode"] == 7
    *lines, last = log(daemon.wire, "writer")
    assert lines == [f"line {n}" for n in range(len(lines))]
    assert last == f"last {len(lines)}"


def test_a_container_that_ends_while_the_daemon_is_down_keeps_its_exit_code(daemon: Daemon) -> None:
    script = "echo begun; read x; echo heard; read x; echo ended; exit 5"
    pid = run(daemon.wire, "short", script, OpenStdin=True, StdinOnce=True)
    with daemon.wire.hijack("/containers/short/attach?stream=1&stdin=1&stdout=1") as stream:
        stream.send(b"\n")
        assert stream.read_frame() == (1, b"heard\n")  # the supervisor holds this connection now
        crash(daemon, lambda: (stream.send(b"\n"), until(is_gone(pid), "the end"))[1])
    found = state(daemon.wire, "short")
    assert (found["Status"], found["ExitCode"], found["Pid"], found["OOMKilled"]) == ("exited", 5, 0, False)
    assert found["StartedAt"] < found["FinishedAt"]
    assert daemon.wire.post("/containers/short/wait").json["StatusCode"] == 5
    assert log(daemon.wire, "short") == ["begun", "heard", "ended"]


def test_a_container_that_is_killed_while_the_daemon_is_down_ends_with_137(daemon: Daemon) -> None:
    pid = run(daemon.wire, "victim", "sleep 1000")

    def kill() -> None:
        os.kill(pid, 9)
        until(is_gone(pid), "the end")

    crash(daemon, kill)
    found = state(daemon.wire, "victim")
    assert (found["Status"], found["ExitCode"]) == ("exited", 137)


def test_a_container_with_rm_that_ends_while_the_daemon_is_down_is_removed(daemon: Daemon) -> None:
    host = {"NetworkMode": "none", "AutoRemove": True}
    pid = run(daemon.wire, "fleeting", "sleep 1000", HostConfig=host)

    def kill() -> None:
        os.kill(pid, 9)
        until(is_gone(pid), "the end")

    crash(daemon, kill)
    until(lambda: daemon.wire.get("/containers/fleeting/json").status == 404, "the removal")


def test_everything_works_on_a_container_that_was_adopted(daemon: Daemon) -> None:
    """exec, logs -f, kill, stop, start, rm by a daemon that did not start it."""
    run(
        daemon.wire,
        "adopted",
        "trap 'echo got it' USR1; trap 'exit 3' TERM; echo up; while :; do sleep 1 & wait $!; done",
    )
    until(lambda: log(daemon.wire, "adopted") == ["up"], "the first line")
    crash(daemon)
    assert execute(daemon.wire, "adopted", "sh", "-c", "echo inside; exit 4") == (b"inside\n", 4)
    assert daemon.wire.post("/containers/adopted/kill", signal="USR1").status == 204
    until(lambda: log(daemon.wire, "adopted") == ["up", "got it"], "the second line")
    assert daemon.wire.post("/containers/adopted/stop").status == 204
    assert state(daemon.wire, "adopted")["ExitCode"] == 3
    assert daemon.wire.post("/containers/adopted/start").status == 204
    assert daemon.wire.delete("/containers/adopted", force=1).status == 204
    assert daemon.wire.get("/containers/adopted/json").status == 404


def test_an_attached_terminal_goes_on_after_the_crash(daemon: Daemon) -> None:
    """The daemon is on no data path: the client's connection belongs to the supervisor."""
    body = {"Image": "busybox", "Cmd": ["sh"], "Tty": True, "OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
    daemon.wire.post("/containers/create", body, name="shell")
    with daemon.wire.hijack("/containers/shell/attach?stream=1&stdin=1&stdout=1&stderr=1") as stream:
        daemon.wire.post("/containers/shell/start")
        stream.send(b"echo be''fore\n")
        stream.read_until(b"before")
        crash(daemon)
        stream.send(b"echo af''ter; exit 2\n")
        stream.read_until(b"after")
    assert daemon.wire.post("/containers/shell/wait").json["StatusCode"] == 2


def test_images_names_and_stopped_containers_survive(daemon: Daemon) -> None:
    run(daemon.wire, "done", "echo kept; exit 6")
    assert daemon.wire.post("/containers/done/wait").json["StatusCode"] == 6
    before = daemon.wire.get("/containers/done/json").json
    crash(daemon)
    assert daemon.wire.get("/containers/done/json").json == before
    assert log(daemon.wire, "done") == ["kept"]
    assert daemon.wire.get("/images/busybox/json").status == 200
    assert daemon.wire.post("/containers/create", {"Image": "busybox"}, name="done").status == 409


def test_a_kill_between_create_and_start_leaves_a_container_that_starts(daemon: Daemon) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    daemon.wire.post("/containers/create", body, name="made")
    crash(daemon)
    assert state(daemon.wire, "made")["Status"] == "created"
    assert daemon.wire.post("/containers/made/start").status == 204
    assert daemon.wire.post("/containers/made/wait").json["StatusCode"] == 0


def test_containers_survive_a_clean_stop_too(daemon: Daemon) -> None:
    pid = run(daemon.wire, "steady", "sleep 1000")
    assert daemon.stop() == 0
    daemon.start()
    found = state(daemon.wire, "steady")
    assert (found["Status"], found["Pid"]) == ("running", pid)


def test_a_second_daemon_on_the_same_roots_refuses(daemon: Daemon) -> None:
    second = Daemon()
    second.data_root, second.exec_root = daemon.data_root, daemon.exec_root
    with pytest.raises(RuntimeError, match="did not come up"):
        second.start()
    assert second.process is not None and second.process.returncode not in (0, None)
    assert daemon.answers()
