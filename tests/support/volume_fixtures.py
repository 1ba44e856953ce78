"""Fixtures of tests of volumes: names that clean up, and images that have something where a volume goes.

A plugin, `pytest_plugins = ["tests.support.volume_fixtures"]`, since several modules use them.
"""

import re
import secrets
from collections.abc import Callable, Iterator

import pytest

from .cli import Docker
from .images import docker_archive
from .volumes import Entry, rootfs_with
from .wire import Wire


@pytest.fixture
def new_volume(request: pytest.FixtureRequest, wire: Wire) -> Iterator[Callable[[], str]]:
    """Return a maker of volume names; what is still called so afterwards goes, with who has it."""
    made: list[str] = []
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:30].strip("-")

    def make() -> str:
        made.append(f"{stem}-{secrets.token_hex(3)}")
        return made[-1]

    yield make
    for name in made:
        for each in wire.get("/containers/json", all=1, filters=f'{{"volume":["{name}"]}}').json:
            wire.delete(f"/containers/{each['Id']}", force=1, v=1)
        wire.delete(f"/volumes/{name}", force=1)


@pytest.fixture
def modern(docker: Docker) -> None:
    """Skip where the engine is older than API 1.44: what is tested came later, or had other words or statuses."""
    if docker.is_old:
        pytest.skip("Docker 28's ways; this engine is older")


@pytest.fixture
def volume(new_volume: Callable[[], str]) -> str:
    """Return a volume name that is nobody else's; the volume is not there yet."""
    return new_volume()


@pytest.fixture
def make_image(wire: Wire, new_tag: Callable[[], str]) -> Callable[..., str]:
    """Return a maker of images: busybox, with more in it, and with changes to its configuration."""

    def make(entries: dict[str, Entry] | None = None, **config: object) -> str:
        tag = new_tag()
        archive = docker_archive([rootfs_with(entries or {})], tag, **config)
        answer = wire.post("/images/load", archive, headers={"Content-Type": "application/x-tar"})
        assert answer.status == 200 and b"errorDetail" not in answer.body, answer.body
        return tag

    return make
