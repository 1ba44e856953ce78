"""What a network driver is.

A driver makes a network's side on the host, says what interface a container gets, and which rules the packet filter
needs. It keeps nothing: what it needs to know is in the network. A plugin offers one with
`engine.provide("network-driver", driver)`; the first of a name counts, ours come first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from .model import Network
from .netlink import Interface
from .records import EndpointRecord
from .rules import NetworkRules

if TYPE_CHECKING:
    from .networking import Networking


class NetworkDriver(Protocol):
    """See the top of this file. `name` is what `--driver` says.

    `has_host_end`: its interfaces have an end on the host, in a bridge of ours, so ports can be published.
    `has_addresses`: its networks have subnets. `is_single`: there is the predefined network, and no other.
    """

    @property
    def name(self) -> str: ...

    @property
    def has_host_end(self) -> bool: ...

    @property
    def has_addresses(self) -> bool: ...

    @property
    def is_single(self) -> bool: ...

    def check(self, network: Network, others: Iterable[Network]) -> Network:
        """Return the network with its options as they will be kept. Raises BadParameter, Denied for what is wrong.

        Called before the network has subnets; `others` are the networks that there are.
        """

    async def create(self, net: Networking, network: Network) -> None:
        """Make the network's side on the host; complete what is there. Nothing is left on failure."""

    async def delete(self, net: Networking, network: Network) -> None:
        """Take the network's side on the host away. Nothing there is fine."""

    def bridge(self, network: Network) -> str:
        """The device on the host that its interfaces are connected to; empty: none."""

    def interface(self, network: Network, endpoint: EndpointRecord, *, is_default: bool) -> Interface:
        """A container's interface; with the network's gateways when `is_default`."""

    def rules(self, network: Network) -> NetworkRules | None:
        """What the packet filter has to know; None: nothing."""
