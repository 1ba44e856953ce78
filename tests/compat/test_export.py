"""`docker export` and `docker diff`: a container's root file system, and what it has changed in it."""

import io
import tarfile
import time
from pathlib import Path

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root

SCRIPT = "echo x > /root/file; rm /etc/group; mkdir -p /opt/a/x /opt/a-b; echo v > /volume/file; touch /done"


@pytest.fixture(params=["running", "exited"])
def changed(docker: Docker, image: str, name: str, request: pytest.FixtureRequest) -> str:
    """Return the name of a container that has changed something, with a volume."""
    after = "; sleep 1000" if request.param == "running" else ""
    flags = ("-d",) if after else ()
    words = ("--network", "none", "-v", "/volume", image, "sh", "-c", SCRIPT + after)
    docker.ok("run", *flags, "--name", name, *words)
    while after and docker("exec", name, "test", "-e", "/done").code:
        time.sleep(0.02)
    return name


def members(tar: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {each.name: each for each in opened}


def test_an_export_has_the_root_without_what_is_mounted_in_it(docker: Docker, changed: str, tmp_path: Path) -> None:
    docker.ok("export", "-o", str(tmp_path / "tar"), changed)
    found = members((tmp_path / "tar").read_bytes())
    assert {"bin/busybox", "root/file", "opt/a/x", "volume", "proc", "sys", "dev"} <= found.keys()
    assert {"etc/group", "volume/file", "proc/1", "sys/kernel", "dev/null"}.isdisjoint(found)
    assert found["etc/hosts"].size == 0  # only its place


def test_an_export_can_be_imported_and_run(docker: Docker, changed: str, tag: str) -> None:
    docker.ok("import", "-", tag, input=docker("export", changed).raw)
    assert docker.ok("run", "--rm", "--network", "none", tag, "cat", "/root/file") == "x"


def test_exports_are_the_same_bytes(docker: Docker, changed: str) -> None:
    assert docker("export", changed).raw == docker("export", changed).raw


def test_an_export_is_told(docker: Docker, wire: Wire, changed: str) -> None:
    since = str(time.time())
    assert wire.get(f"/containers/{changed}/export").status == 200
    assert wire.get("/containers/no-such/export").status == 404
    told = docker.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--filter", f"container={changed}",
                     "--format", "{{.Action}}")  # fmt: skip
    assert told == "export"


def test_docker_py_exports_and_lists_changes(engine_host: str, changed: str) -> None:
    client = docker_py.DockerClient(base_url=engine_host, timeout=60)
    one = client.containers.get(changed)
    assert "root/file" in members(b"".join(one.export()))
    assert {"Path": "/root/file", "Kind": 1} in one.diff()
    client.close()


def test_changes_come_in_dockers_order(docker: Docker, changed: str) -> None:
    """A folder, what is in it, the next one; and nothing of what a start makes there by itself."""
    assert docker.ok("diff", changed).splitlines() == [
        "A /done", "C /etc", "D /etc/group", "A /opt", "A /opt/a", "A /opt/a/x", "A /opt/a-b", "C /root",
        "A /root/file", "A /volume",
    ]  # fmt: skip


def test_a_container_that_changed_nothing_has_no_changes(docker: Docker, wire: Wire, image: str, name: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "true")
    assert docker.ok("diff", name) == ""
    assert wire.get(f"/containers/{name}/changes").json == []
    assert wire.get("/containers/no-such/changes").status == 404


def test_a_folder_in_place_of_another_one_hides_what_was_there(docker: Docker, image: str, name: str, tag: str) -> None:
    script = "rm -r /etc; mkdir /etc; echo new > /etc/new"
    docker.ok("run", "--name", name, "--network", "none", "--tmpfs", "/keep", image, "sh", "-c", f"{script} || true")
    docker.ok("commit", name, tag)
    kept = docker.ok("run", "--rm", "--network", "none", tag, "ls", "/etc").split()
    assert "group" not in kept and "passwd" not in kept
