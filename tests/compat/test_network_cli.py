"""Networks by the docker CLI: `docker network …`, `docker run --network`, names, links, ports.

One module, since it is one table of what a user may say about networks; its chapters are marked.
"""

import json
import re
import socket
from collections.abc import Callable

import pytest

from tests.support.cli import Docker
from tests.support.networks import (
    address_of,
    get,
    inspect_network,
    interfaces,
    pid_of,
    serve,
    settings,
    until,
    wait_for_http,
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


# -- docker network create, ls, inspect, rm, prune -------------------------------------------------------------------


def test_create_prints_the_id_and_chooses_a_subnet(docker: Docker, new_network: Names) -> None:
    name = new_network()
    id = docker.ok("network", "create", name)
    found = inspect_network(docker, name)
    assert re.fullmatch("[0-9a-f]{64}", id)
    assert (found["Id"], found["Name"], found["Driver"], found["Scope"]) == (id, name, "bridge", "local")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(Z|[+-]\d\d:\d\d)", found["Created"])
    (pool,) = found["IPAM"]["Config"]
    assert set(pool) == {"Subnet", "Gateway"}
    assert pool["Gateway"] == re.sub(r"\.0/\d+$", ".1", pool["Subnet"])
    rest = ("EnableIPv6", "Internal", "Attachable", "Ingress", "ConfigOnly", "ConfigFrom")
    assert [found[key] for key in rest] == [False, False, False, False, False, {"Network": ""}]
    assert (found["Containers"], found["Options"], found["Labels"]) == ({}, {}, {})
    assert (found["IPAM"]["Driver"], found["IPAM"]["Options"]) == ("default", {})


def test_create_keeps_what_was_asked_for(docker: Docker, new_network: Names, subnet: str) -> None:
    name, bridge = new_network(), f"br{subnet.replace('.', '')}"
    pool = {"Subnet": f"{subnet}.0/24", "IPRange": f"{subnet}.128/25", "Gateway": f"{subnet}.254"}
    flags = ["--subnet", pool["Subnet"], "--ip-range", pool["IPRange"], "--gateway", pool["Gateway"]]
    flags += ["--aux-address", f"router={subnet}.129", "--label", "a=1", "--label", "b", "--attachable", "--internal"]
    options = {"com.docker.network.bridge.name": bridge, "com.docker.network.driver.mtu": "1400"}
    flags += [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    docker.ok("network", "create", *flags, name)
    found = inspect_network(docker, name)
    assert found["IPAM"]["Config"] == [{**pool, "AuxiliaryAddresses": {"router": f"{subnet}.129"}}]
    assert (found["Options"], found["Labels"]) == (options, {"a": "1", "b": ""})
    assert (found["Attachable"], found["Internal"]) == (True, True)
    assert bridge in interfaces()
    docker.ok("network", "rm", name)
    assert bridge not in interfaces()


def test_addresses_come_from_the_range_and_leave_reserved_ones(
    docker: Docker, new_network: Names, new_name: Names, subnet: str
) -> None:
    network = new_network()
    flags = ["--subnet", f"{subnet}.0/24", "--ip-range", f"{subnet}.128/30", "--gateway", f"{subnet}.1"]
    docker.ok("network", "create", *flags, "--aux-address", f"taken={subnet}.129", network)
    found = set()
    for _ in range(2):
        name = new_name()
        docker.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
        found.add(address_of(docker, name, network))
    assert found <= {f"{subnet}.{n}" for n in (128, 130, 131)} and len(found) == 2


def test_an_mtu_reaches_the_container(docker: Docker, new_network: Names, subnet: str) -> None:
    network = new_network()
    docker.ok("network", "create", "-o", "com.docker.network.driver.mtu=1234", network)
    assert docker.ok("run", "--rm", "--network", network, "busybox", "cat", "/sys/class/net/eth0/mtu") == "1234"


def test_a_network_with_ipv6_gives_addresses_of_both_kinds(
    docker: Docker, new_network: Names, new_name: Names, subnet: str
) -> None:
    network, one, two = new_network(), new_name(), new_name()
    prefix = f"fd{subnet.split('.')[1]:0>2}".ljust(4, "0")[:4] + f":{int(subnet.split('.')[2]):x}::"
    docker.ok("network", "create", "--ipv6", "--subnet", f"{subnet}.0/24", "--subnet", f"{prefix}/64", network)
    assert inspect_network(docker, network)["EnableIPv6"] is True
    serve(docker, one, "--network", network)
    docker.ok("run", "-d", "--name", two, "--network", network, "busybox", "sleep", "1000")
    end = settings(docker, one)["Networks"][network]
    assert end["GlobalIPv6Address"].startswith(prefix) and end["GlobalIPv6PrefixLen"] == 64
    assert end["IPAddress"].startswith(f"{subnet}.") and end["IPPrefixLen"] == 24
    until(lambda: get(docker, two, f"[{end['GlobalIPv6Address']}]") == one, "an answer over IPv6")
    assert end["GlobalIPv6Address"] in docker.ok("exec", two, "nslookup", "-type=aaaa", one)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--driver", "nope"], 'plugin "nope" not found'),
        (["--subnet", "{net}.0/24", "--gateway", "10.9.9.9"], "no matching subnet for gateway 10.9.9.9"),
        (["--subnet", "{net}.0/24", "--ip-range", "10.9.9.0/24"], "no matching subnet for range 10.9.9.0/24"),
        (["--subnet", "{net}.0/24", "--gateway", "{net}.7", "--aux-address", "a={net}.7"], "already in use"),
        (["--ipam-driver", "nope"], "nope"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_create_refuses_and_leaves_nothing(
    docker: Docker, new_network: Names, subnet: str, flags: list[str], words: str
) -> None:
    name, before = new_network(), interfaces()
    assert words in refused(docker, "network", "create", *(flag.format(net=subnet) for flag in flags), name).lower()
    assert docker.ok("network", "ls", "-q", "--filter", f"name={name}") == ""
    assert interfaces() <= before  # of an earlier container something may just be going away
    docker.ok("network", "create", "--subnet", f"{subnet}.0/24", name)


def test_a_taken_name_is_refused(docker: Docker, network: str) -> None:
    assert f"network with name {network} already exists" in refused(docker, "network", "create", network)


def test_overlapping_subnets_are_refused(docker: Docker, own_network: str, new_network: Names, subnet: str) -> None:
    for text in (f"{subnet}.0/24", f"{subnet}.128/25", f"{subnet.rpartition('.')[0]}.0.0/16"):
        message = refused(docker, "network", "create", "--subnet", text, new_network())
        assert "Pool overlaps with other one on this address space" in message


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_predefined_networks_are_neither_made_nor_removed(docker: Docker, name: str) -> None:
    message = refused(docker, "network", "create", name)
    assert f"operation is not permitted on predefined {name} network" in message
    assert f"{name} is a pre-defined network and cannot be removed" in refused(docker, "network", "rm", name)
    driver = {"none": "null"}.get(name, name)
    assert docker.ok("network", "inspect", "-f", "{{.Driver}} {{.Scope}}", name) == f"{driver} local"


def test_ls_has_dockers_columns_and_the_predefined_networks(docker: Docker, network: str) -> None:
    head, *rows = docker.ok("network", "ls").splitlines()
    assert re.split(r"\s{2,}", head.strip()) == ["NETWORK ID", "NAME", "DRIVER", "SCOPE"]
    found = {tuple(row.split()[1:]) for row in rows}
    assert {("bridge", "bridge", "local"), ("host", "host", "local"), ("none", "null", "local")} <= found
    assert (network, "bridge", "local") in found


def test_ls_formats(docker: Docker, network: str) -> None:
    id = inspect_network(docker, network)["Id"]
    mine = ["network", "ls", "--filter", f"name={network}"]
    assert docker.ok(*mine, "-q") == id[:12]
    assert docker.ok(*mine, "-q", "--no-trunc") == id
    template = "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}"
    assert docker.ok(*mine, "--format", template) == f"{id[:12]} {network} bridge local false false"
    assert json.loads(docker.ok(*mine, "--format", "{{json .}}"))["Name"] == network


def test_ls_filters(docker: Docker, new_network: Names, new_name: Names) -> None:
    name, container = new_network(), new_name()
    id = docker.ok("network", "create", "--label", f"mark={name}", name)

    def shown(*filters: str) -> list[str]:
        flags = [word for text in filters for word in ("--filter", text)]
        return docker.ok("network", "ls", "--no-trunc", "--format", "{{.Name}}", *flags).splitlines()

    assert shown(f"name={name[:-1]}") == shown(f"id={id[:20]}") == [name]
    assert shown(f"label=mark={name}") == shown("label=mark", f"name={name}") == [name]
    assert shown("label=mark=other", f"name={name}") == shown("driver=host", f"name={name}") == []
    assert shown("driver=host") == ["host"]
    assert sorted(shown("type=builtin")) == ["bridge", "host", "none"]
    assert name in shown("type=custom") and "bridge" not in shown("type=custom")
    assert name in shown("dangling=true") and name not in shown("dangling=false")
    assert name in shown("scope=local") and shown("scope=swarm") == []
    docker.ok("run", "-d", "--name", container, "--network", name, "busybox", "sleep", "1000")
    if not docker.is_old:  # it looks for the containers in vain
        assert name in shown("dangling=false") and name not in shown("dangling=true")


def test_an_unknown_filter_is_refused(docker: Docker) -> None:
    assert "invalid filter 'nonsense" in refused(docker, "network", "ls", "--filter", "nonsense=1").lower()
    message = refused(docker, "network", "ls", "--filter", "type=odd").lower()
    assert ("invalid filter: 'type'='odd'" if docker.is_old else "invalid filter 'type") in message


def test_inspect_by_name_id_and_prefix_tells_who_is_in(docker: Docker, network: str, name: str) -> None:
    container = serve(docker, name, "--network", network)
    found = inspect_network(docker, network)
    for other in (found["Id"], found["Id"][:8]):
        assert inspect_network(docker, other) == found
    assert list(found["Containers"]) == [container]
    mine, end = found["Containers"][container], settings(docker, name)["Networks"][network]
    assert (mine["Name"], mine["EndpointID"], mine["MacAddress"]) == (name, end["EndpointID"], end["MacAddress"])
    assert mine["IPv4Address"] == f"{end['IPAddress']}/{end['IPPrefixLen']}" and mine["IPv6Address"] == ""
    template = "{{range .Containers}}{{.Name}}{{end}} {{(index .IPAM.Config 0).Gateway}}"
    assert docker.ok("network", "inspect", "-f", template, network) == f"{name} {end['Gateway']}"


def test_nobodys_network_is_not_found(docker: Docker, image: str, running: str) -> None:
    for words in (["rm"], ["inspect"]):
        message = refused(docker, "network", *words, "nothing-here").lower()
        assert "network nothing-here not found" in message or "no such network: nothing-here" in message
    assert "network nothing-here not found" in refused(docker, "run", "--rm", "--network", "nothing-here", image)
    assert "network nothing-here not found" in refused(docker, "network", "connect", "nothing-here", running)


def test_a_container_of_an_unknown_network_is_not_kept_running(docker: Docker, image: str, name: str) -> None:
    """Docker makes the container and fails at its start."""
    refused(docker, "run", "-d", "--name", name, "--network", "nothing-here", image, "true")
    assert docker("inspect", "-f", "{{.State.Status}}", name).out.strip() in ("created", "")


def test_rm_of_a_network_in_use_is_refused(docker: Docker, network: str, name: str) -> None:
    serve(docker, name, "--network", network)
    message = refused(docker, "network", "rm", network)
    assert "error while removing network" in message and "has active endpoints" in message
    docker.ok("stop", "-t", "0", name)
    assert docker.ok("network", "rm", network) == network


def test_a_container_whose_network_has_gone_does_not_start(docker: Docker, network: str, name: str) -> None:
    docker.ok("create", "--name", name, "--network", network, "busybox", "true")
    docker.ok("network", "rm", network)
    message = refused(docker, "start", name)
    assert "network" in message and "not found" in message
    assert docker.inspect(name, "{{.State.Status}}") == "created"


def test_rm_takes_several_and_goes_on_after_one_that_fails(docker: Docker, new_network: Names) -> None:
    one, two = new_network(), new_network()
    for name in (one, two):
        docker.ok("network", "create", name)
    result = docker("network", "rm", one, "nothing-here", two)
    assert (result.code, result.lines) == (1, [one, two])


def test_prune_removes_what_nobody_uses(docker: Docker, new_network: Names, name: str) -> None:
    used, unused, other = new_network(), new_network(), new_network()
    for network in (used, unused):
        docker.ok("network", "create", "--label", f"mark={used}", network)
    docker.ok("network", "create", other)
    serve(docker, name, "--network", used)
    out = docker.ok("network", "prune", "-f", "--filter", f"label=mark={used}")
    assert out.split() == ["Deleted", "Networks:", unused]
    names = docker.ok("network", "ls", "--format", "{{.Name}}").split()
    assert used in names and other in names and unused not in names


# -- docker network connect, disconnect ------------------------------------------------------------------------------


def test_connect_gives_a_running_container_an_interface_and_disconnect_takes_it(
    docker: Docker, network: str, new_name: Names
) -> None:
    guest, host = new_name(), new_name()
    serve(docker, host, "--network", network)
    serve(docker, guest)
    assert interfaces(pid_of(docker, guest)) >= {"lo", "eth0"}
    assert get(docker, guest, address_of(docker, host, network)) == ""
    docker.ok("network", "connect", "--alias", "visitor", network, guest)
    assert "eth1" in interfaces(pid_of(docker, guest))
    assert get(docker, guest, host) == host
    assert get(docker, host, "visitor") == get(docker, host, guest) == guest
    assert set(settings(docker, guest)["Networks"]) == {"bridge", network}
    docker.ok("network", "disconnect", network, guest)
    assert "eth1" not in interfaces(pid_of(docker, guest))
    assert set(settings(docker, guest)["Networks"]) == {"bridge"}
    assert get(docker, host, "visitor") == ""


def test_connect_of_a_stopped_container_holds_from_its_start(
    docker: Docker, own_network: str, subnet: str, name: str
) -> None:
    docker.ok("create", "--name", name, "busybox", "sleep", "1000")
    docker.ok("network", "connect", "--ip", f"{subnet}.77", own_network, name)
    assert settings(docker, name)["Networks"][own_network]["IPAddress"] == ""
    docker.ok("start", name)
    assert address_of(docker, name, own_network) == f"{subnet}.77"
    assert interfaces(pid_of(docker, name)) >= {"eth0", "eth1"}
    docker.ok("stop", "-t", "0", name)
    docker.ok("network", "disconnect", own_network, name)
    assert set(settings(docker, name)["Networks"]) == {"bridge"}


def test_connections_last_over_a_restart_of_the_container(docker: Docker, network: str, name: str) -> None:
    serve(docker, name)
    docker.ok("network", "connect", "--alias", "again", network, name)
    docker.ok("restart", "-t", "0", name)
    wait_for_http(docker, name)
    assert set(settings(docker, name)["Networks"]) == {"bridge", network}
    assert get(docker, name, "again") == name


def test_connecting_twice_is_refused(docker: Docker, network: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    message = refused(docker, "network", "connect", network, name)
    assert f"endpoint with name {name} already exists in network {network}" in message
    assert interfaces(pid_of(docker, name)) >= {"eth0"} and "eth1" not in interfaces(pid_of(docker, name))


def test_disconnect_of_whom_it_does_not_hold_is_refused(docker: Docker, network: str, name: str) -> None:
    id = docker.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    message = refused(docker, "network", "disconnect", network, name)
    assert f"container {id} is not connected to" in message
    assert "nobody-here" in refused(docker, "network", "disconnect", network, "nobody-here")
    assert "No such container: nobody-here" in refused(docker, "network", "connect", network, "nobody-here")


@pytest.mark.parametrize("mode", ["none", "host"])
def test_none_and_host_do_not_mix_with_other_networks(docker: Docker, network: str, name: str, mode: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", mode, "busybox", "sleep", "1000")
    message = refused(docker, "network", "connect", network, name)
    expected = {"none": "private (none) mode", "host": "another container or host"}[mode]
    assert "cannot be" in message and expected in message
    if mode == "host":
        assert "cannot be disconnected from host network" in refused(docker, "network", "disconnect", mode, name)


@pytest.mark.parametrize(
    ("address", "words"),
    [("{net}.1", "Address already in use"), ("{net}.50", "Address already in use"), ("10.99.99.9", "10.99.99.9")],
)
def test_taken_and_foreign_addresses_are_refused(
    docker: Docker, own_network: str, subnet: str, new_name: Names, address: str, words: str
) -> None:
    first, second = new_name(), new_name()
    docker.ok(
        "run", "-d", "--name", first, "--network", own_network, "--ip", f"{subnet}.50", "busybox", "sleep", "1000"
    )
    flags = ["--network", own_network, "--ip", address.format(net=subnet)]
    assert words in refused(docker, "run", "-d", "--name", second, *flags, "busybox", "true")
    assert docker("inspect", "-f", "{{.State.Status}}", second).out.strip() in ("created", "")


def test_addresses_are_chosen_only_where_the_user_chose_the_subnet(docker: Docker, network: str, name: str) -> None:
    message = refused(docker, "run", "--rm", "--name", name, "--network", network, "--ip", "172.30.1.9", "busybox")
    assert "only when connecting to networks with user configured subnets" in message
    message = refused(docker, "run", "--rm", "--name", name, "--network", "bridge", "--ip", "172.17.9.9", "busybox")
    assert "user specified IP address is supported on user defined networks only" in message
    message = refused(docker, "run", "--rm", "--name", name, "--network", "bridge", "--network-alias", "x", "busybox")
    assert "network-scoped alias" in message.lower() and "networks" in message


def test_a_container_that_has_left_its_last_network_can_join_one(docker: Docker, network: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    docker.ok("network", "disconnect", network, name)
    assert docker.ok("exec", name, "ls", "/sys/class/net") == "lo"
    docker.ok("network", "connect", network, name)
    assert len(docker.ok("exec", name, "ls", "/sys/class/net").split()) == 2
    docker.ok("network", "disconnect", network, name)
    docker.ok("restart", "-t", "0", name)
    docker.ok("network", "connect", network, name)
    assert len(docker.ok("exec", name, "ls", "/sys/class/net").split()) == 2
