"""The database: what a function gives back does no harm to the next one."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from windlass.lib.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "db", "OFF")
    database.migrate("test", ["CREATE TABLE things (name TEXT PRIMARY KEY) WITHOUT ROWID"])
    yield database
    database.close()


def test_a_cursor_does_not_leave_the_transaction(database: Database) -> None:
    rows = [("one",), ("two",)]
    cursor = database.write_now(lambda db: db.executemany("INSERT INTO things VALUES (?)", rows))
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursor.fetchall()
    cursor = database.read_now(lambda db: db.execute("SELECT * FROM things"))
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursor.fetchall()


def test_results_that_other_threads_let_go_disturb_nobody(database: Database) -> None:
    """A cursor that is collected in another thread resets the statement that the writer is using."""
    let_go: Queue[object] = Queue(4)
    thread = threading.Thread(target=lambda: [None for _ in iter(let_go.get, None)])
    thread.start()
    try:
        for number in range(20_000):
            row = [(str(number),)]
            let_go.put(database.write_now(lambda db, row=row: db.executemany("INSERT INTO things VALUES (?)", row)))
    finally:
        let_go.put(None)
        thread.join()
    assert database.read_now(lambda db: db.execute("SELECT count(*) FROM things").fetchone()[0]) == 20_000
