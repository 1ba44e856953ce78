"""What the daemon must find again: definitions and outcomes on the data root, runs under way on the exec root.

The durable database gets one commit when a container is created and one when it has ended; the other one lies on
tmpfs, is never synced, and dies with the host, as the processes do.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import NamedTuple

import msgspec

from windlass.jobs.container_views import Health
from windlass.lib.database import Database

from .container import Definition, Outcome

logger = logging.getLogger("windlass.daemon")

DURABLE = [
    """CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, definition BLOB NOT NULL, outcome BLOB NOT NULL
    ) WITHOUT ROWID""",
]
RUN = [
    "CREATE TABLE runs (id TEXT PRIMARY KEY, started_ns INTEGER NOT NULL, pid INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE health (id TEXT PRIMARY KEY, health BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE held (id TEXT PRIMARY KEY) WITHOUT ROWID",
]

_encode = msgspec.json.Encoder().encode


class Run(NamedTuple):
    """A run that was intended; `pid` is 0 until it had begun. `is_held`: we have suspended it, and no client."""

    started_ns: int
    pid: int
    health: Health | None = None
    is_held: bool = False


class Store:
    """The daemon's tables in both databases."""

    def __init__(self, durable: Database, run: Database) -> None:
        self._durable = durable
        self._run = run

    def prepare(self) -> None:
        """Make the tables, or bring them up to date. Blocks; for start-up."""
        self._durable.migrate("daemon", DURABLE)
        self._run.migrate("daemon", RUN)

    # -- definitions and outcomes --------------------------------------------------------------------------------

    async def add(self, definition: Definition) -> None:
        row = (definition.id, definition.name, _encode(definition), _encode(Outcome()))
        await self._durable.write(lambda db: db.execute("INSERT INTO containers VALUES (?, ?, ?, ?)", row))

    async def redefine(self, definition: Definition) -> None:
        """Replace a definition, name included."""
        row = (definition.name, _encode(definition), definition.id)
        await self._durable.write(
            lambda db: db.execute("UPDATE containers SET name = ?, definition = ? WHERE id = ?", row)
        )

    async def save_outcome(self, id: str, outcome: Outcome) -> None:
        row = (_encode(outcome), id)
        await self._durable.write(lambda db: db.execute("UPDATE containers SET outcome = ? WHERE id = ?", row))

    async def remove(self, id: str) -> None:
        await self._durable.write(lambda db: db.execute("DELETE FROM containers WHERE id = ?", (id,)))

    async def load(self) -> list[tuple[Definition, Outcome]]:
        """Read all containers; a row that cannot be read is named in the log and left alone."""
        rows = await self._durable.read(lambda db: db.execute("SELECT * FROM containers").fetchall())
        found = []
        for id, name, definition, outcome in rows:
            try:
                found.append(
                    (msgspec.json.decode(definition, type=Definition), msgspec.json.decode(outcome, type=Outcome))
                )
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                logger.error("container %s (%s) cannot be read, leaving it alone: %s", id, name, exc)
        return found

    async def known_ids(self) -> set[str]:
        """Every id that has a row, readable or not."""
        rows = await self._durable.read(lambda db: db.execute("SELECT id FROM containers").fetchall())
        return {id for (id,) in rows}

    # -- runs ----------------------------------------------------------------------------------------------------

    async def intend_run(self, id: str, started_ns: int) -> None:
        """Say that a run is about to begin, before anything of it exists."""
        await self._run.write(lambda db: db.execute("REPLACE INTO runs VALUES (?, ?, 0)", (id, started_ns)))

    async def forget_run(self, id: str) -> None:
        def forget(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM runs WHERE id = ?", (id,))
            db.execute("DELETE FROM health WHERE id = ?", (id,))
            db.execute("DELETE FROM held WHERE id = ?", (id,))

        await self._run.write(forget)

    async def runs(self) -> dict[str, Run]:
        select = (
            "SELECT runs.id, started_ns, pid, health, held.id IS NOT NULL"
            " FROM runs LEFT JOIN health USING (id) LEFT JOIN held USING (id)"
        )
        rows = await self._run.read(lambda db: db.execute(select).fetchall())
        return {id: Run(started, pid, _health(health), bool(is_held)) for id, started, pid, health, is_held in rows}

    async def save_health(self, id: str, health: Health) -> None:
        """Keep the health of a run under way."""
        row = (id, _encode(health))
        await self._run.write(lambda db: db.execute("REPLACE INTO health VALUES (?, ?)", row))

    async def hold(self, id: str) -> None:
        """Say that a run is about to be suspended by us, and by no client."""
        await self._run.write(lambda db: db.execute("REPLACE INTO held VALUES (?)", (id,)))

    async def let_go(self, id: str) -> None:
        await self._run.write(lambda db: db.execute("DELETE FROM held WHERE id = ?", (id,)))


def _health(encoded: bytes | None) -> Health | None:
    return msgspec.json.decode(encoded, type=Health) if encoded is not None else None
