"""What all jobs on containers share: the registry, the store, the drivers, the folders, and the way to tell events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from windlass.engine import Engine
from windlass.engine.errors import JobError
from windlass.execdriver.driver import Driver as ExecDriver
from windlass.graphdriver.driver import Driver as GraphDriver
from windlass.jobs.container_config import Ulimit
from windlass.jobs.events import Log

from .container import Container
from .names import Registry
from .remap import Remap
from .state import Store

if TYPE_CHECKING:
    from .exec import Exec

logger = logging.getLogger("windlass.daemon")


@dataclass(frozen=True, slots=True)
class Dns:
    """How containers find names when neither they nor the host say otherwise: `--dns`, `--dns-opt`, `--dns-search`."""

    servers: Sequence[str] = ()
    options: Sequence[str] = ()
    search: Sequence[str] = ()


@dataclass(eq=False)
class Daemon:
    """The daemon's own parts. `nursery` carries what goes on when a job has answered: monitors, removals."""

    engine: Engine
    nursery: trio.Nursery
    store: Store
    graph: GraphDriver
    driver: ExecDriver
    data_root: Path
    exec_root: Path
    dns: Dns = Dns()
    default_ulimits: Sequence[Ulimit] = ()  # what containers get that say nothing about them
    remap: Remap | None = None  # the users of containers, where the daemon has them remapped
    starting_users: set[int] = field(default_factory=set)  # first ids of `auto` mappings of starts under way
    containers: Registry = field(default_factory=Registry)
    execs: dict[str, Exec] = field(default_factory=dict)
    sweeping: trio.Lock = field(default_factory=trio.Lock)  # one unlinker is as fast as many

    def folder(self, id: str) -> Path:
        """The folder of a container's files; also the sign that its layer may exist."""
        return self.data_root / "containers" / id

    def log_path(self, id: str) -> Path:
        return self.folder(id) / f"{id}-json.log"

    async def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Tell the event's listeners; that nobody can hear it hurts no container."""
        config = container.config
        told = config.Labels | {"image": config.Image, "name": container.name} | attributes
        try:
            await self.engine.call(Log(action=action, id=container.id, from_=config.Image, attributes=told))
        except JobError as exc:
            logger.info("event %s of container %s is not told: %s", action, container.id, exc)
