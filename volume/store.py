"""The rows of volumes, in the durable database."""

from __future__ import annotations

import logging
import sqlite3

import msgspec

from windlass.lib.database import Database

from .model import Volume

logger = logging.getLogger("windlass.volume")

DURABLE = ["CREATE TABLE volumes (name TEXT PRIMARY KEY, definition BLOB NOT NULL) WITHOUT ROWID"]

_encode = msgspec.json.Encoder().encode


class Store:
    """The volumes' table."""

    def __init__(self, durable: Database) -> None:
        self._durable = durable

    def prepare(self) -> None:
        """Make the table, or bring it up to date. Blocks; for start-up."""
        self._durable.migrate("volume", DURABLE)

    async def add(self, *volumes: Volume) -> None:
        rows = [(each.name, _encode(each)) for each in volumes]
        await self._durable.write(lambda db: db.executemany("INSERT INTO volumes VALUES (?, ?)", rows))

    async def remove(self, *names: str) -> None:
        rows = [(name,) for name in names]
        await self._durable.write(lambda db: db.executemany("DELETE FROM volumes WHERE name = ?", rows))

    async def load(self) -> dict[str, Volume | None]:
        """Read all volumes; None for a row that cannot be read, which is left alone."""

        def read(db: sqlite3.Connection) -> list[tuple[str, bytes]]:
            return db.execute("SELECT name, definition FROM volumes").fetchall()

        found: dict[str, Volume | None] = {}
        for name, definition in await self._durable.read(read):
            try:
                found[name] = msgspec.json.decode(definition, type=Volume)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                logger.error("volume %s cannot be read, leaving it alone: %s", name, exc)
                found[name] = None
        return found
