"""Docker 1.3's other network jobs: allocate_port, link."""

from __future__ import annotations

import ipaddress

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError, NotFound
from windlass.jobs.container_config import PortBinding
from windlass.jobs.networks import AllocatedPort, AllocatePort, Link

from . import carry
from .connect import carrier
from .networking import Networking
from .rules import LinkRule
from .sandbox import keep

PROTOCOLS = ("tcp", "udp", "sctp")


async def allocate_port(net: Networking, job: Job[AllocatePort]) -> AllocatedPort:
    """Publish one more port of a running container, until it ends."""
    await net.up()
    params = job.params
    live = net.sandboxes.get(params.id)
    if live is None:
        raise NotFound(f"container {params.id} has no interfaces")
    if params.Proto not in PROTOCOLS:
        raise BadParameter(f"unsupported address type {params.Proto}", key="Proto")
    if not 0 < params.ContainerPort < 65536 or not 0 <= params.HostPort < 65536:
        raise BadParameter(f"invalid port: {params.ContainerPort}, {params.HostPort}", key="ContainerPort")
    async with live.lock:
        endpoint = carrier(net, live.record)
        if endpoint is None:
            raise BadParameter(f"container {params.id} is in no network that ports can be published from")
        network = net.networks.get(endpoint.network_id)
        binding = PortBinding(params.HostIP, str(params.HostPort or ""))
        bridge = net.drivers[network.driver].bridge(network)
        spec = f"{params.ContainerPort}/{params.Proto}"
        held = list(net.publisher(network).publish(spec, [binding], bridge, endpoint.settings))
        try:
            with trio.CancelScope(shield=True):
                await net.helper.ensure()
                for each in held:
                    await carry.add(net, live, each)
                ports = [*live.record.ports, *(each.record for each in held)]
                live.record = msgspec.structs.replace(live.record, ports=ports)
                await keep(net, live.record)
                await carry.watch(net, live)
        finally:
            for each in held:
                each.socket.close()
    return AllocatedPort(held[0].record.host_ip, held[0].record.host_port)


async def link(net: Networking, job: Job[Link]) -> None:
    """Let one container reach ports of another where containers cannot reach each other, or no more."""
    await net.up()
    params = job.params
    if params.action not in ("-I", "-D"):
        raise BadParameter(f"{params.action!r} is neither -I nor -D", key="action")
    for spec in params.Ports:
        rule = _rule(params, spec)
        try:
            if params.action == "-I":
                await net.firewall.add_link(rule)
                net.links.add(rule)
            else:
                net.links.discard(rule)
                await net.firewall.delete_link(rule)
        except (OSError, JobError):
            if not params.IgnoreErrors:
                raise


def _rule(params: Link, spec: str) -> LinkRule:
    port, _, proto = spec.partition("/")
    try:
        parent, child = ipaddress.ip_address(params.ParentIP), ipaddress.ip_address(params.ChildIP)
    except ValueError as exc:
        raise BadParameter(str(exc), key="ParentIP") from None
    if (proto or "tcp") not in PROTOCOLS or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadParameter(f"invalid port: {spec}", key="Ports")
    return LinkRule(str(parent), str(child), proto or "tcp", int(port))
