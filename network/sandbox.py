"""A container's network, from its start to its end: allocate_interface, sandbox_watch, release_interface.

    plan      networks looked up, addresses taken (in memory, between two awaits), names derived
    record    written to the exec root: what a crash leaves is found by it
    ports     bound on the host
    plug      namespace and interfaces, in the network thread
    carry     names and ports handed to the helper, map elements to the packet filter

Each step is undone when a later one fails. At the end the namespace takes interfaces and addresses along by itself.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, NotFound
from windlass.jobs.container_config import EndpointIPAMConfig, EndpointSettings, PortBinding
from windlass.jobs.networks import AllocateInterface, ReleaseInterface, Sandbox, SandboxRename, SandboxWatch

from . import carry, names
from .model import Network
from .networking import Live, Networking
from .ports import Held, Publisher
from .records import EndpointRecord, SandboxRecord, view

DEFAULT = "bridge"


async def allocate_interface(net: Networking, job: Job[AllocateInterface]) -> Sandbox:
    """Make a container's network namespace with its interfaces, addresses, routes, ports and names."""
    params = job.params
    await net.up()
    if params.id in net.sandboxes:
        raise Conflict(f"container {params.id} has its interfaces already")
    async with AsyncExitStack() as undo, AsyncExitStack() as using:
        wanted = in_order(net, _wanted(params))
        for network, _ in wanted:
            using.enter_context(net.networks.using(network))
        for network, _ in wanted:
            await net.make(network)
        endpoints = [
            take(net, undo.callback, params, network, settings, f"eth{number}")
            for number, (network, settings) in enumerate(wanted)
        ]
        held = _publish(net, undo, params, wanted, endpoints)
        live = Live(_record(net, params, endpoints, held))
        net.sandboxes[params.id] = live
        undo.callback(net.sandboxes.pop, params.id, None)
        with trio.CancelScope(shield=True):
            undo.push_async_callback(net.store.forget_sandbox, params.id)
            await keep(net, live.record)
            await _plug(net, undo, live, [network for network, _ in wanted], params.namespace)
            undo.push_async_callback(carry.stop, net, live)
            await carry.start(net, live, held)
            undo.pop_all()
    for each in held:
        each.socket.close()
    for network, _ in wanted:
        await net.tell(network, "connect", params.id)
    return view(live.record, f"/proc/{os.getpid()}/fd/{live.namespace}")


async def sandbox_watch(net: Networking, job: Job[SandboxWatch]) -> None:
    """Tie a container's sandbox to its first process, which has joined the namespace."""
    live = net.sandboxes.get(job.params.id)
    if live is None:
        raise NotFound(f"container {job.params.id} has no interfaces")
    live.record = msgspec.structs.replace(live.record, pid=job.params.pid)
    if live.namespace >= 0:
        os.close(live.namespace)
        live.namespace = -1
    await keep(net, live.record)
    await carry.watch(net, live)


async def release_interface(net: Networking, job: Job[ReleaseInterface]) -> None:
    """Take back what a container had; nothing there is fine."""
    live = net.sandboxes.get(job.params.id)
    if live is None:
        return
    with trio.CancelScope(shield=True):
        async with live.lock:
            if net.sandboxes.pop(live.record.id, None) is not None:
                await release(net, live)


async def release(net: Networking, live: Live) -> None:
    """Take back what the sandbox has, which is in the table no more."""
    await net.up()
    await carry.stop(net, live)
    if live.namespace >= 0:
        os.close(live.namespace)
        live.namespace = -1
    for each in live.record.endpoints:
        give_back(net, each)
    await net.store.forget_sandbox(live.record.id)
    net.reap([each.host_name for each in live.record.endpoints if each.host_name])
    for each in live.record.endpoints:
        if network := net.networks.find(each.network_id):
            await net.tell(network, "disconnect", live.record.id)


async def sandbox_rename(net: Networking, job: Job[SandboxRename]) -> None:
    """Give a running container another name in the networks that resolve names."""
    live = net.sandboxes.get(job.params.id)
    if live is None:
        return
    async with live.lock:
        old, new = live.record.name, job.params.name
        endpoints = [names.renamed(each, old, new) for each in live.record.endpoints]
        live.record = msgspec.structs.replace(live.record, name=new, endpoints=endpoints)
        await keep(net, live.record)
        await names.publish(net, [each.network_id for each in endpoints])


async def keep(net: Networking, record: SandboxRecord) -> None:
    """Write what a container has to the exec root."""
    await net.store.put_sandbox(record.id, msgspec.json.encode(record))


# -- endpoints -------------------------------------------------------------------------------------------------------


def _wanted(params: AllocateInterface) -> dict[str, EndpointSettings]:
    """The endpoints asked for, with what Docker 1.3 asks for beside them."""
    replace = msgspec.structs.replace
    wanted = dict(params.endpoints) or {DEFAULT: EndpointSettings()}
    first = next(iter(wanted))
    if params.RequestedIP:
        wanted[first] = replace(wanted[first], IPAMConfig=EndpointIPAMConfig(IPv4Address=params.RequestedIP))
    if params.RequestedMac:
        wanted[first] = replace(wanted[first], MacAddress=params.RequestedMac)
    return wanted


def in_order(net: Networking, wanted: dict[str, EndpointSettings]) -> list[tuple[Network, EndpointSettings]]:
    """Look the networks up; the one whose gateway is the container's comes first. Raises NotFound, Conflict."""
    found = [(net.networks.get(name), settings) for name, settings in wanted.items()]
    if len({network.id for network, _ in found}) < len(found):
        raise Conflict("a container can be in a network only once")
    for network, _ in found:
        if network.config_only:
            raise BadParameter(f"cannot attach to config-only network {network.name}")
    return sorted(found, key=lambda each: (each[0].internal, -each[1].GwPriority, each[0].name))


def take(
    net: Networking,
    undo: Callable[..., object],
    params: AllocateInterface,
    network: Network,
    settings: EndpointSettings,
    interface: str,
) -> EndpointRecord:
    """Take a network's addresses for an endpoint; `undo` is called with what gives them back. Raises, keeping none."""
    id = secrets.token_hex(32)
    filled = msgspec.structs.replace(
        settings, NetworkID=network.id, EndpointID=id, Gateway="", IPAddress="", IPPrefixLen=0,
        IPv6Gateway="", GlobalIPv6Address="", GlobalIPv6PrefixLen=0,
    )  # fmt: skip
    asked = settings.IPAMConfig or EndpointIPAMConfig()
    for version, text in ((4, asked.IPv4Address), (6, asked.IPv6Address)):
        pool = network.pool(version)
        if pool is None:
            if text:
                raise BadParameter(
                    f"invalid config for network {network.name}: no IPv{version} subnet to take {text} of"
                )
            continue
        if text and not network.has_own_subnets:
            raise BadParameter(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        address = pool.allocate(ipaddress.ip_address(text) if text else None)
        undo(pool.release, address)
        gateway = "" if network.internal or pool.gateway is None else str(pool.gateway)
        filled = _with_address(filled, address, pool.subnet.prefixlen, gateway)
    filled = msgspec.structs.replace(filled, MacAddress=settings.MacAddress or _mac(filled.IPAddress))
    filled = msgspec.structs.replace(filled, DNSNames=names.of(network, params, filled))
    prefix = network.options.get("com.docker.network.container_iface_prefix", "eth")
    return EndpointRecord(
        network_id=network.id,
        network=network.name,
        endpoint_id=id,
        interface=interface.replace("eth", prefix, 1),
        host_name=f"wl{id[:12]}" if net.drivers[network.driver].has_host_end else "",
        settings=filled,
    )


def give_back(net: Networking, endpoint: EndpointRecord) -> None:
    """Give an endpoint's addresses back to its network, if that is still there."""
    network = net.networks.find(endpoint.network_id)
    if network is None:
        return
    for version, text in ((4, endpoint.settings.IPAddress), (6, endpoint.settings.GlobalIPv6Address)):
        if text and (pool := network.pool(version)) is not None:
            pool.release(ipaddress.ip_address(text))


def _with_address(
    settings: EndpointSettings, address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int, gateway: str
) -> EndpointSettings:
    replace = msgspec.structs.replace
    if address.version == 4:
        return replace(settings, IPAddress=str(address), IPPrefixLen=length, Gateway=gateway)
    return replace(settings, GlobalIPv6Address=str(address), GlobalIPv6PrefixLen=length, IPv6Gateway=gateway)


def _mac(address: str) -> str:
    """A MAC address of the IPv4 address, as Docker makes them, so that neighbours need not learn a new one."""
    tail = ipaddress.IPv4Address(address).packed if address else secrets.token_bytes(4)
    return "02:42:" + ":".join(f"{byte:02x}" for byte in tail)


# -- ports and plugs -------------------------------------------------------------------------------------------------


def publishable(params: AllocateInterface) -> dict[str, list[PortBinding]]:
    """What is to be published, by `PORT/PROTO`; with `publish_all` the exposed ports too."""
    wanted = {spec: list(bindings) for spec, bindings in params.ports.items() if bindings}
    if params.publish_all:
        wanted |= {spec: [PortBinding()] for spec in params.exposed if spec not in wanted}
    return wanted


def _publish(
    net: Networking,
    undo: AsyncExitStack,
    params: AllocateInterface,
    wanted: list[tuple[Network, EndpointSettings]],
    endpoints: list[EndpointRecord],
) -> list[Held]:
    held: list[Held] = []
    for network, endpoint in zip((network for network, _ in wanted), endpoints, strict=True):
        driver = net.drivers[network.driver]
        if not network.internal and driver.has_host_end:
            publisher: Publisher = net.publisher(network)
            try:
                for spec, bindings in publishable(params).items():
                    for each in publisher.publish(spec, bindings, driver.bridge(network), endpoint.settings):
                        undo.callback(each.socket.close)
                        held.append(each)
            except Conflict as exc:
                name = f"{params.name} ({endpoint.endpoint_id})"
                raise Conflict(
                    f"driver failed programming external connectivity on endpoint {name}: {exc.message}"
                ) from None
            break
    return held


async def _plug(net: Networking, undo: AsyncExitStack, live: Live, networks: Iterable[Network], given: str) -> None:
    interfaces = [
        net.drivers[network.driver].interface(network, endpoint, is_default=number == 0)
        for number, (network, endpoint) in enumerate(zip(networks, live.record.endpoints, strict=True))
    ]

    def plug() -> int:
        namespace = net.netlink.take_namespace(given) if given else net.netlink.new_namespace()
        try:
            for interface in interfaces:
                net.netlink.plug(namespace, interface)
        except BaseException:
            os.close(namespace)
            raise
        return namespace

    live.namespace = await net.thread.run(plug)
    undo.callback(os.close, live.namespace)


def _record(
    net: Networking, params: AllocateInterface, endpoints: list[EndpointRecord], held: list[Held]
) -> SandboxRecord:
    exposed = dict.fromkeys([*params.exposed, *params.ports])
    return SandboxRecord(
        id=params.id,
        name=params.name,
        hostname=params.hostname,
        endpoints=endpoints,
        ports=[each.record for each in held],
        exposed=list(exposed),
        nameservers=params.nameservers,
        names=any(each.network != DEFAULT for each in endpoints),
        host_gateway=net.host_gateway(endpoints),
    )
