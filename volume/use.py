"""The jobs on volumes for the daemon: holding and releasing, filling, mounting and unmounting."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict, Internal, JobError
from windlass.jobs.volumes import (
    VolumeHold,
    VolumeInfo,
    VolumeMount,
    VolumeMounted,
    VolumePopulate,
    VolumeRelease,
    VolumesReconcile,
    VolumeUnmount,
)

from .copyup import copy_up
from .drivers import ask
from .model import Volume
from .shelf import Shelf, naming
from .volumes import info

logger = logging.getLogger("windlass.volume")


async def volume_hold(shelf: Shelf, job: Job[VolumeHold]) -> VolumeInfo:
    """Note that a container has a volume, which is made when it is not there."""
    params = job.params
    with naming("create", params.name):
        async with shelf.locked(params.name):
            volume = await shelf.ensure(params.name, params.driver, params.options, params.labels)
            shelf.hold(params.name, params.container)
    return await info(shelf, volume)


async def volume_release(shelf: Shelf, job: Job[VolumeRelease]) -> None:
    """Note that a container has these volumes no longer; those in `delete` go with it, unless another has them."""
    params = job.params
    for name in params.names:
        async with shelf.locked(name):
            shelf.release(name, params.container)
            if name in params.delete and name in shelf.volumes:
                await _delete(shelf, name)


async def _delete(shelf: Shelf, name: str) -> None:
    """Delete a volume that goes with its container. That it cannot be is no reason for the container to stay."""
    try:
        await shelf.delete(name)
    except Conflict:
        return  # another container has it
    except (JobError, OSError) as exc:
        logger.warning("anonymous volume %s could not be deleted, ignoring: %s", name, exc)


async def volume_populate(shelf: Shelf, job: Job[VolumePopulate]) -> None:
    """Copy what an image has at `path` into a volume that is empty. `layers` are folders of the host, topmost first."""
    params = job.params
    volume = shelf.get(params.name)
    async with shelf.locked(volume.name):
        with naming("populate", volume.name):
            folder = Path(await shelf.mount(volume, params.container))
            try:
                await _populate(shelf, volume, folder, params)
            finally:
                with trio.CancelScope(shield=True):
                    await shelf.unmount(volume, params.container)


async def _populate(shelf: Shelf, volume: Volume, folder: Path, params: VolumePopulate) -> None:
    if await ask(volume.driver, shelf.local.run(os.listdir, folder)):
        return
    try:
        await copy_up(shelf.program, folder, params.path, params.layers)
    except BaseException as exc:
        # Half a copy would pass for content at the next try. Who runs with the volume meanwhile may have written to it.
        if shelf.users(volume.name) == {params.container}:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_empty, shelf, folder)
        if isinstance(exc, OSError):
            raise Internal(str(exc.strerror)) from exc
        raise


def _empty(shelf: Shelf, folder: Path) -> None:
    for name in os.listdir(folder):
        with suppress(OSError):  # on another file system
            shelf.local.trash.put(folder / name)


async def volume_mount(shelf: Shelf, job: Job[VolumeMount]) -> VolumeMounted:
    """Make a volume's files available for a run of a container."""
    params = job.params
    volume = shelf.get(params.name)
    async with shelf.locked(volume.name):
        with naming("error while mounting volume", f"'{params.name}'"), trio.CancelScope(shield=True):
            path = await shelf.mount(volume, params.container)
    await shelf.tell(
        volume, "mount", container=params.container, destination=params.destination, propagation="",
        **{"read/write": str(params.writable).lower()},
    )  # fmt: skip
    return VolumeMounted(path)


async def volume_unmount(shelf: Shelf, job: Job[VolumeUnmount]) -> None:
    """Note that a run of a container has ended: it needs the volume's files no longer."""
    params = job.params
    volume: Volume | None = shelf.volumes.get(params.name)
    if volume is None:
        return
    async with shelf.locked(volume.name):
        with trio.CancelScope(shield=True):
            was_used = await shelf.unmount(volume, params.container)
    if was_used:
        await shelf.tell(volume, "unmount", container=params.container)


async def volumes_reconcile(shelf: Shelf, job: Job[VolumesReconcile]) -> None:
    """Tell who holds and who uses what, by names of volumes: all containers, and those that run. At start-up."""
    unused = shelf.take_over(job.params.held, job.params.used)
    await trio.to_thread.run_sync(shelf.local.unmount_unused, unused)
