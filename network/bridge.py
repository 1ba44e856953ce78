"""The driver `bridge`: a bridge on the host, a veth pair for each container.

A bridge that we make carries our alias, by which it is known as ours, after a crash too. One that is there already
(`com.docker.network.bridge.name` of somebody's own) is used, and left when the network goes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast, get_args

from windlass.engine.errors import BadParameter, Conflict, Denied

from . import options
from .model import Network
from .netlink import AddressInterface, Interface, Netlink
from .records import EndpointRecord
from .rules import Mode, NetworkRules

if TYPE_CHECKING:
    from .networking import Networking

MODES = get_args(Mode)


class Bridge:
    """See `driver.NetworkDriver`."""

    name = "bridge"
    has_host_end = True
    has_addresses = True
    is_single = False

    def check(self, network: Network, others: Iterable[Network]) -> Network:
        given = network.options
        for key in (options.ICC, options.MASQUERADE, options.INHIBIT_IPV4):
            options.flag(given, key, True)
        options.mtu(given)
        options.address(given, options.HOST_BINDING)
        options.device(given, options.PREFIX)
        for version in (4, 6):
            _mode(network, version)
        device = options.device(given, options.BRIDGE_NAME)
        for other in others:
            if device and other.driver == self.name and self.bridge(other) == device:
                raise Denied(f"network {other.id} ({other.name}) conflicts with network {network.id}: same bridge name")
        return network

    async def create(self, net: Networking, network: Network) -> None:
        """Make the bridge, or complete the one that is there. Raises Conflict when the device is not ours to use."""
        device, alias = self.bridge(network), options.alias(net.table)
        await net.thread.run(_create, net.netlink, network, device, alias, _is_named_by_us(net, network))

    async def delete(self, net: Networking, network: Network) -> None:
        """Delete the bridge, unless somebody else has made it."""
        device, alias = self.bridge(network), options.alias(net.table)
        await net.thread.run(delete_own, net.netlink, device, alias, _is_named_by_us(net, network))

    def bridge(self, network: Network) -> str:
        return network.options.get(options.BRIDGE_NAME) or f"wl-{network.id[:12]}"

    def interface(self, network: Network, endpoint: EndpointRecord, *, is_default: bool) -> Interface:
        settings = endpoint.settings
        return Interface(
            name=endpoint.interface,
            host_name=endpoint.host_name,
            kind="bridge",
            parent=self.bridge(network),
            mac=settings.MacAddress,
            mtu=options.mtu(network.options),
            addresses=addresses(endpoint),
            gateway4=gateway(settings.Gateway, is_default),
            gateway6=gateway(settings.IPv6Gateway, is_default),
            isolated=not options.flag(network.options, options.ICC, True),
        )

    def rules(self, network: Network) -> NetworkRules:
        return NetworkRules(
            id=network.id,
            bridge=self.bridge(network),
            subnets=network.subnets,
            internal=network.internal,
            icc=options.flag(network.options, options.ICC, True),
            masquerade=options.flag(network.options, options.MASQUERADE, True),
            mode4=_mode(network, 4),
            mode6=_mode(network, 6),
        )


def _is_named_by_us(net: Networking, network: Network) -> bool:
    """Whether the bridge's name was ours to choose: then one without an alias is one that we did not finish."""
    if network.is_default_bridge:
        return not net.settings.BridgeIface
    return options.BRIDGE_NAME not in network.options


def addresses(endpoint: EndpointRecord) -> tuple[AddressInterface, ...]:
    """An endpoint's addresses with the length of their prefix."""
    settings = endpoint.settings
    pairs = (
        (settings.IPAddress, settings.IPPrefixLen),
        (settings.GlobalIPv6Address, settings.GlobalIPv6PrefixLen),
    )
    return tuple(ipaddress.ip_interface(f"{address}/{length}") for address, length in pairs if address)


def gateway(text: str, is_default: bool) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return ipaddress.ip_address(text) if text and is_default else None


def _host_address(network: Network, version: int) -> AddressInterface | None:
    """The host's own address on the bridge; none where the network wants none."""
    pool = network.pool(version)
    is_isolated = network.internal and _mode(network, version) == "isolated"
    inhibited = version == 4 and options.flag(network.options, options.INHIBIT_IPV4, False)
    if pool is None or pool.host is None or inhibited or is_isolated:
        return None
    return ipaddress.ip_interface(f"{pool.host}/{pool.subnet.prefixlen}")


def _mode(network: Network, version: int) -> Mode:
    key = options.GATEWAY_MODE[version]
    mode = network.options.get(key) or "nat"
    if mode not in MODES:
        raise BadParameter(f"unknown gateway mode {mode}", key=key)
    if mode == "isolated" and not network.internal:
        raise BadParameter("gateway mode 'isolated' can only be used for an internal network", key=key)
    return cast(Mode, mode)


# -- in the network thread -------------------------------------------------------------------------------------------


def _create(netlink: Netlink, network: Network, device: str, alias: str, is_ours: bool) -> None:
    existing = next((each for each in netlink.links() if each.name == device), None)
    if existing and existing.kind != "bridge":
        raise Conflict(f"cannot create network {network.name}: device {device} is there and is no bridge")
    if existing and existing.alias.startswith(options.alias("")) and existing.alias != alias:
        raise Conflict(f"cannot create network {network.name}: bridge {device} is another daemon's")
    addresses = [_host_address(network, version) for version in (4, 6)]
    netlink.create_bridge(
        device,
        [each for each in addresses if each is not None],
        mtu=options.mtu(network.options),
        mac=_mac(network),
        # Somebody else's bridge stays theirs: with our alias it would be deleted with the network.
        alias="" if existing and not is_ours else alias,
        ensure=True,
    )


def delete_own(netlink: Netlink, device: str, alias: str, is_ours: bool = False) -> None:
    """Delete the device if it carries the alias; with `is_ours` also if it carries none yet."""
    signs = (alias, "") if is_ours else (alias,)
    if any(each.name == device and each.alias in signs for each in netlink.links()):
        netlink.delete_link(device)


def _mac(network: Network) -> str:
    """The bridge's own MAC address. It must not change as ports come and go: the host and containers remember it."""
    return "02:42:" + ":".join(network.id[at : at + 2] for at in range(0, 8, 2))
