"""Compose projects with volumes: made and named by the project, kept over a new container, removed on demand."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.compose import Project

pytestmark = [pytest.mark.root, pytest.mark.slow]


def sleeper(*volumes: Any, **more: Any) -> dict[str, Any]:
    return {
        "image": "busybox", "command": ["sleep", "1000"], "stop_signal": "SIGKILL", "network_mode": "none",
        "volumes": list(volumes), **more,
    }  # fmt: skip


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> Iterator[Project]:
    """Return a project that is taken down at the end, with its volumes."""
    project = Project(docker, tmp_path, f"compat{secrets.token_hex(3)}")
    yield project
    project("down", "-v", "-t", "0", "--remove-orphans")


def places(docker: Docker, container: str) -> dict[str, Any]:
    return {each["Destination"]: each for each in json.loads(docker.inspect(container, "{{json .Mounts}}"))}


def volumes(docker: Docker, project: Project) -> set[str]:
    words = ("--filter", f"label=com.docker.compose.project={project.name}")
    return set(docker.ok("volume", "ls", "-q", *words).split())


def test_a_project_has_its_volumes_until_it_is_told_to_drop_them(docker: Docker, project: Project) -> None:
    long = {"type": "volume", "source": "data", "target": "/again", "read_only": True}
    tmpfs = {"type": "tmpfs", "target": "/scratch", "tmpfs": {"size": 65536}}
    (project.folder / "conf").mkdir()
    (project.folder / "conf" / "file").write_text("conf")
    project.write(
        services={"web": sleeper("data:/data", "./conf:/conf:ro", "/cache", long, tmpfs)}, volumes={"data": None}
    )
    project.ok("up", "-d")
    web, named = project.container("web"), f"{project.name}_data"
    assert volumes(docker, project) == {named}
    found = places(docker, web)
    assert (found["/data"]["Name"], found["/again"]["RW"], found["/conf"]["RW"]) == (named, False, False)
    docker.ok("exec", web, "sh", "-c", "echo kept >/data/file; echo cached >/cache/file")
    # A new container of the service has the old one's volumes, those without a name too.
    project.write(
        services={"web": sleeper("data:/data", "./conf:/conf:ro", "/cache", long, tmpfs, environment=["A=1"])},
        volumes={"data": None},
    )
    project.ok("up", "-d")
    assert places(docker, web)["/cache"]["Name"] == found["/cache"]["Name"]
    assert docker.ok("exec", web, "cat", "/again/file", "/cache/file", "/conf/file") == "kept\ncached\nconf"
    project.ok("down", "-t", "0")
    assert volumes(docker, project) == {named}
    project.ok("up", "-d")
    assert docker.ok("exec", web, "cat", "/data/file") == "kept"
    project.ok("down", "-v", "-t", "0")
    assert volumes(docker, project) == set()


def test_a_volume_with_options_and_one_of_the_outside(docker: Docker, project: Project, tmp_path: Path) -> None:
    outside = f"{project.name}-outside"
    docker.ok("volume", "create", outside)
    options = {"type": "none", "o": "bind", "device": str(tmp_path)}
    project.write(
        services={"web": sleeper("data:/data", "outside:/outside")},
        volumes={
            "data": {"driver": "local", "driver_opts": options},
            "outside": {"external": True, "name": outside},
        },
    )
    try:
        project.ok("up", "-d")
        docker.ok("exec", project.container("web"), "touch", "/data/touched", "/outside/touched")
        assert (tmp_path / "touched").exists()
        project.ok("down", "-v", "-t", "0")
        assert (tmp_path / "touched").exists()
        assert docker.ok("volume", "ls", "-q", "--filter", f"name={outside}") == outside
    finally:
        docker.ok("volume", "rm", "-f", outside)
