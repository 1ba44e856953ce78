"""Jobs that only look: `images`, `image_inspect`, `image_get`, `history`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.container_views import Summary
from windlass.jobs.images import (
    GraphDriver,
    History,
    HistoryItem,
    ImageGet,
    ImageInfo,
    ImageInspect,
    ImageRecord,
    Images,
    ImageSummary,
    ManifestData,
    ManifestSize,
    ManifestSummary,
    RootFS,
)
from windlass.lib import reference
from windlass.lib.reference import InvalidReference

from . import filters, platforms
from .config import host_architecture
from .filters import created, created_of
from .store import Image, Store
from .users import containers, images_of


async def images(store: Store, job: Job[Images]) -> list[ImageSummary]:
    """List images, newest first."""
    params = job.params
    wanted = filters.parse(params.filters, filters.LIST)
    if params.filter:
        wanted.setdefault("reference", []).append(params.filter)
    keeps = await filters.keeps(store, wanted)
    found = await store.all()
    kept = sorted((image for image in found if all(keep(image) for keep in keeps)), key=created, reverse=True)
    summaries = [_summary(image, wanted.get("reference")) for image in kept]
    if params.shared_size:
        shared = shared_sizes(found)
        summaries = [msgspec.structs.replace(each, SharedSize=shared[each.Id]) for each in summaries]
    if params.manifests:
        users = await containers(job)
        summaries = [
            msgspec.structs.replace(each, Manifests=await _manifests(store, each, users)) for each in summaries
        ]
    return summaries


def shared_sizes(found: list[Image]) -> dict[str, int]:
    """By id, the bytes of the layers that an image shares with others."""
    count = Counter(layer.chain for image in found for layer in image.layers)
    return {image.id: sum(layer.size for layer in image.layers if count[layer.chain] > 1) for image in found}


def _summary(image: Image, patterns: list[str] | None) -> ImageSummary:
    tags, digests = (
        [name for name in names if patterns is None or filters.fits(name, patterns)]
        for names in (image.tags, image.digests)
    )
    return ImageSummary(
        Id=image.id,
        RepoTags=tags,
        RepoDigests=digests,
        Created=created(image),
        Size=image.size,
        Labels=image.run_config.get("Labels"),
        VirtualSize=image.size,
    )


async def _manifests(store: Store, summary: ImageSummary, users: list[Summary]) -> list[ManifestSummary]:
    """The manifests that an image is known by, as an image store of many platforms shows them."""
    content = await store.contents(summary.Id)
    config = msgspec.json.decode(content.config)
    using = [container.Id for container in users if summary.Id in images_of(container)]
    found = []
    for document in content.manifests:
        layers = msgspec.json.decode(document.content)["layers"]
        here = [layer["size"] for layer in layers if await store.blobs.has(layer["digest"])]
        size = len(document.content) + len(content.config) + sum(here)
        platform = {key: value for key in ("architecture", "os", "variant") if (value := config.get(key))}
        found.append(
            ManifestSummary(
                ID=document.digest,
                Descriptor={
                    "mediaType": document.media_type, "digest": document.digest, "size": len(document.content)
                },
                Available=len(here) == len(layers),
                Size=ManifestSize(Content=size, Total=size + summary.Size),
                ImageData=ManifestData(platform, using, {"Unpacked": summary.Size}),
            )
        )  # fmt: skip
    return found


async def _found(store: Store, job: Job[ImageInspect] | Job[ImageGet] | Job[History]) -> Image:
    """The image that a job is about. Raises NotFound when it is not there, or for another platform than is wanted."""
    image = await store.find(job.params.name)
    platforms.check(image, job.params.name, platforms.parse(job.params.platform))
    return image


async def image_inspect(store: Store, job: Job[ImageInspect]) -> ImageInfo:
    """Tell all about an image."""
    image = await _found(store, job)
    config = image.config
    return ImageInfo(
        Id=image.id,
        RepoTags=list(image.tags),
        RepoDigests=list(image.digests),
        Created=config.get("created") or "0001-01-01T00:00:00Z",
        Architecture=config.get("architecture") or "",
        Variant=config.get("variant") or "",
        Os=config.get("os") or "linux",
        Size=image.size,
        VirtualSize=image.size,
        RootFS=RootFS(Layers=config["rootfs"]["diff_ids"]),
        GraphDriver=GraphDriver(store.graph.name, {}),
        Config=image.run_config,
        Comment=config.get("comment") or "",
        Author=config.get("author") or "",
        DockerVersion=config.get("docker_version") or "",
        Metadata={"LastTagTime": "0001-01-01T00:00:00Z"},
    )


async def image_get(store: Store, job: Job[ImageGet]) -> ImageRecord:
    """Find an image for a container to be made from."""
    image = await _found(store, job)
    os, architecture = image.config.get("os") or "linux", image.config.get("architecture") or host_architecture()
    return ImageRecord(
        id=image.id,
        config=image.run_config,
        chain=image.chain,
        size=image.size,
        os=os,
        architecture=architecture,
        tags=list(image.tags),
    )


async def history(store: Store, job: Job[History]) -> list[HistoryItem]:
    """List the steps in which an image was made, newest first."""
    image = await _found(store, job)
    steps = [step for step in image.config.get("history") or [] if isinstance(step, dict)]
    sizes = [layer.size for layer in image.layers]
    items = []
    for step in steps:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        items.append(_step(step, size))
    items = items or [_step({}, image.size)]
    last = items[-1]
    items[-1] = HistoryItem(image.id, last.Created, last.CreatedBy, list(image.tags) or None, last.Size, last.Comment)
    return items[::-1]


def _step(step: dict[str, Any], size: int) -> HistoryItem:
    at = created_of(step.get("created"))
    return HistoryItem("<missing>", at, str(step.get("created_by") or ""), None, size, str(step.get("comment") or ""))


def parsed(name: str) -> reference.Reference:
    """`name` as a reference with a tag. Raises BadParameter."""
    try:
        return reference.parse(name).tagged()
    except InvalidReference as exc:
        raise BadParameter(str(exc), key="name") from None
