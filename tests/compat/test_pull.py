"""pull: what comes from a registry runs, and the CLI shows what it shows of dockerd."""

import json
import re
import secrets
from collections.abc import Callable

import pytest

from tests.registry.server import DOCKER, DOCKER_LIST, Answer, Server, until
from tests.support.cli import Docker
from tests.support.images import busybox_rootfs, digest, layer, oci_layout
from tests.support.registry import Registry
from tests.support.wire import Wire

pytest_plugins = ["tests.support.registry_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def new_image(registry: Registry, wire: Wire) -> Callable[..., str]:
    """Return a maker of images in the registry, `new_image(compression="gzip")`, each with a layer of its own."""

    def make(compression: str = "gzip") -> str:
        mark = secrets.token_hex(8)
        return registry.put(f"pull/{mark}", oci_layout([busybox_rootfs(), layer(mark=mark)], mark, compression))

    return make


def test_pull_brings_an_image_that_runs(docker: Docker, new_image: Callable[..., str]) -> None:
    name = new_image()
    out = docker.ok("pull", name)
    path = name.partition("/")[2]
    lines = out.splitlines()
    assert lines[:2] == ["Using default tag: latest", f"latest: Pulling from {path}"]
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", lines[-3])
    assert lines[-2:] == [f"Status: Downloaded newer image for {name}:latest", f"{name}:latest"]
    mark = path.partition("/")[2]
    assert docker.ok("run", "--rm", "--network", "none", name, "cat", "/mark") == mark
    docker.ok("rmi", name)


def test_every_layer_of_a_pull_is_told_of(docker: Docker, new_image: Callable[..., str], registry: Registry) -> None:
    name = new_image()
    manifest = registry.get(f"/v2/{name.partition('/')[2]}/manifests/latest")
    own = manifest["layers"][1]["digest"][7:19]
    lines = docker.ok("pull", name).splitlines()
    assert [line for line in lines if line.startswith(own)] == [
        f"{own}: {status}"
        for status in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete")
    ]
    again = docker.ok("pull", name).splitlines()
    assert not [line for line in again if line.startswith(own)]
    assert again[-2] == f"Status: Image is up to date for {name}:latest"
    docker.ok("rmi", name)


def test_a_layer_that_is_here_is_not_fetched_again(docker: Docker, new_image: Callable[..., str]) -> None:
    first, second = new_image(), new_image()
    docker.ok("pull", first)
    assert "Already exists" in docker.ok("pull", second)
    docker.ok("rmi", first, second)


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_layers_of_every_compression(docker: Docker, new_image: Callable[..., str], compression: str) -> None:
    if compression == "zstd" and docker.is_old:
        pytest.skip("zstd needs an engine of version 23 or later")
    name = new_image(compression)
    docker.ok("pull", "-q", name)
    assert docker.ok("run", "--rm", "--network", "none", name, "cat", "/mark") == name.rpartition("/")[2]
    docker.ok("rmi", name)


def test_pull_by_digest_gives_no_tag(docker: Docker, wire: Wire, new_image: Callable[..., str]) -> None:
    name = new_image()
    reference = re.search("sha256:[0-9a-f]{64}", docker.ok("pull", name))
    assert reference
    by_digest = f"{name}@{reference[0]}"
    docker.ok("rmi", name)
    assert docker.ok("pull", by_digest).splitlines()[-2:] == [
        f"Status: Downloaded newer image for {by_digest}",
        by_digest,
    ]
    found = wire.get(f"/images/{by_digest}/json").json
    assert found["RepoTags"] == [] and found["RepoDigests"] == [by_digest]
    assert docker.ok("rmi", by_digest).splitlines()[0] == f"Untagged: {by_digest}"
    assert wire.get(f"/images/{found['Id']}/json").status == 404


def test_the_digest_of_a_pulled_image_is_kept(docker: Docker, wire: Wire, new_image: Callable[..., str]) -> None:
    name = new_image()
    docker.ok("pull", name)
    (found,) = wire.get(f"/images/{name}/json").json["RepoDigests"]
    assert found.startswith(f"{name}@sha256:")
    assert docker.ok("rmi", name).splitlines()[:2] == [f"Untagged: {name}:latest", f"Untagged: {found}"]


def test_pull_of_all_tags(docker: Docker, registry: Registry) -> None:
    path = f"pull/{secrets.token_hex(8)}"
    for tag in ("one", "two"):
        registry.put(f"{path}:{tag}", oci_layout([layer(mark=tag)], tag))
    out = docker.ok("pull", "-a", f"{registry.host}/{path}")
    assert f"one: Pulling from {path}" in out and f"two: Pulling from {path}" in out
    assert f"Status: Downloaded newer image for {registry.host}/{path}\n" in out
    docker.ok("rmi", f"{registry.host}/{path}:one", f"{registry.host}/{path}:two")


def test_run_pulls_an_image_that_is_missing(docker: Docker, new_image: Callable[..., str]) -> None:
    name = new_image()
    result = docker("run", "--rm", "--network", "none", name, "cat", "/mark")
    assert result.code == 0 and result.out == name.rpartition("/")[2]
    assert f"Unable to find image '{name}:latest' locally" in result.err and "Pull complete" in result.err
    docker.ok("rmi", name)


def test_what_a_registry_has_not(docker: Docker, new_image: Callable[..., str], registry: Registry) -> None:
    name = new_image()
    for missing in (f"{registry.host}/no/where:latest", f"{name}:other"):
        result = docker("pull", missing)
        assert result.code == 1
        assert result.err.strip() == (
            f"Error response from daemon: manifest for {missing} not found: manifest unknown: manifest unknown"
        )


def test_nobody_is_there(docker: Docker) -> None:
    result = docker("pull", "127.0.0.1:1/x")
    assert result.code == 1
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in result.err


def test_progress_on_the_wire(wire: Wire, new_image: Callable[..., str]) -> None:
    """Lines that the CLI makes bars of, and errors inside a stream that has begun."""
    name = new_image()
    answer = wire.post("/images/create", fromImage=name, tag="latest")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[0] == {"status": f"Pulling from {name.partition('/')[2]}", "id": "latest", "progressDetail": {}}
    loading = [line for line in lines if line["status"] == "Extracting"]
    assert loading and all(0 < line["progressDetail"]["current"] <= line["progressDetail"]["total"] for line in loading)
    wire.delete(f"/images/{name}", force=1)


def test_a_platform_that_an_index_has_not(wire: Wire, docker: Docker, registry: Registry) -> None:
    path = f"pull/{secrets.token_hex(8)}"
    registry.put(path, oci_layout([layer(mark=path)], "x"))
    result = docker("pull", "--platform", "linux/arm64", f"{registry.host}/{path}")
    assert result.code == 0  # it is no index: taken, with a warning
    assert "its platform (linux/amd64) does not match the specified platform (linux/arm64)" in result.out
    docker.ok("rmi", f"{registry.host}/{path}")


def test_the_configuration_is_the_images_id(wire: Wire, new_image: Callable[..., str], registry: Registry) -> None:
    name = new_image()
    wire.post("/images/create", fromImage=name, tag="latest")
    manifest = registry.get(f"/v2/{name.partition('/')[2]}/manifests/latest")
    found = wire.get(f"/images/{name}/json").json
    assert found["Id"] == manifest["config"]["digest"]
    assert found["RootFS"]["Layers"][1] == digest(layer(mark=name.rpartition("/")[2]))
    wire.delete(f"/images/{name}", force=1)


def test_a_pull_ends_with_its_client(wire: Wire) -> None:
    server = Server().start()
    try:
        data = layer(a="a" * (4 << 20))
        server.image("a/b", [data], how="plain")
        server.rules = [(digest(data), Answer(body=data, stall=1 << 20))]
        connection, answer = wire.open("POST", "/images/create", fromImage=f"{server.host}/a/b", tag="latest")
        assert answer.status == 200
        until(lambda: server.sent >= 1 << 20)
        assert "pull" in running(wire)
        answer.close()
        connection.close()
        until(lambda: "pull" not in running(wire))
        assert wire.get(f"/images/{server.host}/a/b/json").status == 404
    finally:
        server.close()


def running(wire: Wire) -> list[str]:
    return [job["name"] for job in wire.get("/engine/v1/jobs").json]


def test_the_platform_of_an_index(wire: Wire, docker: Docker) -> None:
    server = Server().start()
    try:
        items = []
        for architecture in ("amd64", "arm64"):
            manifest = json.dumps(server.image(f"multi/{architecture}", [layer(arch=architecture)])).encode()
            for path, answer in list(server.answers.items()):
                server.answers[path.replace(f"multi/{architecture}", "multi")] = answer
            descriptor = server.manifest("multi", architecture, manifest, DOCKER)
            items.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
        index = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": items}).encode()
        server.manifest("multi", "latest", index, DOCKER_LIST)
        name = f"{server.host}/multi"
        for flags, architecture in ((["--platform", "linux/arm64"], "arm64"), ([], "amd64")):
            assert f"Digest: {digest(index)}" in docker.ok("pull", *flags, name)
            assert wire.get(f"/images/{name}/json").json["RootFS"]["Layers"] == [digest(layer(arch=architecture))]
        assert wire.get(f"/images/{name}/json").json["RepoDigests"] == [f"{name}@{digest(index)}"]
        missing = docker("pull", "--platform", "linux/s390x", name)
        assert missing.code == 1
        assert "no matching manifest for linux/s390x in the manifest list entries" in missing.err
        docker.ok("rmi", "-f", name)
    finally:
        server.close()
