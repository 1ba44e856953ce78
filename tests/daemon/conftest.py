"""A whole engine with real drivers on roots of its own, and an image of busybox that a job of the test's gives."""

import contextlib
import dataclasses
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.images import PATH, busybox_rootfs, digest
from windlass import events
from windlass.daemon import install as daemon
from windlass.engine import Engine, Job
from windlass.engine.errors import NotFound
from windlass.engine.streams import Capture
from windlass.execdriver.native.launch import NativeDriver
from windlass.graphdriver.overlay2 import Overlay2
from windlass.jobs.container_config import HostConfig
from windlass.jobs.containers import Create, Created, Delete, Start
from windlass.jobs.images import ImageGet, ImageRecord
from windlass.jobs.supervision import ContainersRestore
from windlass.lib.database import Database

NONE = HostConfig(NetworkMode="none")
FILES = str(Path(daemon.__file__).parents[1] / "execdriver" / "native" / "windlass-files")


@dataclasses.dataclass
class Yard:
    """One life of an engine on the roots, and short words for what tests do all the time."""

    engine: Engine
    root: Path
    driver: NativeDriver
    events: Capture
    ids: set[str]

    async def call(self, params: Any) -> Any:
        with trio.fail_after(20):
            return await self.engine.call(params)

    async def job(self, name: str, *args: Any, **env: Any) -> Any:
        with trio.fail_after(20):
            return await self.engine.job(name, *args, **env).run()

    async def create(self, *words: str, host: HostConfig = NONE, **more: Any) -> str:
        made: Created = await self.call(Create(**{"Image": "busybox", "Cmd": list(words), "HostConfig": host} | more))
        self.ids.add(made.Id)
        return made.Id

    async def run(self, *words: str, **more: Any) -> str:
        """Create and start a container."""
        id = await self.create(*words, **more)
        await self.call(Start(name=id))
        return id

    async def outputs(self, name: str, job: str = "logs", **env: Any) -> tuple[str, str]:
        """What a job writes to stdout and stderr."""
        made = self.engine.job(job, name, **({"stdout": True, "stderr": True} | env))
        out, err = Capture(), Capture()
        made.stdout, made.stderr = out, err
        with trio.fail_after(20):
            await made.run()
        return out.text, err.text

    async def told(self) -> list[str]:
        """The actions of all events so far."""
        await trio.testing.wait_all_tasks_blocked()
        return [json.loads(line)["Action"] for line in self.events.text.splitlines()]


class Roots:
    """Folders that several lives of an engine may share, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids: set[str] = set()
        (root / "data").mkdir(exist_ok=True)
        (root / "exec").mkdir(exist_ok=True)

    @asynccontextmanager
    async def life(
        self,
        *,
        remove: bool = True,
        before: Callable[[Engine], None] = lambda engine: None,
        after: Callable[[Engine], None] = lambda engine: None,
    ) -> AsyncIterator[Yard]:
        """One life of an engine; at its end all containers are removed, unless the test wants them to live on.

        `before` may register jobs of siblings that the daemon finds when it is installed, `after` is for plugins.
        """
        async with trio.open_nursery() as nursery, Engine() as engine:
            driver = NativeDriver(self.root / "exec", nursery)
            durable, run = Database(self.root / "data" / "db"), Database(self.root / "exec" / "db", "OFF")
            graph = Overlay2(self.root / "data" / "overlay2", FILES)
            events.install(engine)
            await install_image(engine, graph)
            before(engine)
            told = engine.job("events")
            told.stdout = capture = Capture()
            nursery.start_soon(told.run)
            await trio.testing.wait_all_tasks_blocked()
            await daemon.install(
                engine,
                nursery=nursery,
                durable=durable,
                run=run,
                graph=graph,
                driver=driver,
                data_root=self.root / "data",
                exec_root=self.root / "exec",
            )
            after(engine)
            await engine.call(ContainersRestore())
            try:
                yield Yard(engine, self.root, driver, capture, self.ids)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
                    if remove:
                        await _remove_all(engine)
                nursery.cancel_scope.cancel()
        driver.close()
        for database in (durable, run):
            database.close()

    def cgroups(self) -> list[Path]:
        """The cgroups of containers that these roots have known, deepest first."""
        tops = [*Path("/sys/fs/cgroup").glob("windlass"), *Path("/sys/fs/cgroup").glob("*/windlass")]
        return [path for top in tops for id in self.ids for path in top.glob(f"{id}*")]

    def kill_all(self) -> None:
        """End what a test that failed has left."""
        self.ids |= {path.name for path in (self.root / "exec" / "containers").glob("*")}
        for group in self.cgroups():
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(int(pid), signal.SIGKILL)
        deadline = time.monotonic() + 5
        while (left := self.cgroups()) and time.monotonic() < deadline:
            for group in left:
                with contextlib.suppress(OSError):
                    group.rmdir()
            time.sleep(0.01)

    def left(self) -> list[str]:
        """What containers have left in the folders."""
        folders = ("data/containers", "exec/containers", "data/overlay2/containers", "data/overlay2/trash")
        return [str(path) for folder in folders for path in (self.root / folder).glob("*")]


async def install_image(engine: Engine, graph: Overlay2) -> None:
    """Put busybox into the graph, and a job in its place that finds it."""

    async def tar() -> AsyncIterator[bytes]:
        yield busybox_rootfs()

    layer, applied = await graph.apply(None, None, tar())

    async def image_get(job: Job[ImageGet]) -> ImageRecord:
        """Find an image."""
        if job.params.name not in ("busybox", IMAGE_ID):
            raise NotFound(f"No such image: {job.params.name}:latest")
        config = {"Cmd": ["sh"], "Env": [PATH], "Labels": {"of": "image"}}
        return ImageRecord(IMAGE_ID, config, layer, applied.size, "linux", "amd64", ["busybox:latest"])

    engine.register("image_get", image_get)


IMAGE_ID = digest(b"busybox")


async def _remove_all(engine: Engine) -> None:
    for summary in await engine.job("containers", all=True).run():
        with contextlib.suppress(NotFound):
            await engine.call(Delete(name=summary.Id, force=True))
    await trio.sleep(0.05)  # the files go after the answer


@pytest.fixture
def roots() -> Iterator[Roots]:
    with tempfile.TemporaryDirectory(prefix="windlass-daemon-") as folder:
        roots = Roots(Path(folder))
        try:
            yield roots
        finally:
            roots.kill_all()


@pytest.fixture
async def yard(roots: Roots) -> AsyncIterator[Yard]:
    async with roots.life() as yard:
        yield yard
    assert roots.left() == []
