"""One SQLite database, one writer, many readers; nothing of it blocks the loop.

There are two of them. The durable one, under the data root, keeps what must outlive the host: `synchronous=FULL`,
so a commit that has returned survives a power cut. The run one, on the exec root (tmpfs), keeps what dies with the
host anyway: `synchronous=OFF`. Both are in WAL mode, so readers never wait for the writer.

Owners keep their own tables: `migrate("image", [sql, …])` runs the statements that have not run yet, in order, and
remembers how many have. A database from a newer version is refused before anything is changed.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import trio

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL", "OFF"]

READERS = 4


class DatabaseError(Exception):
    """The file is damaged, is no database, or comes from a newer version; the message names it."""


class Database:
    """A database file and its connections. `close` it when nobody uses it any more."""

    def __init__(self, path: Path, synchronous: Synchronous = "FULL") -> None:
        self.path = path
        self._synchronous = synchronous
        self._writer_limit = trio.CapacityLimiter(1)
        self._reader_limit = trio.CapacityLimiter(READERS)
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()  # of the idle readers
        self._write_lock = threading.Lock()
        self._writer = self._connect()
        with self._guarded():
            self._writer.execute("CREATE TABLE IF NOT EXISTS schema_version (owner TEXT PRIMARY KEY, steps INTEGER)")

    def migrate(self, owner: str, steps: Sequence[str]) -> None:
        """Bring `owner`'s tables up to date: run the SQL scripts in `steps` that have not run yet, in one transaction.

        Blocks; meant for start-up. Raises DatabaseError when the file has more steps than we know.
        """
        with self._guarded():
            row = self._writer.execute("SELECT steps FROM schema_version WHERE owner = ?", (owner,)).fetchone()
            done = row[0] if row else 0
            if done > len(steps):
                raise DatabaseError(
                    f"{self.path} has version {done} of the tables of {owner}; this windlass knows {len(steps)}:"
                    " use the newer one"
                )
            if done == len(steps):
                return
            script = ";\n".join(step.rstrip().rstrip(";") for step in steps[done:])
            self._writer.executescript(
                f"BEGIN IMMEDIATE;\n{script};\n"
                f"INSERT OR REPLACE INTO schema_version VALUES ('{owner}', {len(steps)});\nCOMMIT;"
            )

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a transaction in the writer's thread and return what it returns, once committed.

        What it raises rolls the transaction back. Cancellation waits for the end: a commit is never left in doubt.
        """
        return await trio.to_thread.run_sync(self.write_now, function, limiter=self._writer_limit)

    def write_now(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """`write`, blocking, for threads and start-up."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = _without_cursor(function(self._writer))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            return result

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` on a read-only connection in a thread and return what it returns."""
        return await trio.to_thread.run_sync(self.read_now, function, limiter=self._reader_limit)

    def read_now(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """`read`, blocking, for threads and start-up."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect(readonly=True)
        try:
            return _without_cursor(function(connection))
        finally:
            with self._lock:
                self._idle.append(connection)

    def close(self) -> None:
        """Close every connection; the last one checkpoints the WAL."""
        for connection in (*self._idle, self._writer):
            connection.close()
        self._idle.clear()

    def _connect(self, readonly: bool = False) -> sqlite3.Connection:
        with self._guarded():
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA foreign_keys = ON")
            if readonly:
                connection.execute("PRAGMA query_only = ON")
            return connection

    def _guarded(self) -> _Guard:
        return _Guard(self.path)


def _without_cursor(result: T) -> T:
    """Close a result that is a cursor: it holds a statement that the connection gives to its next user.

    Collected later, in a thread of somebody else's, it would reset the statement under that user's hands:
    `InterfaceError: bad parameter or other API misuse`.
    """
    if isinstance(result, sqlite3.Cursor):
        result.close()
    return result


class _Guard:
    """Names the file in what SQLite raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, sqlite3.DatabaseError):
            raise DatabaseError(f"{self._path}: {exc}") from exc
