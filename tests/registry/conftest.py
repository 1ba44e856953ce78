"""An engine with images and registries and nothing else, and registries of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.image.support import Images
from tests.support.shim import FILES
from windlass import events, image
from windlass.engine import Engine
from windlass.graphdriver.overlay2 import Overlay2
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database
from windlass.registry import install, retry, session
from windlass.registry.settings import Settings

from .server import Server


@dataclass
class Engines(Images):
    """Images, and how they come."""

    blobs: Path = Path()

    async def pull(self, name: str, **env: object) -> list[str]:
        """Pull (latest, unless another is named); return the statuses that were told, `id: status` or `status`."""
        if "@" not in name and ":" not in name.rpartition("/")[2]:
            env.setdefault("tag", "latest")
        await self.run("pull", name, **env)
        told = [(getattr(event, "id", ""), getattr(event, "status", "")) for event in self.said]
        return [f"{id}: {status}" if id else status for id, status in told]

    def kept(self) -> list[str]:
        """The names of all files in the blob store."""
        return sorted(path.name for path in self.blobs.rglob("*") if path.is_file())


@pytest.fixture
async def new_engine(tmp_path: Path) -> AsyncIterator[Callable[..., Engines]]:
    """Return a maker of engines with registry settings: `new_engine(insecure=[…])`."""
    made: list[tuple[Engines, Database]] = []

    def make(**settings: object) -> Engines:
        root = tmp_path / f"engine{len(made)}"
        root.mkdir()
        database = Database(root / "windlass.db", "OFF")
        engine, graph, blobs = Engine(), Overlay2(root / "overlay2", FILES), Blobs(root / "blobs")
        events.install(engine)
        image.install(engine, database=database, graph=graph, blobs=blobs, data_root=root)
        given = {"certificates": tmp_path / "certs.d", **settings}
        install.install(engine, blobs=blobs, settings=Settings(**given))  # type: ignore[arg-type]
        made.append((Engines(engine, graph, root, blobs=root / "blobs"), database))
        return made[-1][0]

    yield make
    for engine, database in made:
        await engine.graph.sweep()
        database.close()


@pytest.fixture
def images(new_engine: Callable[..., Engines]) -> Engines:
    return new_engine()


@pytest.fixture
def new_server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*args: object) -> Server:
        made.append(Server(*args).start())  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Server:
    return new_server()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once, and give up soon."""
    monkeypatch.setattr(retry, "FIRST", 0.001)
    monkeypatch.setattr(session, "STALL", 0.3)
