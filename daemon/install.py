"""Puts the container jobs into an engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Engine
from windlass.execdriver.driver import Driver as ExecDriver
from windlass.graphdriver.driver import Driver as GraphDriver
from windlass.jobs.container_config import Ulimit
from windlass.lib.database import Database

from .archive import container_archive, container_archive_stat, container_copy, container_extract
from .attach import attach, resize
from .boot import containers_restore
from .changes import container_changes
from .commit import commit
from .connect import endpoint_add, endpoint_networks, endpoint_remove
from .create import create
from .daemon import Daemon, Dns
from .exec import exec_create, exec_inspect, exec_resize, exec_start
from .export import export
from .inspect import container_inspect
from .kill import kill
from .list import containers
from .logs import logs
from .pause import pause, unpause
from .prune import containers_prune
from .reconcile import reconcile
from .remap import Remap
from .remove import delete
from .rename import container_rename
from .start import start
from .state import Store
from .stats import stats
from .stop import restart, stop
from .supervise import supervise
from .top import top
from .update import container_update
from .wait import wait

JOBS: dict[str, Callable[..., Any]] = {
    "create": create,
    "start": start,
    "stop": stop,
    "kill": kill,
    "pause": pause,
    "unpause": unpause,
    "top": top,
    "stats": stats,
    "container_update": container_update,
    "restart": restart,
    "wait": wait,
    "supervise": supervise,
    "containers_restore": containers_restore,
    "delete": delete,
    "containers": containers,
    "container_inspect": container_inspect,
    "container_rename": container_rename,
    "container_archive_stat": container_archive_stat,
    "container_archive": container_archive,
    "container_copy": container_copy,
    "container_extract": container_extract,
    "container_changes": container_changes,
    "export": export,
    "commit": commit,
    "logs": logs,
    "attach": attach,
    "resize": resize,
    "execCreate": exec_create,
    "execStart": exec_start,
    "execResize": exec_resize,
    "exec_inspect": exec_inspect,
    "endpoint_add": endpoint_add,
    "endpoint_remove": endpoint_remove,
    "endpoint_networks": endpoint_networks,
}


async def install(
    engine: Engine,
    *,
    nursery: trio.Nursery,
    durable: Database,
    run: Database,
    graph: GraphDriver,
    driver: ExecDriver,
    data_root: Path,
    exec_root: Path,
    dns: Dns = Dns(),
    default_ulimits: Sequence[Ulimit] = (),
    remap: Remap | None = None,
) -> None:
    """Bring everything up to date, then register the jobs. `nursery` carries monitors and removals.

    Containers do not end with the engine: the next one finds them again.
    """
    store = Store(durable, run)
    store.prepare()
    daemon = Daemon(engine, nursery, store, graph, driver, data_root, exec_root, dns, default_ulimits, remap)
    await reconcile(daemon)
    for name, handler in JOBS.items():
        engine.register(name, functools.partial(handler, daemon))
    engine.register("containers_prune", functools.partial(containers_prune, daemon, trio.Lock()))
