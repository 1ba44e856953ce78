"""The packet filter's rules as text in nft's language (nft(8)); nothing here touches the system.

All rules of one daemon are in one table of the family inet, IPv4 and IPv6 together, which is replaced as a whole in
one transaction when networks come or go. A published port is one element of a map, a link one of a set.

    raw          a container never reaches the host's loopback, though `route_localnet` is set on its bridge for the
                 way out: published ports are reachable as 127.0.0.1 from the host itself
    publish      the host's own addresses, by address, protocol and port, then by protocol and port
    postrouting  containers' way out; 127.0.0.1's way in; and hairpin: what a container sends to a published port of
                 its own bridge must come back by us, to be translated back, so it leaves with the bridge's address
    forward      into a bridge: answers, what was translated (published), its own containers; nothing else

Another table's drop stands whatever we accept, and ours stands whatever they accept.

Containers that may not talk to each other (icc=false) are isolated ports of their bridge: frames never pass between
them, whether bridged frames are filtered (br_netfilter) or not. The bridge answers their ARP requests itself
(`proxy_arp_pvlan`), so what they send each other comes to `forward`, where links are let through, with connection
tracking, which the family bridge lacks on many kernels.

Priorities are numbers: nft 1.0.6 refuses their names in output hooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Mode = Literal["nat", "nat-unprotected", "routed", "isolated"]


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What the packet filter has to know of a bridge network.

    `mode4` and `mode6` are Docker's gateway modes: `nat` lets in published ports, translated; `nat-unprotected` lets
    in everything besides; `routed` translates nothing and lets in published ports at the container's own address;
    `isolated` lets nothing in or out, as `internal` does for both families.
    """

    id: str
    bridge: str
    subnets: tuple[Network, ...]
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    mode4: Mode = "nat"
    mode6: Mode = "nat"

    def mode(self, version: int) -> Mode:
        return self.mode4 if version == 4 else self.mode6


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: what comes to `host_port` of the host's address (unspecified: of any) goes to the container.

    `routed`: nothing is translated, `address` and `port` are let in; the host's address and port mean nothing.
    """

    proto: str
    host_ip: Address
    host_port: int
    address: Address
    port: int
    bridge: str
    routed: bool = False


@dataclass(frozen=True, slots=True)
class LinkRule:
    """`parent` may connect to `port` of `child`, where containers may not otherwise."""

    parent: str
    child: str
    proto: str
    port: int

    def __lt__(self, other: LinkRule) -> bool:
        return _link_key(self) < _link_key(other)


def ruleset(table: str, networks: Iterable[NetworkRules], ports: Iterable[Port], links: Iterable[LinkRule]) -> str:
    """Return the transaction that replaces the table, or makes it, with all its elements."""
    networks = sorted(networks, key=lambda each: each.bridge)
    held: dict[str, dict[str, str]] = {name: {} for name in _TYPES}
    for port in ports:
        name, key, value = _port(port)
        held[name][key] = value
    for link in links:
        name, key = _link(link)
        held[name][key] = ""
    bridges = [each.bridge for each in networks]
    lines = [
        *(f"{_kind(name)} {name} {{ type {_TYPES[name]}; {_elements(held[name])} }}" for name in _TYPES),
        *_chain("raw", "filter", "prerouting", -300, _raw(bridges)),
        *_chain("prerouting", "nat", "prerouting", -100, ["ip daddr 127.0.0.0/8 return", _LOCAL]),
        *_chain("output", "nat", "output", -100, [_LOCAL]),
        *_plain("publish", _PUBLISH),
        *_chain("postrouting", "nat", "postrouting", 100, (line for each in networks for line in _leaving(each))),
        *(line for each in networks for line in _plain(f"from_{_name(each)}", _from(each))),
        *(line for each in networks for line in _plain(f"to_{_name(each)}", _to(each))),
        *_chain("forward", "filter", "forward", 0, _forward(networks)),
    ]
    body = "\n".join(f"    {line}" for line in lines)
    return f"{remove(table)}table inet {table} {{\n{body}\n}}\n"


def remove(table: str) -> str:
    """Return the transaction that deletes the table, and is content without one."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def add_port(table: str, port: Port) -> str:
    name, key, value = _port(port)
    return f"add element inet {table} {name} {{ {_element(key, value)} }}\n"


def delete_port(table: str, port: Port) -> str:
    name, key, _ = _port(port)
    return f"delete element inet {table} {name} {{ {key} }}\n"


def add_link(table: str, parent_ip: Address | str, child_ip: Address | str, proto: str, port: int) -> str:
    name, key = _link(LinkRule(str(parent_ip), str(child_ip), proto, port))
    return f"add element inet {table} {name} {{ {key} }}\n"


def delete_link(table: str, parent_ip: Address | str, child_ip: Address | str, proto: str, port: int) -> str:
    name, key = _link(LinkRule(str(parent_ip), str(child_ip), proto, port))
    return f"delete element inet {table} {name} {{ {key} }}\n"


# -- elements --------------------------------------------------------------------------------------------------------

# `one` and `all`: published on one address of the host's, on all; `open`: let in untranslated.
_TYPES = {
    "one4": "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "one6": "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
    "all4": "inet_proto . inet_service : ipv4_addr . inet_service",
    "all6": "inet_proto . inet_service : ipv6_addr . inet_service",
    "open4": "ipv4_addr . inet_proto . inet_service",
    "open6": "ipv6_addr . inet_proto . inet_service",
    "links4": "ipv4_addr . ipv4_addr . inet_proto . inet_service",
    "links6": "ipv6_addr . ipv6_addr . inet_proto . inet_service",
}


def _kind(name: str) -> str:
    return "map" if " : " in _TYPES[name] else "set"


def _element(key: str, value: str) -> str:
    return f"{key} : {value}" if value else key


def _elements(held: dict[str, str]) -> str:
    return f"elements = {{ {', '.join(_element(*each) for each in sorted(held.items()))} }};" if held else ""


def _port(port: Port) -> tuple[str, str, str]:
    """Return the map, the key and the value of a published port."""
    version = port.address.version
    if port.routed:
        return f"open{version}", f"{port.address} . {port.proto} . {port.port}", ""
    if port.host_ip.version != version:
        raise ValueError(f"{port.host_ip} cannot be translated to {port.address}: families differ")
    value = f"{port.address} . {port.port}"
    if port.host_ip.is_unspecified:
        return f"all{version}", f"{port.proto} . {port.host_port}", value
    return f"one{version}", f"{port.host_ip} . {port.proto} . {port.host_port}", value


def _link(link: LinkRule) -> tuple[str, str]:
    return f"links{6 if ':' in link.child else 4}", f"{link.parent} . {link.child} . {link.proto} . {link.port}"


def _link_key(link: LinkRule) -> tuple[str, str, str, int]:
    return link.parent, link.child, link.proto, link.port


# -- chains ----------------------------------------------------------------------------------------------------------

_LOCAL = "fib daddr type local jump publish"
_PUBLISH = [
    # [::1] cannot be translated: the kernel never routes it. The other is not a host's but a link's.
    "ip6 daddr { ::1, fe80::/10 } return",
    "meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @one4",
    "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @all4",
    "meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6",
    "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @all6",
]
_ICMP = {4: 1, 6: 58}  # by number: hosts without /etc/protocols know no other names than tcp and udp
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"
_LINKS = [
    "ip saddr . ip daddr . meta l4proto . th dport @links4 accept",
    "ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept",
]


def _plain(name: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", *(f"    {rule}" for rule in rules), "}"]


def _chain(name: str, kind: str, hook: str, priority: int, rules: Iterable[str]) -> list[str]:
    return _plain(name, [f"type {kind} hook {hook} priority {priority}; policy accept;", *rules])


def _name(network: NetworkRules) -> str:
    """A network's part of its chains' names."""
    return re.sub(r"[^0-9A-Za-z]", "_", network.id[:12])


def _ip(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _raw(bridges: list[str]) -> Iterator[str]:
    if bridges:
        ours = ", ".join(f'"{each}"' for each in bridges)
        yield f"iifname {{ {ours} }} ip daddr 127.0.0.0/8 drop"
        yield f"iifname {{ {ours} }} ip saddr 127.0.0.0/8 drop"


def _leaving(network: NetworkRules) -> Iterator[str]:
    for subnet in network.subnets:
        source = f"{_ip(subnet.version)} saddr {subnet}"
        if network.internal or network.mode(subnet.version) in ("routed", "isolated"):
            continue
        if network.masquerade:
            yield f'{source} oifname != "{network.bridge}" masquerade'
        yield f'{source} oifname "{network.bridge}" ct status dnat masquerade'
    if not network.internal:
        yield f'ip saddr 127.0.0.0/8 oifname "{network.bridge}" masquerade'


def _forward(networks: list[NetworkRules]) -> Iterator[str]:
    if networks:
        sources = ", ".join(f'"{each.bridge}" : jump from_{_name(each)}' for each in networks)
        targets = ", ".join(f'"{each.bridge}" : goto to_{_name(each)}' for each in networks)
        yield f"iifname vmap {{ {sources} }}"
        yield f"oifname vmap {{ {targets} }}"


def _from(network: NetworkRules) -> Iterator[str]:
    """Rules for what comes from a bridge."""
    outside = f'oifname != "{network.bridge}"'
    if network.internal:
        yield f"{outside} drop"
        return
    for version in (4, 6):
        if network.mode(version) == "isolated":
            yield f"meta nfproto ipv{version} {outside} drop"


def _to(network: NetworkRules) -> Iterator[str]:
    """Rules for what goes into a bridge; the last drops."""
    inside = f'iifname "{network.bridge}"'
    if network.internal:
        yield f'iifname != "{network.bridge}" drop'
    if network.icc:
        yield f"{inside} accept"
    yield "ct state established,related accept"
    yield "ct status dnat accept"
    if not network.icc:
        yield from (f"{inside} {each}" for each in (_NEIGHBOURS, *_LINKS))
        yield f"{inside} drop"
    for version in (4, 6):
        match network.mode(version):
            case "nat-unprotected":
                yield f"meta nfproto ipv{version} accept"
            case "routed":
                yield f"{_ip(version)} daddr . meta l4proto . th dport @open{version} accept"
                yield f"meta nfproto ipv{version} meta l4proto {_ICMP[version]} accept"
    yield "drop"
