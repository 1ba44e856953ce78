"""Networks by the docker CLI: `docker network …`, `docker run --network`, names, links, ports.

One module, since it is one table of what a user may say about networks; its chapters are marked.
"""

import json
import socket
from collections.abc import Callable

import pytest

from tests.support.cli import Docker
from tests.support.networks import (
    Resolver,
    address_of,
    get,
    lines_of,
    names_asked,
    serve,
    settings,
    until,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.network_fixtures"]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
Names = Callable[[], str]


def refused(docker: Docker, *arguments: str) -> str:
    """Run a command that must fail; return what it says."""
    result = docker(*arguments)
    assert result.code != 0, result
    return result.err.strip()


# -- names -----------------------------------------------------------------------------------------------------------


def test_containers_of_a_network_find_each_other(docker: Docker, network: str, new_name: Names) -> None:
    """By name, alias, short id, and in any case; not by what nobody is called."""
    one, two = new_name(), new_name()
    id = serve(docker, one, "--network", network, "--network-alias", "web", "--network-alias", "shop")
    docker.ok("run", "-d", "--name", two, "--network", network, "busybox", "sleep", "1000")
    assert lines_of(docker, two, "/etc/resolv.conf")[0] == "nameserver 127.0.0.11"
    for known in (one, "web", "shop", id[:12], one.upper(), f"{one}.{network}"):
        assert get(docker, two, known) == one, known
    assert names_asked(docker, two, id[:11]) == []
    assert settings(docker, one)["Networks"][network]["Aliases"][:2] == ["web", "shop"]
    new = new_name()
    docker.ok("rename", one, new)
    assert (get(docker, two, new), names_asked(docker, two, one)) == (one, [])
    docker.ok("stop", "-t", "0", new)
    assert names_asked(docker, two, new) == names_asked(docker, two, "web") == []


def test_containers_of_one_alias_take_turns(docker: Docker, network: str, new_name: Names) -> None:
    containers = [new_name() for _ in range(3)]
    for name in containers:
        docker.ok(
            "run", "-d", "--name", name, "--network", network, "--network-alias", "pool", "busybox", "sleep", "999"
        )
    expected = {address_of(docker, name, network) for name in containers}
    first = set()

    def all_came_first() -> bool:
        found = names_asked(docker, containers[0], "pool")
        assert set(found) == expected
        first.add(found[0])
        return first == expected

    until(all_came_first, "each to be the first in an answer")


def test_addresses_have_names(docker: Docker, network: str, new_name: Names) -> None:
    one, two = new_name(), new_name()
    docker.ok("run", "-d", "--name", one, "--network", network, "busybox", "sleep", "1000")
    docker.ok("run", "-d", "--name", two, "--network", network, "busybox", "sleep", "1000")
    out = docker.ok("exec", two, "nslookup", address_of(docker, one, network))
    assert f"name = {one}.{network}" in out


def test_names_end_at_the_networks_border(docker: Docker, network: str, new_network: Names, new_name: Names) -> None:
    """Neither names nor addresses of another network, and no names on the default bridge."""
    other, one, two, three = new_network(), new_name(), new_name(), new_name()
    docker.ok("network", "create", other)
    serve(docker, one, "--network", network)
    for name, flags in ((two, ["--network", other]), (three, [])):
        docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
        assert get(docker, name, one) == ""
        assert get(docker, name, address_of(docker, one, network)) == ""


def test_unknown_names_are_asked_elsewhere(docker: Docker, own_network: str, subnet: str, name: str) -> None:
    """`--dns` on a network with names is whom 127.0.0.11 asks, with what the search path adds."""
    with Resolver(f"{subnet}.1", {"far.example.test": "192.0.2.77"}) as upstream:
        flags = ["--network", own_network, "--dns", f"{subnet}.1", "--dns-search", "example.test"]
        docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
        assert names_asked(docker, name, "far.example.test") == ["192.0.2.77"]
        assert "192.0.2.77" in docker("exec", name, "ping", "-c", "1", "-W", "1", "far").out
        assert names_asked(docker, name, "nowhere.example.test") == []
        assert name not in upstream.asked


def test_an_internal_network_leads_nowhere(docker: Docker, new_network: Names, new_name: Names, subnet: str) -> None:
    """No default route, no name of the outside world asked; each other they find. CVE-2024-29018."""
    network, one, two = new_network(), new_name(), new_name()
    docker.ok("network", "create", "--internal", "--subnet", f"{subnet}.0/24", "--gateway", f"{subnet}.1", network)
    serve(docker, one, "--network", network)
    docker.ok("run", "-d", "--name", two, "--network", network, "--dns", f"{subnet}.1", "busybox", "sleep", "1000")
    assert get(docker, two, one) == one
    if not docker.is_old:  # fixed in 25.0 and 26.0
        assert "default" not in docker.ok("exec", two, "ip", "route")
        with Resolver(f"{subnet}.1", {"far.example.test": "192.0.2.77"}) as upstream:
            assert names_asked(docker, two, "far.example.test") == []
            assert upstream.asked == []


def test_a_link_gives_env_and_a_name(docker: Docker, new_name: Names) -> None:
    db, web = new_name(), new_name()
    id = serve(docker, db, "--expose", "80", "-e", "SECRET=rum")
    docker.ok("run", "-d", "--name", web, "--link", f"{db}:store", "busybox", "sleep", "1000")
    address = address_of(docker, db)
    env = dict(line.split("=", 1) for line in docker.ok("exec", web, "env").splitlines())
    expected = {
        "STORE_NAME": f"/{web}/store",
        "STORE_PORT": f"tcp://{address}:80",
        "STORE_PORT_80_TCP": f"tcp://{address}:80",
        "STORE_PORT_80_TCP_ADDR": address,
        "STORE_PORT_80_TCP_PORT": "80",
        "STORE_PORT_80_TCP_PROTO": "tcp",
        "STORE_ENV_SECRET": "rum",
    }
    assert {key: value for key, value in env.items() if key.startswith("STORE")} == expected
    assert [address, "store", id[:12], db] in [line.split() for line in lines_of(docker, web, "/etc/hosts")]
    assert get(docker, web, "store") == get(docker, web, db) == db
    assert json.loads(docker.inspect(web, "{{json .HostConfig.Links}}")) == [f"/{db}:/{web}/store"]


def test_a_link_in_a_network_is_the_linkers_own_alias(docker: Docker, network: str, new_name: Names) -> None:
    db, web, other = new_name(), new_name(), new_name()
    serve(docker, db, "--network", network)
    docker.ok("run", "-d", "--name", web, "--network", network, "--link", f"{db}:store", "busybox", "sleep", "1000")
    docker.ok("run", "-d", "--name", other, "--network", network, "busybox", "sleep", "1000")
    assert get(docker, web, "store") == db
    assert names_asked(docker, other, "store") == []
    assert "STORE_NAME" not in docker.ok("exec", web, "env")


def test_a_link_to_nobody_is_refused(docker: Docker, name: str) -> None:
    message = refused(docker, "run", "--name", name, "--link", "nobody-here:x", "busybox", "true")
    assert "nobody-here" in message
