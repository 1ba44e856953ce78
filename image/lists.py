"""Jobs that only look: `images`, `image_inspect`, `image_get`, `history`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from windlass.engine import Job
from windlass.engine.errors import BadParameter, NotFound
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
    RootFS,
)
from windlass.lib import reference, timestamp
from windlass.lib.reference import InvalidReference

from .config import host_architecture
from .store import Image, Store

Keep = Callable[[Image], bool]


def created(image: Image) -> int:
    """Seconds since the epoch; 0 when the configuration does not say, or nonsense."""
    try:
        return timestamp.parse(str(image.config.get("created"))) // timestamp.SECOND
    except (ValueError, OverflowError):
        return 0


async def images(store: Store, job: Job[Images]) -> list[ImageSummary]:
    """List images, newest first."""
    params = job.params
    filters = {key: _values(value) for key, value in params.filters.items()}
    if params.filter:
        filters.setdefault("reference", []).append(params.filter)
    found = await store.all()
    keeps = [await _keep(store, name, values) for name, values in filters.items()]
    kept = [image for image in found if all(keep(image) for keep in keeps)]
    return [_summary(image, filters.get("reference")) for image in sorted(kept, key=created, reverse=True)]


def _summary(image: Image, patterns: list[str] | None) -> ImageSummary:
    tags = [tag for tag in image.tags if patterns is None or any(_fits(tag, p) for p in patterns)]
    return ImageSummary(
        Id=image.id,
        RepoTags=tags,
        RepoDigests=list(image.digests),
        Created=created(image),
        Size=image.size,
        Labels=image.run_config.get("Labels"),
        VirtualSize=image.size,
    )


def _values(value: list[str] | dict[str, bool]) -> list[str]:
    return list(value) if isinstance(value, list) else [key for key, on in value.items() if on]


async def _keep(store: Store, name: str, values: list[str]) -> Keep:
    """A filter by Docker's name. Raises BadParameter for one that there is not."""
    if name == "dangling":
        wanted = _boolean(values)
        return lambda image: (not image.tags) == wanted
    if name == "reference":
        return lambda image: any(_fits(tag, value) for tag in image.tags for value in values)
    if name == "label":
        return lambda image: all(_has_label(image, value) for value in values)
    if name in ("before", "since"):
        times = [created(await store.find(value)) for value in values]
        if name == "before":
            return lambda image: all(created(image) < time for time in times)
        return lambda image: all(created(image) > time for time in times)
    if name == "until":
        if len(values) != 1:
            raise BadParameter("more than one until filter specified", key="filters")
        until = _until(values[0])
        return lambda image: created(image) < until
    raise BadParameter(f"invalid filter '{name}'", key="filters")


def _until(value: str) -> float:
    """Seconds since the epoch: a point in time, or how long ago (`1h30m`). Raises BadParameter."""
    ago = re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?", value, re.ASCII)
    if value and ago:
        hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        return time.time() - hours * 3600 - minutes * 60 - seconds
    try:
        return timestamp.parse(value) / timestamp.SECOND
    except ValueError as exc:
        raise BadParameter(f"invalid filter 'until={value:.100}': {exc}", key="filters") from None


def _boolean(values: list[str]) -> bool:
    if len(values) == 1 and values[0].lower() in ("1", "true", "0", "false"):
        return values[0].lower() in ("1", "true")
    raise BadParameter(f"invalid filter 'dangling={values}'", key="filters")


def _fits(tag: str, pattern: str) -> bool:
    """Docker's match: a glob on the familiar name, with or without the tag; `*` does not cross a slash."""
    name = tag.rpartition(":")[0]
    return any(text.count("/") == pattern.count("/") and fnmatchcase(text, pattern) for text in (tag, name))


def _has_label(image: Image, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    labels = image.run_config.get("Labels") or {}
    return key in labels and (not equals or labels[key] == value)


async def image_inspect(store: Store, job: Job[ImageInspect]) -> ImageInfo:
    """Tell all about an image."""
    image = await store.find(job.params.name)
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
    name, platform = job.params.name, job.params.platform
    image = await store.find(name)
    os, architecture = image.config.get("os") or "linux", image.config.get("architecture") or host_architecture()
    wanted = platform.split("/")
    if platform and [os, architecture][: len(wanted)] != wanted[:2]:
        raise NotFound(
            f"image with reference {name} was found but its platform ({os}/{architecture}) does not match the"
            f" specified platform ({platform})"
        )
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
    image = await store.find(job.params.name)
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
    at = created(Image("", {"created": step.get("created")}, (), (), (), 0))
    return HistoryItem("<missing>", at, str(step.get("created_by") or ""), None, size, str(step.get("comment") or ""))


def parsed(name: str) -> reference.Reference:
    """`name` as a reference with a tag. Raises BadParameter."""
    try:
        return reference.parse(name).tagged()
    except InvalidReference as exc:
        raise BadParameter(str(exc), key="name") from None
