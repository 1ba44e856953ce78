"""Who reaches whom: a host on the LAN, the engine's host and containers, each a namespace of the real kernel."""

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from windlass.kernel.nft import Nft
from windlass.kernel.ns import Namespace, setns, unshare
from windlass.network.firewall import Firewall
from windlass.network.netlink import Interface, Netlink
from windlass.network.rules import LinkRule, NetworkRules, Port
from windlass.network.thread import NetworkThread

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")]

T = TypeVar("T")
TABLE = "windlass_test"
HOST4, HOST6 = "10.99.0.1", "fd99::1"
LAN4, LAN6 = "10.99.0.2", "fd99::2"
SOON, NEVER = 5.0, 0.4  # how long to wait for an answer that must come, and for one that must not
DOCKER = """
table {family} filter {{
    chain DOCKER-USER {{
        counter return
    }}
    chain FORWARD {{
        type filter hook forward priority 0; policy drop;
        jump DOCKER-USER
    }}
}}
"""


class Place:
    """A network namespace and what runs in it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def run(self, function: Callable[[], T]) -> T:
        """Call a function there, in a thread that ends with it."""
        results: list[Any] = []

        def work() -> None:
            setns(self.fd, Namespace.NEWNET)
            try:
                results.append(function())
            except BaseException as exc:  # noqa: BLE001 - it is raised again, by who has asked
                results.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        result: T = results[0]
        return result

    def sysctl(self, key: str, value: str) -> None:
        self.run(lambda: Path("/proc/sys/net", key).write_text(value))

    def nft(self, text: str) -> str:
        def command() -> str:
            nft = Nft()
            try:
                return nft.run(text)
            finally:
                nft.close()

        return self.run(command)

    def reaches(self, address: str, port: int, within: float = SOON) -> str:
        """Connect and return what the other side says of itself and of us; nothing when there is no way."""

        def connect() -> str:
            with suppress(OSError), socket.create_connection((address, port), within) as connection:
                return connection.recv(100).decode()
            return ""

        return self.run(connect)

    def asks(self, address: str, port: int, within: float = SOON) -> str:
        """Send a datagram and return the answer; nothing when none comes."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def ask() -> str:
            with socket.socket(family, socket.SOCK_DGRAM) as asking, suppress(OSError):
                asking.settimeout(within)
                asking.connect((address, port))
                asking.send(b"?")
                return asking.recv(100).decode()
            return ""

        return self.run(ask)


class Server:
    """Tells everybody on TCP and UDP its name and the address that they come from."""

    def __init__(self, place: Place, name: str, port: int) -> None:
        self.name = name
        self._tcp = place.run(lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True))
        self._udp = place.run(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self._udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._udp.bind(("::", port))
        for work in (self._accept, self._answer):
            threading.Thread(target=work, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, peer = self._tcp.accept()
                with connection:
                    connection.send(self._says(peer))

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                _, peer = self._udp.recvfrom(100)
                if not self._is_closed:
                    self._udp.sendto(self._says(peer), peer)

    _is_closed = False

    def _says(self, peer: Any) -> bytes:
        return f"{self.name} {peer[0].removeprefix('::ffff:')}".encode()

    def close(self) -> None:
        self._is_closed = True
        for each in (self._tcp, self._udp):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Container(Place):
    """A namespace with an interface in a network, and a server on port 80."""

    def __init__(self, fd: int, ip4: str, ip6: str, name: str) -> None:
        super().__init__(fd)
        self.ip4, self.ip6 = ip4, ip6
        self.server = Server(self, name, 80)

    def ip(self, version: int) -> str:
        return self.ip4 if version == 4 else self.ip6


class World:
    """The engine's host with a network thread of its own, a LAN with one host, networks and their containers."""

    def __init__(self) -> None:
        self.thread = NetworkThread()
        self.firewall = Firewall(self.thread, TABLE)
        self.networks: list[NetworkRules] = []
        self.ports: list[Port] = []
        self.links: list[LinkRule] = []
        self.containers: list[Container] = []

    async def open(self) -> None:
        self.thread.start()
        self.host = Place(await self.thread.run(_new_host))
        self.netlink = await self.thread.run(Netlink)
        addresses = [ip_interface(f"{HOST4}/24"), ip_interface(f"{HOST6}/64")]
        await self.thread.run(self.netlink.create_bridge, "lan", addresses)
        self.lan = Place(await self.thread.run(self.netlink.new_namespace))
        await self._plug(self.lan, "lan", "lan2", LAN4, LAN6, HOST4, HOST6)

    async def network(self, bridge: str, number: int, **settings: Any) -> NetworkRules:
        subnets = ip_network(f"172.30.{number}.0/24"), ip_network(f"fd30:{number}::/64")
        addresses = [ip_interface(f"172.30.{number}.1/24"), ip_interface(f"fd30:{number}::1/64")]
        await self.thread.run(self.netlink.create_bridge, bridge, addresses)
        rules = NetworkRules(id=f"{number:064x}"[::-1], bridge=bridge, subnets=subnets, **settings)
        self.networks.append(rules)
        await self.apply()
        return rules

    async def container(self, network: NetworkRules, last: int) -> Container:
        number = str(network.subnets[0]).split(".")[2]
        ip4, ip6 = f"172.30.{number}.{last}", f"fd30:{number}::{last}"
        fd = await self.thread.run(self.netlink.new_namespace)
        await self._plug(
            Place(fd), network.bridge, f"v{number}x{last}", ip4, ip6, f"172.30.{number}.1", f"fd30:{number}::1",
            isolated=not network.icc,
        )  # fmt: skip
        self.containers.append(Container(fd, ip4, ip6, f"{network.bridge}-{last}"))
        return self.containers[-1]

    async def _plug(
        self, place: Place, bridge: str, end: str, ip4: str, ip6: str, gateway4: str, gateway6: str, **more: Any
    ) -> None:
        prefix4 = 24
        interface = Interface(
            name="eth0",
            host_name=end,
            kind="bridge",
            parent=bridge,
            addresses=(ip_interface(f"{ip4}/{prefix4}"), ip_interface(f"{ip6}/64")),
            gateway4=ip_address(gateway4),
            gateway6=ip_address(gateway6),
            **more,
        )
        await self.thread.run(self.netlink.plug, place.fd, interface)

    async def publish(self, to: Container, host_ip: str, host_port: int, routed: bool = False) -> None:
        """Publish port 80 of a container, TCP and UDP."""
        host = ip_address(host_ip)
        bridge = to.server.name.split("-")[0]
        new = [
            Port(proto, host, host_port, ip_address(to.ip(host.version)), 80, bridge, routed)
            for proto in ("tcp", "udp")
        ]
        await self.firewall.add_port(*new)
        self.ports += new

    async def apply(self) -> None:
        await self.firewall.apply(self.networks, self.ports, self.links)

    def br_netfilter(self, value: str) -> None:
        for each in ("iptables", "ip6tables"):
            path = f"bridge/bridge-nf-call-{each}"
            if Path("/proc/sys/net", path).exists():
                self.host.sysctl(path, value)

    def close(self) -> None:
        for container in self.containers:
            container.server.close()
            os.close(container.fd)
        os.close(self.lan.fd)
        os.close(self.host.fd)
        self.thread.close()


def _new_host() -> int:
    """Leave the machine's own namespace for one that is the test's; nothing here touches the machine's rules."""
    unshare(Namespace.NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.open()
    made.host.sysctl("ipv6/conf/lo/disable_ipv6", "0")
    await made.thread.run(made.netlink._host.talk, [_lo_up()])
    yield made
    made.close()


def _lo_up() -> bytes:
    from windlass.network import netlink

    return netlink._up(1)


both_filters = pytest.mark.parametrize("br_netfilter", ["0", "1"])
both_families = pytest.mark.parametrize("version", [4, 6])


def _anywhere(version: int) -> str:
    return "0.0.0.0" if version == 4 else "::"


def _host(version: int) -> str:
    return HOST4 if version == 4 else HOST6


@both_filters
@both_families
async def test_a_published_port_is_reached_from_the_lan_the_host_and_containers(
    world: World, version: int, br_netfilter: str
) -> None:
    """Hairpin included: a container that calls its own published port, or its neighbour's, by the host's address."""
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1)
    other = await world.network("br2", 2)
    web = await world.container(network, 2)
    neighbour = await world.container(network, 3)
    stranger = await world.container(other, 2)
    await world.publish(web, _anywhere(version), 8080)
    address = _host(version)
    lan = LAN4 if version == 4 else LAN6
    for name, ask in (("tcp", Place.reaches), ("udp", Place.asks)):
        assert ask(world.lan, address, 8080) == f"br1-2 {lan}", name
        assert ask(world.host, address, 8080).startswith("br1-2 "), name
        assert ask(stranger, address, 8080).startswith("br1-2 "), name
        assert ask(neighbour, address, 8080).startswith("br1-2 "), name
        assert ask(web, address, 8080).startswith("br1-2 "), name
        if version == 4:
            assert ask(world.host, "127.0.0.1", 8080) == "br1-2 172.30.1.1", name


@both_filters
@both_families
async def test_what_is_not_published_is_out_of_reach(world: World, version: int, br_netfilter: str) -> None:
    """Not even for who routes to the container's own address, nor where another port of it is published."""
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1)
    other = await world.network("br2", 2)
    web = await world.container(network, 2)
    neighbour = await world.container(network, 3)
    stranger = await world.container(other, 2)
    await world.publish(web, _anywhere(version), 8080)
    address = web.ip(version)
    for place in (world.lan, stranger):
        assert not place.reaches(address, 80, NEVER)
        assert not place.asks(address, 80, NEVER)
    assert world.host.reaches(address, 80)
    assert neighbour.reaches(address, 80) == f"br1-2 {neighbour.ip(version)}"


@both_filters
async def test_a_port_on_the_loopback_is_the_hosts_alone(world: World, br_netfilter: str) -> None:
    """Not the LAN's, even where the host takes packets for 127/8 from there, and not the containers'."""
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1)
    web = await world.container(network, 2)
    neighbour = await world.container(network, 3)
    await world.publish(web, "127.0.0.1", 8080)
    assert world.host.reaches("127.0.0.1", 8080) == "br1-2 172.30.1.1"
    assert world.host.asks("127.0.0.1", 8080) == "br1-2 172.30.1.1"
    world.host.sysctl("ipv4/conf/all/route_localnet", "1")
    for place, gateway in ((world.lan, HOST4), (neighbour, "172.30.1.1")):
        assert not place.reaches(gateway, 8080, NEVER)
        _route_loopback(place)
        assert not place.reaches("127.0.0.1", 8080, NEVER)
        assert not place.reaches(web.ip4, 80, NEVER) or place is neighbour


@both_filters
async def test_a_container_cannot_reach_what_listens_on_the_hosts_loopback(world: World, br_netfilter: str) -> None:
    """Though `route_localnet` is set on its bridge."""
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1)
    evil = await world.container(network, 2)
    secret = Server(world.host, "secret", 631)
    assert world.host.run(lambda: Path("/proc/sys/net/ipv4/conf/br1/route_localnet").read_text()) == "1\n"
    assert world.host.run(lambda: Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text()) == "0\n"
    assert world.host.reaches("127.0.0.1", 631)
    _route_loopback(evil)
    assert not evil.reaches("127.0.0.1", 631, NEVER)
    assert not evil.asks("127.0.0.1", 631, NEVER)
    assert evil.reaches("172.30.1.1", 631), "the way is there, and only the address is closed"
    secret.close()


def _route_loopback(place: Place) -> None:
    """Make a place send what is for 127.0.0.1 out by its eth0, as one does who wants the gateway's loopback."""
    from windlass.network import netlink

    place.sysctl("ipv4/conf/all/route_localnet", "1")
    place.sysctl("ipv4/conf/eth0/route_localnet", "1")

    def send_out() -> None:
        with netlink._channel() as inside:
            # Without its own loopback addresses, the default route is left.
            delete = netlink._encode(
                1, 21, 0, {"family": socket.AF_INET, "prefixlen": 8, "index": 1}, [("IFA_LOCAL", "127.0.0.1")]
            )
            inside.talk([delete])

    place.run(send_out)


@both_filters
@both_families
async def test_an_internal_network_has_no_way_in_or_out(world: World, version: int, br_netfilter: str) -> None:
    """Not even to published ports of other networks; its own containers do reach each other."""
    world.br_netfilter(br_netfilter)
    inner = await world.network("br1", 1, internal=True)
    other = await world.network("br2", 2)
    one, two = await world.container(inner, 2), await world.container(inner, 3)
    web = await world.container(other, 2)
    await world.publish(web, _anywhere(version), 8080)
    lan = Server(world.lan, "lan", 80)
    lan_address = LAN4 if version == 4 else LAN6
    assert web.reaches(lan_address, 80) == f"lan {_host(version)}", "and masqueraded"
    assert not one.reaches(lan_address, 80, NEVER)
    assert not one.reaches(_host(version), 8080, NEVER)
    assert not one.reaches(web.ip(version), 80, NEVER)
    for place in (world.lan, web):
        assert not place.reaches(one.ip(version), 80, NEVER)
    assert two.reaches(one.ip(version), 80) == f"br1-2 {two.ip(version)}"
    lan.close()


@both_filters
async def test_without_icc_containers_reach_each_other_by_links_alone(world: World, br_netfilter: str) -> None:
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1, icc=False)
    web, client = await world.container(network, 2), await world.container(network, 3)
    lan = Server(world.lan, "lan", 80)
    for version in (4, 6):
        assert not client.reaches(web.ip(version), 80, NEVER)
        assert not client.asks(web.ip(version), 80, NEVER)
    link = LinkRule(client.ip4, web.ip4, "tcp", 80)
    await world.firewall.add_link(link)
    assert client.reaches(web.ip4, 80) == "br1-2 172.30.1.3"
    assert not client.asks(web.ip4, 80, NEVER), "the link is for TCP"
    assert not web.reaches(client.ip4, 80, NEVER), "and goes one way"
    await world.firewall.delete_link(link)
    assert not client.reaches(web.ip4, 80, NEVER)
    assert client.reaches(LAN4, 80) == f"lan {HOST4}"
    await world.publish(web, "0.0.0.0", 8080)
    assert world.lan.reaches(HOST4, 8080) == f"br1-2 {LAN4}"
    lan.close()


@both_filters
@both_families
async def test_a_routed_network_lets_published_ports_in_at_the_containers_address(
    world: World, version: int, br_netfilter: str
) -> None:
    """And translates neither way."""
    world.br_netfilter(br_netfilter)
    network = await world.network("br1", 1, mode4="routed", mode6="routed")
    web, shut = await world.container(network, 2), await world.container(network, 3)
    await world.publish(web, _anywhere(version), 0, routed=True)
    lan = LAN4 if version == 4 else LAN6
    assert world.lan.reaches(web.ip(version), 80) == f"br1-2 {lan}"
    assert not world.lan.reaches(shut.ip(version), 80, NEVER)
    server = Server(world.lan, "lan", 80)
    assert web.reaches(lan, 80) == f"lan {web.ip(version)}"
    server.close()


@both_families
async def test_an_unprotected_network_lets_everything_in(world: World, version: int) -> None:
    network = await world.network("br1", 1, mode4="nat-unprotected", mode6="nat-unprotected")
    web = await world.container(network, 2)
    await world.publish(web, _anywhere(version), 8080)
    lan = LAN4 if version == 4 else LAN6
    assert world.lan.reaches(web.ip(version), 80) == f"br1-2 {lan}"
    assert world.lan.reaches(_host(version), 8080) == f"br1-2 {lan}"


@both_families
async def test_a_port_on_one_address_is_not_on_the_others(world: World, version: int) -> None:
    network = await world.network("br1", 1)
    web = await world.container(network, 2)
    await world.publish(web, _host(version), 8080)
    gateway = "172.30.1.1" if version == 4 else "fd30:1::1"
    assert world.lan.reaches(_host(version), 8080)
    assert world.host.reaches(_host(version), 8080)
    assert not world.lan.reaches(gateway, 8080, NEVER)
    assert not world.host.reaches(gateway, 8080, NEVER)


@both_filters
@both_families
async def test_beside_docker_packets_pass_by_docker_user(world: World, version: int, br_netfilter: str) -> None:
    """Docker's FORWARD drops what it does not know; our rules stand in DOCKER-USER, behind the user's."""
    world.br_netfilter(br_netfilter)
    for family in ("ip", "ip6"):
        world.host.nft(DOCKER.format(family=family))
    network = await world.network("br1", 1)
    web, neighbour = await world.container(network, 2), await world.container(network, 3)
    await world.publish(web, _anywhere(version), 8080)
    server = Server(world.lan, "lan", 80)
    assert world.lan.reaches(_host(version), 8080)
    assert neighbour.reaches(_host(version), 8080)
    assert neighbour.reaches(web.ip(version), 80)
    assert web.reaches(LAN4 if version == 4 else LAN6, 80)
    assert not world.lan.reaches(web.ip(version), 80, NEVER)
    assert await world.firewall.warnings() == []
    await world.apply()
    family = "ip" if version == 4 else "ip6"
    rules = world.host.nft(f"list chain {family} filter DOCKER-USER")
    assert rules.count("accept") == 2 and rules.index("accept") < rules.index("return"), rules
    await world.firewall.remove()
    assert "accept" not in world.host.nft(f"list chain {family} filter DOCKER-USER")
    server.close()


@pytest.mark.parametrize(
    "disturbance", ["flush ruleset", f"delete table inet {TABLE}", f"flush chain inet {TABLE} forward"]
)
async def test_what_somebody_wipes_is_made_anew(world: World, disturbance: str) -> None:
    """Networks stay apart, and published ports published, whoever reloads his own firewall."""
    one, other = await world.network("br1", 1), await world.network("br2", 2)
    web, stranger = await world.container(one, 2), await world.container(other, 2)
    await world.publish(web, "0.0.0.0", 8080)
    table = world.host.nft(f"list table inet {TABLE}")
    async with trio.open_nursery() as nursery:
        await nursery.start(world.firewall.watch)
        await trio.to_thread.run_sync(world.host.nft, disturbance)
        with trio.fail_after(30):
            while await trio.to_thread.run_sync(_table, world.host) != table:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert not stranger.reaches(web.ip4, 80, NEVER)
    assert world.lan.reaches(HOST4, 8080)


def _table(host: Place) -> str:
    with suppress(OSError):
        return host.nft(f"list table inet {TABLE}")
    return ""


async def test_the_namespace_answers_for_names_and_leaves_port_53_to_the_container(world: World) -> None:
    network = await world.network("br1", 1)
    container = await world.container(network, 2)
    for former in await world.thread.run(world.netlink.open_dns, container.fd):
        former.close()  # a responder that has ended
    udp, tcp = await world.thread.run(world.netlink.open_dns, container.fd)
    own = Server(container, "own", 53)

    def answer() -> None:
        for _ in range(2):
            _, peer = udp.recvfrom(100)
            udp.sendto(b"ours", peer)

    threading.Thread(target=answer, daemon=True).start()
    assert container.asks("127.0.0.11", 53) == "ours"
    container.nft("table ip nat { chain output { type nat hook output priority -100; }; }")
    assert container.asks("127.0.0.11", 53) == "ours", "the container's own tables are beside it"
    assert container.asks("127.0.0.1", 53).startswith("own")
    assert container.asks(container.ip4, 53).startswith("own")

    def accept() -> None:
        connection, _ = tcp.accept()
        with connection:
            connection.send(b"ours by tcp")

    threading.Thread(target=accept, daemon=True).start()
    assert container.reaches("127.0.0.11", 53) == "ours by tcp"
    own.close()
    udp.close()
    tcp.close()
