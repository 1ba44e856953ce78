"""Puts the volume jobs into an engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Engine
from windlass.lib.database import Database

from . import use, volumes
from .shelf import Shelf
from .store import Store

JOBS: dict[str, Callable[..., Any]] = {
    "volume_create": volumes.volume_create,
    "volumes": volumes.volumes,
    "volume_inspect": volumes.volume_inspect,
    "volume_delete": volumes.volume_delete,
    "volume_prune": volumes.volume_prune,
    "volume_hold": use.volume_hold,
    "volume_release": use.volume_release,
    "volume_populate": use.volume_populate,
    "volume_mount": use.volume_mount,
    "volume_unmount": use.volume_unmount,
    "volumes_reconcile": use.volumes_reconcile,
}


async def install(engine: Engine, *, nursery: trio.Nursery, durable: Database, data_root: Path, program: str) -> None:
    """Bring rows and folders to agree, then register the jobs. `nursery` carries the unlinking."""
    store = Store(durable)
    store.prepare()
    shelf = Shelf(engine, nursery, store, data_root / "volumes", program)
    await shelf.load()
    for name, handler in JOBS.items():
        engine.register(name, functools.partial(handler, shelf))
