"""What create takes and refuses of networks, ports, links and names; what resolv.conf says."""

from typing import Any

import pytest

from windlass.daemon import resolver
from windlass.daemon.daemon import Dns
from windlass.daemon.endpoints import check_mac, settle_networks
from windlass.daemon.host import check_host
from windlass.daemon.links import parse_link
from windlass.daemon.ports import exposed, parse_port
from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import (
    EndpointIPAMConfig,
    EndpointSettings,
    HostConfig,
    NetworkingConfig,
    PortBinding,
)
from windlass.jobs.containers import Create
from windlass.jobs.networks import Sandbox

# -- what create takes -----------------------------------------------------------------------------------------------


def settled(mode: str = "", ends: dict[str, EndpointSettings | None] | None = None, **config: Any) -> dict[str, Any]:
    """The networks that create makes of a request."""
    host = HostConfig(NetworkMode=mode, Links=config.pop("Links", None))
    params = Create(HostConfig=host, NetworkingConfig=NetworkingConfig(ends), **config)
    name = "bridge" if mode in ("", "default") else mode
    return dict(settle_networks(params, check_host(params, lambda text: None), name).EndpointsConfig or {})


def test_the_networkmode_is_the_first_of_the_networks() -> None:
    assert list(settled()) == list(settled("default", {"default": None})) == ["bridge"]
    assert list(settled("mine", {"other": None, "mine": EndpointSettings(Aliases=["a"])})) == ["mine", "other"]
    assert settled("none") == {"none": EndpointSettings()}
    assert settled("container:x") == {}


def test_what_only_a_running_container_has_is_not_taken_from_a_client() -> None:
    sent = EndpointSettings(IPAddress="10.0.0.9", NetworkID="x", EndpointID="y", Gateway="z", Aliases=["web"])
    assert settled("mine", {"mine": sent}) == {"mine": EndpointSettings(Aliases=["web"])}


def test_the_containers_mac_address_and_links_are_its_first_networks() -> None:
    mac = "02:00:00:00:00:09"
    assert settled("mine", MacAddress=mac)["mine"].MacAddress == mac
    assert settled("mine", {"mine": EndpointSettings(MacAddress=mac)}, MacAddress=mac)["mine"].MacAddress == mac
    assert settled("mine", Links=["db:store"])["mine"].Links == ["db:store"]
    with pytest.raises(BadParameter, match="must match the endpoint-specific MAC address"):
        settled("mine", {"mine": EndpointSettings(MacAddress="02:00:00:00:00:08")}, MacAddress=mac)


@pytest.mark.parametrize(
    ("mode", "ends", "words"),
    [
        ("bridge", {"bridge": EndpointSettings(Aliases=["a"])}, "network-scoped alias is supported only for"),
        ("", {"bridge": EndpointSettings(EndpointIPAMConfig("10.0.0.1"))}, "is supported on user defined networks"),
        ("mine", {"mine": EndpointSettings(EndpointIPAMConfig("10.0.0.256"))}, "invalid IPv4 address: 10.0.0.256"),
        ("mine", {"mine": EndpointSettings(EndpointIPAMConfig("", "1.2.3.4"))}, "invalid IPv6 address: 1.2.3.4"),
        ("mine", {"mine": EndpointSettings(MacAddress="nope")}, "invalid MAC address: nope"),
        ("none", {"mine": None}, "networks in private"),
        ("host", {"mine": None}, "cannot be connected to any other network"),
        ("mine", {"host": None}, "cannot be connected to any other network"),
        ("container:x", {"mine": None}, "cannot be connected to any other network"),
    ],
)
def test_ends_that_cannot_be_are_refused(mode: str, ends: dict[str, EndpointSettings | None], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        settled(mode, ends)


@pytest.mark.parametrize(
    ("host", "config", "words"),
    [
        ({}, {"Hostname": "x"}, "hostname and the network mode"),
        ({"Dns": ["1.1.1.1"]}, {}, "dns and the network mode"),
        ({"ExtraHosts": ["a:1.1.1.1"]}, {}, "custom host-to-IP mapping and the network mode"),
        ({}, {"MacAddress": "02:00:00:00:00:01"}, "mac-address and the network mode"),
        ({"PublishAllPorts": True}, {}, "port publishing and the container type network mode"),
        ({"PortBindings": {"80": None}}, {}, "port publishing and the container type network mode"),
        ({}, {"ExposedPorts": {"80/tcp": {}}}, "port exposing and the container type network mode"),
        ({"Links": ["a"]}, {}, "container type network can't be used with links"),
    ],
)
def test_who_shares_a_network_has_no_say_in_it(host: dict[str, Any], config: dict[str, Any], words: str) -> None:
    params = Create(HostConfig=HostConfig(NetworkMode="container:x", **host), **config)
    with pytest.raises(BadParameter, match=words):
        check_host(params, lambda text: None)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"NetworkMode": "host", "Links": ["a"]}, "host type networking can't be used with links"),
        ({"NetworkMode": "what:x"}, "Invalid network mode: what:x"),
        ({"Dns": ["nameserver"]}, "nameserver is not an ip address"),
        ({"DnsSearch": ["a b"]}, "invalid DnsSearch"),
        ({"ExtraHosts": ["a:b"]}, 'invalid IP address in add-host: "b"'),
        ({"ExtraHosts": ["a"]}, 'bad format for add-host: "a"'),
        ({"PortBindings": {"0/tcp": None}}, 'invalid port specification: "0/tcp"'),
        ({"PortBindings": {"65536": None}}, 'invalid port specification: "65536"'),
        ({"PortBindings": {"80-81/tcp": None}}, 'invalid port specification: "80-81/tcp"'),
        ({"PortBindings": {"80/icmp": None}}, "Invalid proto: icmp"),
        ({"PortBindings": {"80": [PortBinding("", "65536")]}}, 'invalid port specification: "65536"'),
        ({"PortBindings": {"80": [PortBinding("", "81-80")]}}, 'invalid port specification: "81-80"'),
        ({"PortBindings": {"80": [PortBinding("localhost", "80")]}}, "invalid IP address: localhost"),
    ],
)
def test_addresses_and_ports_that_are_none_are_refused(host: dict[str, Any], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        check_host(Create(HostConfig=HostConfig(**host)), lambda text: None)


@pytest.mark.parametrize("port", ["", "0", "65535", "8000-8010"])
def test_ports_of_the_host_may_be_anything_up_to_65535(port: str) -> None:
    check_host(Create(HostConfig=HostConfig(PortBindings={"65535/UDP": [PortBinding("::", port)]})), pytest.fail)


def test_ports_on_the_hosts_network_are_discarded_with_a_warning() -> None:
    warnings: list[str] = []
    check_host(Create(HostConfig=HostConfig(NetworkMode="host", PortBindings={"80": None})), warnings.append)
    assert warnings == ["Published ports are discarded when using host network mode"]


def test_ports_are_read() -> None:
    assert parse_port("80") == ["80/tcp"]
    assert parse_port("80-82/udp") == ["80/udp", "81/udp", "82/udp"]
    assert exposed(["80/tcp", "nonsense", "53/udp", "80"]) == ["80/tcp", "53/udp"]


def test_links_are_read() -> None:
    assert [parse_link(text) for text in ("db", "db:store", "/db:/web/store")] == [
        ("db", "db"),
        ("db", "store"),
        ("db", "store"),
    ]
    with pytest.raises(BadParameter, match="bad format for links: a:b:c"):
        parse_link("a:b:c")


def test_a_mac_address_is_of_one_interface() -> None:
    assert check_mac("02-00-00-00-00-0A") and check_mac("") == ""
    for text in ("01:00:5e:00:00:01", "02:00:00:00:00", "02:00-00:00:00:00", "02:00:00:00:00:0g"):
        with pytest.raises(BadParameter, match=f"invalid MAC address: {text}"):
            check_mac(text)


# -- resolv.conf -----------------------------------------------------------------------------------------------------

HOSTS = "# ours\nnameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test\noptions ndots:2\n"


def resolv(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox | None, text: str = HOSTS, **host: Any) -> list[str]:
    monkeypatch.setattr(resolver, "read_text", lambda path: text)
    return resolver.resolv_conf(HostConfig(**host), sandbox, Dns()).splitlines()


def box(names: bool = False, v6: str = "") -> Sandbox:
    return Sandbox(id="x", endpoints={"n": EndpointSettings(GlobalIPv6Address=v6)}, names=names)


def test_the_default_bridge_has_the_hosts_resolvers_that_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    tail = ["search a.test", "options ndots:2"]
    assert resolv(monkeypatch, box()) == ["nameserver 192.0.2.1", *tail]
    assert resolv(monkeypatch, box(v6="2001:db8::9"))[:2] == ["nameserver 192.0.2.1", "nameserver 2001:db8::1"]
    lonely = "nameserver 127.0.0.53\nnameserver ::1\n"
    assert resolv(monkeypatch, box(), lonely) == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    assert len(resolv(monkeypatch, box(v6="2001:db8::9"), lonely)) == 4
    assert resolv(monkeypatch, None) == HOSTS.splitlines()


def test_a_network_with_names_has_its_own_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "nameserver 127.0.0.11"
    assert resolv(monkeypatch, box(True)) == [own, "search a.test", "options ndots:2"]
    assert resolv(monkeypatch, box(True), "search b.test") == [own, "search b.test", "options ndots:0"]
    asked = {"Dns": ["192.0.2.9"], "DnsSearch": ["."], "DnsOptions": ["timeout:3"]}
    assert resolv(monkeypatch, box(True), **asked) == [own, "options timeout:3 ndots:0"]


def test_what_was_asked_for_replaces_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolv(monkeypatch, box(), Dns=["127.0.0.1"])[0] == "nameserver 127.0.0.1"
    assert resolv(monkeypatch, None, DnsSearch=["b.test"])[-2:] == ["search b.test", "options ndots:2"]
    found = resolver.resolv_conf(HostConfig(), box(), Dns(["192.0.2.7"], ["rotate"], ["c.test"])).splitlines()
    assert found == ["nameserver 192.0.2.7", "search c.test", "options rotate"]
