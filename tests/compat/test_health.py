"""Health checks as the docker CLI, docker-py and old clients see them."""

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

QUICK = ("--health-interval", "50ms", "--health-retries", "2", "--health-timeout", "5s")


def run(docker: Docker, image: str, name: str, *flags: str) -> None:
    """Start a container; creating it gives no warning."""
    result = docker("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "600")
    assert (result.code, result.err) == (0, ""), result


def health(docker: Docker, name: str) -> str:
    return docker.inspect(name, "{{if .State.Health}}{{.State.Health.Status}}{{end}}")


def until_health(docker: Docker, name: str, status: str) -> None:
    until(lambda: health(docker, name) == status, f"{name} to be {status}")


def test_a_check_by_flags(docker: Docker, image: str, name: str) -> None:
    began = time.time()
    run(docker, image, name, *QUICK, "--health-cmd", "echo seen; test -e /well")
    until_health(docker, name, "unhealthy")
    docker.ok("exec", name, "touch", "/well")
    until_health(docker, name, "healthy")
    assert docker.ok("ps", "--filter", f"name={name}", "--format", "{{.Status}}").endswith(" (healthy)")
    assert docker.ok("ps", "--filter", "health=healthy", "--filter", f"name={name}", "--format", "{{.Names}}") == name
    assert docker.ok("ps", "--filter", "health=unhealthy", "--filter", f"name={name}", "-q") == ""
    first = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}} {{.State.Health.FailingStreak}}"
    assert docker.inspect(name, first).split() in (["1", "seen", "0"], ["0", "seen", "0"])
    flags = ["--since", f"{began:.9f}", "--until", f"{time.time():.9f}", "--filter", f"container={name}"]
    told = docker.ok("events", *flags, "--filter", "event=health_status", "--format", "{{.Action}}").splitlines()
    assert told == ["health_status: unhealthy", "health_status: healthy"]
    one = docker.ok(
        "events", *flags, "--filter", "event=health_status: healthy", "--format", "{{.Action}} {{.Actor.ID}}"
    )
    assert one.split() == ["health_status:", "healthy", docker.inspect(name, "{{.Id}}")]


def test_a_check_of_the_image_and_against_it(
    docker: Docker, wire: Wire, image: str, tag: str, new_name: Callable[[], str]
) -> None:
    check = 'HEALTHCHECK --interval=50ms --retries=1 CMD ["true"]'
    answer = wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=tag.partition(":")[0], changes=check)
    assert answer.status == 200, answer.body
    with_it, without, other = new_name(), new_name(), new_name()
    run(docker, tag, with_it)
    run(docker, tag, without, "--no-healthcheck")
    run(docker, tag, other, "--health-cmd", "false")
    until_health(docker, with_it, "healthy")
    until_health(docker, other, "unhealthy")
    assert health(docker, without) == ""
    for each in (with_it, without, other):
        docker.ok("rm", "-f", each)


@pytest.mark.parametrize("key", ["Interval", "Timeout", "StartPeriod", "StartInterval"])
def test_times_that_are_too_short_are_refused(docker: Docker, wire: Wire, image: str, key: str) -> None:
    if docker.is_old and key == "StartInterval":
        pytest.skip("a key of API 1.44")
    body = {"Image": image, "Healthcheck": {"Test": ["CMD", "true"], key: 10}}
    answer = wire.post("/containers/create", body)
    assert (answer.status, answer.json["message"]) == (400, f"{key} in Healthcheck cannot be less than 1ms")


def test_state_has_no_health_without_a_check(wire: Wire, running: str) -> None:
    assert "Health" not in wire.get(f"/containers/{running}/json").json["State"]


def test_docker_py_sees_it(engine_host: str, image: str, name: str) -> None:
    check = {"test": ["CMD", "true"], "interval": 50_000_000, "retries": 1}
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        run = client.containers.run
        container = run(image, ["sleep", "600"], name=name, detach=True, network_mode="none", healthcheck=check)
        until(lambda: (container.reload(), container.health == "healthy")[1], "docker-py to see it")
        assert container.attrs["State"]["Health"]["Log"][0]["ExitCode"] == 0


def test_the_daemons_death(new_daemon: Callable[..., Any], tmp_path: Path, image: str) -> None:
    daemon = new_daemon()
    assert daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    docker = Docker(daemon.host, tmp_path)
    run(docker, image, "web", *QUICK, "--health-cmd", "test ! -e /ill")
    until_health(docker, "web", "healthy")
    daemon.kill()
    daemon.start()
    assert health(docker, "web") == "healthy"
    docker.ok("exec", "web", "touch", "/ill")
    until_health(docker, "web", "unhealthy")
