"""How one run of a container is connected: its namespace, and what its files and environment say of that.

none, NetworkDisabled   a namespace of its own that the exec driver makes, with loopback only
host                    the host's
container:X             that of X's first process, with X's host name and files in /etc
anything else           the network subsystem makes it, and this daemon gives it back when the run has ended
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from windlass.engine.errors import BadParameter, Conflict, JobError, NoSuchJob
from windlass.execdriver.driver import Running
from windlass.jobs.container_config import HostConfig
from windlass.jobs.networks import (
    AllocateInterface,
    Link,
    NetworkInspect,
    ReleaseInterface,
    Sandbox,
    SandboxesReconcile,
    SandboxWatch,
)

from .container import Container
from .daemon import Daemon, Dns
from .endpoints import BRIDGE, endpoints, has_sandbox, shared_container
from .etc import set_address
from .links import Linked, children, host_names, link_environment, resolve_links
from .ports import exposed, published
from .resolver import HOST_GATEWAY, extra_hosts, nameservers

logger = logging.getLogger("windlass.daemon")


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a start has to know of the network. `namespace` is as in the exec driver's Command.

    `files` is the folder whose files in /etc are used, where that is not the container's own; `gateways` are the
    addresses that `host-gateway` stands for.
    """

    namespace: str
    hostname: str
    domainname: str
    dns: Dns
    sandbox: Sandbox | None = None
    files: Path | None = None
    gateways: Sequence[str] = ()
    links: Sequence[Linked] = ()
    environment: tuple[str, ...] = ()

    @property
    def fqdn(self) -> str:
        return f"{self.hostname}.{self.domainname}" if self.domainname else self.hostname


async def attach_network(daemon: Daemon, container: Container, namespace: str = "") -> Attachment:
    """Connect a run that is about to start. What it gets is the caller's to release, by `release`, when that fails.

    `namespace` is the path of a new namespace to use, where it has to be a certain one.
    Raises what AllocateInterface raises, and Conflict when another container that is needed does not run.
    """
    config, mode = container.config, container.host.NetworkMode
    if mode == "host" and not config.NetworkDisabled:
        gateways = await _bridge_gateways(daemon, container.host)
        return Attachment("host", config.Hostname, config.Domainname, daemon.dns, gateways=gateways)
    if shared_container(mode):
        return _share(daemon, container)
    if not has_sandbox(container):
        return Attachment("private", config.Hostname, config.Domainname, daemon.dns)
    return await _allocate(daemon, container, namespace)


def _share(daemon: Daemon, container: Container) -> Attachment:
    """Join the namespace of another container, which may itself have joined that of one more."""
    word = shared_container(container.host.NetworkMode)
    other = leader = daemon.containers.get(word)
    seen = {container.id}
    while True:
        if leader.id in seen:
            raise BadParameter("cannot join own network", key="NetworkMode")
        if leader.running is None or other.running is None:
            raise Conflict(f"cannot join network of a non running container: {leader.id}")
        seen.add(leader.id)
        if not (word := shared_container(leader.host.NetworkMode)):
            break
        leader = daemon.containers.get(word)
    config = leader.config
    namespace = f"/proc/{other.running.pid}/ns/net"
    return Attachment(namespace, config.Hostname, config.Domainname, daemon.dns, files=daemon.folder(leader.id))


async def _allocate(daemon: Daemon, container: Container, namespace: str) -> Attachment:
    config, host = container.config, container.host
    links = resolve_links(daemon.containers, container) if BRIDGE in endpoints(container) else []
    sandbox = await daemon.engine.call(
        AllocateInterface(
            id=container.id,
            name=container.name,
            hostname=config.Hostname,
            endpoints=endpoints(container),
            ports=published(host),
            exposed=exposed(config.ExposedPorts),
            publish_all=host.PublishAllPorts,
            nameservers=nameservers(host, daemon.dns),
            namespace=namespace,
        )
    )
    container.sandbox = sandbox
    return Attachment(
        sandbox.namespace,
        config.Hostname,
        config.Domainname,
        daemon.dns,
        sandbox=sandbox,
        gateways=sandbox.host_gateway.replace(",", " ").split(),
        links=links,
        environment=tuple(entry for link in links for entry in link_environment(container.name, link)),
    )


async def _bridge_gateways(daemon: Daemon, host: HostConfig) -> list[str]:
    """What `host-gateway` stands for where a container has the host's network: the default bridge's address."""
    if all(address != HOST_GATEWAY for _, address in extra_hosts(host)):
        return []
    try:
        bridge = await daemon.engine.call(NetworkInspect(name=BRIDGE))
    except JobError:
        return ["127.0.0.1"]
    return [pool.Gateway.partition("/")[0] for pool in bridge.IPAM.Config or () if pool.Gateway]


# -- a run under way -------------------------------------------------------------------------------------------------


async def watch(daemon: Daemon, container: Container, attachment: Attachment, running: Running) -> None:
    """Tie a run's sandbox to its first process, and let its links through. Before its end can be noticed."""
    if attachment.sandbox is None:
        return
    try:
        await daemon.engine.call(SandboxWatch(id=container.id, pid=running.pid))
        await _open_links(daemon, container, attachment.links)
    except JobError as exc:
        logger.warning("the network of container %s is not watched over, ignoring: %s", container.id, exc)


async def release(daemon: Daemon, container: Container) -> None:
    """Give back what a run has of the network. Never raises: what is left, the next reconcile takes away."""
    if container.sandbox is None:
        return
    opened, container.opened, container.sandbox = container.opened, [], None
    try:
        with trio.CancelScope(shield=True):
            for link in opened:
                await daemon.engine.call(msgspec.structs.replace(link, action="-D"))
            await daemon.engine.call(ReleaseInterface(id=container.id))
    except JobError as exc:
        logger.error("the network of container %s could not be released: %s", container.id, exc)


async def _open_links(daemon: Daemon, container: Container, links: Sequence[Linked]) -> None:
    """Let a container reach what it has links to, where the default bridge lets nothing through by itself."""
    own = container.sandbox.endpoints.get(BRIDGE) if container.sandbox else None
    for linked in links if own else ():
        ports = exposed(linked.child.config.ExposedPorts)
        if own is None or not ports:
            continue
        link = Link(action="-I", ParentIP=own.IPAddress, ChildIP=linked.address, Ports=ports, IgnoreErrors=True)
        with suppress(NoSuchJob):
            await daemon.engine.call(link)
            container.opened.append(link)


async def follow_links(daemon: Daemon, child: Container) -> None:
    """Tell running containers that have a link to `child`, which has just started, where it is now."""
    if child.sandbox is None:
        return
    for parent in daemon.containers:
        if not parent.host.Links or not parent.is_running or parent.sandbox is None:
            continue
        for alias, linked in children(daemon.containers, parent):
            if linked is child and (end := child.sandbox.endpoints.get(BRIDGE)) is not None:
                link = Linked(alias, child, end.IPAddress)
                folder = daemon.folder(parent.id)
                await trio.to_thread.run_sync(set_address, folder, host_names(link), link.address)
                await _open_links(daemon, parent, [link])


def linked_environment(daemon: Daemon, container: Container) -> list[str]:
    """What links put into the environment of a container's further processes; of those that run."""
    try:
        links = resolve_links(daemon.containers, container) if container.host.Links else []
    except Conflict:
        return []
    return [entry for link in links for entry in link_environment(container.name, link)]


async def reconcile_sandboxes(daemon: Daemon) -> None:
    """Say which containers run, and learn what they have of the network; without networks there is nothing to say."""
    running = {each.id: each.running.pid for each in daemon.containers if each.running is not None}
    try:
        kept = await daemon.engine.call(SandboxesReconcile(running=running))
    except NoSuchJob:
        return
    except JobError:
        logger.exception("the networks of running containers could not be brought up to date")
        return
    found = [(daemon.containers.get(id), sandbox) for id, sandbox in kept.items() if id in daemon.containers]
    for container, sandbox in found:
        container.sandbox = sandbox
        if container.running is None:  # it ended meanwhile
            await release(daemon, container)
    for container, _ in found:
        if container.host.Links:
            with suppress(JobError):
                await _open_links(daemon, container, resolve_links(daemon.containers, container))
