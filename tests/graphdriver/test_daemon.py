"""A daemon on each graph driver: an image is loaded, a container runs and writes, all of it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.btrfs import mounted
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs, docker_archive, layer
from tests.support.packages import Missing

pytestmark = pytest.mark.root

SCRIPT = "cat /low /high && echo more > /low && rm /high && mkdir /new"


@pytest.fixture(params=["overlay2", "btrfs", "vfs"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon("-s", request.param, "--bridge", "none")
    try:
        if request.param == "btrfs":
            with mounted(tmp_path) as place:
                one.data_root = place / "root"
                yield one.start()
                one.close()
        else:
            yield one.start()
    except Missing as why:
        pytest.skip(f"not run: {why}")
    finally:
        one.close()


def test_containers_live_on_it(daemon: Daemon) -> None:
    wire = daemon.wire
    layers = [busybox_rootfs(), layer(low="low\n"), layer(high="high\n")]
    tar = {"Content-Type": "application/x-tar"}
    assert b"Loaded image: a:1" in wire.request("POST", "/images/load", docker_archive(layers, "a:1"), headers=tar).body
    body = {"Image": "a:1", "Cmd": ["sh", "-c", SCRIPT], "HostConfig": {"NetworkMode": "none"}}
    id = wire.post("/containers/create", body).json["Id"]
    assert wire.post(f"/containers/{id}/start").status == 204
    assert wire.post(f"/containers/{id}/wait").json["StatusCode"] == 0
    logs = wire.get(f"/containers/{id}/logs", stdout=1).body
    assert b"low\n" in logs and b"high\n" in logs
    assert wire.post("/containers/create", {**body, "Cmd": ["cat", "/high"]}).status == 201
    for container in wire.get("/containers/json", all=1).json:
        assert wire.delete(f"/containers/{container['Id']}").status == 204
    assert wire.delete("/images/a:1").status == 200

    assert not list(daemon.data_root.glob("*/layers/*")) and not list(daemon.data_root.glob("*/containers/*/root"))
