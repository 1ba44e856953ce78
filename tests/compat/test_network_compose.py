"""Compose projects: services that find each other by name, publish ports, are scaled and taken down."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.compose import Project
from tests.support.networks import (
    address_of,
    fetch,
    free_port,
    get,
    inspect_network,
    lines_of,
    names_asked,
    settings,
    until,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.network_fixtures"]


def httpd(name: str, **more: Any) -> dict[str, Any]:
    """Return a service that tells its name over HTTP."""
    return {"image": "busybox", "command": ["sh", "-c", f"echo {name} > /index.html; exec httpd -f -p 80 -h /"], **more}


def sleeper(**more: Any) -> dict[str, Any]:
    return {"image": "busybox", "command": ["sleep", "1000"], "stop_signal": "SIGKILL", **more}


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> Iterator[Project]:
    """Return a project that is taken down at the end."""
    project = Project(docker, tmp_path, f"compat{secrets.token_hex(3)}")
    yield project
    if (tmp_path / "docker-compose.yml").exists():
        project("down", "-t", "0", "--remove-orphans")


@pytest.fixture
def shop(project: Project) -> Project:
    """Return a project of three services that is up: a web server with a port, a store, a client."""
    project.write(
        services={
            "web": httpd("web", ports=["80"], depends_on=["store"]),
            "store": httpd("store", hostname="cellar", expose=["80"]),
            "client": sleeper(depends_on=["web"]),
        }
    )
    project.ok("up", "-d")
    for service in ("web", "store"):
        until(lambda service=service: asked(project, service) == service, f"{service} to answer")  # type: ignore[misc]
    return project


def asked(project: Project, host: str, client: str = "client") -> str:
    """GET from a host, out of a service's first container."""
    return get(project.docker, project.container(client), host)


def test_services_find_each_other_by_name(shop: Project) -> None:
    """By service, by container's name, by short id; each by its own."""
    id = shop.docker.inspect(shop.container("web"), "{{.Id}}")
    for known in ("web", shop.container("web"), id[:12]):
        assert asked(shop, known) == "web"
    assert asked(shop, "store") == asked(shop, "cellar") == "store"
    assert asked(shop, "client", "web") == "" and names_asked(shop.docker, shop.container("client"), "nobody") == []


def test_the_projects_network_has_its_labels(shop: Project) -> None:
    found = inspect_network(shop.docker, f"{shop.name}_default")
    assert (found["Driver"], len(found["Containers"])) == ("bridge", 3)
    assert found["Labels"]["com.docker.compose.network"] == "default"
    assert found["Labels"]["com.docker.compose.project"] == shop.name
    assert set(settings(shop.docker, shop.container("web"))["Networks"]) == {f"{shop.name}_default"}


def test_ports_are_published_and_shown(shop: Project) -> None:
    address, _, port = shop.ok("port", "web", "80").rpartition(":")
    assert address == "0.0.0.0"
    assert fetch("127.0.0.1", int(port)) == fetch("::1", int(port)) == "web"
    shown = shop.ok("ps")
    assert f"0.0.0.0:{port}->80/tcp" in shown
    assert all(shop.container(service) in shown for service in ("web", "store", "client"))
    assert shown.count(" Up ") == 3 and "80/tcp" in shown
    assert set(shop.ok("ps", "--services").split()) == {"client", "store", "web"}


def test_a_scaled_service_is_all_of_its_containers(shop: Project) -> None:
    shop.ok("up", "-d", "--scale", "web=3")
    containers = [shop.container("web", number) for number in (1, 2, 3)]
    expected = {address_of(shop.docker, name, f"{shop.name}_default") for name in containers}
    client, first = shop.container("client"), set()

    def each_came_first() -> bool:
        found = names_asked(shop.docker, client, "web")
        assert set(found) == expected
        first.add(found[0])
        return first == expected

    until(each_came_first, "each to be the first in an answer")
    ports = {shop.ok("port", "--index", str(number), "web", "80").rpartition(":")[2] for number in (1, 2, 3)}
    assert len(ports) == 3
    for port in ports:
        until(lambda port=port: fetch("127.0.0.1", int(port)) == "web", f"an answer at {port}")  # type: ignore[misc]
    shop.ok("up", "-d", "--scale", "web=1")
    assert len(names_asked(shop.docker, client, "web")) == 1
    assert asked(shop, "web") == "web"


def test_up_again_changes_nothing(shop: Project) -> None:
    before = shop.ok("ps", "-q")
    result = shop("up", "-d")
    assert result.code == 0 and "is up-to-date" in result.err
    assert shop.ok("ps", "-q") == before


def test_a_changed_service_is_made_anew_and_found(shop: Project) -> None:
    before = shop.docker.inspect(shop.container("web"), "{{.Id}}")
    services = {"web": httpd("new", ports=["80"]), "store": httpd("store", hostname="cellar", expose=["80"])}
    shop.write(services={**services, "client": sleeper(depends_on=["web"])})
    shop.ok("up", "-d", "-t", "0")
    assert shop.docker.inspect(shop.container("web"), "{{.Id}}") != before
    until(lambda: asked(shop, "web") == "new", "the new one's answer")


def test_names_last_over_restarts(shop: Project) -> None:
    shop.ok("restart", "-t", "0", "web")
    until(lambda: asked(shop, "web") == "web", "web to answer again")
    shop.ok("stop", "-t", "0", "store")
    assert names_asked(shop.docker, shop.container("client"), "store") == []
    shop.ok("start", "store")
    until(lambda: asked(shop, "store") == "store", "store to answer again")


def test_run_and_exec_are_in_the_network(shop: Project) -> None:
    assert shop.ok("run", "--rm", "client", "wget", "-qO-", "http://web/") == "web"
    assert shop.ok("exec", "-T", "client", "wget", "-qO-", "http://store/") == "store"


def test_down_takes_everything_away(shop: Project) -> None:
    port = int(shop.ok("port", "web", "80").rpartition(":")[2])
    result = shop("down", "-t", "0")
    assert result.code == 0 and f"Removing network {shop.name}_default" in result.err
    assert shop.docker.ok("ps", "-aq", "--filter", f"label=com.docker.compose.project={shop.name}") == ""
    assert shop.docker.ok("network", "ls", "-q", "--filter", f"name={shop.name}") == ""
    assert fetch("127.0.0.1", port) == ""


def test_networks_of_a_project(project: Project, subnet: str) -> None:
    """Two networks, one internal, fixed addresses, aliases, options of the driver: what files use."""
    pool = {"driver": "default", "config": [{"subnet": f"{subnet}.0/24"}]}
    project.write(
        networks={
            "front": {"ipam": pool, "driver_opts": {"com.docker.network.driver.mtu": "1400"}, "labels": {"a": "1"}},
            "back": {"internal": True},
        },
        services={
            "web": httpd("web", networks={"front": {"ipv4_address": f"{subnet}.10", "aliases": ["shop"]}, "back": {}}),
            "store": httpd("store", networks={"back": {"aliases": ["cellar"]}}),
            "client": sleeper(networks=["front"]),
        },
    )
    project.ok("up", "-d")
    until(lambda: asked(project, "shop") == "web", "web to answer")
    until(lambda: asked(project, "cellar", "web") == "store", "store to answer")
    assert names_asked(project.docker, project.container("client"), "web") == [f"{subnet}.10"]
    assert asked(project, "store") == asked(project, "cellar") == ""
    assert project.ok("exec", "-T", "client", "cat", "/sys/class/net/eth0/mtu") == "1400"
    assert set(settings(project.docker, project.container("web"))["Networks"]) == {
        f"{project.name}_front",
        f"{project.name}_back",
    }
    assert inspect_network(project.docker, f"{project.name}_back")["Internal"] is True


def test_what_a_service_may_say_of_hosts_and_resolvers(project: Project) -> None:
    port = free_port()
    long = {"target": 80, "published": port, "protocol": "tcp", "mode": "host"}
    project.write(
        services={
            "web": httpd("web", ports=[long, "127.0.0.1::81/udp"], mac_address="02:00:00:00:00:77"),
            "client": sleeper(
                links=["web:till"],
                extra_hosts=["isle:192.0.2.9"],
                dns=["192.0.2.53"],
                dns_search=["example.test"],
                hostname="ship",
                domainname="example.test",
            ),
            "guest": sleeper(network_mode="service:web"),
            "alone": sleeper(network_mode="none"),
        }
    )
    project.ok("up", "-d")
    until(lambda: asked(project, "till") == "web", "web to answer by its link")
    assert ["192.0.2.9", "isle"] in [
        line.split() for line in lines_of(project.docker, project.container("client"), "/etc/hosts")
    ]
    resolver = lines_of(project.docker, project.container("client"), "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in resolver and "search example.test" in resolver
    assert get(project.docker, project.container("guest"), "127.0.0.1") == "web"
    assert fetch("127.0.0.1", port) == "web"
    assert project.ok("port", "--protocol", "udp", "web", "81").startswith("127.0.0.1:")
    assert set(settings(project.docker, project.container("alone"))["Networks"]) == {"none"}


def test_a_network_of_somebody_else_is_joined_and_stays(project: Project, network: str) -> None:
    project.write(
        networks={"default": {"external": True, "name": network}}, services={"web": httpd("web"), "client": sleeper()}
    )
    project.ok("up", "-d")
    until(lambda: asked(project, "web") == "web", "web to answer")
    project.ok("down", "-t", "0")
    assert inspect_network(project.docker, network)["Containers"] == {}


def test_a_network_of_somebody_else_that_is_missing_is_told(project: Project) -> None:
    project.write(networks={"default": {"external": True, "name": "nothing-here"}}, services={"web": httpd("web")})
    result = project("up", "-d")
    assert result.code == 1
    assert "Network nothing-here declared as external, but could not be found" in result.err


def test_a_port_that_is_taken_is_told(project: Project) -> None:
    port = free_port()
    project.write(services={"one": httpd("one", ports=[f"{port}:80"]), "two": httpd("two", ports=[f"{port}:80"])})
    result = project("up", "-d")
    assert result.code == 1
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in result.err


def test_a_subnet_that_is_taken_is_told(project: Project, own_network: str) -> None:
    (pool,) = inspect_network(project.docker, own_network)["IPAM"]["Config"]
    project.write(
        networks={"default": {"ipam": {"config": [{"subnet": pool["Subnet"]}]}}}, services={"web": httpd("web")}
    )
    result = project("up", "-d")
    assert result.code == 1
    assert "Pool overlaps with other one on this address space" in result.err
    assert json.loads(project.docker.ok("network", "inspect", own_network))[0]["Containers"] == {}
