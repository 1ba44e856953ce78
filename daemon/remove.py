"""Removing: the row goes first, the name is free, the answer leaves, and then the files are unlinked.

The container's folder goes last. A crash in between leaves a folder without a row, which reconcile takes away.
"""

from __future__ import annotations

import contextlib
import logging
import shutil

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, NotFound
from windlass.engine.job import current
from windlass.jobs.containers import Delete

from .container import Container
from .daemon import Daemon
from .kill import kill_and_wait
from .lifecycle import State, Step
from .settle import forget
from .supervise import note_stop
from .volumes import release_volumes, unmount_volumes

logger = logging.getLogger("windlass.daemon")


async def delete(daemon: Daemon, job: Job[Delete]) -> None:
    """Remove a container, and its files."""
    params = job.params
    if params.link:
        await _remove_link(daemon, params.name)
        return None
    container = daemon.containers.get(params.name)
    while True:
        async with container.lock:
            if not container.is_running:
                return await _remove(daemon, container, params.v)
            if not params.force:
                raise Conflict(f'cannot remove container "/{container.name}": {_why_not(container)}')
        await note_stop(daemon, container)
        await kill_and_wait(daemon, container)


def _why_not(container: Container) -> str:
    if container.is_paused:
        return "container is paused and must be unpaused first"
    return f"container is {container.life.state}: stop the container before removing or force remove"


async def _remove_link(daemon: Daemon, name: str) -> None:
    """Remove a link, named `/parent/alias`. Raises BadParameter, NotFound."""
    parent, slash, alias = name.strip("/").partition("/")
    if not slash:
        raise BadParameter(f"Conflict, cannot remove the default link name of the container: {name}", key="link")
    container = daemon.containers.get(parent)
    async with container.lock:
        links = container.host.Links or []
        kept = [link for link in links if link.partition(":")[2] != alias]
        if kept == links:
            raise NotFound(f"No such link: {name}")
        host = msgspec.structs.replace(container.host, Links=kept or None)
        definition = msgspec.structs.replace(container.definition, host=host)
        with trio.CancelScope(shield=True):
            await daemon.store.redefine(definition)
            container.definition = definition


async def _remove(daemon: Daemon, container: Container, with_volumes: bool) -> None:
    if container.is_gone or container.life.state is State.REMOVING:
        raise Conflict(f"removal of container {container.id} is already in progress")
    await remove_locked(daemon, container, with_volumes=with_volumes)


async def remove_locked(daemon: Daemon, container: Container, *, with_volumes: bool) -> None:
    """Remove a container that does not run, with its lock held. Its files go when the answer has left.

    With `with_volumes` its anonymous volumes go too, unless another container has them.
    """
    container.life.advance(Step.REMOVE)
    try:
        with trio.CancelScope(shield=True):
            await daemon.store.remove(container.id)
    except BaseException:
        container.life.advance(Step.FAILED)
        raise
    container.life.advance(Step.REMOVED)
    daemon.containers.remove(container)
    for id in container.execs:
        daemon.execs.pop(id, None)
    container.settle_clients()
    try:
        await unmount_volumes(daemon, container)
        points = container.definition.mounts
        doomed = [point.name for point in points if with_volumes and point.is_anonymous]
        await release_volumes(daemon, container.id, points, doomed)
    finally:
        container.changed.give()  # who waits for the removal finds its volumes gone too
    await daemon.tell(container, "destroy")
    daemon.nursery.start_soon(_unlink, daemon, container)


async def _unlink(daemon: Daemon, container: Container) -> None:
    current.set(None)
    with trio.CancelScope(shield=True):
        try:
            if not container.is_settled:
                await forget(daemon, container)
            await discard(daemon, container.id)
            await sweep(daemon)
        except Exception:
            logger.exception(
                "what is left of container %s could not be removed; the next start tries again", container.id
            )


async def discard(daemon: Daemon, id: str) -> None:
    """Unlink a container's layer and then its folder."""
    await daemon.graph.remove(id)
    with contextlib.suppress(FileNotFoundError):
        await trio.to_thread.run_sync(shutil.rmtree, daemon.folder(id))


async def sweep(daemon: Daemon) -> None:
    """Unlink what was put aside, one at a time: the disk is no faster for many."""
    async with daemon.sweeping:
        await daemon.graph.sweep()
