"""Who stands on an image: the containers, asked for by a job."""

from __future__ import annotations

from typing import Any

from windlass.engine import Job
from windlass.engine.errors import NoSuchJob
from windlass.jobs.container_views import Summary
from windlass.jobs.containers import Containers

from .store import Image


async def containers(job: Job[Any]) -> list[Summary]:
    """All containers."""
    try:
        return await job.engine.call(Containers(all=True))
    except NoSuchJob:  # an engine of images alone
        return []


def images_of(container: Summary) -> set[str]:
    """The ids of the images that a container stands on, or has mounted."""
    return {container.ImageID, *(mount.Source for mount in container.Mounts if mount.Type == "image")}


async def users_of(job: Job[Any], image: Image) -> list[Summary]:
    """The containers that stand on `image`."""
    return [container for container in await containers(job) if image.id in images_of(container)]


def is_running(container: Summary) -> bool:
    return container.State in ("running", "paused", "restarting")


def is_creating(job: Job[Any]) -> bool:
    """True while a container is being made, perhaps of this image: nobody sees it yet."""
    return any(each.name == "create" for each in job.engine.running.values())
