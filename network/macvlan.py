"""The driver `macvlan`: containers are on a device's own network, with MAC addresses of their own.

An internal network needs no `parent`: a device of ours that leads nowhere is it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from windlass.engine.errors import BadParameter, Denied

from . import options
from .bridge import addresses, delete_own, gateway
from .model import Network
from .netlink import MACVLAN_MODES, Interface, Netlink
from .records import EndpointRecord
from .rules import NetworkRules

if TYPE_CHECKING:
    from .networking import Networking

PARENT, MODE = "parent", "macvlan_mode"


class Macvlan:
    """See `driver.NetworkDriver`. The host has no address in its networks, and filters nothing."""

    name = "macvlan"
    has_host_end = False
    has_addresses = True
    is_single = False

    def check(self, network: Network, others: Iterable[Network]) -> Network:
        parent = options.device(network.options, PARENT)
        if parent == "lo":
            raise BadParameter("loopback interface is not a valid macvlan parent link", key=PARENT)
        if not parent and not network.internal:
            raise BadParameter("macvlan needs the option parent: a device of the host", key=PARENT)
        mode = network.options.get(MODE) or "bridge"
        if mode not in MACVLAN_MODES:
            raise BadParameter(f'unknown macvlan mode "{mode}"', key=MODE)
        options.mtu(network.options)
        for other in others:
            if other.driver == self.name and parent == other.options.get(PARENT, "") != "" and "passthru" in (
                mode, other.options.get(MODE),
            ):  # fmt: skip
                raise Denied(f"cannot use mode passthru: {parent} is used by network {other.name}")
        return network

    async def create(self, net: Networking, network: Network) -> None:
        """Make sure of the parent. Raises BadParameter when there is none of that name."""
        await net.thread.run(_create, net.netlink, network, _alias(net))

    async def delete(self, net: Networking, network: Network) -> None:
        if not network.options.get(PARENT):
            await net.thread.run(delete_own, net.netlink, _parent(network), _alias(net))

    def bridge(self, network: Network) -> str:
        return ""

    def interface(self, network: Network, endpoint: EndpointRecord, *, is_default: bool) -> Interface:
        settings = endpoint.settings
        return Interface(
            name=endpoint.interface,
            host_name="",
            kind="macvlan",
            parent=_parent(network),
            mac=settings.MacAddress,
            mtu=options.mtu(network.options),
            addresses=addresses(endpoint),
            gateway4=gateway(settings.Gateway, is_default),
            gateway6=gateway(settings.IPv6Gateway, is_default),
            mode=network.options.get(MODE) or "bridge",
        )

    def rules(self, network: Network) -> NetworkRules | None:
        return None


def _parent(network: Network) -> str:
    return network.options.get(PARENT) or f"dm-{network.id[:12]}"


def _alias(net: Networking) -> str:
    """Not that of our bridges, which are deleted at the next start when no network has them."""
    return f"windlass-macvlan:{net.table}"


def _create(netlink: Netlink, network: Network, alias: str) -> None:
    """In the network thread. A bridge without ports leads nowhere, too, and needs no further kind of device."""
    if parent := network.options.get(PARENT):
        if all(each.name != parent for each in netlink.links()):
            raise BadParameter(f"-o parent interface was not found on the host: {parent}", key=PARENT)
        return
    netlink.create_bridge(_parent(network), (), alias=alias, ensure=True)
