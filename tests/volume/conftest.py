"""A volume subsystem on a folder of its own, in an engine without a daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from windlass import events
from windlass.engine import Engine
from windlass.execdriver import native
from windlass.lib.database import Database
from windlass.volume.install import install

FILES = str(Path(native.__file__).with_name("windlass-files"))


class Home:
    """A data root that several lives of an engine may share, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Engine]:
        database = Database(self.root / "db")
        async with Engine() as engine, trio.open_nursery() as nursery:
            events.install(engine)
            await install(engine, nursery=nursery, durable=database, data_root=self.root, program=FILES)
            yield engine
        database.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
async def engine(home: Home) -> AsyncIterator[Engine]:
    async with home.life() as engine:
        yield engine
