"""`docker pause` and `docker unpause`: what a paused container shows, does, and does not let others do."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs
from tests.support.wire import Wire

pytestmark = pytest.mark.root

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


@pytest.fixture
def counting(docker: Docker, image: str, name: str) -> str:
    """Return the name of a container that writes as long as it runs."""
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", COUNT)
    return name


def lines(docker: Docker, name: str) -> int:
    return len(docker.ok("logs", name).splitlines())


def test_a_paused_container_stands_still_and_goes_on_where_it_was(docker: Docker, counting: str) -> None:
    assert docker.ok("pause", counting) == counting
    before = lines(docker, counting)
    time.sleep(0.1)
    assert lines(docker, counting) == before
    assert docker.ok("unpause", counting) == counting
    while lines(docker, counting) == before:
        time.sleep(0.01)
    written = docker.ok("logs", counting).split()
    assert written == [str(n + 1) for n in range(len(written))]


def test_state_is_shown_by_inspect_ps_and_info(docker: Docker, wire: Wire, counting: str) -> None:
    docker.ok("pause", counting)
    state = wire.get(f"/containers/{counting}/json").json["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    assert docker.ok("ps", "--filter", f"name={counting}", "--format", "{{.Status}}").endswith("(Paused)")
    assert docker.ok("ps", "--filter", "status=paused", "--format", "{{.Names}}").split() == [counting]
    assert wire.get("/info").json["ContainersPaused"] == 1
    docker.ok("unpause", counting)
    assert docker.inspect(counting, "{{.State.Status}} {{.State.Paused}}") == "running false"


def test_events_tell_of_both(docker: Docker, counting: str) -> None:
    since = str(time.time())
    docker.ok("pause", counting)
    docker.ok("unpause", counting)
    until = str(time.time() + 0.01)
    told = docker.ok("events", "--since", since, "--until", until, "--filter", f"container={counting}", "--format",
                     "{{.Action}}")  # fmt: skip
    assert told.split() == ["pause", "unpause"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("pause", None, "is already paused"),
        ("start", None, "cannot start a paused container, try unpause instead"),
        ("exec", {"Cmd": ["true"]}, "is paused, unpause the container before exec"),
        ("attach?stream=1&stdout=1", None, "is paused, unpause the container before attach"),
    ],
)
def test_what_a_paused_container_refuses(wire: Wire, counting: str, path: str, body: Any, message: str) -> None:
    assert wire.post(f"/containers/{counting}/pause").status == 204
    answer = wire.post(f"/containers/{counting}/{path}", body)
    assert (answer.status, message in answer.json["message"]) == (409, True), answer.body


def test_an_exec_that_was_made_before_is_refused_at_its_start(wire: Wire, counting: str) -> None:
    id = wire.post(f"/containers/{counting}/exec", {"Cmd": ["true"]}).json["Id"]
    wire.post(f"/containers/{counting}/pause")
    answer = wire.post(f"/exec/{id}/start", {"Detach": True})
    assert (answer.status, "unpause the container before exec" in answer.json["message"]) == (409, True)


def test_a_paused_container_is_not_removed_without_force(wire: Wire, counting: str) -> None:
    wire.post(f"/containers/{counting}/pause")
    answer = wire.delete(f"/containers/{counting}")
    assert (answer.status, "container is paused and must be unpaused first" in answer.json["message"]) == (409, True)
    assert wire.delete(f"/containers/{counting}", force=1).status == 204


def test_who_is_not_paused_cannot_be_unpaused(wire: Wire, counting: str) -> None:
    answer = wire.post(f"/containers/{counting}/unpause")
    assert (answer.status, "is not paused" in answer.json["message"]) == (409, True)


def test_who_does_not_run_cannot_be_paused(wire: Wire, image: str, name: str) -> None:
    wire.post("/containers/create", {"Image": image}, name=name)
    answer = wire.post(f"/containers/{name}/pause")
    assert (answer.status, "is not running" in answer.json["message"]) == (409, True)
    assert wire.post("/containers/nobody/pause").status == 404


def test_stop_lets_it_run_on_for_its_signal(docker: Docker, image: str, name: str) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", script)
    while not docker.ok("logs", name):
        time.sleep(0.01)
    docker.ok("pause", name)
    docker.ok("stop", name)
    assert docker.inspect(name, "{{.State.Status}} {{.State.ExitCode}} {{.State.Paused}}") == "exited 7 false"


def test_kill_ends_it(docker: Docker, counting: str) -> None:
    docker.ok("pause", counting)
    docker.ok("kill", counting)
    assert docker.inspect(counting, "{{.State.Status}} {{.State.ExitCode}} {{.State.Paused}}") == "exited 137 false"


def test_a_signal_that_is_not_the_stop_signal_leaves_it_paused(docker: Docker, image: str, name: str) -> None:
    flags = ["--stop-signal", "TERM", "--network", "none"]
    docker.ok("run", "-d", "--name", name, *flags, image, "sleep", "60")
    docker.ok("pause", name)
    docker.ok("kill", "-s", "USR1", name)
    assert docker.inspect(name, "{{.State.Status}}") == "paused"


def test_restart_starts_it_anew(docker: Docker, counting: str) -> None:
    docker.ok("pause", counting)
    docker.ok("restart", "-t", "0", counting)
    assert docker.inspect(counting, "{{.State.Status}}") == "running"


def test_top_and_logs_work_meanwhile(docker: Docker, counting: str) -> None:
    docker.ok("pause", counting)
    assert COUNT[:10] in docker.ok("top", counting)


def test_it_stays_paused_over_the_daemons_death(new_daemon: Callable[..., Any], tmp_path: Path, image: str) -> None:
    daemon = new_daemon()
    assert daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    docker = Docker(daemon.host, tmp_path)
    docker.ok("run", "-d", "--name", "still", "--network", "none", image, "sh", "-c", COUNT)
    docker.ok("pause", "still")
    daemon.kill()
    daemon.start()
    assert docker.inspect("still", "{{.State.Status}} {{.State.Running}}") == "paused true"
    before = lines(docker, "still")
    docker.ok("unpause", "still")
    while lines(docker, "still") == before:
        time.sleep(0.01)


def test_docker_py_pauses(engine_host: str, counting: str) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        container = client.containers.get(counting)
        container.pause()
        container.reload()
        assert container.status == "paused"
        container.unpause()
        container.reload()
        assert container.status == "running"
