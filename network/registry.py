"""All networks of this daemon, by id and by name; and what is held for those that come or go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from windlass.engine.errors import BadParameter, Conflict, NotFound

from . import predefined
from .ipam import Subnet, check_overlap, new_ula
from .model import PREDEFINED, Network

if TYPE_CHECKING:
    from .networking import Networking

logger = logging.getLogger("windlass.network")


class Registry:
    """See the top of this file. Nothing in it waits, but for `load` and `prepare`, which start it."""

    def __init__(self) -> None:
        self._by_id: dict[str, Network] = {}
        self._by_name: dict[str, str] = {}
        self._held: dict[str, tuple[Subnet, ...]] = {}
        self._users: Counter[str] = Counter()
        self.space = predefined.Space()

    # -- starting ----------------------------------------------------------------------------------------------------

    async def load(self, net: Networking) -> None:
        """Read the networks that there are and make the predefined ones. Raises BadParameter for bad settings."""
        ula = await net.store.fact("ula", new_ula())
        self.space = predefined.Space(net.settings.Pools, ula)
        stored = await net.store.load_networks()
        for name, network in stored.items():
            if network is None:
                self._held[name] = ()
            elif name not in PREDEFINED:
                self._load(net, network)
        for network in predefined.networks(net.settings, net.bridge, self.space, stored, self.taken()):
            await self._renew(net, network, stored.get(network.name))

    async def prepare(self, net: Networking) -> None:
        """Let the default bridge's subnet be one that the host does not use otherwise. Netlink is open."""
        old = self.find("bridge")
        if old is None:
            return
        new = await predefined.settle(net, old, self.space, self.taken(besides=old))
        if new is not old:
            await self._renew(net, new, old)

    def _load(self, net: Networking, network: Network) -> None:
        if network.config_only or network.driver in net.drivers:
            self.add(network)
            return
        logger.error(
            "network %s needs the driver %s, which is not there, leaving it alone", network.name, network.driver
        )
        self._held[network.name] = network.subnets

    async def _renew(self, net: Networking, network: Network, old: Network | None) -> None:
        if old is None or not _same(network, old):
            await net.store.put_network(network)
        if network.id in self._by_id:
            self.remove(network)
        self._held.pop(network.name, None)
        self.add(network)

    # -- looking up --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Network]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def get(self, word: str) -> Network:
        """The network of this id, name or unique prefix of an id, in that order. Raises NotFound, BadParameter."""
        found = self._find(word)
        if not found:
            raise NotFound(f"network {word} not found", name=word)
        if len(found) > 1:
            raise BadParameter(
                f"network {word} is ambiguous ({len(found)} matches found based on ID prefix)", key="name"
            )
        return found[0]

    def find(self, word: str) -> Network | None:
        """`get`; None where that raises."""
        found = self._find(word)
        return found[0] if len(found) == 1 else None

    def _find(self, word: str) -> list[Network]:
        if word in self._by_id:
            return [self._by_id[word]]
        if word in self._by_name:
            return [self._by_id[self._by_name[word]]]
        return [network for id, network in self._by_id.items() if word and id.startswith(word)]

    # -- coming and going --------------------------------------------------------------------------------------------

    def add(self, network: Network) -> None:
        self._by_id[network.id] = network
        self._by_name[network.name] = network.id

    def remove(self, network: Network) -> None:
        del self._by_id[network.id]
        del self._by_name[network.name]

    def taken(self, besides: Network | None = None) -> list[Subnet]:
        """All subnets of networks, those included that are just being made or deleted."""
        mine = [subnet for each in self if besides is None or each.id != besides.id for subnet in each.subnets]
        return mine + [subnet for subnets in self._held.values() for subnet in subnets]

    def check_name(self, name: str) -> None:
        """Raise Conflict when a network has the name."""
        if name in self._by_name or name in self._held:
            raise Conflict(f"network with name {name} already exists", name=name)

    @contextmanager
    def hold(self, network: Network) -> Iterator[None]:
        """Keep name and subnets of a network that is not in the table for others to fail at; it may be put there.

        Raises Conflict, Denied when they are taken.
        """
        self.check_name(network.name)
        for subnet in network.subnets:
            check_overlap(subnet, self.taken())
        self._held[network.name] = network.subnets
        try:
            yield
        finally:
            self._held.pop(network.name, None)

    @contextmanager
    def using(self, network: Network) -> Iterator[None]:
        """Keep a network from being deleted: a container is on its way into it."""
        self._users[network.id] += 1
        try:
            yield
        finally:
            self._users[network.id] -= 1
            if not self._users[network.id]:
                del self._users[network.id]

    def is_used(self, network: Network) -> bool:
        """True while somebody is `using` it, or it is what another one was configured by."""
        return network.id in self._users or (
            network.config_only and any(each.config_from == network.name for each in self)
        )


def _same(one: Network, other: Network) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in one.__struct_fields__)
