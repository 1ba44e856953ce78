"""Job `system_df`."""

from __future__ import annotations

from collections import Counter

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter, NoSuchJob
from windlass.jobs.container_views import Summary
from windlass.jobs.containers import Containers
from windlass.jobs.images import Images, ImageSummary
from windlass.jobs.usage import KINDS, DiskUsage, SystemDf
from windlass.jobs.volumes import VolumeInfo, Volumes

from .store import Store
from .users import containers, images_of


async def system_df(store: Store, job: Job[SystemDf]) -> DiskUsage:
    """Tell what images, containers, volumes and the build cache take."""
    wanted = job.params.type or list(KINDS)
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise BadParameter(f"unknown object type: {unknown[0]:.100}", key="type")
    return DiskUsage(
        LayersSize=await _layers_size(store) if "image" in wanted else 0,
        Images=await _images(job) if "image" in wanted else None,
        Containers=await _containers(job) if "container" in wanted else None,
        Volumes=await _volumes(job) if "volume" in wanted else None,
        BuildCache=[] if "build-cache" in wanted else None,  # a step of a build is an image here
    )


async def _layers_size(store: Store) -> int:
    return sum({layer.chain: layer.size for image in await store.all() for layer in image.layers}.values())


async def _images(job: Job[SystemDf]) -> list[ImageSummary]:
    users = Counter(id for container in await containers(job) for id in images_of(container))
    found = await job.engine.call(Images(shared_size=True))
    return [msgspec.structs.replace(image, Containers=users[image.Id]) for image in found]


async def _containers(job: Job[SystemDf]) -> list[Summary]:
    try:
        return await job.engine.call(Containers(all=True, size=True))
    except NoSuchJob:  # an engine of images alone
        return []


async def _volumes(job: Job[SystemDf]) -> list[VolumeInfo]:
    try:
        return (await job.engine.call(Volumes(usage=True))).Volumes
    except NoSuchJob:
        return []
