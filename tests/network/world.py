"""An engine with networks and nothing else, on a host that only records: nothing needs root."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import trio

from windlass.engine import Engine, Job
from windlass.jobs.events import Log
from windlass.jobs.networks import (
    IPAM,
    EndpointNetworks,
    IPAMConfig,
    NetworkContainer,
    NetworkCreate,
    NetworkDelete,
    NetworkInfo,
    NetworkInspect,
    Networks,
)
from windlass.network.install import JOBS
from windlass.network.ipam import Subnet
from windlass.network.netlink import AddressInterface, Link
from windlass.network.networking import Networking

BRIDGE = "com.docker.network.bridge"


class Host:
    """Devices and routes of a host that is none."""

    def __init__(self) -> None:
        self.devices: dict[str, Link] = {"eth0": Link(2, "eth0", "", "", 0)}
        self.given: dict[str, list[AddressInterface]] = {}
        self.macs: dict[str, str] = {}
        self.taken: list[Subnet] = []
        self.failure: BaseException | None = None

    def links(self) -> list[Link]:
        return list(self.devices.values())

    def routes(self) -> list[Subnet]:
        return self.taken

    def addresses(self, name: str) -> list[AddressInterface]:
        return self.given.get(name, [])

    def create_bridge(
        self,
        name: str,
        addresses: Iterable[AddressInterface],
        mtu: int = 0,
        mac: str = "",
        alias: str = "",
        ensure: bool = False,
    ) -> None:
        if self.failure:
            raise self.failure
        old = self.devices.get(name)
        self.devices[name] = Link(9, name, "bridge", alias or (old.alias if old else ""), 0)
        self.given.setdefault(name, []).extend(addresses)
        self.macs[name] = mac

    def delete_link(self, name: str) -> None:
        if self.failure:
            raise self.failure
        self.devices.pop(name, None)


class Inline:
    """A network thread that is none."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)


class World:
    """An engine with networks and nothing else, and what it says."""

    def __init__(self, engine: Engine, net: Networking, host: Host) -> None:
        self.engine, self.net, self.host = engine, net, host
        self.events: list[tuple[str, str, dict[str, str]]] = []
        self.configured: list[str] = []
        self.running: dict[str, dict[str, NetworkContainer]] = {}

    async def create(self, name: str = "web", *pools: IPAMConfig, **values: Any) -> NetworkInfo:
        ipam = IPAM(Config=list(pools)) if pools else None
        created = await self.engine.call(NetworkCreate(Name=name, IPAM=ipam, **values))
        return await self.inspect(created.Id)

    async def inspect(self, name: str) -> NetworkInfo:
        return await self.engine.call(NetworkInspect(name=name))

    async def delete(self, name: str) -> None:
        await self.engine.call(NetworkDelete(name=name))

    async def names(self, **filters: list[str]) -> set[str]:
        return {each.Name for each in await self.engine.call(Networks(filters={**filters}))}

    def connect(self, network: NetworkInfo) -> None:
        self.running[network.Id] = {"c1": NetworkContainer("c", "e", "02:42:00:00:00:01", "10.1.0.2/24", "")}


async def enter(nursery: trio.Nursery) -> Engine:
    """An engine that runs until the nursery ends."""

    async def run(task_status: trio.TaskStatus[Engine]) -> None:
        async with Engine() as engine:
            task_status.started(engine)
            await trio.sleep_forever()

    engine: Engine = await nursery.start(run)
    return engine


def register(engine: Engine, world: World) -> None:
    async def log(job: Job[Log]) -> None:
        world.events.append((job.params.action, job.params.id, dict(job.params.attributes)))

    async def endpoint_networks(job: Job[EndpointNetworks]) -> list[str]:
        return world.configured

    engine.register("log", log)
    engine.register("endpoint_networks", endpoint_networks)
    for name in ("network_create", "networks", "network_inspect", "network_delete", "networks_prune"):
        engine.register(name, functools.partial(JOBS[name], world.net))
