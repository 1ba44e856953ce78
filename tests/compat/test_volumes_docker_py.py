"""Volumes and mounts through docker-py: its objects, and the status of every refusal."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from docker.errors import APIError, NotFound
from docker.types import Mount

from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.volume_fixtures"]

Names = Callable[[], str]
RUN: dict[str, Any] = {"network_mode": "none", "remove": True}


@pytest.fixture(scope="module")
def client(engine_host: str, image: str) -> Iterator[Any]:
    """Return a docker-py client that has negotiated its version with the engine."""
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        yield client


def test_the_life_of_a_volume(client: Any, volume: str) -> None:
    made = client.volumes.create(volume, driver="local", labels={"mark": volume})
    assert (made.name, made.attrs["Labels"], made.attrs["Scope"]) == (volume, {"mark": volume}, "local")
    assert client.volumes.get(volume).attrs == made.attrs
    assert [each.name for each in client.volumes.list(filters={"label": f"mark={volume}"})] == [volume]
    assert volume in [each.name for each in client.volumes.list(filters={"dangling": True})]
    made.remove()
    with pytest.raises(NotFound):
        client.volumes.get(volume)


@pytest.mark.usefixtures("modern")
def test_prune(client: Any, volume: str) -> None:
    client.volumes.create(volume, labels={"mark": volume})
    assert client.volumes.prune({"label": [f"mark={volume}"]})["VolumesDeleted"] is None
    pruned = client.volumes.prune({"label": [f"mark={volume}"], "all": ["true"]})
    assert pruned == {"VolumesDeleted": [volume], "SpaceReclaimed": 0}


def test_prune_of_an_old_client_takes_named_ones_too(engine_host: str, wire: Wire, volume: str) -> None:
    wire.post("/volumes/create", {"Name": volume, "Labels": {"mark": volume}})
    answer = Wire(engine_host, "1.41").post("/volumes/prune", filters=f'{{"label":["mark={volume}"]}}')
    assert answer.json["VolumesDeleted"] == [volume]


def test_a_volume_and_a_folder_of_the_host(client: Any, image: str, volume: str, tmp_path: Path) -> None:
    where = {volume: {"bind": "/data", "mode": "rw"}, str(tmp_path): {"bind": "/host", "mode": "ro"}}
    assert client.containers.run(image, ["sh", "-c", "echo x >/data/x; ls /host"], volumes=where, **RUN) == b""
    (tmp_path / "file").touch()
    assert client.containers.run(image, ["ls", "/data", "/host"], volumes=where, **RUN) == (
        b"/data:\nx\n\n/host:\nfile\n"
    )


def test_mounts_of_every_type(client: Any, image: str, volume: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mounts = [
        Mount("/bind", str(tmp_path), type="bind", read_only=True, propagation="rprivate"),
        Mount("/data", volume, labels={"a": "1"}, no_copy=True),
        Mount("/cache", None),
        Mount("/tmpfs", None, type="tmpfs", tmpfs_size="64k", tmpfs_mode=0o700),
    ]
    script = "ls /bind; stat -c %a /tmpfs; touch /data/x /cache/x"
    output = client.containers.run(image, ["sh", "-c", script], mounts=mounts, **RUN)
    assert output == b"file\n700\n"
    assert client.volumes.get(volume).attrs["Labels"] == {"a": "1"}


def test_volumes_from(client: Any, image: str, name: str, volume: str) -> None:
    client.containers.create(image, name=name, volumes=[f"{volume}:/data", "/cache"], network_mode="none")
    script = "mount | grep -c -e /data -e /cache"
    assert client.containers.run(image, ["sh", "-c", script], volumes_from=[f"{name}:ro"], **RUN) == b"2\n"
    client.containers.get(name).remove(v=True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"volumes": ["/tmp:/x:what"]}, 400),
        ({"volumes": ["a:/x"]}, 400),
        ({"volumes_from": ["nosuch"]}, 400),
        ({"tmpfs": {"/x": "what=1"}}, 400),
        ({"mounts": [Mount("/x", "/no/such", type="bind")]}, 400),
        ({"mounts": [Mount("/x", "x")]}, 400),
        ({"mounts": [Mount("/x", "xx", driver_config=docker_py.types.DriverConfig("nosuch"))]}, 404),
    ],
)
@pytest.mark.usefixtures("modern")
def test_refusals(client: Any, image: str, arguments: dict[str, Any], status: int) -> None:
    with pytest.raises(APIError) as caught:
        client.containers.create(image, **arguments)
    assert caught.value.status_code == status


def test_a_volume_in_use(client: Any, image: str, name: str, volume: str) -> None:
    client.containers.create(image, name=name, volumes=[f"{volume}:/data"])
    with pytest.raises(APIError, match="volume is in use") as caught:
        client.volumes.get(volume).remove()
    assert caught.value.status_code == 409
