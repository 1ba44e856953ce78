"""login, search, manifest: the commands that only ask."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.server import Answer, Server
from tests.support.cli import Docker
from tests.support.images import docker_archive, layer, oci_layout
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.wire import Wire

pytest_plugins = ["tests.support.registry_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def client(docker: Docker, tmp_path: Path) -> Docker:
    """Return a docker CLI with a configuration of the test's own, where nobody is logged in."""
    return Docker(docker.host, tmp_path)


def test_login_push_pull_logout(client: Docker, closed_registry: Registry) -> None:
    name = f"{closed_registry.host}/login/image"
    client.ok("load", input=docker_archive([layer(mark="closed")], f"{name}:latest"))
    denied = client("push", name)
    assert denied.code == 1 and "no basic auth credentials" in denied.err
    out = client.ok("login", "-u", USER, "--password-stdin", closed_registry.host, input=PASSWORD.encode())
    assert out.endswith("Login Succeeded")
    client.ok("push", name)
    client.ok("rmi", name)
    client.ok("pull", name)
    client.ok("logout", closed_registry.host)
    denied = client("pull", name)
    assert denied.code == 1 and "no basic auth credentials" in denied.err
    client.ok("rmi", name)


def test_a_wrong_password(client: Docker, closed_registry: Registry) -> None:
    result = client("login", "-u", USER, "--password-stdin", closed_registry.host, input=b"wrong")
    assert result.code == 1
    url = f"http://{closed_registry.host}/v2/"
    assert f"login attempt to {url} failed with status: 401 Unauthorized" in result.err


def test_auth_on_the_wire(wire: Wire, closed_registry: Registry) -> None:
    good = {"username": USER, "password": PASSWORD, "serveraddress": closed_registry.host}
    answer = wire.post("/auth", good)
    assert answer.status == 200 and answer.json == {"Status": "Login Succeeded", "IdentityToken": ""}
    assert wire.post("/auth", {**good, "password": "wrong"}).status == 401


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server().start()
    yield found
    found.close()


def test_search(client: Docker, server: Server) -> None:
    results = [
        {"name": "you/tool", "description": "A tool", "star_count": 7, "is_official": False, "is_automated": False}
    ]
    server.answers["/v1/search"] = Answer(body=json.dumps({"results": results}).encode())
    row = client.ok("search", "--format", "{{.Name}} {{.Description}} {{.StarCount}}", f"{server.host}/tool")
    assert row == "you/tool A tool 7"
    assert server.paths() == ["/v1/search?q=tool&n=25"]
    limited = client("search", "--limit", "101", f"{server.host}/tool")
    assert limited.code == 1 and "[1, 100]" in limited.err


def test_distribution_on_the_wire(wire: Wire, registry: Registry) -> None:
    name = registry.put("inspect/this", oci_layout([layer(a="a")], "x"))
    found = wire.get(f"/distribution/{name}/json").json
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert found["Descriptor"]["digest"].startswith("sha256:") and found["Descriptor"]["size"] > 0
    missing = wire.get(f"/distribution/{registry.host}/no/where/json")
    assert missing.status == 404
