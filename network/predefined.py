"""The networks that are always there: `bridge`, made by the daemon's settings, `host` and `none`.

Their ids, and the default bridge's subnet where nobody says one, are chosen once and kept.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import TYPE_CHECKING

from windlass.engine.errors import BadParameter, Denied
from windlass.jobs.networks import IPAM, AddressPool, InitNetworkdriver, IPAMConfig

from . import ipam, options
from .ipam import IPV6_SIZE, Subnet, check_config, check_overlap, choose, parse_pools, resolve
from .model import Network, config_of

if TYPE_CHECKING:
    from .netlink import Netlink
    from .networking import Networking

AddressInterface = IPv4Interface | IPv6Interface


@dataclass
class Space:
    """Where subnets come from when nobody says one. `ula` is this daemon's own /48."""

    pools: Iterable[AddressPool] = ()
    ula: str = ""
    _cut: list[tuple[Subnet, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._cut = parse_pools(self.pools)

    def of(self, version: int) -> Sequence[tuple[Subnet, int]]:
        found = [each for each in self._cut if each[0].version == version]
        if found:
            return found
        if version == 4:
            return parse_pools(())
        return [(ip_network(self.ula), IPV6_SIZE)] if self.ula else []

    def choose(self, version: int, taken: Iterable[Subnet]) -> IPAMConfig:
        """A configuration with a free subnet. Raises BadParameter when there is none."""
        return resolve(IPAMConfig(Subnet=str(choose(self.of(version), taken))))


def new_id() -> str:
    """Make a network's id: 64 hexadecimal digits, of which the first twelve are no decimal number."""
    while True:
        id = secrets.token_hex(32)
        if not id[:12].isdecimal():
            return id


def networks(
    settings: InitNetworkdriver, device: str, space: Space, stored: Mapping[str, Network | None], taken: list[Subnet]
) -> Iterator[Network]:
    """The predefined networks, by what is stored of them and what the settings say. Raises BadParameter."""
    if settings.BridgeIface != "none":
        old = stored.get("bridge")
        yield default_bridge(settings, device, space, old, taken)
    for name, driver in (("host", "host"), ("none", "null")):
        kept = stored.get(name)
        yield kept or Network(
            id=new_id(), name=name, driver=driver, created_ns=time.time_ns(), enable_ipv4=False, ipam=IPAM(Config=[])
        )


def default_bridge(
    settings: InitNetworkdriver,
    device: str,
    space: Space,
    old: Network | None,
    taken: list[Subnet],
    addresses: Sequence[AddressInterface] = (),
) -> Network:
    """The network `bridge`. `addresses` are those of a device that somebody else has made for it."""
    texts = {each.version: str(each) for each in reversed(addresses)}
    asked = _asked(settings.BridgeIP or texts.get(4, ""), settings.FixedCIDR, settings.DefaultGateway, 4)
    configs = [asked or _kept(old, 4, taken) or space.choose(4, taken)]
    if settings.EnableIPv6:
        asked6 = _asked(settings.BridgeIP6 or texts.get(6, ""), settings.FixedCIDR6, settings.DefaultGateway6, 6)
        configs.append(asked6 or _kept(old, 6, taken) or space.choose(6, taken))
    network = Network(
        id=old.id if old else new_id(),
        name="bridge",
        driver="bridge",
        created_ns=old.created_ns if old else time.time_ns(),
        ipam=IPAM(Config=configs),
        has_own_subnets=asked is not None,
        enable_ipv6=settings.EnableIPv6,
        options=_options(settings, device),
    )
    for subnet in network.subnets:
        try:
            check_overlap(subnet, taken)
        except Denied as exc:
            raise BadParameter(f"{exc.message}: {subnet} of the default bridge", key="BridgeIP") from None
    return network


async def settle(net: Networking, old: Network, space: Space, taken: list[Subnet]) -> Network:
    """The default bridge's network as the host lets it be: the device's own addresses, no subnet of others' routes.

    A subnet that was chosen stays while the bridge is there: containers may have addresses of it.
    """
    device = net.bridge
    alias = options.alias(net.table)
    is_foreign, addresses, routes = await net.thread.run(_look, net.netlink, device, alias)
    if is_foreign and addresses and not net.settings.BridgeIP:
        return default_bridge(net.settings, device, space, old, taken, addresses)
    own = [each.network for each in addresses]
    for subnet in old.subnets:
        if not old.has_own_subnets and subnet not in own and any(ipam.overlap(subnet, each) for each in routes):
            return default_bridge(net.settings, device, space, old, [*taken, *routes])
    return old


def _look(netlink: Netlink, device: str, alias: str) -> tuple[bool, list[AddressInterface], list[Subnet]]:
    """In the network thread: whether a device is there that is not ours, its addresses, the host's routes."""
    link = next((each for each in netlink.links() if each.name == device), None)
    addresses = netlink.addresses(device) if link else []
    return link is not None and link.alias != alias, addresses, netlink.routes()


def _asked(address: str, range: str, gateway: str, version: int) -> IPAMConfig | None:
    """The pool that the settings ask for, if they do. Raises BadParameter."""
    if not address and not range:
        if gateway:
            raise BadParameter(f"default gateway {gateway} needs the bridge's address", key="DefaultGateway")
        return None
    auxiliary = {ipam.GATEWAYS[0 if version == 4 else 1]: gateway} if gateway else None
    if not address:
        config = IPAMConfig(Subnet=range, AuxiliaryAddresses=auxiliary)
    else:
        try:
            interface = ip_interface(address)
        except ValueError:
            raise BadParameter(f"invalid CIDR address: {address}", key="BridgeIP") from None
        if "/" not in address:
            raise BadParameter(f"invalid CIDR address: {address}", key="BridgeIP")
        config = IPAMConfig(str(interface.network), range, str(interface.ip), auxiliary)
        if interface.version != version:
            raise BadParameter(f"{address} is no IPv{version} address", key="BridgeIP")
    check_config([config])
    return resolve(config)


def _kept(old: Network | None, version: int, taken: list[Subnet]) -> IPAMConfig | None:
    """The pool that was chosen earlier, if nobody has it by now."""
    config = config_of(old, version) if old and not old.has_own_subnets else None
    if config is None or any(ipam.overlap(ip_network(config.Subnet), each) for each in taken):
        return None
    return config


def _options(settings: InitNetworkdriver, device: str) -> dict[str, str]:
    found = {
        options.DEFAULT_BRIDGE: "true",
        options.ICC: str(settings.InterContainerCommunication).lower(),
        options.MASQUERADE: str(settings.EnableIpMasq).lower(),
        options.HOST_BINDING: settings.DefaultBindingIP,
        options.BRIDGE_NAME: device,
        options.MTU: str(settings.Mtu or ""),
    }
    return {key: value for key, value in found.items() if value}


def shown_options(network: Network) -> dict[str, str]:
    """A network's options as clients see them; the default bridge's with what goes without saying."""
    if not network.is_default_bridge:
        return dict(network.options)
    return {
        key: network.options.get(key) or usual
        for key, usual in (
            (options.DEFAULT_BRIDGE, "true"),
            (options.ICC, "true"),
            (options.MASQUERADE, "true"),
            (options.HOST_BINDING, "0.0.0.0"),
            (options.BRIDGE_NAME, ""),
            (options.MTU, "1500"),
        )
    }
