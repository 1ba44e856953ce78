"""Coming up: what runs is kept as it is, the rest of what an earlier daemon made is taken away.

Containers do not notice: namespaces, interfaces, rules and the helper are all there without a daemon. What is looked
for, and by which sign it is known to be ours:

    bridges              the alias `windlass:TABLE`; one that no network has is deleted
    veths                their bridge, one of ours; one that no sandbox has is deleted
    map elements         the whole table, which is rewritten in one transaction
    helper's containers  what it lists; one without a sandbox is released
"""

from __future__ import annotations

import ipaddress
import logging
import socket

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import JobError
from windlass.engine.job import current
from windlass.jobs.networks import Sandbox, SandboxesReconcile

from . import carry, names
from .connect import change, namespace_of
from .networking import Live, Networking
from .ports import Held, bind
from .records import SandboxRecord, view
from .sandbox import keep

logger = logging.getLogger("windlass.network")


async def sandboxes_reconcile(net: Networking, job: Job[SandboxesReconcile]) -> dict[str, Sandbox]:
    """Keep the sandboxes of the containers that run, and take the others away. Answers what is kept, by id."""
    for id, encoded in (await net.store.load_sandboxes()).items():
        record = _decode(id, encoded)
        if record is not None and record.id in job.params.running:
            net.sandboxes[id] = Live(msgspec.structs.replace(record, pid=job.params.running[id]))
        else:
            net.helper.forget_host(id)
            net.helper.forget_zone(id)
            await net.store.forget_sandbox(id)
    net.is_reconciled.set()
    return {id: view(live.record) for id, live in net.sandboxes.items()}


async def come_up(net: Networking) -> None:
    """Open the kernel's handles, bring the host to agree, and follow what happens there. Never raises."""
    current.set(None)  # the job that asked for this ends; this goes on
    try:
        with net.background:
            await _open(net)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow_helper, net)
                if net.settings.EnableIptables:
                    nursery.start_soon(net.firewall.watch)
    except* (OSError, JobError, ImportError) as failures:
        logger.exception("networks cannot be used")
        net.is_ready(str(failures.exceptions[0]) or "unknown")
    finally:
        net.is_over.set()


async def _open(net: Networking) -> None:
    await net.open()
    await net.networks.prepare(net)
    await net.is_reconciled.wait()
    _reserve(net)
    await _clean(net)
    await _restore(net)
    net.is_ready()


def _decode(id: str, encoded: bytes) -> SandboxRecord | None:
    try:
        return msgspec.json.decode(encoded, type=SandboxRecord)
    except msgspec.DecodeError as exc:
        logger.error("the sandbox of container %s cannot be read: %s", id, exc)
        return None


def _reserve(net: Networking) -> None:
    """Take the addresses that running containers have."""
    for live in net.sandboxes.values():
        for each in live.record.endpoints:
            network = net.networks.find(each.network_id)
            for version, text in ((4, each.settings.IPAddress), (6, each.settings.GlobalIPv6Address)):
                pool = network.pool(version) if network else None
                if pool is not None and text:
                    pool.reserve(ipaddress.ip_address(text))


async def _clean(net: Networking) -> None:
    """Delete interfaces that nobody has."""
    links = await net.thread.run(net.netlink.links)
    ours = {link.index: link for link in links if link.alias == f"windlass:{net.table}"}
    known = {net.drivers[each.driver].bridge(each) for each in net.networks if net.drivers[each.driver].has_host_end}
    used = {each.host_name for live in net.sandboxes.values() for each in live.record.endpoints}
    veths = [link.name for link in links if link.master in ours and link.name not in used]
    bridges = [link.name for link in ours.values() if link.name not in known]
    for name in [*veths, *bridges]:
        logger.info("interface %s is nobody's: deleting it", name)
        await net.thread.run(net.netlink.delete_link, name)


async def _restore(net: Networking) -> None:
    """Make what running containers need: bridges, rules, and at the helper what a new one of it does not have."""
    for live in net.sandboxes.values():
        for each in live.record.endpoints:
            if network := net.networks.find(each.network_id):
                await net.make(network)
    await net.refresh_rules()
    await names.publish(net, [each.id for each in net.networks])  # without those that ended meanwhile
    if not any(live.record.ports or live.record.names for live in net.sandboxes.values()):
        await net.helper.stop()
        return
    await net.helper.ensure()
    there = await net.helper.ids()
    for id in there - net.sandboxes.keys():
        await net.helper.release(id)
    for id, live in net.sandboxes.items():
        if live.record.changing:
            await net.helper.release(id)
            await finish(net, live)
        if live.record.changing or id not in there:
            await restore_one(net, live)
        if live.record.changing:
            live.record = msgspec.structs.replace(live.record, changing=[])
            await keep(net, live.record)


async def finish(net: Networking, live: Live) -> None:
    """Make a namespace what the record says, where a crash came between interfaces and record. Failure is logged."""
    record = live.record
    try:
        with namespace_of(record.pid) as namespace:
            networks = {each.network_id: net.networks.get(each.network_id) for each in record.endpoints}
            there = await net.thread.run(net.netlink.sockets_in, namespace, socket.if_nameindex)
            present = {name for _, name in there}
            missing = [each for each in record.endpoints if each.interface not in present]
            wanted = {each.interface for each in record.endpoints}
            extra = [name for name in record.changing if name not in wanted]
            await net.thread.run(change, net, namespace, networks, missing, extra, record.endpoints)
    except (OSError, JobError) as exc:
        logger.error("the interfaces of container %s could not be restored: %s", record.id, exc)


async def restore_one(net: Networking, live: Live) -> None:
    """Give a running container's names and ports to a helper that knows nothing of them."""
    record = live.record
    try:
        if record.names:
            with namespace_of(record.pid) as namespace:
                await carry.serve_names(net, live, namespace)
        for held in _bound(net, record):
            with held.socket:
                await carry.add(net, live, held)
        await carry.watch(net, live)
    except (OSError, JobError) as exc:
        logger.error("names and ports of container %s could not be restored: %s", record.id, exc)


def _bound(net: Networking, record: SandboxRecord) -> list[Held]:
    return [Held(port, bind(port)) for port in record.ports]


async def follow_helper(net: Networking) -> None:
    """Start the helper again whenever it dies, and give it what the running containers have."""
    while True:
        await net.helper.died()
        logger.warning("the helper for names and ports has died: starting it again")
        await net.helper.ensure()
        for live in list(net.sandboxes.values()):
            await restore_one(net, live)
        await trio.sleep(1)  # one that cannot live must not take all the time there is
