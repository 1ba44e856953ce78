"""An engine with images and nothing else, on folders of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.image.support import Images
from tests.support.shim import FILES
from windlass import events, image
from windlass.engine import Engine
from windlass.graphdriver.overlay2 import Overlay2
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    database = Database(tmp_path / "windlass.db", "OFF")
    engine = Engine()
    graph = Overlay2(tmp_path / "overlay2", FILES)
    events.install(engine)
    image.install(engine, database=database, graph=graph, blobs=Blobs(tmp_path / "blobs"), data_root=tmp_path)
    try:
        yield Images(engine, graph, tmp_path)
    finally:
        await graph.sweep()
        database.close()
