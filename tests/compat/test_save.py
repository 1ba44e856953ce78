"""docker save, docker load."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs, compress, docker_archive, layer
from tests.support.wire import Wire

pytestmark = pytest.mark.root


def loaded(docker: Docker, *tags: str, mark: str = "here") -> None:
    docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark=mark)], *tags))


def mark_of(docker: Docker, image: str) -> str:
    return docker.ok("run", "--rm", "--network", "none", image, "cat", "/mark")


@pytest.mark.parametrize("compression", ["plain", "gzip"])
def test_what_is_saved_can_be_loaded_and_runs(docker: Docker, tag: str, compression: str) -> None:
    loaded(docker, tag)
    id = docker.inspect(tag, "{{.Id}}")
    saved = docker("save", tag).raw
    docker.ok("rmi", tag)
    assert docker.ok("load", input=compress(saved, compression)).endswith(f"Loaded image: {tag}")
    assert docker.inspect(tag, "{{.Id}}") == id
    assert mark_of(docker, tag) == "here"


def test_save_into_a_file_and_load_from_it(docker: Docker, tag: str, tmp_path: Path) -> None:
    loaded(docker, tag)
    assert docker.ok("save", "-o", str(tmp_path / "image.tar"), tag) == ""
    docker.ok("rmi", tag)
    assert docker.ok("load", "-q", "-i", str(tmp_path / "image.tar")) == f"Loaded image: {tag}"


def test_several_images_in_one_archive(docker: Docker, new_tag: Callable[[], str]) -> None:
    one, two, three = new_tag(), new_tag(), new_tag()
    loaded(docker, one, two, mark="first")
    loaded(docker, three, mark="second")
    saved = docker("save", one, two, three).raw
    docker.ok("rmi", one, two, three)
    assert {f"Loaded image: {tag}" for tag in (one, two, three)} <= set(docker.ok("load", input=saved).splitlines())
    assert (mark_of(docker, two), mark_of(docker, three)) == ("first", "second")


def test_an_image_by_its_id_has_no_name_in_the_archive(docker: Docker, tag: str) -> None:
    loaded(docker, tag, mark=tag)
    id = docker.inspect(tag, "{{.Id}}")
    saved = docker("save", id.removeprefix("sha256:")[:20]).raw
    docker.ok("rmi", tag)
    assert docker.ok("load", input=saved).endswith(f"Loaded image ID: {id}")
    docker.ok("rmi", id)


def test_the_same_image_gives_the_same_archive(docker: Docker, tag: str) -> None:
    loaded(docker, tag)
    assert docker("save", tag).raw == docker("save", tag).raw


def test_an_image_that_is_not_there_is_named(docker: Docker, tag: str, tmp_path: Path) -> None:
    result = docker("save", "-o", str(tmp_path / "image.tar"), tag)
    assert result.code == 1 and "Error response from daemon" in result.err
    assert not (tmp_path / "image.tar").exists()


def test_docker_py_saves_and_loads(engine_host: str, docker: Docker, tag: str) -> None:
    loaded(docker, tag)
    client = docker_py.DockerClient(base_url=engine_host)
    try:
        image = client.images.get(tag)
        named = b"".join(image.save(named=True))
        nameless = b"".join(image.save())
        docker.ok("rmi", tag)
        (again,) = client.images.load(named)
        assert again.id == image.id and again.tags == [tag]
        with tarfile.open(fileobj=io.BytesIO(nameless)) as tar:
            file = tar.extractfile("manifest.json")
            assert file and json.load(file)[0]["RepoTags"] is None
    finally:
        client.close()


def test_a_malformed_archive_is_told_in_the_stream(wire: Wire) -> None:
    answer = wire.request(
        "POST", "/images/load", b"this is no tar" * 100, headers={"Content-Type": "application/x-tar"}
    )
    assert answer.status == 200
    last = json.loads(answer.body.splitlines()[-1])
    assert last["errorDetail"]["message"] == last["error"] != ""
