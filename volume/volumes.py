"""The jobs on volumes for clients: create, list, inspect, delete, prune; statuses and words are dockerd's."""

from __future__ import annotations

import logging
import secrets
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from windlass.engine import Job
from windlass.engine.errors import JobError, NotFound, Unavailable
from windlass.jobs.events import Log
from windlass.jobs.volumes import (
    ANONYMOUS,
    UsageData,
    VolumeCreate,
    VolumeDelete,
    VolumeInfo,
    VolumeInspect,
    VolumeList,
    VolumePrune,
    Volumes,
    VolumesPruned,
)
from windlass.lib.filters import has_labels

from .drivers import ask
from .filters import fits, flag, parse
from .model import LOCAL, Volume
from .shelf import Shelf, naming
from .usage import usage

logger = logging.getLogger("windlass.volume")

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


async def volume_create(shelf: Shelf, job: Job[VolumeCreate]) -> VolumeInfo:
    """Create a volume; one that is there already is left as it is. Raises Conflict when it has another driver."""
    params = job.params
    if params.ClusterVolumeSpec:
        raise Unavailable(NO_SWARM)
    name, labels = params.Name, params.Labels
    if not name:
        name, labels = new_name(), {**(labels or {}), ANONYMOUS: ""}
    with naming("create", name):
        async with shelf.locked(name):
            volume = await shelf.ensure(name, params.Driver, params.DriverOpts, labels)
    return await info(shelf, volume)


async def volumes(shelf: Shelf, job: Job[Volumes]) -> VolumeList:
    """List volumes."""
    wanted = parse(job.params.filters, frozenset(("dangling", "driver", "label", "name")))
    chosen = [each for each in shelf.volumes.values() if fits(each, bool(shelf.holders(each.name)), wanted)]
    chosen.sort(key=lambda each: each.name)
    shown = [await info(shelf, each, with_usage=job.params.usage, asks_driver=False) for each in chosen]
    return VolumeList(shown)


async def volume_inspect(shelf: Shelf, job: Job[VolumeInspect]) -> VolumeInfo:
    """Tell everything about a volume."""
    with naming("get", job.params.name):
        volume = shelf.get(job.params.name)
        shown = await info(shelf, volume)
        with suppress(JobError):  # a driver that says nothing of it hides nothing else
            if status := await ask(volume.driver, shelf.driver(volume).status(volume)):
                shown = msgspec.structs.replace(shown, Status=status)
    return shown


async def volume_delete(shelf: Shelf, job: Job[VolumeDelete]) -> None:
    """Delete a volume with what is in it. Raises Conflict while a container has it."""
    name, force = job.params.name, job.params.force
    async with shelf.locked(name):
        try:
            with naming("get", name):
                shelf.get(name)
        except NotFound:
            if not force:
                raise
            return
        with naming("remove", name):
            await shelf.delete(name, force)


async def volume_prune(shelf: Shelf, job: Job[VolumePrune]) -> VolumesPruned:
    """Delete the anonymous volumes that no container has; with `all`, or the filter `all=true`, all of those."""
    wanted = parse(job.params.filters, frozenset(("all", "label", "label!")))
    takes_all = flag(wanted, "all") or job.params.all
    deleted, reclaimed = [], 0
    for volume in list(shelf.volumes.values()):
        is_meant = takes_all or ANONYMOUS in (volume.labels or {})
        if not is_meant or volume.driver != LOCAL or shelf.holders(volume.name):
            continue
        labels, spared = volume.labels or {}, wanted.get("label!")
        if has_labels(labels, wanted.get("label", [])) and not (spared and has_labels(labels, spared)):
            size = await _size(shelf, volume)
            try:
                async with shelf.locked(volume.name):
                    await shelf.delete(volume.name)
            except JobError as exc:
                logger.warning("volume %s could not be deleted, going on: %s", volume.name, exc)
            else:
                deleted.append(volume.name)
                reclaimed += max(size, 0)
    with suppress(JobError):
        await shelf.engine.call(Log(action="prune", id="", type="volume", attributes={"reclaimed": str(reclaimed)}))
    return VolumesPruned(deleted or None, reclaimed)


def new_name() -> str:
    """The name of a volume that nobody has named."""
    return secrets.token_hex(32)


async def info(shelf: Shelf, volume: Volume, *, with_usage: bool = False, asks_driver: bool = True) -> VolumeInfo:
    """A volume as clients see it. Where a driver of a plugin has it is left out when that does not say it."""
    path = ""
    if volume.driver == LOCAL:
        path = str(shelf.local.data(volume.name))
    elif asks_driver:
        with suppress(JobError):
            path = await ask(volume.driver, shelf.driver(volume).path(volume))
    use = UsageData(await _size(shelf, volume), len(shelf.holders(volume.name))) if with_usage else msgspec.UNSET
    return VolumeInfo(
        Name=volume.name,
        Driver=volume.driver,
        Mountpoint=path,
        CreatedAt=f"{datetime.fromtimestamp(volume.created_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}",
        Labels=volume.labels,
        Scope="local",
        Options=volume.options,
        UsageData=use,
    )


async def _size(shelf: Shelf, volume: Volume) -> int:
    """Bytes; -1 for drivers that cannot tell."""
    if volume.driver != LOCAL:
        return -1
    return await shelf.local.run(usage, shelf.local.data(volume.name))
