"""The driver `macvlan`: containers are on a device's own network, with MAC addresses of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from windlass.engine.errors import BadParameter, Denied

from . import options
from .bridge import addresses, gateway
from .model import Network
from .netlink import MACVLAN_MODES, Interface
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
        if not parent:
            raise BadParameter("macvlan needs the option parent: a device of the host", key=PARENT)
        mode = network.options.get(MODE) or "bridge"
        if mode not in MACVLAN_MODES:
            raise BadParameter(f'unknown macvlan mode "{mode}"', key=MODE)
        options.mtu(network.options)
        for other in others:
            if other.driver == self.name and other.options.get(PARENT) == parent and "passthru" in (
                mode, other.options.get(MODE),
            ):  # fmt: skip
                raise Denied(f"cannot use mode passthru: {parent} is used by network {other.name}")
        return network

    async def create(self, net: Networking, network: Network) -> None:
        """The device is there already, or a container's start says that it is not."""

    async def delete(self, net: Networking, network: Network) -> None:
        """Nothing was made on the host."""

    def bridge(self, network: Network) -> str:
        return ""

    def interface(self, network: Network, endpoint: EndpointRecord, *, is_default: bool) -> Interface:
        settings = endpoint.settings
        return Interface(
            name=endpoint.interface,
            host_name="",
            kind="macvlan",
            parent=network.options[PARENT],
            mac=settings.MacAddress,
            mtu=options.mtu(network.options),
            addresses=addresses(endpoint),
            gateway4=gateway(settings.Gateway, is_default),
            gateway6=gateway(settings.IPv6Gateway, is_default),
            mode=network.options.get(MODE) or "bridge",
        )

    def rules(self, network: Network) -> NetworkRules | None:
        return None
