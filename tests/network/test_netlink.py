"""Interfaces, namespaces and the thread that goes into them, on a host that is a namespace of the test's own."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from windlass.kernel.ns import Namespace, unshare
from windlass.network.netlink import Interface, Netlink
from windlass.network.thread import NetworkThread

root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


class Host:
    """A network thread and the host that it is in."""

    def __init__(self, thread: NetworkThread, netlink: Netlink) -> None:
        self.netlink = netlink
        self.run = thread.run

    async def names(self) -> set[str]:
        return {each.name for each in await self.run(self.netlink.links)}

    async def read(self, namespace: int, path: str) -> str:
        """Read a file below /proc/sys/net, or /proc/net, as it is inside a namespace."""
        place = Path("/proc/thread-self", path) if path.startswith("net/") else Path("/proc/sys/net", path)
        return await self.run(self.netlink.sockets_in, namespace, place.read_text)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    thread = NetworkThread()
    thread.start()
    await thread.run(unshare, Namespace.NEWNET)
    netlink = await thread.run(Netlink)
    yield Host(thread, netlink)
    await thread.run(netlink.close)
    thread.close()


@pytest.fixture
async def namespace(host: Host) -> AsyncIterator[int]:
    addresses = [ip_interface("172.30.0.1/16"), ip_interface("fd00:30::1/64")]
    await host.run(host.netlink.create_bridge, "wl0", addresses)
    fd = await host.run(host.netlink.new_namespace)
    yield fd
    os.close(fd)


def interface(**changes: Any) -> Interface:
    settings: dict[str, Any] = {
        "name": "eth0",
        "host_name": "vtest",
        "kind": "bridge",
        "parent": "wl0",
        "mac": "02:42:ac:1e:00:02",
        "addresses": (ip_interface("172.30.0.2/16"), ip_interface("fd00:30::2/64")),
        "gateway4": ip_address("172.30.0.1"),
        "gateway6": ip_address("fd00:30::1"),
        "alias": "windlass " + "c" * 64,
    }
    return Interface(**{**settings, **changes})


@root
async def test_a_bridge_has_what_was_asked_for(host: Host) -> None:
    addresses = [ip_interface("172.30.0.1/16"), ip_interface("fd00:30::1/64")]
    await host.run(host.netlink.create_bridge, "wl0", addresses, 1400, "02:42:01:02:03:04", "windlass abc")
    [link] = [each for each in await host.run(host.netlink.links) if each.name == "wl0"]
    assert (link.kind, link.alias, link.master) == ("bridge", "windlass abc", 0)
    assert await host.run(host.netlink.addresses, "wl0") == addresses
    assert set(await host.run(host.netlink.routes)) == {ip_network("172.30.0.0/16"), ip_network("fd00:30::/64")}
    await host.run(host.netlink.delete_link, "wl0")
    assert "wl0" not in await host.names()
    await host.run(host.netlink.delete_link, "wl0")


@root
async def test_an_existing_bridge_is_completed_only_when_asked(host: Host) -> None:
    one, two = ip_interface("172.30.0.1/16"), ip_interface("172.31.0.1/16")
    await host.run(host.netlink.create_bridge, "wl0", [one])
    with pytest.raises(FileExistsError):
        await host.run(host.netlink.create_bridge, "wl0", [one])
    await host.run(lambda: host.netlink.create_bridge("wl0", [one, two], ensure=True))
    assert await host.run(host.netlink.addresses, "wl0") == [one, two]


@root
async def test_a_new_namespace_is_a_containers(host: Host) -> None:
    """Ping without capabilities, low ports for everybody, IPv6 only where asked for, a loopback that is up."""
    fd = await host.run(host.netlink.new_namespace)
    assert not os.get_inheritable(fd)
    assert await host.read(fd, "ipv4/ping_group_range") == "0\t2147483647\n"
    assert await host.read(fd, "ipv4/ip_unprivileged_port_start") == "0\n"
    assert await host.read(fd, "ipv6/conf/default/disable_ipv6") == "1\n"
    assert await host.read(fd, "ipv6/conf/default/accept_ra") == "0\n"

    def talk() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), 5),
        ):
            pass

    await host.run(host.netlink.sockets_in, fd, talk)
    os.close(fd)


@root
async def test_the_thread_is_home_after_everything(host: Host, namespace: int) -> None:
    """Others' sockets, opened in it later, must be the host's."""

    def where() -> int:
        return os.stat("/proc/thread-self/ns/net").st_ino

    home = await host.run(where)
    assert await host.run(host.netlink.sockets_in, namespace, where) != home
    os.close(await host.run(host.netlink.new_namespace))
    with pytest.raises(ZeroDivisionError):
        await host.run(host.netlink.sockets_in, namespace, lambda: 1 // 0)
    assert await host.run(where) == home


@root
async def test_a_plugged_interface_is_complete(host: Host, namespace: int) -> None:
    await host.run(host.netlink.plug, namespace, interface())
    links = {each.name: each for each in await host.run(host.netlink.links)}
    assert links["vtest"].alias == "windlass " + "c" * 64
    assert links["vtest"].master == links["wl0"].index
    assert "eth0\t00000000\t01001EAC" in await host.read(namespace, "net/route")
    default6 = f"{0:032x} 00 {0:032x} 00 fd000030"
    assert default6 in await host.read(namespace, "net/ipv6_route")
    # Usable at once: no address is tentative (flag 0x40).
    flags = [int(line.split()[4], 16) for line in (await host.read(namespace, "net/if_inet6")).splitlines()]
    assert not any(each & 0x40 for each in flags)
    await host.run(host.netlink.unplug, namespace, "eth0")
    assert "vtest" not in await host.names()
    await host.run(host.netlink.unplug, namespace, "eth0")


@root
async def test_an_interface_without_an_ipv6_address_has_no_ipv6(host: Host, namespace: int) -> None:
    only4 = interface(addresses=(ip_interface("172.30.0.2/16"),), gateway6=None)
    await host.run(host.netlink.plug, namespace, only4)
    assert await host.read(namespace, "ipv6/conf/eth0/disable_ipv6") == "1\n"
    assert "eth0" not in await host.read(namespace, "net/if_inet6")


@root
@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"gateway4": ip_address("10.0.0.1")}, errno.ENETUNREACH),
        ({"parent": "nonesuch"}, errno.ENODEV),
        ({"name": "lo"}, errno.EEXIST),
    ],
)
async def test_what_fails_leaves_nothing(host: Host, namespace: int, changes: dict[str, Any], number: int) -> None:
    before = await host.names()
    with pytest.raises(OSError) as failure:
        await host.run(host.netlink.plug, namespace, interface(**changes))
    assert failure.value.errno == number
    assert await host.names() == before


@root
async def test_a_second_container_of_one_name_on_the_host_takes_nothing_from_the_first(
    host: Host, namespace: int
) -> None:
    """A failure, and its undoing, must not touch somebody else's veth."""
    await host.run(host.netlink.plug, namespace, interface())
    other = await host.run(host.netlink.new_namespace)
    with pytest.raises(OSError) as failure:
        await host.run(host.netlink.plug, other, interface(alias="another's"))
    assert failure.value.errno == errno.EEXIST
    os.close(other)
    [link] = [each for each in await host.run(host.netlink.links) if each.name == "vtest"]
    assert link.alias == "windlass " + "c" * 64


@root
async def test_a_default_route_is_replaced(host: Host, namespace: int) -> None:
    await host.run(host.netlink.plug, namespace, interface())
    replace = host.netlink.replace_default
    await host.run(replace, namespace, None, None, "")
    assert "eth0\t00000000" not in await host.read(namespace, "net/route")
    await host.run(replace, namespace, ip_address("172.30.0.9"), ip_address("fd00:30::9"), "eth0")
    await host.run(replace, namespace, ip_address("172.30.0.8"), ip_address("fd00:30::9"), "eth0")
    routes = await host.read(namespace, "net/route")
    assert routes.count("eth0\t00000000") == 1
    assert "eth0\t00000000\t08001EAC" in routes


@root
async def test_a_macvlan_is_a_child_of_its_parent(host: Host, namespace: int) -> None:
    before = await host.names()
    await host.run(host.netlink.plug, namespace, interface(kind="macvlan", host_name="", alias=""))
    assert await host.names() == before
    assert "eth0\t00000000\t01001EAC" in await host.read(namespace, "net/route")


async def test_the_thread_runs_one_after_the_other_and_raises_what_they_raise() -> None:
    thread = NetworkThread()
    thread.start()
    done: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(thread.run, done.append, number)
            await trio.testing.wait_all_tasks_blocked()
    assert done == [0, 1, 2, 3, 4]
    assert await thread.run(threading.get_native_id) == thread.native_id
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    thread.close()
    with pytest.raises(RuntimeError, match="closed"):
        await thread.run(lambda: None)


async def test_a_cancellation_waits_for_the_end() -> None:
    """Half a change to the host's network would be worse than a late answer."""
    thread = NetworkThread()
    thread.start()
    go = threading.Event()
    ended: list[bool] = []

    def work() -> None:
        go.wait(30)
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, work)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        go.set()
    assert ended == [True]
    thread.close()


def test_the_netlink_library_is_not_imported_with_the_module() -> None:
    """It costs 0.2 s, which the daemon spends when it already serves."""
    script = "import sys, windlass.network.netlink; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", script], check=False).returncode == 0
