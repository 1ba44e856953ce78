"""Which networks a container is in, changed after its creation: by the network subsystem, for its clients.

The setting is durable first, then the interface comes or goes, if the container runs; when that fails, the setting is
put back. The container's lock is held all the time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, Denied, JobError, NotFound
from windlass.jobs.container_config import EndpointSettings, NetworkingConfig
from windlass.jobs.networks import (
    EndpointAdd,
    EndpointNetworks,
    EndpointRemove,
    InterfacePlug,
    InterfaceUnplug,
    Sandbox,
)

from .container import Container
from .daemon import Daemon
from .endpoints import (
    NO_NETWORK,
    ONLY_HOST,
    SHARED_NETWORK,
    check_endpoint,
    endpoints,
    shared_container,
)
from .etc import edit_hosts, own_lines
from .lifecycle import Step
from .resolver import resolv_conf

Endpoints = dict[str, EndpointSettings]

logger = logging.getLogger("windlass.daemon")


async def endpoint_add(daemon: Daemon, job: Job[EndpointAdd]) -> None:
    """Note that a container is in one more network, and plug it in when it runs."""
    params = job.params
    container = daemon.containers.get(params.container)
    async with container.lock:
        _check_joinable(container, params.network)
        settings = check_endpoint(params.network, params.settings)
        current = endpoints(container)
        key = _key(current, params.network, params.network_id)
        if key is not None and container.is_running:
            raise Denied(f"endpoint with name {container.name} already exists in network {params.network}")
        wanted = {name: each for name, each in current.items() if name != key} | {params.network: settings}
        await _change(daemon, container, wanted, lambda pid: _plug(daemon, container, params, settings, pid))


async def endpoint_remove(daemon: Daemon, job: Job[EndpointRemove]) -> None:
    """Note that a container is no longer in a network, and unplug it when it runs."""
    params = job.params
    container = daemon.containers.get(params.container)
    async with container.lock:
        _check_changeable(container)
        if params.network == "host" and container.host.NetworkMode == "host":
            raise BadParameter(ONLY_HOST)
        current = endpoints(container)
        key = _key(current, params.network, params.network_id)
        if key is None:
            the = "" if container.is_running else "the "  # dockerd's two sentences for it
            raise Denied(f"container {container.id} is not connected to {the}network {params.network}")
        wanted = {name: each for name, each in current.items() if name != key}
        await _change(daemon, container, wanted, lambda pid: _unplug(daemon, container, params, pid))


async def endpoint_networks(daemon: Daemon, job: Job[EndpointNetworks]) -> list[str]:
    """List the networks, by name or id as they were given, that containers are configured to be in."""
    return list(dict.fromkeys(name for container in daemon.containers for name in endpoints(container)))


async def complete(daemon: Daemon, container: Container) -> None:
    """Let a running container have the networks that it is configured to be in: a crash may have come in between.

    One that cannot be joined any more is taken out of the configuration. Failure is logged.
    """
    async with container.lock:
        if container.running is None or not container.is_running:
            return
        pid, wanted = container.running.pid, endpoints(container)
        have = container.sandbox.endpoints if container.sandbox else {}
        keys = {name: _key(wanted, name, each.NetworkID) for name, each in have.items()}
        for name in [name for name, key in keys.items() if key is None]:
            remove = EndpointRemove(container.id, name, have[name].NetworkID)
            await _try(daemon, container, wanted, _unplug(daemon, container, remove, pid))
        for name in wanted.keys() - keys.values():
            add = EndpointAdd(container.id, name, "", wanted[name])
            without = {key: each for key, each in endpoints(container).items() if key != name}
            await _try(daemon, container, without, _plug(daemon, container, add, wanted[name], pid))


async def _try(daemon: Daemon, container: Container, otherwise: Endpoints, change: Awaitable[Sandbox]) -> None:
    try:
        await _take_over(daemon, container, await change)
    except JobError as exc:
        logger.error("the networks of container %s could not be completed: %s", container.id, exc)
        if not isinstance(exc, BadParameter | Conflict | Denied | NotFound):
            return
        after = msgspec.structs.replace(container.definition, networking=NetworkingConfig(dict(otherwise)))
        await daemon.store.redefine(after)
        container.definition = after


# -- may it be -------------------------------------------------------------------------------------------------------


def _check_changeable(container: Container) -> None:
    if not container.is_running and not container.life.allows(Step.STARTED):
        raise Conflict(
            f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network"
        )


def _check_joinable(container: Container, network: str) -> None:
    """Refuse what cannot be mixed. Raises BadParameter in dockerd's words (moby: updateNetworkSettings)."""
    _check_changeable(container)
    mode, current = container.host.NetworkMode, endpoints(container)
    if shared_container(mode):
        raise BadParameter(SHARED_NETWORK)
    if network == "host" and mode != "host":
        raise BadParameter(ONLY_HOST)
    if network in current:
        return
    if "host" in current:
        raise BadParameter(SHARED_NETWORK)
    if "none" in current or (network == "none" and current):
        raise BadParameter(NO_NETWORK)


def _key(current: Endpoints, name: str, id: str) -> str | None:
    """By what a container has a network: its name, its id or the beginning of that; None when it is not in it."""
    return next((key for key in current if key == name or (key and id.startswith(key))), None)


# -- making it so ----------------------------------------------------------------------------------------------------


async def _change(
    daemon: Daemon, container: Container, wanted: Endpoints, act: Callable[[int], Awaitable[Sandbox]]
) -> None:
    """Keep `wanted`, and let `act` make it so in a running container; put things back when it fails."""
    before = container.definition
    after = msgspec.structs.replace(before, networking=NetworkingConfig(dict(wanted)))
    with trio.CancelScope(shield=True):
        await daemon.store.redefine(after)
        if container.running is not None and container.is_running:
            try:
                await _take_over(daemon, container, await act(container.running.pid))
            except BaseException:
                await daemon.store.redefine(before)
                raise
        container.definition = after


async def _plug(
    daemon: Daemon, container: Container, params: EndpointAdd, settings: EndpointSettings, pid: int
) -> Sandbox:
    return await daemon.engine.call(
        InterfacePlug(
            id=container.id,
            name=container.name,
            hostname=container.config.Hostname,
            pid=pid,
            network=params.network_id or params.network,
            settings=settings,
        )
    )


async def _unplug(daemon: Daemon, container: Container, params: EndpointRemove, pid: int) -> Sandbox:
    network = params.network_id or params.network
    return await daemon.engine.call(InterfaceUnplug(id=container.id, pid=pid, network=network))


async def _take_over(daemon: Daemon, container: Container, sandbox: Sandbox) -> None:
    """Keep what a running container has now, and bring its /etc/hosts and /etc/resolv.conf up to date."""
    had_names = bool(container.sandbox and container.sandbox.names)
    before = container.sandbox.endpoints if container.sandbox else {}
    container.sandbox = sandbox
    gone = _lines(container, [before[name] for name in before.keys() - sandbox.endpoints.keys()])
    new = _lines(container, [each for name, each in sandbox.endpoints.items() if name not in before])
    if gone or new:
        await trio.to_thread.run_sync(edit_hosts, daemon.folder(container.id), gone, new)
    if sandbox.names and not had_names:
        text = resolv_conf(container.host, sandbox, daemon.dns)
        await trio.to_thread.run_sync((daemon.folder(container.id) / "resolv.conf").write_text, text)


def _lines(container: Container, ends: list[EndpointSettings]) -> list[str]:
    config = container.config
    return [line for end in ends for line in own_lines(end, config.Hostname, config.Domainname)]
