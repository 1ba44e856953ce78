"""IP address management: which subnets networks have, which addresses of them containers have.

Nothing here touches the system or waits; what is taken between two awaits is taken from everybody. Pools are sparse:
a /64 costs as much as a /30, and that is what is taken from it.

Addresses are given one after the other from the last one on, as in Docker 1.3 (docker-1.3-engine.md §6.9): one that
was given back is not given again until all others were, so that who remembers it does not reach somebody else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

from windlass.engine.errors import BadParameter, Conflict, Denied
from windlass.jobs.networks import AddressPool, IPAMConfig

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network
S = TypeVar("S", IPv4Network, IPv6Network)

# As Docker's libnetwork cuts them (ipamutils/utils.go), for networks of one host.
DEFAULT_POOLS = (
    AddressPool("172.17.0.0/16", 16),
    AddressPool("172.18.0.0/16", 16),
    AddressPool("172.19.0.0/16", 16),
    AddressPool("172.20.0.0/14", 16),
    AddressPool("172.24.0.0/14", 16),
    AddressPool("172.28.0.0/14", 16),
    AddressPool("192.168.0.0/16", 20),
)
IPV6_SIZE = 64
GATEWAYS = ("DefaultGatewayIPv4", "DefaultGatewayIPv6")  # auxiliary addresses of these names are containers' gateways

OVERLAP = "Pool overlaps with other one on this address space"
EXHAUSTED = "all predefined address pools have been fully subnetted"


class Pool:
    """The addresses of one subnet, and who has been given which. Owned by its network.

    `host` is the host's own address on it, `gateway` where containers send what is for others; usually the same.
    `owner` names the network in errors.
    """

    def __init__(
        self,
        subnet: Subnet,
        *,
        range: Subnet | None = None,
        host: Address | None = None,
        gateway: Address | None = None,
        auxiliary: Iterable[Address] = (),
        owner: str = "",
    ) -> None:
        self.subnet = subnet
        self.range = range or subnet
        self.host = host
        self.gateway = gateway or host
        self.owner = owner
        self._kept = {int(each) for each in (host, self.gateway, *auxiliary) if each is not None}
        self._kept |= {int(each) for each in _unusable(subnet)}
        self._given: set[int] = set()
        self._first, self._last = int(self.range.network_address), int(self.range.broadcast_address)
        self._next = self._first

    @property
    def version(self) -> int:
        return self.subnet.version

    def __len__(self) -> int:
        """How many addresses are given."""
        return len(self._given)

    def allocate(self, requested: Address | None = None) -> Address:
        """Give an address: `requested`, or the next free one of the range. Raises BadParameter, Conflict."""
        number = self._free() if requested is None else self._requested(requested)
        self._given.add(number)
        return self._address(number)

    def reserve(self, address: Address) -> None:
        """Note that a container has the address already. One that is not ours, or not free, is fine."""
        if address in self.subnet:
            self._given.add(int(address))

    def release(self, address: Address) -> None:
        """Take an address back. One that nobody has is fine."""
        self._given.discard(int(address))

    def _requested(self, address: Address) -> int:
        if address not in self.subnet:
            raise BadParameter(
                f"Invalid address {address}: It does not belong to any of this network's subnets", key="IPAMConfig"
            )
        if int(address) in self._kept or int(address) in self._given:
            raise Denied("Address already in use", address=str(address))
        return int(address)

    def _free(self) -> int:
        size = self._last - self._first + 1
        taken = self._kept | self._given if size <= len(self._kept) + len(self._given) else ()
        if taken and sum(self._first <= each <= self._last for each in taken) >= size:
            raise Conflict(f"no available IPv{self.version} addresses on this network's address pools: {self.owner}")
        number = self._next
        while number in self._kept or number in self._given:
            number = self._first if number == self._last else number + 1
        self._next = self._first if number == self._last else number + 1
        return number

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self.version == 4 else IPv6Address(number)


def _unusable(subnet: Subnet) -> tuple[Address, ...]:
    """Addresses that no interface may have: the network's own, and IPv4's broadcast. Tiny subnets have neither."""
    if subnet.num_addresses <= 2:
        return ()
    if subnet.version == 6:
        return (subnet.network_address,)
    return (subnet.network_address, subnet.broadcast_address)


def make_pool(config: IPAMConfig, owner: str) -> Pool:
    """The pool of a resolved configuration: one that has been checked and has a subnet."""
    auxiliary = config.AuxiliaryAddresses or {}
    gateway = next((ip_address(auxiliary[name]) for name in GATEWAYS if name in auxiliary), None)
    return Pool(
        ip_network(config.Subnet),
        range=ip_network(config.IPRange) if config.IPRange else None,
        host=ip_address(config.Gateway) if config.Gateway else None,
        gateway=gateway,
        auxiliary=[ip_address(each) for each in auxiliary.values()],
        owner=owner,
    )


# -- choosing subnets ------------------------------------------------------------------------------------------------


def check_overlap(subnet: Subnet, taken: Iterable[Subnet]) -> None:
    """Raise Denied when another network has a part of `subnet`."""
    for other in taken:
        if overlap(subnet, other):
            raise Denied(OVERLAP, subnet=str(subnet), other=str(other))


def choose(pools: Sequence[tuple[Subnet, int]], taken: Iterable[Subnet]) -> Subnet:
    """Return the first subnet of `pools` (base, prefix length of each) that overlaps none of `taken`.

    Raises BadParameter when there is none, in Docker's words.
    """
    taken = list(taken)
    for base, size in pools:
        found = _first_free(base, size, [each for each in taken if overlap(base, each)])
        if found is not None:
            return found
    raise BadParameter(EXHAUSTED)


def _first_free(base: Subnet, size: int, taken: list[Subnet]) -> Subnet | None:
    """Jump from one end of something taken to the next: a large base with small subnets costs what is taken."""
    step = 1 << (base.max_prefixlen - size)
    number, end = int(base.network_address), int(base.broadcast_address)
    while number + step - 1 <= end:
        hits = [int(each.broadcast_address) for each in taken if _meets(each, number, number + step - 1)]
        if not hits:
            return ip_network((number if base.version == 4 else IPv6Address(number), size))
        number = max(hits) // step * step + step
    return None


def _meets(subnet: Subnet, first: int, last: int) -> bool:
    return int(subnet.network_address) <= last and first <= int(subnet.broadcast_address)


def overlap(one: Subnet, other: Subnet) -> bool:
    """True when the subnets have an address in common."""
    if one.version != other.version:
        return False
    return _meets(one, int(other.network_address), int(other.broadcast_address))


def parse_pools(pools: Iterable[AddressPool]) -> list[tuple[Subnet, int]]:
    """Read configured pools; none configured: Docker's. Raises BadParameter."""
    found: list[tuple[Subnet, int]] = []
    for pool in pools or DEFAULT_POOLS:
        try:
            base = ip_network(pool.base)
        except ValueError:
            raise BadParameter(f"invalid base pool {pool.base}: invalid CIDR block notation", key="Pools") from None
        if not base.prefixlen <= pool.size <= base.max_prefixlen:
            raise BadParameter(f"invalid pools size: {pool.size} of {base}", key="Pools")
        found.append((base, pool.size))
    return found


def new_ula() -> str:
    """Make a prefix of our own for IPv6: a /48 of unique local addresses (RFC 4193 §3.2)."""
    return str(IPv6Network((b"\xfd" + secrets.token_bytes(5) + bytes(10), 48)))


# -- checking configurations -----------------------------------------------------------------------------------------


def check_config(config: Sequence[IPAMConfig]) -> None:
    """Check pools that somebody asks for. Raises BadParameter with all that is wrong, as dockerd tells it."""
    wrong = [message for each in config for message in _wrong(each)]
    if wrong:
        listed = wrong[0] if len(wrong) == 1 else "\n".join(f"* {each}" for each in wrong)
        raise BadParameter(f"invalid network config:\n{listed}", key="IPAM")


def _wrong(config: IPAMConfig) -> list[str]:
    subnet = _parse(config.Subnet)
    if subnet is None:
        return [f"invalid subnet {config.Subnet}: invalid CIDR block notation"]
    if not subnet.prefixlen or subnet.is_multicast or subnet.is_loopback or subnet.network_address.is_unspecified:
        return [f"invalid subnet {config.Subnet}: no container can have an address of it"]
    wrong = []
    if _has_host_bits(config.Subnet):
        wrong.append(f"invalid subnet {config.Subnet}: it should be {subnet}")
    wrong += _wrong_range(config.IPRange, subnet)
    if config.Gateway and (reason := _wrong_address(config.Gateway, subnet)):
        wrong.append(f"invalid gateway {config.Gateway}: {reason}")
    for name, address in (config.AuxiliaryAddresses or {}).items():
        if reason := _wrong_address(address, subnet):
            wrong.append(f"invalid auxiliary address {name}: {reason}")
    return wrong


def _wrong_range(text: str, subnet: Subnet) -> list[str]:
    if not text:
        return []
    found = _parse(text)
    if found is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if found.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    wrong = []
    if found.prefixlen < subnet.prefixlen:
        wrong.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if _has_host_bits(text):
        wrong.append(f"invalid ip-range {text}: it should be {found}")
    if not overlap(found, subnet):
        wrong.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return wrong


def _wrong_address(text: str, subnet: Subnet) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return "invalid address"
    if "%" in text:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if address in subnet else f"parent subnet {subnet} doesn't contain this address"


def _parse(text: str) -> Subnet | None:
    """A subnet in CIDR notation, host bits cleared, or None. `ip_network` also takes masks and no length."""
    length = text.partition("/")[2]
    if not (length.isascii() and length.isdigit()) or "%" in text:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _has_host_bits(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return True
    return False


def resolve(config: IPAMConfig) -> IPAMConfig:
    """Fill in the gateway: the first address of the range that nobody keeps. Raises Conflict when there is none."""
    auxiliary = config.AuxiliaryAddresses or {}
    kept = {name: address for name, address in auxiliary.items() if name not in GATEWAYS}
    spelled = {name: str(ip_address(address)) for name, address in auxiliary.items()}
    gateway = str(ip_address(config.Gateway)) if config.Gateway else ""
    _check_distinct(gateway, kept)
    subnet = str(ip_network(config.Subnet))
    if gateway and ip_address(gateway) in _unusable(ip_network(subnet)):
        raise Conflict(f"failed to allocate gateway ({gateway}): Address already in use")
    range = str(ip_network(config.IPRange)) if config.IPRange else ""
    resolved = IPAMConfig(subnet, range, gateway, spelled or None)
    if not gateway:
        pool = make_pool(resolved, subnet)
        resolved = IPAMConfig(subnet, range, str(pool.allocate()), spelled or None)
    return resolved


def _check_distinct(gateway: str, auxiliary: Mapping[str, str]) -> None:
    taken = {gateway}
    for name, text in auxiliary.items():
        address = str(ip_address(text))
        if address in taken:
            raise Conflict(f"failed to allocate secondary ip address ({name}:{text}): Address already in use")
        taken.add(address)
