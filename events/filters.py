"""Which events a client wants: Docker's filters (`daemon/events/filter.go` of moby).

Values of one filter are alternatives, but for `label`, where all must hold; filters among each other all must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from windlass.engine.errors import BadParameter
from windlass.jobs.events import Message
from windlass.lib.filters import has_labels

Values = frozenset[str]

# These actions carry a tail after a colon (`exec_create: sh -c true`): the filter names them without it.
PREFIXED = ("exec_create", "exec_start", "health_status")
# Objects that are found by a prefix of their id or name.
OBJECTS = ("container", "daemon", "network", "node", "plugin", "secret", "service", "volume", "config")


def matcher(filters: Mapping[str, list[str] | dict[str, bool]]) -> Callable[[Message], bool]:
    """Return what tells whether a message passes `filters`. Raises BadParameter for an unknown filter."""
    for name in filters:
        if name not in TESTS:
            raise BadParameter(f"invalid filter '{name}'", key="filters")
    wanted = [(TESTS[name], frozenset(_values(values))) for name, values in filters.items() if values]
    return lambda message: all(test(message, values) for test, values in wanted)


def _values(values: list[str] | dict[str, bool]) -> Iterable[str]:
    return values if isinstance(values, list) else (value for value, on in values.items() if on)


def _type(message: Message, values: Values) -> bool:
    return message.Type in values


def _scope(message: Message, values: Values) -> bool:
    return (message.scope or "local") in values


def _event(message: Message, values: Values) -> bool:
    if message.Action in values:
        return True
    action, colon, _tail = message.Action.partition(":")
    return bool(colon) and action in PREFIXED and action in values


def _object(message: Message, values: Values) -> bool:
    name = message.Actor.Attributes.get("name", "")
    return message.Actor.ID.startswith(tuple(values)) or name.startswith(tuple(values))


def _image(message: Message, values: Values) -> bool:
    """True for the image itself, and for the containers made of it; with its tag or without."""
    name = message.Actor.Attributes.get("name" if message.Type == "image" else "image", "")
    names = {message.Actor.ID, name, _without_tag(message.Actor.ID), _without_tag(name)}
    return bool(names & values)


def _without_tag(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _label(message: Message, values: Values) -> bool:
    return has_labels(message.Actor.Attributes, values)


TESTS: dict[str, Callable[[Message, Values], bool]] = {
    "type": _type, "event": _event, "scope": _scope, "image": _image, "label": _label,
    **dict.fromkeys(OBJECTS, _object),
}  # fmt: skip
