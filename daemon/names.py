"""Which container a word means, and which names may be given.

The order is: full id, name, unique prefix of an id. A name is never hidden by another container's id.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left, insort
from collections.abc import Iterator

from windlass.engine.errors import BadParameter, Conflict, NotFound

from .container import Container
from .words import ADJECTIVES, SURNAMES

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z", re.ASCII)


def new_id() -> str:
    """Make an id: 64 hexadecimal digits, whose first twelve are no decimal number.

    The short form is a default host name, which must not look like a number (Docker's stringid).
    """
    while True:
        id = secrets.token_hex(32)
        if not id[:12].isdecimal():
            return id


def check_name(name: str) -> str:
    """Return `name` without its slash. Raises BadParameter when it may not be a name."""
    if not _NAME.match(name):
        raise BadParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", key="name")
    return name.removeprefix("/")


class Registry:
    """All containers, by id and by name. A name may be held before its container is there."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        self._ids: list[str] = []  # sorted, for prefixes

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def add(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
        insort(self._ids, container.id)

    def remove(self, container: Container) -> None:
        del self._by_id[container.id]
        self.release(container.name, container.id)
        del self._ids[bisect_left(self._ids, container.id)]

    # -- names ---------------------------------------------------------------------------------------------------

    def hold(self, name: str, id: str) -> None:
        """Give `name` to `id`. Raises Conflict when it is taken."""
        if name in self._by_name:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{self._by_name[name]}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._by_name[name] = id

    def hold_any(self, id: str) -> str:
        """Give a free name like `brave_lovelace` to `id` and return it."""
        for attempt in range(6):
            name = f"{secrets.choice(ADJECTIVES)}_{secrets.choice(SURNAMES)}" + (str(attempt) if attempt else "")
            if name not in self._by_name:
                break
        else:
            name = id[:12]
        self.hold(name, id)
        return name

    def release(self, name: str, id: str) -> None:
        """Free `name` if `id` holds it."""
        if self._by_name.get(name) == id:
            del self._by_name[name]

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, word: str) -> Container | None:
        """The container that `word` means, or None. Raises BadParameter when a prefix fits several."""
        if (found := self._by_id.get(word)) is not None:
            return found
        if (id := self._by_name.get(word.removeprefix("/"))) is not None and id in self._by_id:
            return self._by_id[id]
        place = bisect_left(self._ids, word)
        fitting = [id for id in self._ids[place : place + 2] if word and id.startswith(word)]
        if len(fitting) > 1:
            raise BadParameter(f"multiple IDs found with provided prefix: {word}", key="name")
        return self._by_id[fitting[0]] if fitting else None

    def get(self, word: str) -> Container:
        """The container that `word` means. Raises NotFound, or BadParameter when a prefix fits several."""
        found = self.find(word)
        if found is None:
            raise NotFound(f"No such container: {word}")
        return found
