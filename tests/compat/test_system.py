"""version, info, ping: what a client asks for before anything else."""

import os

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root


def test_version_shows_client_and_server(docker: Docker) -> None:
    out = docker.ok("version")
    assert out.startswith("Client:") and "\nServer:" in out
    for line in (" Engine:", "  Version:", "  API version:", "  OS/Arch:", "  Experimental:"):
        assert line in out.partition("Server:")[2]


def test_the_versions_are_negotiated(docker: Docker) -> None:
    """The CLI comes down to the engine's version, or the engine's is as high as the CLI's."""
    client, server = docker.ok("version", "-f", "{{.Client.APIVersion}} {{.Server.APIVersion}}").split()
    assert tuple(map(int, client.split("."))) <= tuple(map(int, server.split(".")))
    assert docker.ok("version", "-f", "{{.Server.Os}}/{{.Server.Arch}}") == "linux/amd64"


def test_version_names_its_parts(wire: Wire) -> None:
    found = wire.get("/version").json
    assert {"Version", "ApiVersion", "MinAPIVersion", "GitCommit", "Os", "Arch", "KernelVersion"} <= set(found)
    assert found["Components"][0]["Name"] == "Engine"
    assert found["Components"][0]["Details"]["ApiVersion"] == found["ApiVersion"]
    assert found["KernelVersion"] == os.uname().release


def test_info_prints_without_a_complaint(docker: Docker) -> None:
    result = docker("info")
    assert result.code == 0
    assert "ERROR" not in result.out + result.err
    for line in (
        "Server:",
        "Containers:",
        "Images:",
        "Storage Driver:",
        "Logging Driver: json-file",
        "Docker Root Dir:",
    ):
        assert line in result.out


def test_info_counts_containers_and_images(docker: Docker, wire: Wire, running: str) -> None:
    found = wire.get("/info").json
    assert found["ContainersRunning"] >= 1
    assert found["Containers"] == found["ContainersRunning"] + found["ContainersPaused"] + found["ContainersStopped"]
    assert found["Images"] >= 1
    assert found["Swarm"]["LocalNodeState"] == "inactive"
    assert (found["OSType"], found["NCPU"]) == ("linux", os.cpu_count())
    assert found["CgroupVersion"] in ("1", "2") and found["Driver"] and found["Runtimes"]


def test_ping_by_get_and_head(wire: Wire) -> None:
    get, head = wire.get("/_ping"), wire.request("HEAD", "/_ping")
    assert (get.status, get.body, head.status, head.body) == (200, b"OK", 200, b"")
    for answer in (get, head):
        assert answer.headers["Api-Version"] == wire.get("/version").json["ApiVersion"]
        assert (answer.headers["Ostype"], answer.headers["Docker-Experimental"]) == ("linux", "false")
        assert "no-cache" in answer.headers["Cache-Control"]
    assert head.headers["Content-Length"] == "0"


def test_a_version_in_the_path_is_taken(engine_host: str) -> None:
    for version in ("1.24", "1.38", "1.41"):
        assert Wire(engine_host, version).get("/_ping").status == 200
        assert Wire(engine_host, version).get("/containers/json").status == 200


def test_a_version_that_is_too_new_is_refused(engine_host: str) -> None:
    """Old clients parse this sentence to come down."""
    answer = Wire(engine_host, "9.99").get("/containers/json")
    assert answer.status == 400
    highest = Wire(engine_host).get("/version").json["ApiVersion"]
    assert answer.message == f"client version 9.99 is too new. Maximum supported API version is {highest}"


def test_an_unknown_path_is_a_404(wire: Wire) -> None:
    answer = wire.get("/no/such/thing")
    assert (answer.status, answer.message) == (404, "page not found")


def test_docker_ps_works_with_the_lowest_version(docker: Docker, running: str) -> None:
    """A client may insist on a version; 1.24 is the lowest that 28 takes."""
    docker.environment["DOCKER_API_VERSION"] = "1.24"
    try:
        assert running in docker.ok("ps", "--format", "{{.Names}}").splitlines()
    finally:
        del docker.environment["DOCKER_API_VERSION"]


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services", "/secrets", "/configs", "/tasks"])
def test_swarm_is_refused_with_dockers_sentence(wire: Wire, path: str) -> None:
    answer = wire.get(path)
    assert answer.status == 503
    assert answer.message.startswith("This node is not a swarm manager.")


def test_there_are_no_plugins(wire: Wire) -> None:
    answer = wire.get("/plugins")
    assert (answer.status, answer.json or []) == (200, [])
