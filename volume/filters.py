"""Docker's filters of volumes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from windlass.engine.errors import BadParameter

from .model import Volume

Given = Mapping[str, list[str] | dict[str, bool]]
Wanted = dict[str, list[str]]

# Go's strconv.ParseBool, but for T and F, which moby's filters do not take
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def parse(filters: Given, known: frozenset[str]) -> Wanted:
    """Raises BadParameter for a filter that is not `known`."""
    wanted = {}
    for name, values in filters.items():
        if name not in known:
            raise BadParameter(f"invalid filter '{name}'", key="filters")
        wanted[name] = values if isinstance(values, list) else [value for value, on in values.items() if on]
    return {name: values for name, values in wanted.items() if values}


def flag(wanted: Wanted, name: str) -> bool | None:
    """The filter's value; None where it is not given. Raises BadParameter."""
    values = {_BOOLEANS.get(value) for value in wanted.get(name, ())}
    if len(values) > 1 or None in values:
        raise BadParameter(f"invalid filter '{name}={wanted[name]}'", key="filters")
    return values.pop() if values else None


def fits(volume: Volume, is_held: bool, wanted: Wanted) -> bool:
    """Whether a volume is among those that a list's filters want."""
    dangling = flag(wanted, "dangling")
    tests: dict[str, Callable[[list[str]], bool]] = {
        "driver": lambda values: volume.driver in values,
        "name": lambda values: any(_search(value, volume.name) for value in values),
        "label": lambda values: has_labels(volume, values),
    }
    chosen = all(tests[name](values) for name, values in wanted.items() if name in tests)
    return chosen and dangling in (None, not is_held)


def has_labels(volume: Volume, values: list[str]) -> bool:
    return all(_has_label(volume, value) for value in values)


def has_any_label(volume: Volume, values: list[str]) -> bool:
    return any(_has_label(volume, value) for value in values)


def _has_label(volume: Volume, text: str) -> bool:
    labels = volume.labels or {}
    key, equals, value = text.partition("=")
    return labels.get(key) == value if equals else key in labels


def _search(pattern: str, text: str) -> bool:
    """A regular expression that fits anywhere (`^web$`); what is none is looked for as it is."""
    try:
        return pattern in text or re.search(pattern, text) is not None
    except re.error:
        return False
