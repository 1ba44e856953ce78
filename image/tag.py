"""Jobs that change names: `tag`, `image_delete`."""

from __future__ import annotations

from typing import Any

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, NoSuchJob
from windlass.jobs.container_views import Summary
from windlass.jobs.containers import Containers
from windlass.jobs.images import Deleted, ImageDelete, Tag
from windlass.lib import reference

from .events import tell
from .lists import parsed
from .store import Image, Store


async def tag(store: Store, job: Job[Tag]) -> None:
    """Give an image one more name."""
    params = job.params
    image = await store.find(params.name)
    if params.tag and not reference.is_tag(params.tag):
        raise BadParameter(f"invalid tag format: {params.tag!r:.200}", key="tag")
    name = parsed(f"{params.repo}:{params.tag}" if params.tag else params.repo)
    if name.digest:
        raise BadParameter("refusing to create a tag with a digest reference", key="repo")
    await store.set_tag(image.id, name)
    await tell(job, "tag", image.id, name.familiar)


async def image_delete(store: Store, job: Job[ImageDelete]) -> list[Deleted]:
    """Take a name of an image away, and the image with its last name."""
    params = job.params
    image = await store.find(params.name)
    name = await store.find_tag(params.name)
    if name is not None and len(image.tags) > 1:
        await store.drop_tag(name)
        await tell(job, "untag", image.id)
        return [Deleted(Untagged=name.familiar)]
    short = _short(image.id)
    if name is None and len(image.tags) > 1 and not params.force:
        what = f"unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        raise Conflict(f"conflict: {what}")
    users = await _users(job, image)
    if name is not None and users and not params.force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{params.name}" (must force) - container'
            f" {users[0].Id[:12]} is using its referenced image {short}"
        )
    if name is None:
        _check_users(users, short, params.force)
    gone = [Deleted(Untagged=tag) for tag in image.tags]
    if users:  # forced: the names go, what the containers stand on stays
        for each in image.tags:
            await store.drop_tag(parsed(each))
            await tell(job, "untag", image.id)
        return gone
    layers = await store.remove(image.id)
    for _ in image.tags:
        await tell(job, "untag", image.id)
    await tell(job, "delete", image.id)
    return [*gone, Deleted(Deleted=image.id), *(Deleted(Deleted=f"sha256:{layer}") for layer in layers)]


def _check_users(users: list[Summary], short: str, force: bool) -> None:
    """Raise Conflict, in Docker's words, when a container stands in the way of an image that was named by id."""
    for container in users:
        if container.State in ("running", "paused", "restarting"):
            how, state = "cannot be forced", "running"
        elif not force:
            how, state = "must be forced", "stopped"
        else:
            continue
        raise Conflict(
            f"conflict: unable to delete {short} ({how}) - image is being used by {state} container {container.Id[:12]}"
        )


async def _users(job: Job[Any], image: Image) -> list[Summary]:
    try:
        containers = await job.engine.call(Containers(all=True))
    except NoSuchJob:  # an engine of images alone
        return []
    return [container for container in containers if container.ImageID == image.id]


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]
