"""What all network jobs share: the kernel's handles, the networks, the sandboxes, the way to tell events.

Coming up takes time (importing the netlink library alone is 0.2 s), so it goes on in the background while the daemon
serves; jobs that need the kernel wait for it in `up`. Nothing is made on the host before somebody needs it: the
default bridge, the packet filter's table and the helper come with the first container, and go when the daemon ends
with no container left. What containers use stays: it works without a daemon.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from windlass.engine import Engine
from windlass.engine.errors import JobError, Unavailable
from windlass.engine.job import current
from windlass.jobs.events import Log
from windlass.jobs.networks import InitNetworkdriver, NetworkContainer

from .driver import NetworkDriver
from .firewall import Firewall
from .helper import Helper
from .model import Network
from .netlink import Netlink
from .ports import Publisher, rule
from .records import EndpointRecord, SandboxRecord
from .registry import Registry
from .rules import LinkRule, NetworkRules, Port
from .store import Store
from .thread import NetworkThread

REAP_DELAY = 0.5  # seconds that a namespace has to go by itself, with its interfaces: deleting one takes 10 ms

logger = logging.getLogger("windlass.network")


@dataclass(eq=False)
class Live:
    """A sandbox as this daemon has it. `namespace` is a descriptor of ours, -1 when the container itself holds it."""

    record: SandboxRecord
    namespace: int = -1
    lock: trio.Lock = field(default_factory=trio.Lock)


class Networking:
    """The network subsystem's own parts; see the top of this file."""

    def __init__(
        self,
        engine: Engine,
        nursery: trio.Nursery,
        store: Store,
        settings: InitNetworkdriver,
        *,
        folder: Path,
        table: str,
        program: str,
    ) -> None:
        self.engine = engine
        self.nursery = nursery
        self.store = store
        self.settings = settings
        self.table = table
        self.bridge = settings.BridgeIface or ("windlass0" if table == "windlass" else f"wl-{table[-8:]}")
        self.thread = NetworkThread()
        self.firewall = Firewall(self.thread, table, settings.EnableIpForward)
        self.helper = Helper(folder, program)
        self.networks = Registry()
        self.drivers: Mapping[str, NetworkDriver] = {}
        self.sandboxes: dict[str, Live] = {}
        self.links: set[LinkRule] = set()
        self.plugging: dict[str, trio.Lock] = {}  # by network: its bridge is made once
        self.made: set[str] = set()  # networks whose side on the host is there
        self._publishers: dict[str, Publisher] = {}
        self._netlink: Netlink | None = None
        self.is_reconciled = trio.Event()  # who runs is known
        self.background = trio.CancelScope()  # around `come_up`, until `close`
        self.is_over = trio.Event()  # nothing goes on in the background any more
        self._is_up = trio.Event()
        self._failure = ""

    # -- coming up ---------------------------------------------------------------------------------------------------

    @property
    def netlink(self) -> Netlink:
        assert self._netlink is not None, "await up() first"
        return self._netlink

    async def open(self) -> None:
        """Start the thread and, in it, the netlink library."""
        self.thread.start()
        self._netlink = await self.thread.run(Netlink)

    def is_ready(self, failure: str = "") -> None:
        """Let those go on who wait in `up`; with `failure` they are refused."""
        self._failure = failure
        self._is_up.set()

    async def up(self) -> None:
        """Wait until networks can be used. Raises Unavailable when they cannot."""
        await self._is_up.wait()
        if self._failure:
            raise Unavailable(f"networks cannot be used: {self._failure}")

    # -- the host's side of networks ---------------------------------------------------------------------------------

    async def make(self, network: Network) -> None:
        """Make a network's side on the host, once: after a reboot, or for the default bridge's first container."""
        async with self.plugging.setdefault(network.id, trio.Lock()):
            if network.id in self.made:
                return
            await self.drivers[network.driver].create(self, network)
            self.made.add(network.id)
            await self.refresh_rules()

    async def unmake(self, network: Network) -> None:
        """Take a network's side on the host away."""
        async with self.plugging.setdefault(network.id, trio.Lock()):
            if network.id in self.made:
                self.made.discard(network.id)
                await self.refresh_rules()
                await self.drivers[network.driver].delete(self, network)
        self.plugging.pop(network.id, None)

    def rules(self) -> list[NetworkRules]:
        """The rules of all networks that are there."""
        found = (self.drivers[each.driver].rules(each) for each in self.networks if each.id in self.made)
        return [rules for rules in found if rules is not None]

    async def refresh_rules(self) -> None:
        """Make the packet filter's table say what is so; all at once."""
        if not self.settings.EnableIptables:
            return
        networks = self.rules()
        if networks:
            await self.firewall.apply(networks, list(self._ports()), sorted(self.links))
        else:
            await self.firewall.remove()

    def _ports(self) -> Iterable[Port]:
        for live in self.sandboxes.values():
            yield from (rule(port) for port in live.record.ports if not port.proxied)

    def publisher(self, network: Network) -> Publisher:
        """Who binds the ports of a network's containers: by default where the network says, or the daemon."""
        binding = network.options.get("com.docker.network.bridge.host_binding_ipv4") or self.settings.DefaultBindingIP
        return self._publishers.setdefault(binding, Publisher(binding, self.settings.UserlandProxy, self._has_port))

    def _has_port(self, proto: str, number: int) -> bool:
        records = (port for live in self.sandboxes.values() for port in live.record.ports)
        return any((port.proto, port.host_port) == (proto, number) for port in records)

    def host_gateway(self, endpoints: list[EndpointRecord]) -> str:
        """What `host-gateway` stands for: as configured, or the host's address on the first bridge."""
        gateways = (each.settings.Gateway or each.settings.IPv6Gateway for each in endpoints)
        return next(iter(self.settings.HostGateway), "") or next(filter(None, gateways), "")

    def reap(self, host_names: list[str]) -> None:
        """Delete veths of namespaces that somebody else still holds; most are gone by themselves until then."""
        self.nursery.start_soon(self._reap, host_names)

    async def _reap(self, host_names: list[str]) -> None:
        current.set(None)
        await trio.sleep(REAP_DELAY)
        for name in host_names:
            try:
                await self.thread.run(self.netlink.delete_link, name)
            except OSError:
                logger.exception("interface %s could not be deleted", name)

    # -- sandboxes ---------------------------------------------------------------------------------------------------

    def active(self, network_id: str) -> dict[str, NetworkContainer]:
        """The running containers of a network, by id, as `network_inspect` shows them."""
        return {
            id: _as_container(live.record, each)
            for id, live in self.sandboxes.items()
            for each in live.record.endpoints
            if each.network_id == network_id
        }

    async def tell(self, network: Network, action: str, container: str) -> None:
        """Tell the event's listeners that a container came or went; that nobody can hear it hurts nobody."""
        attributes = {"container": container, "name": network.name, "type": network.driver}
        with suppress(JobError):
            await self.engine.call(Log(action=action, id=network.id, type="network", attributes=attributes))

    async def close(self) -> None:
        """Let go of the kernel. Without a container, nothing is left on the host either."""
        if self.is_reconciled.is_set():
            await self._is_up.wait()  # what an earlier daemon left is known then
        self.background.cancel()
        await self.is_over.wait()
        if self._is_up.is_set() and not self._failure and not self.sandboxes:
            await _quietly(self.firewall.remove)
            for network in [each for each in self.networks if not each.config_only]:
                await _quietly(self.drivers[network.driver].delete, self, network)
            await _quietly(self.helper.stop)
        self.thread.close()


async def _quietly(step: Callable[..., Awaitable[object]], *args: object) -> None:
    try:
        await step(*args)
    except (OSError, JobError):
        logger.exception("cleaning up")


def _as_container(record: SandboxRecord, endpoint: EndpointRecord) -> NetworkContainer:
    settings = endpoint.settings
    return NetworkContainer(
        Name=record.name,
        EndpointID=endpoint.endpoint_id,
        MacAddress=settings.MacAddress,
        IPv4Address=f"{settings.IPAddress}/{settings.IPPrefixLen}" if settings.IPAddress else "",
        IPv6Address=(
            f"{settings.GlobalIPv6Address}/{settings.GlobalIPv6PrefixLen}" if settings.GlobalIPv6Address else ""
        ),
    )
