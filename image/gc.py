"""Job `image_gc`: takes images away by a policy, and tells beforehand which ones.

An image goes when nothing keeps it. What keeps one, in this order: a container, a pinned name, a label, being one of
the youngest of its repository, being too young, having a name where only nameless ones are meant. Age is counted from
when an image came here, not from when it was built. With thresholds nothing happens below `high` percent of the disk;
above it the oldest go first, until about `low` percent are left.

It is off unless the daemon's configuration has an interval; what the job itself is given overrides the configuration.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import trio

from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, JobError
from windlass.jobs.images import GcImage, GcPlan, ImageGc
from windlass.lib import duration, reference
from windlass.lib.timestamp import SECOND

from . import filters
from .delete import prune
from .events import tell_pruned
from .store import Image, Store
from .users import containers, images_of

logger = logging.getLogger("windlass.image")

NAMELESS = "<none>"
DAY = 24 * 3600  # seconds; Go's durations have none


class Policy(NamedTuple):
    """What is kept. Ages in seconds, thresholds in percent of the disk."""

    high: int = 0
    low: int = 0
    min_age: int = 0
    keep_last: int = 0
    keep_labels: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    dangling: bool = False


def policy_of(settings: Mapping[str, Any]) -> Policy:
    """The policy that `settings` mean. Raises BadParameter naming the key."""
    found = Policy(
        **{
            **settings,
            "min_age": _seconds(settings.get("min_age") or "0s", "min_age"),
            "keep_labels": tuple(settings.get("keep_labels") or ()),
            "pinned": tuple(settings.get("pinned") or ()),
        }
    )
    if not 0 <= found.low <= found.high <= 100:
        raise BadParameter(f"0 ≤ low ≤ high ≤ 100 must hold: low={found.low}, high={found.high}", key="high")
    if found.keep_last < 0:
        raise BadParameter(f"keep_last cannot be negative: {found.keep_last}", key="keep_last")
    return found


def interval_of(text: str) -> int:
    """The seconds of the setting `interval`. Raises BadParameter."""
    seconds = _seconds(text, "interval")
    if not seconds:
        raise BadParameter("interval cannot be 0", key="interval")
    return seconds


def _seconds(text: str, key: str) -> int:
    days, _, rest = text.rpartition("d")
    try:
        if days and not (days.isascii() and days.isdecimal()):
            raise ValueError(days)
        return int(days or 0) * DAY + (duration.parse(rest) // SECOND if rest or not days else 0)
    except ValueError:
        raise BadParameter(f"{key} must be a duration such as 36h or 10d, not {text!r:.100}", key=key) from None


async def image_gc(store: Store, settings: Mapping[str, Any], job: Job[ImageGc]) -> GcPlan:
    """Plan, and with `run` take away, the images that the policy does not keep."""
    given = msgspec.structs.asdict(job.params)
    is_run = given.pop("run")
    merged = {**settings, **{key: value for key, value in given.items() if value is not None}}
    if not merged:
        raise BadParameter("there is no policy: give one, or configure `image-gc`")
    policy = policy_of(merged)
    used = {id for container in await containers(job) for id in images_of(container)}
    plan, gone = _plan(policy, await store.all(), await store.stored(), used, *_disk(store))
    if not is_run:
        return plan
    pruned = await prune(store, job, gone)
    await tell_pruned(job, pruned.SpaceReclaimed)
    return msgspec.structs.replace(plan, ImagesDeleted=pruned.ImagesDeleted, SpaceReclaimed=pruned.SpaceReclaimed)


def _disk(store: Store) -> tuple[int, int]:
    """Bytes in use and in all on the file system of the blobs, counted as df does."""
    found = os.statvfs(store.blobs.root)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return used, used + found.f_bavail * found.f_frsize


def _plan(
    policy: Policy, images: list[Image], stored: dict[str, int], used: set[str], disk_used: int, disk_size: int
) -> tuple[GcPlan, list[Image]]:
    """What is to go, the oldest first, and what is kept and why."""
    images = sorted(images, key=lambda image: stored[image.id])
    last = _last(policy.keep_last, images)
    count = Counter(layer.chain for image in images for layer in image.layers)
    percent = 100 * disk_used // max(disk_size, 1)
    wanted = disk_used - policy.low * disk_size // 100 if policy.high else 0  # bytes
    plan = GcPlan(DiskUsedPercent=percent, Remove=[], Keep=[])
    gone: list[Image] = []
    reclaimed = 0
    for image in images:
        reason = _kept(policy, image, stored[image.id], used, last)
        if not reason and policy.high and (percent < policy.high or reclaimed >= wanted):
            reason = f"the disk is below {policy.high if percent < policy.high else policy.low} %"
        size = 0
        if not reason:
            gone.append(image)
            for layer in image.layers:
                count[layer.chain] -= 1
                size += layer.size if not count[layer.chain] else 0
            reclaimed += size
        names = [*image.tags, *image.digests] or [NAMELESS]
        (plan.Keep if reason else plan.Remove).append(GcImage(image.id, names, size, reason))
    return plan, gone


def _last(number: int, images: list[Image]) -> set[str]:
    """The ids of the youngest `number` images of each repository; `images` are the oldest first."""
    seen: Counter[str] = Counter()
    last = set()
    for image in reversed(images):
        for repository in {reference.parse(tag).repository for tag in image.tags}:
            seen[repository] += 1
            if seen[repository] <= number:
                last.add(image.id)
    return last


def _kept(policy: Policy, image: Image, stored: int, used: set[str], last: set[str]) -> str:
    """Why an image is kept; empty when nothing keeps it."""
    names = (*image.tags, *image.digests)
    reasons = {
        "a container uses it": image.id in used,
        "its name is pinned": any(filters.fits(name, list(policy.pinned)) for name in names),
        "it has a label that keeps it": any(filters.has_labels(image, [label]) for label in policy.keep_labels),
        f"it is one of the last {policy.keep_last} of its repository": image.id in last,
        "it is too young": time.time_ns() - stored < policy.min_age * 10**9,
        "it has a name": policy.dangling and bool(image.tags),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


async def run_regularly(engine: Engine, interval: float) -> None:
    """Run the job every `interval` seconds, for ever; what goes wrong is logged."""
    while True:
        await trio.sleep(interval)
        try:
            done = await engine.call(ImageGc(run=True))
            if done.ImagesDeleted:
                logger.info("image gc: %d images, %d bytes", len(done.Remove), done.SpaceReclaimed)
        except JobError as exc:
            logger.warning("image gc: %s, going on at the next interval", exc)
