"""Creating: name, image, configuration, volumes, layer, folder, row; each step undone when a later one fails.

The folder is made before the layer, and the row comes last: a folder without a row is what a crash leaves, and
reconcile takes it away with its layer.
"""

from __future__ import annotations

import platform
import shutil
import time
from contextlib import AsyncExitStack

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import HostConfig
from windlass.jobs.containers import Create, Created
from windlass.jobs.images import ImageGet

from .config import merge, requested
from .container import Container, Definition, Outcome
from .daemon import Daemon
from .endpoints import main_network, settle_networks, shared_container
from .host import check_host
from .links import register_links
from .names import check_name, new_id
from .remap import check_remap, load_pool
from .settle_mounts import settle_mounts
from .storage import layer_size
from .supervise import warn_of_labels
from .users import check_user
from .volumes import fill_volumes, hold_volumes


async def create(daemon: Daemon, job: Job[Create]) -> Created:
    """Create a container from an image; it does not run yet."""
    params = job.params
    warnings: list[str] = []
    config = requested(params)
    name = check_name(params.name) if params.name else ""
    if not config.Image:
        raise BadParameter("no image specified", key="Image")
    _check_platform(params.platform)
    host = check_host(params, warnings.append)
    size = layer_size(host, daemon.graph)
    check_remap(host, daemon.remap)
    if host.UsernsMode == "auto":
        await trio.to_thread.run_sync(load_pool)
    async with AsyncExitStack() as undo:
        id = new_id()
        name = _hold(daemon, undo, name, id)
        image = await daemon.engine.call(ImageGet(name=config.Image, platform=params.platform))
        config = merge(config, image.config)
        check_user(config.User, host.GroupAdd or ())
        warn_of_labels(config.Labels, warnings.append)
        host = register_links(daemon.containers, _by_id(daemon, host))
        networking = settle_networks(params, host, await main_network(daemon.engine, params))
        if not config.Hostname:
            config = msgspec.structs.replace(config, Hostname=default_hostname(id, host.NetworkMode, host.UTSMode))
        points = await hold_volumes(daemon, undo, id, await settle_mounts(daemon, host, config))
        definition = Definition(
            id=id,
            name=name,
            created_ns=time.time_ns(),
            image_id=image.id,
            layer=image.chain or None,
            config=config,
            host=host,
            networking=networking,
            graph_driver=daemon.graph.name,
            mounts=tuple(points),
        )
        await _make(daemon, undo, definition, size)
        container = Container(definition, Outcome())
        daemon.containers.add(container)
        undo.pop_all()
    await daemon.tell(container, "create")
    return Created(Id=id, Warnings=warnings)


def default_hostname(id: str, network: str, uts: str) -> str:
    """What a container is called when nobody said: the short id, or the host's name where it shares that."""
    return platform.node() if network == "host" or uts == "host" else id[:12]


def _by_id(daemon: Daemon, host: HostConfig) -> HostConfig:
    """Let `container:NAME` survive renaming (moby: adaptSharedNamespaceContainer)."""
    found = {}
    for field in ("NetworkMode", "PidMode", "IpcMode"):
        word = shared_container(getattr(host, field))
        if word and (other := daemon.containers.find(word)):
            found[field] = f"container:{other.id}"
    return msgspec.structs.replace(host, **found)


def _hold(daemon: Daemon, undo: AsyncExitStack, name: str, id: str) -> str:
    if name:
        daemon.containers.hold(name, id)
    else:
        name = daemon.containers.hold_any(id)
    undo.callback(daemon.containers.release, name, id)
    return name


async def _make(daemon: Daemon, undo: AsyncExitStack, definition: Definition, size: int) -> None:
    """Make folder, layer and row, in this order. Cancellation waits until the row is there or all is undone."""
    folder = daemon.folder(definition.id)

    async def discard() -> None:
        with trio.CancelScope(shield=True):
            await daemon.graph.remove(definition.id)
            await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    undo.push_async_callback(discard)
    folder.mkdir(mode=0o710)
    await daemon.graph.create(definition.id, definition.layer, size)
    await fill_volumes(daemon, definition.id, definition.mounts, definition.layer)
    await daemon.store.add(definition)


def _check_platform(text: str) -> None:
    if text and text.split("/")[0].lower() != "linux":
        raise BadParameter(f'operating system "{text.split("/")[0]}" is not supported', key="platform")
