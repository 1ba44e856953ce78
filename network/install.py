"""Puts the network jobs into an engine."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Engine, Job
from windlass.jobs.networks import InitNetworkdriver
from windlass.lib.database import Database

from . import connect, legacy, networks, reconcile, sandbox
from .bridge import Bridge
from .macvlan import Macvlan
from .networking import Networking
from .null import Host, Null
from .store import Store

JOBS: dict[str, Callable[..., Any]] = {
    "allocate_interface": sandbox.allocate_interface,
    "release_interface": sandbox.release_interface,
    "sandbox_watch": sandbox.sandbox_watch,
    "sandbox_rename": sandbox.sandbox_rename,
    "sandboxes_reconcile": reconcile.sandboxes_reconcile,
    "interface_plug": connect.interface_plug,
    "interface_unplug": connect.interface_unplug,
    "allocate_port": legacy.allocate_port,
    "link": legacy.link,
    "network_create": networks.network_create,
    "networks": networks.networks,
    "network_inspect": networks.network_inspect,
    "network_delete": networks.network_delete,
    "networks_prune": networks.networks_prune,
    "network_warnings": networks.network_warnings,
    "network_connect": connect.network_connect,
    "network_disconnect": connect.network_disconnect,
}
DRIVERS = (Bridge(), Macvlan(), Host(), Null())
_DEFAULT_EXEC_ROOT = Path("/run/windlass")


def install(
    engine: Engine, *, nursery: trio.Nursery, durable: Database, run: Database, exec_root: Path, program: str
) -> None:
    """Register `init_networkdriver`, which registers the others, as in Docker 1.3. `program` is the shim's."""

    async def init_networkdriver(job: Job[InitNetworkdriver]) -> None:
        """Set up the network driver: default bridge, firewall, forwarding. Runs once."""
        store = Store(durable, run)
        store.prepare()
        folder = exec_root / "net"
        net = Networking(
            engine, nursery, store, job.params, folder=folder, table=table_name(exec_root), program=program
        )
        net.drivers = {each.name: each for each in (*DRIVERS, *engine.provided("network-driver"))}
        await net.networks.load(net)
        for name, handler in JOBS.items():
            engine.register(name, functools.partial(handler, net))
        engine.on_shutdown(net.close, name="network")
        nursery.start_soon(reconcile.come_up, net)

    engine.register("init_networkdriver", init_networkdriver)


def table_name(exec_root: Path) -> str:
    """The packet filter's table of a daemon: several of them may run on one host, each on an exec root of its own."""
    root = exec_root.resolve()
    if root == _DEFAULT_EXEC_ROOT.resolve():
        return "windlass"
    return f"windlass_{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"
