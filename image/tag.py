"""Jobs that change names: `tag`, `image_delete`."""

from __future__ import annotations

from typing import Any

from windlass.engine import Handler, Job
from windlass.engine.errors import BadParameter, Conflict, NoSuchJob
from windlass.jobs.container_views import Summary
from windlass.jobs.containers import Containers
from windlass.jobs.images import Deleted, ImageDelete, Tag
from windlass.lib import reference
from windlass.lib.reference import Reference

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
    """Take a name of an image away, and the image with its last name (moby: daemon/images/image_delete.go)."""
    params = job.params
    image = await store.find(params.name)
    name = await store.find_tag(params.name)
    users = await _users(job, image)
    names = (*image.tags, *image.digests)
    if name is None:
        _check_conflict(image, users, params.force)
        gone = names
    else:
        gone = _with_digests(image, name)
        if set(names) == set(gone):
            _check_last_name(image, users, params)
        await store.drop_names([parsed(each) for each in gone])
    for _ in gone:
        await tell(job, "untag", image.id)
    records = [Deleted(Untagged=each) for each in gone]
    if name is not None and (set(names) != set(gone) or any(map(_is_running, users))):
        return records
    layers = await store.remove(image.id, bury=bool(users) or _is_creating(job))
    await tell(job, "delete", image.id)
    await forget_unused(store, job)
    return [*records, Deleted(Deleted=image.id), *(Deleted(Deleted=f"sha256:{layer}") for layer in layers)]


def _with_digests(image: Image, name: Reference) -> tuple[str, ...]:
    """`name`, and with a repository's last tag of an image go its digests."""
    tags = [tag for tag in image.tags if parsed(tag).repository == name.repository]
    if name.digest or len(tags) > 1:
        return (name.familiar,)
    return (name.familiar, *(each for each in image.digests if parsed(each).repository == name.repository))


def _check_last_name(image: Image, users: list[Summary], params: ImageDelete) -> None:
    """Raise Conflict when containers use an image that is to lose its last name."""
    if users and not params.force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{params.name}" (must force) - container'
            f" {users[0].Id[:12]} is using its referenced image {_short(image.id)}"
        )


def _check_conflict(image: Image, users: list[Summary], force: bool) -> None:
    """Raise Conflict, in Docker's words, when something stands in the way of an image that was named by id."""
    soft: list[str] = ["image is referenced in multiple repositories"] if len(image.tags) > 1 else []
    for container in users:
        if _is_running(container):
            raise _conflict(image, "cannot be forced", f"image is being used by running container {container.Id[:12]}")
        soft.append(f"image is being used by stopped container {container.Id[:12]}")
    if soft and not force:
        raise _conflict(image, "must be forced", soft[0])


def _conflict(image: Image, how: str, why: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {_short(image.id)} ({how}) - {why}")


def _is_running(container: Summary) -> bool:
    return container.State in ("running", "paused", "restarting")


def _is_creating(job: Job[Any]) -> bool:
    """True while a container is being made, perhaps of this image: nobody sees it yet."""
    return any(each.name == "create" for each in job.engine.running.values())


# -- tombstones --------------------------------------------------------------------------------------------------


async def after_delete(store: Store, job: Job[Any], call: Handler) -> Any:
    """Wrap `delete`: with a container go the layers of an image that was deleted under it."""
    result = await call(job)
    if store.tombstones:
        await forget_unused(store, job)
    return result


async def forget_unused(store: Store, job: Job[Any]) -> None:
    """Forget the tombstones that no container stands on, unless one is being made."""
    waiting = set(store.tombstones)
    if waiting and not _is_creating(job):
        used = {id for container in await _containers(job) for id in _images(container)}
        if waiting - used:
            await store.forget(waiting - used)


async def _users(job: Job[Any], image: Image) -> list[Summary]:
    return [container for container in await _containers(job) if image.id in _images(container)]


def _images(container: Summary) -> set[str]:
    """The ids of the images that a container stands on, or has mounted."""
    return {container.ImageID, *(mount.Source for mount in container.Mounts if mount.Type == "image")}


async def _containers(job: Job[Any]) -> list[Summary]:
    try:
        return await job.engine.call(Containers(all=True))
    except NoSuchJob:  # an engine of images alone
        return []


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]
