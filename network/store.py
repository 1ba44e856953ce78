"""What the network must find again: networks on the data root, what running containers have on the exec root."""

from __future__ import annotations

import logging
import sqlite3

import msgspec

from windlass.lib.database import Database

from .model import Network

logger = logging.getLogger("windlass.network")

DURABLE = [
    """CREATE TABLE networks (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, definition BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE network_facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID""",
]
RUN = ["CREATE TABLE sandboxes (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID"]

_encode = msgspec.json.Encoder().encode


class Store:
    """The network's tables in both databases."""

    def __init__(self, durable: Database, run: Database) -> None:
        self._durable = durable
        self._run = run

    def prepare(self) -> None:
        """Make the tables, or bring them up to date. Blocks; for start-up."""
        self._durable.migrate("network", DURABLE)
        self._run.migrate("network", RUN)

    # -- networks ------------------------------------------------------------------------------------------------

    async def put_network(self, network: Network) -> None:
        """Keep a network, new or changed."""
        row = (network.id, network.name, _encode(network))

        def put(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO networks VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET name = excluded.name, definition = excluded.definition",
                row,
            )

        await self._durable.write(put)

    async def forget_network(self, id: str) -> None:
        await self._durable.write(lambda db: db.execute("DELETE FROM networks WHERE id = ?", (id,)))

    async def load_networks(self) -> dict[str, Network | None]:
        """Read all networks, by name, oldest first; None for a row that cannot be read, which is left alone."""
        rows = await self._durable.read(lambda db: db.execute("SELECT id, name, definition FROM networks").fetchall())
        found: dict[str, Network | None] = {}
        for id, name, definition in rows:
            try:
                found[name] = msgspec.json.decode(definition, type=Network)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                logger.error("network %s (%s) cannot be read, leaving it alone: %s", name, id, exc)
                found[name] = None
        return dict(sorted(found.items(), key=lambda item: item[1].created_ns if item[1] else 0))

    # -- facts ---------------------------------------------------------------------------------------------------

    async def fact(self, key: str, value: str) -> str:
        """Return what is kept under `key`; `value`, and keep that, when nothing is."""

        def ensure(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO network_facts VALUES (?, ?)", (key, value))
            (kept,) = db.execute("SELECT value FROM network_facts WHERE key = ?", (key,)).fetchone()
            return str(kept)

        return await self._durable.write(ensure)

    # -- sandboxes -----------------------------------------------------------------------------------------------

    async def put_sandbox(self, id: str, record: bytes) -> None:
        """Keep what a container has, until it is forgotten or the host goes down."""
        await self._run.write(lambda db: db.execute("REPLACE INTO sandboxes VALUES (?, ?)", (id, record)))

    async def forget_sandbox(self, id: str) -> None:
        await self._run.write(lambda db: db.execute("DELETE FROM sandboxes WHERE id = ?", (id,)))

    async def load_sandboxes(self) -> dict[str, bytes]:
        rows = await self._run.read(lambda db: db.execute("SELECT id, record FROM sandboxes").fetchall())
        return {id: bytes(record) for id, record in rows}
