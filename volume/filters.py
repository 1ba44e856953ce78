"""Docker's filters of volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from windlass.engine.errors import BadParameter
from windlass.lib import filters

from .model import Volume

Given = Mapping[str, list[str] | dict[str, bool]]
Wanted = dict[str, list[str]]

# Go's strconv.ParseBool, but for T and F, which moby's filters do not take
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def parse(given: Given, known: frozenset[str]) -> Wanted:
    """Raises BadParameter for a filter that is not `known`."""
    wanted = {}
    for name, values in given.items():
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
        "name": lambda values: any(filters.search(value, volume.name) for value in values),
        "label": lambda values: filters.has_labels(volume.labels or {}, values),
    }
    chosen = all(tests[name](values) for name, values in wanted.items() if name in tests)
    return chosen and dangling in (None, not is_held)
