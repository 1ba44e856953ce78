"""Interfaces, addresses and routes: rtnetlink(7), with pyroute2's message classes as the codec.

Messages are encoded by pyroute2 and packed, several into one send, on plain sockets of ours; the kernel works through
them in order and answers each with a number. Answers to dumps are taken apart here: pyroute2 needs half a millisecond
for one link.

A veth pair is one message that makes both ends in place: the peer is born inside the container's namespace with its
name and MAC, this end as a port of the bridge and up. A new namespace gets its sysctls by /proc, which shows those of
the namespace that the reading *thread* is in.

pyroute2 is imported when a `Netlink` is made (0.12 to 0.2 s), in the thread that will use it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Literal, TypeVar

from windlass.kernel.nft import Nft, NftError
from windlass.kernel.ns import Namespace, setns, unshare

T = TypeVar("T")
Address = IPv4Address | IPv6Address
AddressInterface = IPv4Interface | IPv6Interface
AddressNetwork = IPv4Network | IPv6Network

DNS_ADDRESS = "127.0.0.11"

# <linux/rtnetlink.h>, <linux/netlink.h>
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
ERROR, DONE = 2, 3
REQUEST, ACK, REPLACE, EXCL, CREATE, DUMP = 1, 4, 0x100, 0x200, 0x400, 0x300
IFF_UP = 1
IFA_F_NODAD = 2
MAIN_TABLE = 254
NO_LINK_LOCAL = 1  # IN6_ADDR_GEN_MODE_NONE
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
SIOCGIFMTU = 0x8921
IPV6_LEAST_MTU = 1280  # RFC 8200 §5

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")

# Docker's, for every container: ping without capabilities, ports below 1024 for everybody; IPv6 only where asked for.
_SYSCTLS = {
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


@dataclass(frozen=True, slots=True)
class Interface:
    """A container's interface and where its other end goes.

    `kind` bridge: a veth pair, its other end `host_name` a port of the bridge `parent`; `isolated` ports reach the
    bridge, and no other isolated port. `kind` macvlan: a child of the device `parent`, in `mode`. `mtu` 0 is the
    parent's. `alias` is written on the host's end, for who looks for its owner.
    """

    name: str
    host_name: str
    kind: Literal["bridge", "macvlan"]
    parent: str
    mac: str = ""
    mtu: int = 0
    addresses: tuple[AddressInterface, ...] = ()
    gateway4: Address | None = None
    gateway6: Address | None = None
    mode: str = "bridge"
    isolated: bool = False
    alias: str = ""

    @property
    def has_ipv6(self) -> bool:
        return any(each.version == 6 for each in self.addresses)


@dataclass(frozen=True, slots=True)
class Link:
    """A device of the host. `master` is the index of the bridge that it is a port of, or 0."""

    index: int
    name: str
    kind: str
    alias: str
    master: int


class NetlinkError(OSError):
    """The kernel refused one of several messages. Those before it are done, and so are those after it."""


class Netlink:
    """The host's interfaces, and the way into namespaces. Made and used in the network thread."""

    def __init__(self) -> None:
        _codecs()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._host = _Channel()

    def close(self) -> None:
        self._host.close()
        os.close(self._home)

    # -- the host ----------------------------------------------------------------------------------------------------

    def create_bridge(
        self,
        name: str,
        addresses: Iterable[AddressInterface],
        mtu: int = 0,
        mac: str = "",
        alias: str = "",
        ensure: bool = False,
    ) -> None:
        """Make a bridge that is up and has `addresses`; none is left on failure. With `ensure` complete one.

        Raises OSError: EEXIST when there is a device of that name, unless it is a bridge and `ensure` is set.
        """
        existing = next((each for each in self.links() if each.name == name), None)
        if existing and not (ensure and existing.kind == "bridge"):
            raise FileExistsError(errno.EEXIST, "a device of this name exists", name)
        if existing is None:
            self._host.talk([_new_bridge(name, mtu, mac)])
        try:
            index = _index(name)
            present = set(self.addresses(name))
            missing = [each for each in addresses if each not in present]
            if any(each.version == 6 for each in missing):
                _sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0")
                _sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
            described = [_describe(name, alias)] if alias else []
            self._host.talk([*described, *(_address(index, each) for each in missing), _up(index)])
        except BaseException:
            if existing is None:
                self.delete_link(name)
            raise

    def delete_link(self, name: str) -> None:
        """Delete a device, which takes a veth's other end along. A missing one is fine."""
        with suppress(FileNotFoundError):
            _talk_unless(self._host, [_delete(name)], errno.ENODEV)

    def links(self) -> list[Link]:
        """The host's devices."""
        found = []
        for header, attributes in self._host.dump(GETLINK, struct.pack("=Bxxxiii", 0, 0, 0, 0), 16):
            info = dict(_attributes(attributes.get(18, b"")))
            found.append(
                Link(
                    index=struct.unpack_from("=i", header, 4)[0],
                    name=_string(attributes.get(3, b"")),
                    kind=_string(info.get(1, b"")),
                    alias=_string(attributes.get(20, b"")),
                    master=struct.unpack("=I", attributes[10])[0] if 10 in attributes else 0,
                )
            )
        return found

    def addresses(self, name: str) -> list[AddressInterface]:
        """The addresses of one of the host's devices, without IPv6's link-local ones. Raises OSError."""
        index = _index(name)
        found: list[AddressInterface] = []
        for header, attributes in self._host.dump(GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0), 8):
            if struct.unpack_from("=i", header, 4)[0] != index:
                continue
            address = ip_address(attributes.get(2) or attributes[1])
            if not (address.version == 6 and address.is_link_local):
                found.append(ip_interface(f"{address}/{header[1]}"))
        return found

    def routes(self) -> list[AddressNetwork]:
        """Networks that the host has a route to, in the main table; without default routes and link-local ones."""
        found: list[AddressNetwork] = []
        for header, attributes in self._host.dump(GETROUTE, bytes(12), 12):
            table = struct.unpack("=I", attributes[15])[0] if 15 in attributes else header[4]
            if table != MAIN_TABLE or header[1] == 0 or 1 not in attributes:
                continue
            network = ip_network((attributes[1], header[1]))
            if not (network.version == 6 and (network.is_link_local or network.is_multicast)):
                found.append(network)
        return found

    # -- namespaces --------------------------------------------------------------------------------------------------

    def new_namespace(self) -> int:
        """Make a network namespace with its loopback up; return a descriptor of it, the caller's to close."""
        unshare(Namespace.NEWNET)
        try:
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _furnish()
            except BaseException:
                os.close(fd)
                raise
            return fd
        finally:
            setns(self._home, Namespace.NEWNET)

    def take_namespace(self, path: str) -> int:
        """Do with a new namespace that somebody else has made as `new_namespace` does with its own."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._inside(fd):
                _furnish()
        except BaseException:
            os.close(fd)
            raise
        return fd

    def sockets_in(self, namespace: int, function: Callable[[], T]) -> T:
        """Call `function` inside a namespace: the sockets that it makes stay there."""
        with self._inside(namespace):
            return function()

    def plug(self, namespace: int, interface: Interface) -> None:
        """Give a namespace an interface with addresses and default routes. Raises OSError; nothing is left then."""
        self._host.talk([self._make(namespace, interface)])
        try:
            if interface.kind == "bridge":
                # Not in one send with the first: where the name is another's, it would change that one's port.
                self._host.talk([_new_port(interface)])
            with self._inside(namespace), _channel() as inside:
                index = _index(interface.name)
                if interface.has_ipv6:
                    _sysctl(f"net/ipv6/conf/{interface.name}/disable_ipv6", "0")
                gateways = [each for each in (interface.gateway4, interface.gateway6) if each is not None]
                inside.talk(
                    [
                        *(_address(index, each) for each in interface.addresses),
                        _up(index),
                        *(_default(each, index) for each in gateways),
                    ]
                )
        except BaseException:
            with suppress(OSError):
                self.unplug(namespace, interface.name)
            raise

    def unplug(self, namespace: int, name: str) -> None:
        """Take an interface away from a namespace. A missing one is fine."""
        with self._inside(namespace), _channel() as inside:
            _talk_unless(inside, [_delete(name)], errno.ENODEV)

    def replace_default(
        self, namespace: int, gateway4: Address | None, gateway6: Address | None, device: str = ""
    ) -> None:
        """Let a namespace's default routes go by `device` through these gateways; None: no default route."""
        with self._inside(namespace), _channel() as inside:
            index = _index(device) if device else 0
            for family, gateway in ((socket.AF_INET, gateway4), (socket.AF_INET6, gateway6)):
                if gateway is not None:
                    inside.talk([_default(gateway, index, REPLACE)])
                else:
                    _talk_unless(inside, [_no_default(family)], errno.ESRCH, errno.ENOENT)

    def open_dns(self, namespace: int) -> tuple[socket.socket, socket.socket]:
        """Open a UDP and a listening TCP socket that answer what is sent to 127.0.0.11:53 in a namespace.

        They are bound to ports chosen by the kernel and reached by translation, so that port 53 stays the
        container's own, even on 0.0.0.0. The table is ours alone; the container may have any others.
        """
        with self._inside(namespace):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                udp.bind((DNS_ADDRESS, 0))
                tcp.bind((DNS_ADDRESS, 0))
                tcp.listen(128)
                nft = Nft()
                try:
                    _redirect(nft, udp.getsockname()[1], tcp.getsockname()[1])
                finally:
                    nft.close()
            except BaseException:
                udp.close()
                tcp.close()
                raise
        return udp, tcp

    @contextmanager
    def _inside(self, namespace: int) -> Iterator[None]:
        setns(namespace, Namespace.NEWNET)
        try:
            yield
        finally:
            setns(self._home, Namespace.NEWNET)

    def _make(self, namespace: int, interface: Interface) -> bytes:
        parent = _index(interface.parent)
        if interface.kind == "macvlan":
            return _new_macvlan(interface, parent, namespace)
        mtu = interface.mtu or self._host.mtu(interface.parent)
        return _new_veth(interface, parent, mtu, namespace)


def _redirect(nft: Nft, udp: int, tcp: int) -> None:
    """Translate 127.0.0.11:53 to these ports; anew where an earlier responder's table is.

    Replacing it without looking would cost every container 11 ms: a transaction that deletes a table waits for the
    kernel's readers.
    """
    rules = f"""
create table ip windlass_dns
table ip windlass_dns {{
    chain output {{
        type nat hook output priority -100;
        ip daddr {DNS_ADDRESS} udp dport 53 dnat to {DNS_ADDRESS}:{udp}
        ip daddr {DNS_ADDRESS} tcp dport 53 dnat to {DNS_ADDRESS}:{tcp}
    }}
}}
"""
    try:
        nft.run(rules)
    except NftError:
        nft.run(f"add table ip windlass_dns\ndelete table ip windlass_dns\n{rules}")


def _index(name: str) -> int:
    """Return the index of a device of the namespace that the thread is in. Raises OSError with an errno."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise NetlinkError(errno.ENODEV, "no such device", name) from None


def _furnish() -> None:
    """Set the sysctls of the namespace that this thread is in, and its loopback up."""
    for key, value in _SYSCTLS.items():
        _sysctl(key, value)
    with _channel() as inside:
        inside.talk([_up(1)])


def _sysctl(key: str, value: str) -> None:
    """Write a sysctl of the namespace that the thread is in. One that this kernel lacks is passed over."""
    with suppress(FileNotFoundError):
        fd = os.open(f"/proc/sys/{key}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


# -- the socket ------------------------------------------------------------------------------------------------------


class _Channel:
    """An rtnetlink socket of the namespace that its maker is in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def talk(self, messages: Sequence[bytes]) -> None:
        """Send messages that ask for an acknowledgement, in one go. Raises NetlinkError for the first refused."""
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(
            b"".join(each[:8] + struct.pack("=I", first + at) + each[12:] for at, each in enumerate(messages))
        )
        failures: dict[int, int] = {}
        answered = 0
        while answered < len(messages):
            for kind, sequence, body in _messages(self._socket.recv(65536)):
                if kind == ERROR and sequence >= first:
                    answered += 1
                    if code := -struct.unpack_from("=i", body)[0]:
                        failures[sequence] = code
        if failures:
            sequence, code = min(failures.items())
            kind = struct.unpack_from("=H", messages[sequence - first], 4)[0]
            raise NetlinkError(code, f"{_NAMES.get(kind, kind)}: {os.strerror(code)}")

    def dump(self, kind: int, body: bytes, size: int) -> list[tuple[bytes, Mapping[int, bytes]]]:
        """Ask for all of a kind: their headers of `size` bytes and their attributes."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[tuple[bytes, Mapping[int, bytes]]] = []
        while True:
            for answer, sequence, content in _messages(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if answer == DONE:
                    return found
                if answer == ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    raise NetlinkError(code, f"{_NAMES.get(kind, kind)}: {os.strerror(code)}")
                found.append((content[:size], dict(_attributes(content[size:]))))

    def mtu(self, name: str) -> int:
        answer = fcntl.ioctl(self._socket, SIOCGIFMTU, struct.pack("=16si12x", name.encode(), 0))
        return int(struct.unpack_from("=i", answer, 16)[0])


_NAMES = {
    NEWLINK: "RTM_NEWLINK",
    DELLINK: "RTM_DELLINK",
    GETLINK: "RTM_GETLINK",
    NEWADDR: "RTM_NEWADDR",
    GETADDR: "RTM_GETADDR",
    NEWROUTE: "RTM_NEWROUTE",
    DELROUTE: "RTM_DELROUTE",
    GETROUTE: "RTM_GETROUTE",
}


@contextmanager
def _channel() -> Iterator[_Channel]:
    channel = _Channel()
    try:
        yield channel
    finally:
        channel.close()


def _talk_unless(channel: _Channel, messages: Sequence[bytes], *accepted: int) -> None:
    try:
        channel.talk(messages)
    except NetlinkError as exc:
        if exc.errno not in accepted:
            raise


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Take the kernel's answer apart: kind, sequence number, body."""
    at = 0
    while at < len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        yield kind, sequence, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, 4)


def _string(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")


# -- messages --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _codecs() -> tuple[Any, Any, Any]:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return ifinfmsg, ifaddrmsg, rtmsg


Attributes = list[tuple[str, Any]]


def _encode(codec: int, kind: int, flags: int, fields: dict[str, int], attributes: Attributes) -> bytes:
    message = _codecs()[codec]()
    message["header"]["type"] = kind
    message["header"]["flags"] = REQUEST | ACK | flags
    message.update(fields)
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def _link(kind: int, flags: int, fields: dict[str, int], attributes: Attributes) -> bytes:
    return _encode(0, kind, flags, fields, attributes)


def _new_bridge(name: str, mtu: int, mac: str) -> bytes:
    attributes: Attributes = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]})]
    if mtu:
        attributes.append(("IFLA_MTU", mtu))
    if mac:
        # Without one of its own a bridge takes its ports' least, and changes it as they come and go.
        attributes.append(("IFLA_ADDRESS", mac))
    return _link(NEWLINK, CREATE | EXCL, {}, attributes)


def _new_veth(interface: Interface, bridge: int, mtu: int, namespace: int) -> bytes:
    peer: Attributes = [("IFLA_IFNAME", interface.name), ("IFLA_NET_NS_FD", namespace), ("IFLA_MTU", mtu)]
    if interface.mac:
        peer.append(("IFLA_ADDRESS", interface.mac))
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    attributes: Attributes = [
        ("IFLA_IFNAME", interface.host_name),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", bridge),
        ("IFLA_LINKINFO", info),
    ]
    return _link(NEWLINK, CREATE | EXCL, {"flags": IFF_UP, "change": IFF_UP}, attributes)


def _new_port(interface: Interface) -> bytes:
    """Say what the kernel does not take when it makes a link: how the port behaves, and whose it is.

    Hairpin: with br_netfilter a container's call of its own published port stays inside the bridge, and has to go
    out by the port that it came in by.
    """
    data: Attributes = [("IFLA_BRPORT_MODE", 1), ("IFLA_BRPORT_ISOLATED", int(interface.isolated))]
    port = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": data})]}
    ipv6 = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", NO_LINK_LOCAL)]})]}
    attributes: Attributes = [("IFLA_IFNAME", interface.host_name), ("IFLA_LINKINFO", port)]
    if not 0 < interface.mtu < IPV6_LEAST_MTU:  # below, the kernel has no IPv6 on a device
        attributes.append(("IFLA_AF_SPEC", ipv6))
    if interface.alias:
        attributes.append(("IFLA_IFALIAS", interface.alias))
    return _link(NEWLINK, 0, {}, attributes)


def _new_macvlan(interface: Interface, parent: int, namespace: int) -> bytes:
    mode = MACVLAN_MODES[interface.mode or "bridge"]
    data = {"attrs": [("IFLA_MACVLAN_MODE", mode)]}
    attributes: Attributes = [
        ("IFLA_IFNAME", interface.name),
        ("IFLA_LINK", parent),
        ("IFLA_NET_NS_FD", namespace),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", data)]}),
    ]
    if interface.mac:
        attributes.append(("IFLA_ADDRESS", interface.mac))
    if interface.mtu:
        attributes.append(("IFLA_MTU", interface.mtu))
    return _link(NEWLINK, CREATE | EXCL, {}, attributes)


def _describe(name: str, alias: str) -> bytes:
    return _link(NEWLINK, 0, {}, [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])


def _delete(name: str) -> bytes:
    return _link(DELLINK, 0, {}, [("IFLA_IFNAME", name)])


@lru_cache(maxsize=64)
def _up(index: int) -> bytes:
    return _link(NEWLINK, 0, {"index": index, "flags": IFF_UP, "change": IFF_UP}, [])


def _address(index: int, address: AddressInterface) -> bytes:
    fields = {"family": _family(address), "prefixlen": address.network.prefixlen, "index": index}
    if address.version == 6:
        # No detection of duplicates: we have chosen the address, and it would be unusable for a second.
        return _encode(1, NEWADDR, CREATE, {**fields, "flags": IFA_F_NODAD}, [("IFA_ADDRESS", str(address.ip))])
    attributes: Attributes = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    if address.network.prefixlen < 31:
        attributes.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    return _encode(1, NEWADDR, CREATE, fields, attributes)


@lru_cache(maxsize=64)
def _default(gateway: Address, index: int, how: int = 0) -> bytes:
    fields = {"family": _family(gateway), "table": MAIN_TABLE, "proto": 3, "type": 1}
    attributes: Attributes = [("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)]
    return _encode(2, NEWROUTE, CREATE | how, fields, attributes)


def _no_default(family: int) -> bytes:
    return _encode(2, DELROUTE, 0, {"family": family, "table": MAIN_TABLE}, [])


def _family(address: Address | AddressInterface) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
