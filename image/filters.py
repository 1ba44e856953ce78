"""Docker's filters of images, for `images`, `images_prune` and the collector (moby: daemon/images)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from windlass.engine.errors import BadParameter
from windlass.lib import filters, reference, timestamp

from .store import Image, Store

Keep = Callable[[Image], bool]
Given = Mapping[str, list[str] | dict[str, bool]]

LIST = frozenset(("dangling", "reference", "label", "before", "since", "until"))
PRUNE = frozenset(("dangling", "label", "label!", "until"))


def created(image: Image) -> int:
    """Seconds since the epoch; 0 when the configuration does not say, or nonsense."""
    return created_of(image.config.get("created"))


def created_of(value: object) -> int:
    """The same of a time as it is in a configuration."""
    try:
        return timestamp.parse(str(value)) // timestamp.SECOND
    except (ValueError, OverflowError):
        return 0


def parse(given: Given, known: frozenset[str]) -> dict[str, list[str]]:
    """The values of each filter. Raises BadParameter for one that is not `known`."""
    if unknown := sorted(given.keys() - known):
        raise BadParameter(f"invalid filter '{unknown[0]:.100}'", key="filters")
    return {
        name: list(value) if isinstance(value, list) else [key for key, on in value.items() if on]
        for name, value in given.items()
    }


def boolean(values: list[str], name: str) -> bool:
    """Docker's boolean of a filter. Raises BadParameter."""
    if len(values) == 1 and values[0].lower() in ("1", "true", "0", "false"):
        return values[0].lower() in ("1", "true")
    raise BadParameter(f"invalid filter '{name}={values}'", key="filters")


async def keeps(store: Store, filters: dict[str, list[str]]) -> list[Keep]:
    """A predicate for each filter. Raises BadParameter for a bad value, NotFound for an image that is not there."""
    return [await _keep(store, name, values) for name, values in filters.items()]


async def _keep(store: Store, name: str, values: list[str]) -> Keep:
    if name == "dangling":
        if boolean(values, name):
            return lambda image: not image.tags
        return lambda image: bool(image.tags or image.digests)
    if name == "reference":
        return lambda image: any(fits(each, values) for each in (*image.tags, *image.digests))
    if name == "label":
        return lambda image: has_labels(image, values)
    if name == "label!":
        return lambda image: not has_labels(image, values)
    if name == "until":
        until = _until(values)
        return lambda image: created(image) < until
    times = [created(await store.find(value)) for value in values]
    if name == "before":
        return lambda image: all(created(image) < time for time in times)
    return lambda image: all(created(image) > time for time in times)


def _until(values: list[str]) -> float:
    """Seconds since the epoch. Raises BadParameter."""
    if len(values) != 1:
        raise BadParameter("more than one until filter specified", key="filters")
    try:
        return filters.until(values[0]) / timestamp.SECOND
    except ValueError as exc:
        raise BadParameter(f"invalid value for 'until' filter: {values[0]:.100}: {exc}", key="filters") from None


def fits(name: str, patterns: list[str]) -> bool:
    """Docker's match: a glob on a familiar name, with or without tag or digest; `*` does not cross a slash."""
    texts = (name, reference.parse(name).familiar_name)
    globs = [pattern.replace("[^", "[!") for pattern in patterns]
    return any(text.count("/") == glob.count("/") and fnmatchcase(text, glob) for text in texts for glob in globs)


def has_labels(image: Image, wanted: list[str]) -> bool:
    """True when the image has all labels, each `KEY` or `KEY=VALUE`."""
    return filters.has_labels(image.run_config.get("Labels") or {}, wanted)
