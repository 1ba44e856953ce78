"""Networks of running containers: joined and left while processes are in the namespace.

network_connect      the client's: looks the network up, hands on to the daemon, which owns what is configured
interface_plug       the daemon's, for containers that run: one more interface in the namespace
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict, NotFound
from windlass.jobs.container_config import EndpointSettings, PortBinding
from windlass.jobs.networks import (
    AllocateInterface,
    EndpointAdd,
    EndpointRemove,
    InterfacePlug,
    InterfaceUnplug,
    NetworkConnect,
    NetworkDisconnect,
    Sandbox,
)

from . import carry, names
from .model import Network
from .networking import Live, Networking
from .ports import Held
from .records import EndpointRecord, SandboxRecord, view
from .sandbox import DEFAULT, give_back, in_order, keep, take


async def network_connect(net: Networking, job: Job[NetworkConnect]) -> None:
    """Put a container into one more network, at once when it runs."""
    await net.up()
    network = net.networks.get(job.params.name)
    settings = job.params.EndpointConfig or EndpointSettings()
    await net.engine.call(EndpointAdd(job.params.Container, network.name, network.id, settings))


async def network_disconnect(net: Networking, job: Job[NetworkDisconnect]) -> None:
    """Take a container out of a network."""
    await net.up()
    network, params = net.networks.get(job.params.name), job.params
    await net.engine.call(EndpointRemove(params.Container, network.name, network.id, params.Force))


async def interface_plug(net: Networking, job: Job[InterfacePlug]) -> Sandbox:
    """Give a running container an interface on one more network."""
    await net.up()
    params = job.params
    network = net.networks.get(params.network)
    # A container that was started with no network at all has no sandbox yet.
    new = Live(SandboxRecord(params.id, params.name, params.hostname, endpoints=[], pid=params.pid))
    live = net.sandboxes.setdefault(params.id, new)
    try:
        with net.networks.using(network):
            await _join(net, live, network, params)
    except BaseException:
        if live is new and not live.record.endpoints:
            net.sandboxes.pop(params.id, None)
            with trio.CancelScope(shield=True):
                await net.store.forget_sandbox(params.id)
        raise
    await net.tell(network, "connect", params.id)
    return view(live.record)


async def _join(net: Networking, live: Live, network: Network, params: InterfacePlug) -> None:
    async with live.lock, AsyncExitStack() as undo:
        record = live.record
        if any(each.network_id == network.id for each in record.endpoints):
            raise Conflict(f"endpoint with name {record.name} already exists in network {network.name}")
        await net.make(network)
        asked = AllocateInterface(id=record.id, name=record.name, hostname=record.hostname)
        endpoint = take(net, undo.callback, asked, network, params.settings, _free(record))
        with trio.CancelScope(shield=True):
            await _reshape(net, live, [*record.endpoints, endpoint], params.pid, undo)
            undo.pop_all()


async def interface_unplug(net: Networking, job: Job[InterfaceUnplug]) -> Sandbox:
    """Take a running container's interface on a network away."""
    await net.up()
    params = job.params
    live, network = _live(net, params.id), net.networks.get(params.network)
    async with live.lock:
        gone = [each for each in live.record.endpoints if each.network_id == network.id]
        if not gone:
            raise NotFound(f"container {params.id} is not connected to network {network.name}")
        rest = [each for each in live.record.endpoints if each.network_id != network.id]
        with trio.CancelScope(shield=True):
            async with AsyncExitStack() as undo:
                await _reshape(net, live, rest, params.pid, undo)
                undo.pop_all()
            for each in gone:
                give_back(net, each)
    await net.tell(network, "disconnect", params.id)
    return view(live.record)


async def _reshape(
    net: Networking, live: Live, endpoints: list[EndpointRecord], pid: int, undo: AsyncExitStack
) -> None:
    """Make a running container's endpoints what is given: interfaces, default route, ports, names.

    Ports stay where they are on the host, and lead to the first network's address.
    """
    old = live.record
    networks = {each.network_id: net.networks.get(each.network_id) for each in endpoints}
    ordered = in_order(net, {each.network_id: each.settings for each in endpoints})
    by_id = {each.network_id: each for each in endpoints}
    endpoints = [by_id[network.id] for network, _ in ordered]
    added = [each for each in endpoints if each not in old.endpoints]
    removed = [each for each in old.endpoints if each not in endpoints]
    new = msgspec.structs.replace(
        old, endpoints=endpoints, names=old.names or any(each.network != DEFAULT for each in endpoints)
    )
    with namespace_of(pid) as namespace:
        undo.push_async_callback(keep, net, old)
        await keep(net, msgspec.structs.replace(old, changing=[each.interface for each in (*added, *removed)]))
        gone = [each.interface for each in removed]
        await net.thread.run(change, net, namespace, networks, added, gone, endpoints)
        undo.push_async_callback(_take_back, net, live, old, pid, added)
        if carrier(net, old) != carrier(net, new):
            new = await _republish(net, live, new)
        live.record = new
        await keep(net, new)
        if new.names and not old.names:
            await net.helper.ensure()
            await carry.serve_names(net, live, namespace)
            await carry.watch(net, live)
        elif new.names:
            names.publish_links(net, live)
            names.publish_host(net, live)
    await names.publish(net, [each.network_id for each in (*old.endpoints, *endpoints)])


async def _take_back(net: Networking, live: Live, old: SandboxRecord, pid: int, added: list[EndpointRecord]) -> None:
    """Undo a change that failed: its interfaces go, ports lead where they led. The container may have ended."""
    live.record = old
    await net.refresh_rules()
    with suppress(NotFound), namespace_of(pid) as namespace:
        await net.thread.run(change, net, namespace, {}, [], [each.interface for each in added], [])


def change(
    net: Networking,
    namespace: int,
    networks: dict[str, Network],
    added: list[EndpointRecord],
    removed: list[str],
    endpoints: list[EndpointRecord],
) -> None:
    """In the network thread: interfaces go and come, then the default route is the first endpoint's."""
    for name in removed:
        net.netlink.unplug(namespace, name)
    for each in added:
        driver = net.drivers[networks[each.network_id].driver]
        net.netlink.plug(namespace, driver.interface(networks[each.network_id], each, is_default=False))
    if endpoints:
        first = net.drivers[networks[endpoints[0].network_id].driver].interface(
            networks[endpoints[0].network_id], endpoints[0], is_default=True
        )
        net.netlink.replace_default(namespace, first.gateway4, first.gateway6, first.name)


def carrier(net: Networking, record: SandboxRecord) -> EndpointRecord | None:
    """The endpoint that published ports lead to: the first on a network that can be reached from outside."""
    for each in record.endpoints:
        network = net.networks.find(each.network_id)
        if network and not network.internal and net.drivers[network.driver].has_host_end:
            return each
    return None


async def _republish(net: Networking, live: Live, new: SandboxRecord) -> SandboxRecord:
    """Let the published ports lead to another endpoint; on the host they stay what they are."""
    if not new.ports:
        return new
    # Whoever rewrites all rules meanwhile must not write those of these ports.
    live.record = msgspec.structs.replace(live.record, ports=[])
    for port in new.ports:
        await carry.drop(net, live, port)
    endpoint = carrier(net, new)
    if endpoint is None:
        return msgspec.structs.replace(new, ports=[])
    network = net.networks.get(endpoint.network_id)
    publisher, bridge = net.publisher(network), net.drivers[network.driver].bridge(network)
    held: list[Held] = []
    try:
        for port in new.ports:
            binding = PortBinding(port.host_ip, str(port.host_port))
            held += publisher.publish(f"{port.port}/{port.proto}", [binding], bridge, endpoint.settings)
        for each in held:
            await carry.add(net, live, each)
    finally:
        for each in held:
            each.socket.close()
    return msgspec.structs.replace(new, ports=[each.record for each in held])


def _live(net: Networking, id: str) -> Live:
    if id not in net.sandboxes:
        raise NotFound(f"container {id} has no interfaces")
    return net.sandboxes[id]


def _free(record: SandboxRecord) -> str:
    """The first `ethN` that no interface of the container is."""
    taken = {int(match[0]) for each in record.endpoints if (match := re.search(r"\d+$", each.interface))}
    return f"eth{next(number for number in range(len(taken) + 1) if number not in taken)}"


@contextmanager
def namespace_of(pid: int) -> Iterator[int]:
    """The network namespace of a process, as a descriptor. Raises NotFound when the process has ended."""
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"process {pid} has ended") from None
    try:
        yield fd
    finally:
        os.close(fd)
