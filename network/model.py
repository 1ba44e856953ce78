"""What a network is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from windlass.jobs.networks import IPAM, IPAMConfig

from .ipam import Pool, Subnet, make_pool

PREDEFINED = ("bridge", "host", "none")


class Network(msgspec.Struct, frozen=True, dict=True, eq=False):
    """A network as it is kept. `ipam` is resolved: its pools have subnets and gateways, chosen where nobody said one.

    `has_own_subnets`: its creator chose them, so containers may choose addresses. `config_from` is the name of the
    network that the configuration was copied from. `options` are the driver's, as they were given.
    """

    id: str
    name: str
    driver: str
    created_ns: int
    ipam: IPAM = IPAM()
    has_own_subnets: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    config_only: bool = False
    config_from: str = ""
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}

    @property
    def is_predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def is_default_bridge(self) -> bool:
        return self.name == "bridge"

    @cached_property
    def pools(self) -> dict[int, Pool]:
        """Its addresses by IP version, given ones included: they are this object's, not its copies'."""
        owner = f"{self.name} ({self.id})"
        found: dict[int, Pool] = {}
        if not self.config_only:
            for each in self.ipam.Config or ():
                pool = make_pool(each, owner)
                found.setdefault(pool.version, pool)
        return found

    def pool(self, version: int) -> Pool | None:
        """Its IPv4 or IPv6 addresses, if it has such."""
        return self.pools.get(version)

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        return tuple(each.subnet for each in self.pools.values())


def config_of(network: Network, version: int) -> IPAMConfig | None:
    """The pool's configuration."""
    configs = network.ipam.Config or ()
    return next((each for each in configs if (":" in each.Subnet) == (version == 6)), None)
