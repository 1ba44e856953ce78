"""`--restart`: what docker CLI and docker-py see of containers that are started again."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs
from tests.support.networks import until
from tests.support.wire import Wire

pytestmark = pytest.mark.root

LOOP = ["sh", "-c", "exit 3"]


def run(docker: Docker, image: str, name: str, restart: str, *command: str) -> None:
    """Start a container; creating it gives no warning."""
    result = docker("run", "-d", "--name", name, "--network", "none", "--restart", restart, image, *command)
    assert (result.code, result.err) == (0, ""), result


def state(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json["State"]


def count(docker: Docker, name: str) -> int:
    return int(docker.inspect(name, "{{.RestartCount}}"))


def test_on_failure_counts_and_ends(docker: Docker, wire: Wire, image: str, name: str) -> None:
    began = time.time()
    run(docker, image, name, "on-failure:2", *LOOP)
    until(lambda: state(wire, name)["Status"] == "exited" and count(docker, name) == 2, "the end")
    assert docker.inspect(name, "{{.State.ExitCode}}") == "3"
    flags = ["--since", f"{began:.9f}", "--until", f"{time.time():.9f}", "--filter", f"container={name}"]
    told = docker.ok("events", *flags, "--format", "{{.Action}}").split()
    assert [action for action in told if action != "give_up"] == ["create", *["start", "die"] * 3]


def test_a_container_that_is_restarting_is_shown_so(docker: Docker, wire: Wire, image: str, name: str) -> None:
    run(docker, image, name, "always", *LOOP)
    until(lambda: state(wire, name)["Status"] == "restarting" and count(docker, name) > 3, "a longer delay")
    assert docker.ok("ps", "--filter", f"name={name}", "--filter", "status=restarting", "--format", "{{.State}}") == (
        "restarting"
    )
    assert docker.ok("ps", "--filter", f"name={name}", "--format", "{{.Status}}").startswith("Restarting (3) ")
    result = docker("exec", name, "true")
    assert (result.code, "is restarting, wait until the container is running" in result.err) == (1, True)
    result = docker("rm", name)
    why = "a restarting container" if docker.is_old else "container is restarting: stop the container before removing"
    assert (result.code, why in result.err) == (1, True), result
    assert docker.ok("stop", name) == name
    assert docker.inspect(name, "{{.State.Status}} {{.State.Restarting}} {{.State.ExitCode}}") == "exited false 3"
    before = count(docker, name)
    time.sleep(0.3)
    assert (count(docker, name), state(wire, name)["Status"]) == (before, "exited")


@pytest.mark.parametrize("by", [("kill",), ("stop", "-t", "0"), ("rm", "-f")])
def test_what_a_user_ends_stays_so(docker: Docker, image: str, name: str, by: tuple[str, ...]) -> None:
    run(docker, image, name, "always", "sleep", "600")
    docker.ok(*by, name)
    time.sleep(0.3)
    found = docker.ok("ps", "-a", "--filter", f"name={name}", "--format", "{{.State}}")
    assert found == ("" if by[0] == "rm" else "exited")


def test_update_ends_the_loop(docker: Docker, wire: Wire, image: str, name: str) -> None:
    run(docker, image, name, "always", *LOOP)
    docker.ok("update", "--restart", "no", name)
    until(lambda: state(wire, name)["Status"] == "exited", "the last end")


def test_wait_answers_at_the_first_end(docker: Docker, image: str, name: str) -> None:
    run(docker, image, name, "always", "sh", "-c", "usleep 300000; exit 6")
    assert docker.ok("wait", name) == "6"


def test_rm_and_a_policy_do_not_go_together(docker: Docker, image: str, name: str) -> None:
    result = docker("run", "--rm", "--restart", "always", "--name", name, image, "true")
    assert (result.code, "conflicting options" in result.err.lower()) == (125, True), result


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"Name": "sometimes"}, "invalid restart policy: unknown policy 'sometimes'"),
        ({"Name": "always", "MaximumRetryCount": 3}, "maximum retry count can only be used with 'on-failure'"),
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "cannot be negative"),
    ],
)
def test_a_policy_that_is_none_is_refused(docker: Docker, wire: Wire, image: str, rule: Any, message: str) -> None:
    answer = wire.post("/containers/create", {"Image": image, "HostConfig": {"RestartPolicy": rule}})
    assert (answer.status, docker.is_old or message in answer.json["message"]) == (400, True), answer.body


def test_docker_py_sees_it(engine_host: str, image: str, name: str) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        rule = {"Name": "on-failure", "MaximumRetryCount": 1}
        container = client.containers.run(image, LOOP, name=name, detach=True, network_mode="none", restart_policy=rule)
        until(lambda: (container.reload(), container.attrs["RestartCount"] == 1)[1], "a restart")
        until(lambda: (container.reload(), container.status == "exited")[1], "the end")
        assert container.attrs["HostConfig"]["RestartPolicy"] == rule


def test_the_daemons_death(new_daemon: Callable[..., Any], tmp_path: Path, image: str) -> None:
    daemon = new_daemon()
    assert daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    docker = Docker(daemon.host, tmp_path)
    for name, restart in (("loop", "always"), ("stopped", "unless-stopped"), ("steady", "unless-stopped")):
        run(docker, image, name, restart, *(LOOP if name == "loop" else ("sleep", "600")))
    docker.ok("stop", "-t", "0", "stopped")
    pid = docker.inspect("steady", "{{.State.Pid}}")
    until(lambda: count(docker, "loop") > 2, "restarts")
    daemon.kill()
    daemon.start()
    before = count(docker, "loop")
    assert before > 2
    until(lambda: count(docker, "loop") > before, "more restarts")
    assert docker.inspect("steady", "{{.State.Pid}} {{.RestartCount}}") == f"{pid} 0"
    assert docker.inspect("stopped", "{{.State.Status}}") == "exited"
