"""Compose 1.29: `restart`, `healthcheck`, and a service that waits until another is healthy."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.compose import Project
from tests.support.networks import until

pytestmark = [pytest.mark.root, pytest.mark.slow]

VERSION = "2.4"  # of the file: the one that knows conditions


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> Iterator[Project]:
    """Return a project that is taken down at the end."""
    project = Project(docker, tmp_path, f"compat{secrets.token_hex(3)}")
    yield project
    project("down", "-v", "-t", "0", "--remove-orphans")


def service(*command: str, **more: Any) -> dict[str, Any]:
    return {"image": "busybox", "command": list(command), "network_mode": "none", "stop_signal": "SIGKILL", **more}


def test_a_service_waits_until_another_is_healthy(docker: Docker, project: Project) -> None:
    check = {"test": "[ -e /well ]", "interval": "100ms", "timeout": "5s", "retries": 600}
    store = service("sh", "-c", "usleep 300000; touch /well; exec sleep 1000", healthcheck=check)
    web = service("sleep", "1000", depends_on={"store": {"condition": "service_healthy"}})
    project.write(version=VERSION, services={"store": store, "web": web})
    project.ok("up", "-d")
    probed = docker.inspect(project.container("store"), "{{range .State.Health.Log}}{{if eq .ExitCode 0}}{{json .End}} "
                            "{{end}}{{end}}").split()  # fmt: skip
    assert docker.inspect(project.container("store"), "{{.State.Health.Status}}") == "healthy"
    assert docker.inspect(project.container("web"), "{{json .State.StartedAt}}") > probed[0]
    assert "(healthy)" in project.ok("ps")


def test_a_service_that_restarts_always_does_so_until_it_is_stopped(docker: Docker, project: Project) -> None:
    project.write(version=VERSION, services={"loop": service("sh", "-c", "exit 3", restart="always")})
    project.ok("up", "-d")
    loop = project.container("loop")
    until(lambda: int(docker.inspect(loop, "{{.RestartCount}}")) > 1, "restarts")
    project.ok("stop")
    assert docker.inspect(loop, "{{.State.Status}}") == "exited"
    project.ok("start")
    until(lambda: docker.inspect(loop, "{{.State.Status}}") == "restarting", "its end")
