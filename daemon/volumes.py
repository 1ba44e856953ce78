"""A container's volumes over its life: held, filled, mounted, unmounted, released. The volume subsystem has them.

Nothing here is called, not even a job, for a container that has none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

import msgspec
import trio

from windlass.engine.errors import JobError
from windlass.jobs.volumes import (
    ANONYMOUS,
    VolumeHold,
    VolumeMount,
    VolumePopulate,
    VolumeRelease,
    VolumesReconcile,
    VolumeUnmount,
)
from windlass.lib.rootfs import Overlay, RootFS

from .container import Container
from .daemon import Daemon
from .points import Point

logger = logging.getLogger("windlass.daemon")

DEFAULT_MODE = "z"  # what dockerd shows for a local volume that has a name and no mode


async def hold_volumes(daemon: Daemon, undo: AsyncExitStack, id: str, points: Sequence[Point]) -> list[Point]:
    """Have every volume made that is not there, and hold it; return the points with what is known then.

    `undo` is given how to let go of them, and to delete the anonymous ones that are made here.
    """
    made = [point.name for point in points if point.is_anonymous and not point.source]
    undo.push_async_callback(release_volumes, daemon, id, points, made)
    return [await _hold(daemon, id, point) if point.is_volume else point for point in points]


async def _hold(daemon: Daemon, id: str, point: Point) -> Point:
    settings = point.spec.VolumeOptions
    labels = dict((settings.Labels if settings else None) or {})
    config = settings.DriverConfig if settings else None
    if point.is_anonymous:
        labels[ANONYMOUS] = ""
    volume = await daemon.engine.call(
        VolumeHold(
            name=point.name,
            container=id,
            driver=point.driver,
            options=config.Options if config else None,
            labels=labels,
        )
    )
    shown = DEFAULT_MODE if volume.Driver == "local" and point.spec.Source else ""
    return msgspec.structs.replace(point, driver=volume.Driver, source=volume.Mountpoint, mode=point.mode or shown)


async def fill_volumes(daemon: Daemon, id: str, points: Iterable[Point], layer: str | None) -> None:
    """Let new volumes have what the image has at their places."""
    copying = [point for point in points if point.copies]
    if not copying or layer is None:
        return
    view = await daemon.graph.view(layer)
    layers = list(view.lower) if isinstance(view, Overlay) else [view.path]
    for point in copying:
        await daemon.engine.call(VolumePopulate(name=point.name, container=id, path=point.target, layers=layers))


async def release_volumes(daemon: Daemon, id: str, points: Iterable[Point], doomed: Sequence[str] = ()) -> None:
    """Let go of the volumes, and have the `doomed` ones deleted, unless somebody else has them."""
    names = _names(points)
    if not names:
        return
    with trio.CancelScope(shield=True):
        try:
            await daemon.engine.call(VolumeRelease(names=names, container=id, delete=list(doomed)))
        except JobError as exc:
            logger.warning("the volumes of container %s could not be released: %s", id, exc)


async def mount_volumes(daemon: Daemon, container: Container) -> dict[str, str]:
    """Have the volumes made available for a run; return where they are on the host, by name.

    What has been mounted when this raises is the caller's to unmount.
    """
    paths = {}
    for point in container.definition.mounts:
        if point.is_volume:
            mounted = await daemon.engine.call(
                VolumeMount(name=point.name, container=container.id, destination=point.target, writable=point.rw)
            )
            paths[point.name] = mounted.path
    return paths


async def view_images(daemon: Daemon, container: Container) -> dict[str, RootFS]:
    """What the images are made of that are mounted in a container, by topmost layer. Raises FileNotFoundError."""
    layers = {point.layer for point in container.definition.mounts if point.kind == "image"}
    return {layer: await daemon.graph.view(layer) for layer in layers}


async def unmount_volumes(daemon: Daemon, container: Container) -> None:
    """Say that a run needs its volumes no longer. Never raises: the run is over, whatever a driver says."""
    for name in _names(container.definition.mounts):
        try:
            await daemon.engine.call(VolumeUnmount(name=name, container=container.id))
        except JobError as exc:
            logger.warning("volume %s could not be unmounted, ignoring: %s", name, exc)


async def reconcile_volumes(daemon: Daemon, running: Iterable[str]) -> None:
    """Tell the volume subsystem who has what; `running` are the ids of those that may be running."""
    if daemon.engine.signature(VolumesReconcile.NAME) is None:
        return
    ids = set(running)
    held: dict[str, list[str]] = {}
    used: dict[str, list[str]] = {}
    for container in daemon.containers:
        for name in _names(container.definition.mounts):
            held.setdefault(name, []).append(container.id)
            if container.id in ids:
                used.setdefault(name, []).append(container.id)
    await daemon.engine.call(VolumesReconcile(held=held, used=used))


def _names(points: Iterable[Point]) -> list[str]:
    return list(dict.fromkeys(point.name for point in points if point.is_volume))
