"""push: what goes to a registry is what others find there."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs, docker_archive, layer, oci_layout
from tests.support.registry import Registry, copy
from tests.support.wire import Wire

pytest_plugins = ["tests.support.registry_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def made(docker: Docker, registry: Registry, wire: Wire) -> Iterator[Callable[[], str]]:
    """Return a maker of images that were loaded here, named for the registry."""
    names: list[str] = []

    def make() -> str:
        mark = secrets.token_hex(8)
        names.append(f"{registry.host}/push/{mark}")
        docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark=mark)], f"{names[-1]}:latest"))
        return names[-1]

    yield make
    for name in names:
        wire.delete(f"/images/{name}", force=1)


def short_ids(wire: Wire, name: str) -> list[str]:
    return [each[7:19] for each in wire.get(f"/images/{name}/json").json["RootFS"]["Layers"]]


def test_push_tells_of_every_layer(docker: Docker, wire: Wire, made: Callable[[], str]) -> None:
    name = made()
    lower, upper = short_ids(wire, name)
    lines = docker.ok("push", name).splitlines()
    assert lines[:2] == ["Using default tag: latest", f"The push refers to repository [{name}]"]
    assert lines[2:4] == [f"{upper}: Preparing", f"{lower}: Preparing"]
    assert f"{upper}: Pushed" in lines
    assert re.fullmatch(r"latest: digest: sha256:[0-9a-f]{64} size: [0-9]+", lines[-1])
    again = docker.ok("push", name).splitlines()
    assert {f"{upper}: Layer already exists", f"{lower}: Layer already exists"} <= set(again)
    assert again[-1] == lines[-1]


def test_what_was_pushed_comes_back(docker: Docker, wire: Wire, made: Callable[[], str]) -> None:
    name = made()
    pushed = docker.ok("push", name)
    id = docker.inspect(name, "{{.Id}}")
    docker.ok("rmi", name)
    pulled = docker.ok("pull", name)
    assert docker.inspect(name, "{{.Id}}") == id
    digest = re.search("sha256:[0-9a-f]{64}", pushed)
    assert digest and f"Digest: {digest[0]}" in pulled
    assert docker.ok("run", "--rm", "--network", "none", name, "cat", "/mark") == name.rpartition("/")[2]


def test_skopeo_reads_what_was_pushed(docker: Docker, made: Callable[[], str], tmp_path: Path) -> None:
    name = made()
    docker.ok("push", name)
    copy(f"docker://{name}", f"docker-archive:{tmp_path}/image.tar:{name}:copied")
    id = docker.inspect(name, "{{.Id}}")
    docker.ok("load", "-i", f"{tmp_path}/image.tar")
    assert docker.inspect(f"{name}:copied", "{{.Id}}") == id
    docker.ok("rmi", f"{name}:copied")


def test_a_pulled_image_is_pushed_as_it_is(docker: Docker, registry: Registry, wire: Wire) -> None:
    """Its manifest is kept byte for byte, annotations too, so that a digest means the same everywhere."""
    mark = secrets.token_hex(8)
    name = registry.put(f"push/{mark}", oci_layout([busybox_rootfs(), layer(mark=mark)], mark))
    docker.ok("pull", name)
    docker.ok("tag", name, f"{name}-copy")
    pushed = docker.ok("push", f"{name}-copy")
    (before,) = wire.get(f"/images/{name}/json").json["RepoDigests"][:1]
    assert f"digest: {before.rpartition('@')[2]}" in pushed
    assert "Mounted from push/" in pushed
    docker.ok("rmi", name, f"{name}-copy")


def test_push_of_all_tags(docker: Docker, registry: Registry, made: Callable[[], str]) -> None:
    name = made()
    docker.ok("tag", name, f"{name}:two")
    out = docker.ok("push", "-a", name)
    assert "latest: digest: " in out and "two: digest: " in out
    assert sorted(registry.get(f"/v2/{name.partition('/')[2]}/tags/list")["tags"]) == ["latest", "two"]
    docker.ok("rmi", f"{name}:two")


def test_what_is_not_here_cannot_be_pushed(docker: Docker, registry: Registry, made: Callable[[], str]) -> None:
    nobody = docker("push", f"{registry.host}/push/nobody")
    assert nobody.code == 1
    assert nobody.err.strip() == f"An image does not exist locally with the tag: {registry.host}/push/nobody"
    name = made()
    other = docker("push", f"{name}:other")
    assert other.code == 1 and other.err.strip() == f"tag does not exist: {name}:other"


def test_the_result_of_a_push_on_the_wire(wire: Wire, made: Callable[[], str]) -> None:
    name = made()
    answer = wire.post(f"/images/{name}/push", tag="latest", headers={"X-Registry-Auth": "e30="})
    lines = [json.loads(line) for line in answer.body.splitlines()]
    (aux,) = [line["aux"] for line in lines if "aux" in line]
    assert aux["Tag"] == "latest" and aux["Size"] > 0
    assert wire.get(f"/images/{name}/json").json["RepoDigests"] == [f"{name}@{aux['Digest']}"]
