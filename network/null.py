"""The drivers `host` and `null`: the host's own network, and none. Each has its predefined network and no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from windlass.engine.errors import BadParameter, Denied

from .model import Network
from .netlink import Interface
from .records import EndpointRecord
from .rules import NetworkRules

if TYPE_CHECKING:
    from .networking import Networking


class Null:
    """See `driver.NetworkDriver`. Its network is what a container of `--network none` is in: a loopback, no more."""

    name = "null"
    has_host_end = False
    has_addresses = False
    is_single = True

    def check(self, network: Network, others: Iterable[Network]) -> Network:
        raise Denied(f'only one instance of "{self.name}" network is allowed')

    async def create(self, net: Networking, network: Network) -> None:
        """Nothing is needed on the host."""

    async def delete(self, net: Networking, network: Network) -> None:
        """Nothing was made on the host."""

    def bridge(self, network: Network) -> str:
        return ""

    def interface(self, network: Network, endpoint: EndpointRecord, *, is_default: bool) -> Interface:
        raise BadParameter(f"a container cannot have an interface in the network {network.name}")

    def rules(self, network: Network) -> NetworkRules | None:
        return None


class Host(Null):
    """The network of containers of `--network host`."""

    name = "host"
