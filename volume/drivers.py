"""What a volume driver does, and how it is asked.

A plugin provides one by `engine.provide("volume-driver", driver)`. Its volumes' names, options and labels are kept
here, so that lists and `ps` ask no driver at all; one that does not answer fails the call that needs it, no other.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

import trio

from windlass.engine import Engine
from windlass.engine.errors import Internal, JobError, NotFound, Unavailable

from .model import LOCAL, Volume

T = TypeVar("T")

TIMEOUT = 60.0  # seconds that a driver has for an answer; Docker's plugins have one or two minutes


class VolumeDriver(Protocol):
    """Keeps the content of volumes. Everything may raise JobError or OSError; `name` is the driver's own."""

    name: str

    async def create(self, volume: Volume) -> None:
        """Make an empty volume. On failure nothing is left. One that is there already is taken as it is."""
        ...

    async def remove(self, volume: Volume) -> None:
        """Remove a volume with its content. Does nothing when it is not there."""
        ...

    async def path(self, volume: Volume) -> str:
        """Where it is on the host; empty while it is nowhere."""
        ...

    async def mount(self, volume: Volume) -> str:
        """Make it available before its first user comes, and return its path."""
        ...

    async def unmount(self, volume: Volume) -> None:
        """Its last user has gone."""
        ...

    async def status(self, volume: Volume) -> dict[str, Any] | None:
        """What inspect shows of it as Status."""
        ...


class Drivers:
    """The local driver and those of plugins."""

    def __init__(self, engine: Engine, local: VolumeDriver) -> None:
        self._engine = engine
        self._local = local

    def get(self, name: str) -> VolumeDriver:
        """Raises NotFound."""
        if name == LOCAL:
            return self._local
        for driver in self._engine.provided("volume-driver"):
            if driver.name == name:
                return driver  # type: ignore[no-any-return]
        raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')


async def ask(driver: str, call: Awaitable[T]) -> T:
    """Wait for a driver's answer. Raises Unavailable when it takes longer than TIMEOUT, Internal for an OSError."""
    try:
        with trio.fail_after(TIMEOUT):
            return await call
    except trio.TooSlowError:
        raise Unavailable(f"volume driver {driver} did not answer within {TIMEOUT:g} seconds") from None
    except JobError:
        raise
    except OSError as exc:
        raise Internal(_words(exc)) from exc


def _words(exc: OSError) -> str:
    return f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc.strerror or exc)
