"""Jobs that take images away: `image_delete`, `images_prune`; and what waits for a container to go.

An image is taken away with its last name, or by its id. What stands in the way is a conflict: a running container
always, a stopped one or several names unless it is forced (moby: daemon/images/image_delete.go).
"""

from __future__ import annotations

from typing import Any

import trio

from windlass.engine import Handler, Job
from windlass.engine.errors import Conflict
from windlass.jobs.container_views import Summary
from windlass.jobs.images import Deleted, ImageDelete, ImagesPrune, ImagesPruned
from windlass.lib.reference import Reference

from . import filters, platforms
from .events import tell, tell_pruned
from .lists import parsed
from .store import Image, Store
from .users import containers, images_of, is_creating, is_running, users_of


async def image_delete(store: Store, job: Job[ImageDelete]) -> list[Deleted]:
    """Take a name of an image away, and the image with its last name."""
    params = job.params
    image = await store.find(params.name)
    for platform in params.platforms:
        platforms.check(image, params.name, platforms.parse(platform))
    name = await store.find_tag(params.name)
    users = await users_of(job, image)
    if name is None:
        _check_conflict(image, users, params.force)
        return await take_away(store, job, image, bury=bool(users))
    if _is_single(_names(image)):
        _check_last_name(image, users, params)
    gone = _with_digests(image, name)
    if set(gone) == set(_names(image)) and not any(map(is_running, users)):
        return await take_away(store, job, image, bury=bool(users))
    await store.drop_names([parsed(each) for each in gone])
    return await _untagged(job, image, gone)


async def take_away(store: Store, job: Job[Any], image: Image, *, bury: bool = False) -> list[Deleted]:
    """Take an image away with all its names; `bury` it when containers stand on it. Tells what went."""
    records = await _untagged(job, image, _names(image))
    layers = await store.remove(image.id, bury=bury or is_creating(job))
    await tell(job, "delete", image.id)
    await forget_unused(store, job)
    return [*records, Deleted(Deleted=image.id), *(Deleted(Deleted=f"sha256:{layer}") for layer in layers)]


async def _untagged(job: Job[Any], image: Image, names: tuple[str, ...]) -> list[Deleted]:
    for _ in names:
        await tell(job, "untag", image.id)
    return [Deleted(Untagged=each) for each in names]


def _names(image: Image) -> tuple[str, ...]:
    return (*image.tags, *image.digests)


def _is_single(names: tuple[str, ...]) -> bool:
    """True when there is at most one tag, and all names are of one repository."""
    refs = [parsed(name) for name in names]
    return len({ref.repository for ref in refs}) == 1 and sum(not ref.digest for ref in refs) <= 1


async def images_prune(store: Store, pruning: trio.Lock, job: Job[ImagesPrune]) -> ImagesPruned:
    """Take away the images that no container stands on: those without a tag, or with dangling=false all."""
    wanted = filters.parse(job.params.filters, filters.PRUNE)
    only_dangling = filters.boolean(wanted.pop("dangling", ["true"]), "dangling")
    keeps = await filters.keeps(store, wanted)
    try:
        pruning.acquire_nowait()
    except trio.WouldBlock:
        raise Conflict("a prune operation is already running") from None
    try:
        found = [image for image in await store.all() if all(keep(image) for keep in keeps)]
        pruned = await prune(store, job, [image for image in found if not only_dangling or not image.tags])
    finally:
        pruning.release()
    await tell_pruned(job, pruned.SpaceReclaimed)
    return pruned


async def prune(store: Store, job: Job[Any], images: list[Image]) -> ImagesPruned:
    """Take away those of `images` that no container stands on."""
    used = {id for container in await containers(job) for id in images_of(container)}
    records = [each for image in images if image.id not in used for each in await take_away(store, job, image)]
    sizes = {f"sha256:{layer.chain}": layer.size for image in images for layer in image.layers}
    return ImagesPruned(records or None, sum(sizes.get(each.Deleted, 0) for each in records))


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
    names = _names(image)
    soft = ["image is referenced in multiple repositories"] if names and not _is_single(names) else []
    for container in users:
        if is_running(container):
            raise _conflict(image, "cannot be forced", f"image is being used by running container {container.Id[:12]}")
        soft.append(f"image is being used by stopped container {container.Id[:12]}")
    if soft and not force:
        raise _conflict(image, "must be forced", soft[0])


def _conflict(image: Image, how: str, why: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {_short(image.id)} ({how}) - {why}")


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
    if waiting and not is_creating(job):
        used = {id for container in await containers(job) for id in images_of(container)}
        if waiting - used:
            await store.forget(waiting - used)


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]
