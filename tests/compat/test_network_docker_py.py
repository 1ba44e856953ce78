"""Networks through docker-py: its objects, its shapes, and the status of every refusal.

Debian's dockerd is API 1.41; what it accepts or refuses otherwise than 28 does is told in the tables, and is then
only looked at for its status.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker as docker_py
import pytest
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from tests.support.cli import Docker
from tests.support.networks import Server, ask, fetch, free_port, interfaces, until, within

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.network_fixtures"]

Names = Callable[[], str]
SLEEP = ["sleep", "1000"]
ACCEPTED = 0


@pytest.fixture(scope="module")
def client(engine_host: str, image: str) -> Iterator[Any]:
    """Return a docker-py client that has negotiated its version with the engine."""
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture(scope="module")
def is_old(client: Any) -> bool:
    """Tell whether this is Debian's dockerd."""
    return tuple(int(part) for part in client.version()["ApiVersion"].split(".")) < (1, 44)


@pytest.fixture
def net(client: Any, new_network: Names, subnet: str) -> Any:
    """Return a network whose addresses containers may choose."""
    pool = IPAMPool(subnet=f"{subnet}.0/24", gateway=f"{subnet}.1")
    return client.networks.create(new_network(), ipam=IPAMConfig(pool_configs=[pool]))


@pytest.fixture
def start(client: Any, image: str, new_name: Names) -> Callable[..., Any]:
    """Return a starter of containers that sleep, or run what they are told."""

    def start(command: Any = SLEEP, **options: Any) -> Any:
        container = client.containers.run(image, command, name=new_name(), detach=True, **options)
        container.reload()
        return container

    return start


def end_of(container: Any, network: Any) -> Any:
    """Return a container's settings on a network, as they are now."""
    container.reload()
    return container.attrs["NetworkSettings"]["Networks"][network.name]


def status_of(work: Callable[[], Any]) -> tuple[int, str]:
    """Return how the engine answers: the status and the words of a refusal, or ACCEPTED."""
    try:
        work()
    except APIError as error:
        return error.status_code, str(error.explanation)
    return ACCEPTED, ""


# -- networks.create, list, get, remove, prune -----------------------------------------------------------------------


def test_create_with_everything(client: Any, new_network: Names, subnet: str) -> None:
    pool = IPAMPool(
        subnet=f"{subnet}.0/24", iprange=f"{subnet}.64/26", gateway=f"{subnet}.9", aux_addresses={"a": f"{subnet}.65"}
    )
    options = {
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "false",
    }
    created = client.networks.create(
        new_network(), driver="bridge", options=options, ipam=IPAMConfig(pool_configs=[pool]), check_duplicate=True,
        internal=True, labels={"a": "1"}, enable_ipv6=False, attachable=True, scope="local",
    )  # fmt: skip
    found = client.networks.get(created.name)
    assert (found.id, found.short_id, found.containers) == (created.id, created.id[:12], [])
    assert (found.attrs["Options"], found.attrs["Labels"]) == (options, {"a": "1"})
    assert [found.attrs[key] for key in ("Internal", "Attachable", "EnableIPv6", "Scope")] == [
        True,
        True,
        False,
        "local",
    ]
    (kept,) = found.attrs["IPAM"]["Config"]
    assert {key: value for key, value in pool.items() if value} == kept


def test_list_by_names_ids_and_filters(client: Any, new_network: Names) -> None:
    one, two = (client.networks.create(new_network(), labels={"mark": name}) for name in ("one", "two"))
    assert client.networks.list(names=[one.name]) == client.networks.list(ids=[one.id]) == [one]
    assert client.networks.list(filters={"label": "mark=two", "id": two.id}) == [two]
    assert {"bridge", "host", "none"} <= {each.name for each in client.networks.list()}
    assert {each.name for each in client.networks.list(filters={"type": "builtin"})} == {"bridge", "host", "none"}
    assert one in client.networks.list(filters={"dangling": True, "driver": "bridge"})


def test_a_list_tells_containers_only_when_asked(client: Any, net: Any, start: Callable[..., Any]) -> None:
    container = start(network=net.name)
    (short,) = client.networks.list(names=[net.name])
    (greedy,) = client.networks.list(names=[net.name], greedy=True)
    assert short.attrs["Containers"] == {}
    assert set(greedy.attrs["Containers"]) == {container.id}
    assert net.containers == [container] or (net.reload(), net.containers)[1] == [container]


def test_remove_and_prune(client: Any, new_network: Names, start: Callable[..., Any]) -> None:
    mark = new_network()
    used, unused, gone = (client.networks.create(new_network(), labels={"mark": mark}) for _ in range(3))
    start(network=used.name)
    gone.remove()
    with pytest.raises(NotFound, match=f"network {gone.id} not found"):
        client.networks.get(gone.id)
    assert client.networks.prune(filters={"label": f"mark={mark}"}) == {"NetworksDeleted": [unused.name]}
    assert client.networks.prune(filters={"label": f"mark={mark}"})["NetworksDeleted"] is None
    assert client.networks.get(used.id) == used


def test_an_id_is_looked_for_before_a_name(client: Any, net: Any, new_network: Names) -> None:
    """A network that is called as another's id is found by its own id alone."""
    mimic = client.networks.create(net.id)
    try:
        assert mimic.id != net.id
        assert (client.networks.get(net.id).id, client.networks.get(mimic.id).name) == (net.id, net.id)
        assert client.networks.get(net.name).id == net.id
    finally:
        client.networks.get(mimic.id).remove()
    assert client.networks.get(net.id).id == net.id


def test_a_name_is_looked_for_before_a_prefix(client: Any, net: Any) -> None:
    mimic = client.networks.create(net.id[:12])
    try:
        assert client.networks.get(net.id[:12]).id == mimic.id
        assert client.networks.get(net.id[:13]).id == net.id
    finally:
        client.networks.get(mimic.id).remove()


def pool(**values: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [values]}}


BAD_NETWORKS: list[tuple[dict[str, Any], int, str, int | None]] = [
    # what is asked, status, words; status of 20.10 where that differs
    ({"Name": ""}, 400, "", 500),
    ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network", None),
    ({"Name": "default"}, 403, "operation is not permitted on predefined default network", None),
    ({"Name": "{name}", "CheckDuplicate": True}, 409, "network with name {name} already exists", None),
    ({"Driver": "nope"}, 404, 'plugin "nope" not found', None),
    ({"Driver": "host"}, 403, 'only one instance of "host" network is allowed', None),
    ({"Driver": "null"}, 403, 'only one instance of "null" network is allowed', None),
    (pool(Subnet="{net}.0/24"), 403, "Pool overlaps with other one on this address space", None),
    (pool(Subnet="{net}.128/25"), 403, "Pool overlaps with other one on this address space", None),
    (pool(Subnet="{net}.0"), 400, "invalid subnet {net}.0", 500),
    (pool(Subnet="{free}.0/33"), 400, "invalid subnet {free}.0/33", 500),
    (pool(Subnet="{free}.7/24"), 400, "it should be {free}.0/24", ACCEPTED),
    (pool(Subnet="x"), 400, "invalid subnet x", 500),
    (pool(Gateway="{free}.1"), 400, "invalid subnet", 500),
    (pool(Subnet="{free}.0/24", Gateway="10.9.9.9"), 400, "invalid gateway 10.9.9.9", 500),
    (pool(Subnet="{free}.0/24", Gateway="x"), 400, "invalid gateway x", 500),
    (pool(Subnet="{free}.0/24", IPRange="10.9.9.0/24"), 400, "invalid ip-range 10.9.9.0/24", ACCEPTED),
    (pool(Subnet="{free}.0/24", IPRange="x"), 400, "invalid ip-range x", 500),
    (pool(Subnet="{free}.0/24", AuxiliaryAddresses={"a": "10.9.9.9"}), 400, "invalid auxiliary address", 403),
    ({"IPAM": {"Driver": "nope"}}, 400, "nope", 404),
    ({"IPAM": {"Config": [{"Subnet": "{free}.0/24"}, {"Subnet": "{free}.0/25"}]}}, 403, "Pool overlaps", None),
    ({"Options": {"com.docker.network.driver.mtu": "x"}}, 400, "failed to parse com.docker.network.driver.mtu", 500),
    ({"Options": {"com.docker.network.driver.mtu": "-1"}}, 400, "invalid MTU number: -1", 500),
    ({"Options": {"com.docker.network.bridge.enable_icc": "maybe"}}, 400, "enable_icc value: maybe", 500),
    ({"ConfigFrom": {"Network": "nope"}}, 404, "nope", None),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "status", "words", "old"), BAD_NETWORKS, ids=lambda value: str(value)[:60])
def test_a_bad_network_is_refused_and_leaves_nothing(
    client: Any, is_old: bool, docker: Docker, net: Any, new_network: Names, subnet: str,
    asked: dict[str, Any], status: int, words: str, old: int | None,
) -> None:  # fmt: skip
    before = interfaces()
    first, second, third = subnet.split(".")
    known = {"net": subnet, "free": f"{first}.{second}.{(int(third) + 1) % 256}", "name": net.name}
    body = filled({"Name": new_network(), **asked}, **known)
    answer = docker.wire.post("/networks/create", body)
    if answer.status == 201:
        client.networks.get(answer.json["Id"]).remove()
    if is_old and old is not None:
        assert answer.status == (old or 201)
        return
    assert (answer.status, words.format(**known) in answer.message) == (status, True), answer.body
    assert interfaces() <= before  # of an earlier container something may just be going away
    assert body["Name"] not in {each.name for each in client.networks.list()} - {net.name, "bridge"}


def filled(value: Any, **words: str) -> Any:
    """Put the words into every text of a body."""
    if isinstance(value, dict):
        return {key: filled(each, **words) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, **words) for each in value]
    return value.format(**words) if isinstance(value, str) else value


def test_what_is_predefined_or_in_use_is_not_removed(client: Any, net: Any, start: Callable[..., Any]) -> None:
    for name in ("bridge", "host", "none"):
        assert status_of(client.networks.get(name).remove) == (
            403, f"{name} is a pre-defined network and cannot be removed",
        )  # fmt: skip
    container = start(network=net.name)
    status, words = status_of(net.remove)
    assert (status, "has active endpoints" in words) == (403, True)
    container.remove(force=True)
    assert status_of(net.remove) == (ACCEPTED, "")
    assert status_of(net.remove)[0] == 404


# -- connect, disconnect ---------------------------------------------------------------------------------------------


def test_connect_with_everything(client: Any, net: Any, start: Callable[..., Any], subnet: str) -> None:
    container, other = start(), start(network=net.name)
    net.connect(container, aliases=["shop"], ipv4_address=f"{subnet}.40", links=[(other.name, "till")])
    end = end_of(container, net)
    assert (end["IPAddress"], end["IPPrefixLen"], end["Gateway"]) == (f"{subnet}.40", 24, f"{subnet}.1")
    assert "shop" in end["Aliases"] and end["IPAMConfig"] == {"IPv4Address": f"{subnet}.40"}
    assert f"{subnet}.40" in other.exec_run(["nslookup", "-type=a", "shop"]).output.decode()
    assert end_of(other, net)["IPAddress"] in container.exec_run(["nslookup", "-type=a", "till"]).output.decode()
    net.reload()
    assert set(net.containers) == {container, other}
    net.disconnect(container)
    net.reload()
    assert net.containers == [other]
    assert other.exec_run(["nslookup", "-type=a", "shop"]).exit_code != 0


def test_disconnect_by_force(client: Any, net: Any, start: Callable[..., Any]) -> None:
    container = start(network=net.name)
    net.disconnect(container, force=True)
    assert "eth0" not in interfaces(container.attrs["State"]["Pid"])


def test_disconnect_of_a_container_that_has_stopped(client: Any, net: Any, start: Callable[..., Any]) -> None:
    container = start(network=net.name)
    container.kill()
    container.wait()
    net.disconnect(container)
    container.reload()
    assert container.attrs["NetworkSettings"]["Networks"] == {}
    net.remove()


def test_a_gateway_priority_chooses_the_default_route(
    client: Any, is_old: bool, net: Any, docker: Docker, start: Callable[..., Any], subnet: str
) -> None:
    """API 1.48; older engines take the first network by name."""
    if is_old:
        pytest.skip("not run: GwPriority needs API 1.48")
    container = start()
    settings = {"GwPriority": 10, "IPAMConfig": {"IPv4Address": f"{subnet}.50"}}
    body = {"Container": container.id, "EndpointConfig": settings}
    assert docker.wire.post(f"/networks/{net.id}/connect", body).status == 200
    assert f"default via {subnet}.1 " in container.exec_run(["ip", "route"]).output.decode()
    net.disconnect(container)
    assert f"default via {subnet}.1 " not in container.exec_run(["ip", "route"]).output.decode()


BAD_ENDPOINTS: list[tuple[dict[str, Any], int, str, int | None]] = [
    ({"IPAMConfig": {"IPv4Address": "{net}.1"}}, 403, "Address already in use", None),
    ({"IPAMConfig": {"IPv4Address": "{net}.77"}}, 403, "Address already in use", None),
    ({"IPAMConfig": {"IPv4Address": "{net}.0"}}, 403, "Address already in use", None),
    ({"IPAMConfig": {"IPv4Address": "{net}.255"}}, 403, "Address already in use", None),
    ({"IPAMConfig": {"IPv4Address": "10.9.9.9"}}, 400, "10.9.9.9", 500),
    ({"IPAMConfig": {"IPv4Address": "x"}}, 400, "invalid IPv4 address: x", 500),
    ({"IPAMConfig": {"IPv4Address": "fd00::1"}}, 400, "invalid IPv4 address: fd00::1", 500),
    ({"IPAMConfig": {"IPv6Address": "x"}}, 400, "invalid IPv6 address: x", 400),
    ({"IPAMConfig": {"IPv6Address": "fd00::1"}}, 400, "IPv6", 400),
    ({"MacAddress": "zz"}, 400, "invalid MAC address: zz", ACCEPTED),
    ({"MacAddress": "01:00:00:00:00:01"}, 400, "MAC address", ACCEPTED),
    ({"MacAddress": "00:00:00:00:00:00"}, 400, "MAC address", ACCEPTED),
    ({"MacAddress": "02:00:00:00:00:00:00:01"}, 400, "MAC address", ACCEPTED),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "status", "words", "old"), BAD_ENDPOINTS, ids=lambda value: str(value)[:60])
def test_a_bad_endpoint_is_refused_and_leaves_nothing(
    client: Any, is_old: bool, docker: Docker, net: Any, start: Callable[..., Any], subnet: str,
    asked: dict[str, Any], status: int, words: str, old: int | None,
) -> None:  # fmt: skip
    start(
        network=net.name, networking_config={net.name: client.api.create_endpoint_config(ipv4_address=f"{subnet}.77")}
    )
    container = start()
    pid = container.attrs["State"]["Pid"]
    body = {"Container": container.id, "EndpointConfig": filled(asked, net=subnet)}
    answer = docker.wire.post(f"/networks/{net.id}/connect", body)
    if is_old and old is not None:
        assert answer.status == (old or 200)
        return
    assert (answer.status, words in answer.message) == (status, True), answer.body
    assert "eth1" not in interfaces(pid)
    net.reload()
    assert container not in net.containers
    container.reload()
    # 20.10 keeps the setting of an address that it refused.
    assert is_old or set(container.attrs["NetworkSettings"]["Networks"]) == {"bridge"}


def test_refusals_of_connect_and_disconnect(client: Any, is_old: bool, net: Any, start: Callable[..., Any]) -> None:
    container = start(network=net.name)
    assert status_of(lambda: net.connect(container)) == (
        403, f"endpoint with name {container.name} already exists in network {net.name}",
    )  # fmt: skip
    assert status_of(lambda: net.connect("nobody-here")) == (404, "No such container: nobody-here")
    assert status_of(lambda: net.disconnect("nobody-here")) == (404, "No such container: nobody-here")
    for name, words in (
        ("host", "container cannot be disconnected from host network or connected to host network"),
        ("none", "cannot be connected to multiple networks with one of the networks in private (none) mode"),
    ):
        status, said = status_of(lambda name=name: client.networks.get(name).connect(container))  # type: ignore[misc]
        assert (status, words in said) == (400, True)
    net.disconnect(container)
    status, words = status_of(lambda: net.disconnect(container))
    assert (status, words) == (
        500 if is_old else 403,
        f"container {container.id} is not connected to network {net.name}",
    )


def test_names_and_addresses_that_clash_at_a_start(
    client: Any, net: Any, start: Callable[..., Any], new_name: Names, image: str, subnet: str
) -> None:
    """A refused start leaves the container as it was made, and it starts when the address is free."""
    chosen = {net.name: client.api.create_endpoint_config(ipv4_address=f"{subnet}.60")}
    first = start(network=net.name, networking_config=chosen)
    second = client.containers.create(image, SLEEP, name=new_name(), network=net.name, networking_config=chosen)
    status, words = status_of(second.start)
    assert (status, "Address already in use" in words) == (403, True)
    second.reload()
    assert (second.status, second.attrs["State"]["Pid"]) == ("created", 0)
    first.kill()
    first.wait()
    second.start()
    assert end_of(second, net)["IPAddress"] == f"{subnet}.60"


# -- what containers tell --------------------------------------------------------------------------------------------


def test_a_containers_attributes(client: Any, net: Any, start: Callable[..., Any], subnet: str) -> None:
    endpoint = client.api.create_endpoint_config(aliases=["shop"], ipv4_address=f"{subnet}.20")
    container = start(network=net.name, networking_config={net.name: endpoint}, hostname="ship")
    end = end_of(container, net)
    assert (end["IPAddress"], end["NetworkID"], end["Gateway"]) == (f"{subnet}.20", net.id, f"{subnet}.1")
    assert set(end["Aliases"]) <= {"shop", container.id[:12], container.name, "ship"} and "shop" in end["Aliases"]
    top = container.attrs["NetworkSettings"]
    assert (top["IPAddress"], top["Gateway"], top["Ports"]) == ("", "", {})
    assert container.attrs["HostConfig"]["NetworkMode"] == net.name
    (listed,) = client.api.containers(filters={"id": container.id})
    assert listed["NetworkSettings"]["Networks"][net.name]["IPAddress"] == f"{subnet}.20"
    assert listed["HostConfig"]["NetworkMode"] == net.name
    assert (
        client.containers.list(filters={"network": net.name})
        == client.containers.list(filters={"network": net.id})
        == [container]
    )


def test_a_mac_address_of_a_network(client: Any, is_old: bool, net: Any, start: Callable[..., Any]) -> None:
    if is_old:
        container = start(network=net.name, mac_address="02:00:00:00:12:34")
    else:
        endpoint = client.api.create_endpoint_config(mac_address="02:00:00:00:12:34")
        container = start(network=net.name, networking_config={net.name: endpoint})
    assert end_of(container, net)["MacAddress"] == "02:00:00:00:12:34"
    assert container.exec_run(["cat", "/sys/class/net/eth0/address"]).output == b"02:00:00:00:12:34\n"


def test_two_networks_from_the_start(
    client: Any, is_old: bool, net: Any, new_network: Names, start: Callable[..., Any]
) -> None:
    if is_old:
        pytest.skip("not run: several networks at creation need API 1.44")
    other = client.networks.create(new_network())
    config = {each.name: client.api.create_endpoint_config() for each in (net, other)}
    container = start(network=net.name, networking_config=config)
    assert set(container.attrs["NetworkSettings"]["Networks"]) == {net.name, other.name}
    assert interfaces(container.attrs["State"]["Pid"]) >= {"eth0", "eth1"}


def test_ports_have_dockers_shape(client: Any, start: Callable[..., Any]) -> None:
    port = free_port(2)
    asked = {
        "80/tcp": ("127.0.0.1", port),
        "81/tcp": [port + 1, ("127.0.0.1", None)][:1],
        "82/udp": ("127.0.0.1", None),
        "90/tcp": None,
    }
    container = start(ports=asked)
    found = container.ports
    assert found["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    assert {"HostIp": "0.0.0.0", "HostPort": str(port + 1)} in found["81/tcp"]
    (chosen,) = found["82/udp"]
    assert chosen["HostIp"] == "127.0.0.1" and int(chosen["HostPort"]) > 0
    assert all(int(entry["HostPort"]) > 0 for entry in found["90/tcp"])
    (listed,) = client.api.containers(filters={"id": container.id})
    assert {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"} in listed["Ports"]
    assert client.api.port(container.id, 80) == found["80/tcp"]
    container.kill()
    container.wait()
    container.reload()
    assert container.ports == {}
    assert container.attrs["HostConfig"]["PortBindings"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]


def test_a_mapped_port_answers(client: Any, start: Callable[..., Any], host_address: str) -> None:
    """As Testcontainers does: a random port, asked for afterwards, over every address of the host."""
    container = start(["sh", "-c", "echo here > /index.html; exec httpd -f -p 80 -h /"], ports={"80/tcp": None})
    port = int(container.ports["80/tcp"][0]["HostPort"])
    for address in ("127.0.0.1", "::1", host_address):
        until(lambda address=address: fetch(address, port) == "here", f"an answer at {address}")  # type: ignore[misc]


def test_a_udp_port_answers(start: Callable[..., Any], host_address: str) -> None:
    container = start(ports={"7/udp": None})
    port = int(container.ports["7/udp"][0]["HostPort"])
    with Server("0.0.0.0", 7, socket.SOCK_DGRAM, container.attrs["State"]["Pid"], tag="in"):
        for address in ("127.0.0.1", host_address):
            assert ask(address, port, socket.SOCK_DGRAM) == b"in hello\n", address


BAD_PORTS: list[tuple[dict[str, Any], int, str, int | None]] = [
    ({"80/tcp": [{"HostPort": "0"}]}, ACCEPTED, "", None),
    ({"80/tcp": [{"HostPort": ""}]}, ACCEPTED, "", None),
    ({"65535/tcp": [{"HostPort": ""}]}, ACCEPTED, "", None),
    ({"80/tcp": []}, ACCEPTED, "", None),
    ({"80/tcp": None}, ACCEPTED, "", None),
    ({"80": [{"HostPort": ""}]}, ACCEPTED, "", None),
    ({"80/tcp": [{"HostPort": "-1"}]}, 400, 'invalid port specification: "-1"', None),
    ({"80/tcp": [{"HostPort": "65536"}]}, 400, 'invalid port specification: "65536"', None),
    ({"80/tcp": [{"HostPort": "x"}]}, 400, 'invalid port specification: "x"', None),
    ({"80/tcp": [{"HostPort": " 80"}]}, 400, 'invalid port specification: " 80"', None),
    ({"80/tcp": [{"HostPort": "29205-29201"}]}, 400, 'invalid port specification: "29205-29201"', None),
    ({"65536/tcp": [{"HostPort": ""}]}, 400, 'invalid port specification: "65536', None),
    ({"x/tcp": [{"HostPort": ""}]}, 400, 'invalid port specification: "x', None),
    ({"0/tcp": [{"HostPort": ""}]}, 400, "invalid port", ACCEPTED),
    ({"80/xyz": [{"HostPort": ""}]}, 400, "xyz", ACCEPTED),
    ({"80/tcp": [{"HostIp": "x", "HostPort": ""}]}, 400, "x", ACCEPTED),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "status", "words", "old"), BAD_PORTS, ids=lambda value: str(value)[:60])
def test_ports_at_their_edges(
    docker: Docker, is_old: bool, name: str, asked: dict[str, Any], status: int, words: str, old: int | None
) -> None:
    body = {"Image": "busybox", "Cmd": SLEEP, "HostConfig": {"PortBindings": asked}}
    answer = docker.wire.post("/containers/create", body, name=name)
    if answer.status == 201:
        answer = docker.wire.post(f"/containers/{name}/start")
    if is_old and old is not None:
        assert answer.status == (old or 204)
    elif status == ACCEPTED:
        assert answer.status == 204, answer.body
    else:
        assert (answer.status, words in answer.message) == (status, True), answer.body
        assert docker.wire.get(f"/containers/{name}/json").status == 404


def test_a_taken_port_is_told_without_a_500(
    client: Any, is_old: bool, image: str, start: Callable[..., Any], new_name: Names
) -> None:
    container = start(ports={"80/tcp": ("127.0.0.1", free_port())})
    port = int(container.ports["80/tcp"][0]["HostPort"])
    second = client.containers.create(image, SLEEP, name=new_name(), ports={"80/tcp": ("127.0.0.1", port)})
    status, words = status_of(second.start)
    assert f"Bind for 127.0.0.1:{port} failed: port is already allocated" in words
    assert is_old or 400 <= status < 500
    container.remove(force=True)
    second.start()


def test_a_start_that_fails_leaves_no_address_taken(
    client: Any, net: Any, image: str, new_name: Names, start: Callable[..., Any], subnet: str
) -> None:
    """The port clashes after the address was given: that is free again."""
    taken = start(ports={"80/tcp": ("127.0.0.1", free_port())})
    port = int(taken.ports["80/tcp"][0]["HostPort"])
    chosen = {net.name: client.api.create_endpoint_config(ipv4_address=f"{subnet}.60")}
    loser = client.containers.create(
        image, SLEEP, name=new_name(), network=net.name, networking_config=chosen, ports={"80/tcp": ("127.0.0.1", port)}
    )
    before = interfaces()
    assert status_of(loser.start)[0] >= 400
    until(lambda: interfaces() <= before, "no interface of the container that did not start")
    net.reload()
    assert net.containers == []
    winner = start(network=net.name, networking_config=chosen)
    assert end_of(winner, net)["IPAddress"] == f"{subnet}.60"


def test_modes(client: Any, start: Callable[..., Any]) -> None:
    owner = start()
    guest = start(network_mode=f"container:{owner.name}")
    host = start(network_mode="host")
    none = start(network_mode="none")
    pids = [each.attrs["State"]["Pid"] for each in (owner, guest, host, none)]
    inside, shared, outside, empty = (within(pid, lambda: socket.if_nameindex()) for pid in pids)
    assert (inside == shared, outside == within(None, socket.if_nameindex)) == (True, True)
    assert {name for _, name in empty} & {"eth0"} == set()
    assert owner.exec_run("hostname").output == guest.exec_run("hostname").output
    assert guest.attrs["HostConfig"]["NetworkMode"] == f"container:{owner.id}"
    assert (set(host.attrs["NetworkSettings"]["Networks"]), set(none.attrs["NetworkSettings"]["Networks"])) == (
        {"host"},
        {"none"},
    )


def test_a_disabled_network_is_none_at_all(start: Callable[..., Any]) -> None:
    container = start(network_disabled=True)
    assert "eth0" not in interfaces(container.attrs["State"]["Pid"])


def test_events_of_networks(client: Any, new_network: Names, start: Callable[..., Any]) -> None:
    since = int(time.time())
    network = client.networks.create(new_network())
    stream = client.events(since=since, decode=True, filters={"type": "network", "network": network.id})
    container = start(network=network.name)
    container.remove(force=True)
    network.remove()
    found = [next(stream) for _ in range(4)]
    stream.close()
    assert [event["Action"] for event in found] == ["create", "connect", "disconnect", "destroy"]
    attributes = found[1]["Actor"]["Attributes"]
    assert (attributes["container"], attributes["name"], attributes["type"]) == (container.id, network.name, "bridge")
