"""Worlds with networks; see world.py."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.network.world import Host, Inline, World, enter, register
from windlass.jobs.networks import (
    InitNetworkdriver,
)
from windlass.lib.database import Database
from windlass.network.install import DRIVERS
from windlass.network.networking import Networking
from windlass.network.store import Store


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Return a maker of worlds; each has what those before it have kept on disk and host."""
    durable, run = Database(tmp_path / "durable.db"), Database(tmp_path / "run.db", synchronous="OFF")
    host = Host()
    async with trio.open_nursery() as nursery:

        async def make(settings: InitNetworkdriver | None = None) -> World:
            engine = await enter(nursery)
            settings = settings or InitNetworkdriver(EnableIptables=False)
            store = Store(durable, run)
            store.prepare()
            net = Networking(engine, nursery, store, settings, folder=tmp_path, table="windlass", program="")
            net.thread, net._netlink = Inline(), host  # type: ignore[assignment]
            net.drivers = {each.name: each for each in DRIVERS}
            world = World(engine, net, host)
            net.active = lambda network_id: world.running.get(network_id, {})  # type: ignore[method-assign]
            register(engine, world)
            await net.networks.load(net)
            await net.networks.prepare(net)
            net.is_ready()
            return world

        yield make
        nursery.cancel_scope.cancel()
    durable.close()
    run.close()


@pytest.fixture
async def world(make: Callable[..., Any]) -> World:
    made: World = await make()
    return made
