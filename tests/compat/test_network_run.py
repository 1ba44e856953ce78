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
    free_port,
    gateway_of,
    get,
    inspect_network,
    interfaces,
    lines_of,
    pid_of,
    serve,
    settings,
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


# -- docker run: the container's side --------------------------------------------------------------------------------


def test_inspect_has_dockers_shape(docker: Docker, name: str) -> None:
    serve(docker, name)
    found = settings(docker, name)
    assert {"SandboxID", "SandboxKey", "Ports", "Networks"} <= set(found)
    (end,) = found["Networks"].values()
    keys = {"IPAMConfig", "Links", "Aliases", "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen"}
    assert keys | {"IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "MacAddress", "DriverOpts"} <= set(end)
    assert end["NetworkID"] == inspect_network(docker, "bridge")["Id"]
    assert re.fullmatch("[0-9a-f]{64}", end["EndpointID"]) and re.fullmatch("[0-9a-f]{64}", found["SandboxID"])
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", end["MacAddress"])
    for key in ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"):
        assert found[key] == end[key] and end[key], key
    assert docker.inspect(name, "{{.HostConfig.NetworkMode}}") in ("default", "bridge")
    docker.ok("stop", "-t", "0", name)
    (end,) = settings(docker, name)["Networks"].values()
    assert (end["IPAddress"], end["EndpointID"], end["Gateway"], end["IPPrefixLen"]) == ("", "", "", 0)


def test_the_container_has_what_inspect_says(docker: Docker, network: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    end = settings(docker, name)["Networks"][network]
    shown = docker.ok("exec", name, "ip", "addr", "show", "eth0")
    assert f"inet {end['IPAddress']}/{end['IPPrefixLen']} " in shown and f"link/ether {end['MacAddress']} " in shown
    assert f"default via {end['Gateway']} dev eth0" in docker.ok("exec", name, "ip", "route")
    assert docker.ok("exec", name, "cat", "/sys/class/net/lo/operstate") in ("up", "unknown")
    assert docker("exec", name, "ping", "-c", "1", end["Gateway"]).code == 0


def test_ip_and_mac_address_are_what_was_asked_for(docker: Docker, own_network: str, subnet: str, name: str) -> None:
    flags = ["--network", own_network, "--ip", f"{subnet}.9", "--mac-address", "02:00:00:00:ab:cd"]
    if docker.is_old:
        pytest.skip("a MAC address of one network came with API 1.44")
    docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    end = settings(docker, name)["Networks"][own_network]
    assert (end["IPAddress"], end["MacAddress"]) == (f"{subnet}.9", "02:00:00:00:ab:cd")
    assert end["IPAMConfig"]["IPv4Address"] == f"{subnet}.9"
    shown = docker.ok("exec", name, "ip", "addr", "show", "eth0")
    assert f"inet {subnet}.9/24 " in shown and "link/ether 02:00:00:00:ab:cd " in shown
    docker.ok("restart", "-t", "0", name)
    end = settings(docker, name)["Networks"][own_network]
    assert (end["IPAddress"], end["MacAddress"]) == (f"{subnet}.9", "02:00:00:00:ab:cd")


def test_network_none_has_the_loopback_alone(docker: Docker, running: str) -> None:
    assert {name for name in interfaces(pid_of(docker, running)) if name.startswith("eth")} == set()
    found = settings(docker, running)
    assert set(found["Networks"]) == {"none"} and found["Networks"]["none"]["IPAddress"] == ""


def test_network_of_another_container_is_shared(docker: Docker, network: str, new_name: Names) -> None:
    owner, guest, third = new_name(), new_name(), new_name()
    serve(docker, owner, "--network", network, "--hostname", "ship", "--add-host", "isle:192.0.2.9")
    docker.ok("run", "-d", "--name", guest, "--network", f"container:{owner}", "busybox", "sleep", "1000")
    assert get(docker, guest, "127.0.0.1") == owner
    assert docker.ok("exec", guest, "hostname") == "ship"
    assert lines_of(docker, guest, "/etc/hosts") == lines_of(docker, owner, "/etc/hosts")
    assert lines_of(docker, guest, "/etc/resolv.conf") == lines_of(docker, owner, "/etc/resolv.conf")
    assert docker.inspect(guest, "{{.HostConfig.NetworkMode}}") == f"container:{docker.inspect(owner, '{{.Id}}')}"
    assert settings(docker, guest)["Networks"] == {}
    docker.ok("kill", owner)
    message = refused(docker, "run", "--name", third, "--network", f"container:{owner}", "busybox", "true")
    assert "non running container" in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-p", "80:80"], "port publishing and the container type network mode"),
        (["--hostname", "x"], "hostname and the network mode"),
        (["--add-host", "a:192.0.2.1"], "custom host-to-IP mapping and the network mode"),
        (["--dns", "192.0.2.1"], "dns and the network mode"),
        (["--link", "x"], "link"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_whose_network_it_is_decides(docker: Docker, running: str, name: str, flags: list[str], words: str) -> None:
    message = refused(
        docker, "run", "--name", f"{name}-2", "--network", f"container:{running}", *flags, "busybox", "true"
    )
    assert words in message


def test_ports_on_the_hosts_network_are_left_out_with_a_warning(docker: Docker, image: str, name: str) -> None:
    result = docker("run", "--name", name, "--network", "host", "-p", f"{free_port()}:80", image, "true")
    assert result.code == 0
    assert "Published ports are discarded when using host network mode" in result.err


def test_hosts_file_of_the_default_bridge(docker: Docker, name: str) -> None:
    flags = ["--hostname", "ship", "--add-host", "isle:192.0.2.9", "--add-host", "host.internal:host-gateway"]
    docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    found = [line.split() for line in lines_of(docker, name, "/etc/hosts")]
    assert [address_of(docker, name), "ship"] in found
    assert ["192.0.2.9", "isle"] in found and [gateway_of(docker), "host.internal"] in found
    assert ["127.0.0.1", "localhost"] in found
    assert any(line[0] == "::1" and "localhost" in line for line in found)


def test_the_hostname_is_the_short_id_or_what_was_asked_for(docker: Docker, network: str, name: str) -> None:
    id = docker.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    assert docker.ok("exec", name, "hostname") == id[:12]
    assert [address_of(docker, name, network), id[:12]] in [
        line.split() for line in lines_of(docker, name, "/etc/hosts")
    ]
    flags = ["--hostname", "ship", "--domainname", "example.test"]
    script = "hostname; cat /etc/hostname; tail -n 1 /etc/hosts | cut -f 2"
    out = docker.ok("run", "--rm", "--network", network, *flags, "busybox", "sh", "-c", script)
    assert out.splitlines()[-1] == "ship.example.test ship" and out.splitlines()[0] in ("ship", "ship.example.test")


def test_dns_flags_fill_resolv_conf(docker: Docker, network: str, name: str) -> None:
    flags = ["--dns", "192.0.2.53", "--dns", "192.0.2.54", "--dns-search", "a.test", "--dns-search", "b.test"]
    flags += ["--dns-option", "timeout:3", "--dns-option", "ndots:2"]
    out = docker.ok("run", "--rm", *flags, "busybox", "cat", "/etc/resolv.conf").splitlines()
    expected = ["nameserver 192.0.2.53", "nameserver 192.0.2.54", "options timeout:3 ndots:2", "search a.test b.test"]
    assert sorted(line.strip() for line in out if line and line[0] not in "#;") == expected
    docker.ok("run", "-d", "--name", name, "--network", network, *flags, "busybox", "sleep", "1000")
    expected = ["nameserver 127.0.0.11", "options timeout:3 ndots:2", "search a.test b.test"]
    assert sorted(lines_of(docker, name, "/etc/resolv.conf")) == expected
    assert json.loads(docker.inspect(name, "{{json .HostConfig.Dns}}")) == ["192.0.2.53", "192.0.2.54"]


def test_an_empty_search_path_is_a_dot(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--dns", "192.0.2.53", "--dns-search", ".", "busybox", "cat", "/etc/resolv.conf")
    assert not any(line.startswith("search") for line in out.splitlines())
