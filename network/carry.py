"""What of a sandbox is not in its namespace: map elements in the packet filter, ports and names at the helper."""

from __future__ import annotations

import contextlib
import os

import trio

from . import names
from .networking import Live, Networking
from .ports import Held, listens, rule
from .records import PortRecord


async def start(net: Networking, live: Live, held: list[Held]) -> None:
    """Give ports and names to those who carry them. When it raises, `stop` takes away what there is."""
    record = live.record
    if held or record.names:
        await net.helper.ensure()
    if record.names:
        await serve_names(net, live, live.namespace)
    for each in held:
        await add(net, live, each)


async def add(net: Networking, live: Live, held: Held) -> None:
    """Let one port lead into the container: its socket goes to the helper, which holds it, or listens on it too."""
    port = held.record
    if listens(port):
        await net.helper.proxy(
            live.record.id, port.proto, port.host_ip, port.host_port, port.address, port.port, held.socket
        )
    else:
        await net.helper.hold(live.record.id, port.proto, port.host_ip, port.host_port, held.socket)
    if net.settings.EnableIptables and not port.proxied:
        await net.firewall.add_port(rule(port))


async def drop(net: Networking, live: Live, port: PortRecord) -> None:
    """Take one port back."""
    if net.settings.EnableIptables and not port.proxied:
        await net.firewall.delete_port(rule(port))
    await net.helper.release_port(live.record.id, port.proto, port.host_ip, port.host_port)


async def serve_names(net: Networking, live: Live, namespace: int) -> None:
    """Let the helper answer at 127.0.0.11 in a namespace."""
    names.publish_links(net, live)
    names.publish_host(net, live)
    await names.publish(net, [each.network_id for each in live.record.endpoints])
    udp, tcp = await net.thread.run(net.netlink.open_dns, namespace)
    with udp, tcp:
        await net.helper.dns(live.record.id, udp, tcp)


async def watch(net: Networking, live: Live) -> None:
    """Let the helper give up what it has for a container when its first process ends."""
    if not live.record.ports and not live.record.names:
        return
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(live.record.pid)
        try:
            await net.helper.watch(live.record.id, pidfd)
        finally:
            os.close(pidfd)


async def stop(net: Networking, live: Live) -> None:
    """Take ports and names back. A port's map element goes before the port is free for somebody else."""
    record = live.record
    with trio.CancelScope(shield=True):
        if net.settings.EnableIptables:
            for port in record.ports:
                if not port.proxied:
                    await net.firewall.delete_port(rule(port))
        if record.ports or record.names:
            await net.helper.release(record.id)
        if record.names:
            net.helper.forget_host(record.id)
            net.helper.forget_zone(record.id)
            mine = net.sandboxes.pop(record.id, None)
            await names.publish(net, [each.network_id for each in record.endpoints])
            if mine:
                net.sandboxes[record.id] = mine
