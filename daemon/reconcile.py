"""The only way to start: after a clean end, a crash, an upgrade, a reboot of the host.

What the durable database says is made true, whatever is found:

    what is found                                  what becomes of the container
    it runs (the driver knows its process)         running, under the same pid; a monitor goes on
    it has ended meanwhile (an exit on record)     exited, with its own code and time
    a run was intended, nobody knows how it ended  exited, 137
    files of a start that is younger than any end  exited, 255: the host went down under it
    a run, a folder or a layer of nobody's         killed, forgotten, unlinked

Every step can be done again, so a crash in here costs nothing.
"""

from __future__ import annotations

import logging
import time

import msgspec
import trio

from windlass.engine.job import current
from windlass.execdriver.driver import Exit
from windlass.jobs.networks import InterfacePlug

from . import etc
from .attachment import reconcile_sandboxes
from .connect import complete
from .container import HOST_WENT_DOWN, LOST, Container
from .daemon import Daemon
from .endpoints import is_connectable
from .lifecycle import Step
from .monitor import ended
from .pause import resume
from .remove import discard, remove_locked, sweep
from .settle import settle
from .start import begun
from .state import Run
from .volumes import reconcile_volumes

logger = logging.getLogger("windlass.daemon")


async def reconcile(daemon: Daemon) -> None:
    """Bring database, driver and folders to agree, and watch over what runs."""
    (daemon.data_root / "containers").mkdir(mode=0o710, parents=True, exist_ok=True)
    for definition, outcome in await daemon.store.load():
        daemon.containers.add(Container(definition, outcome))
    known = await daemon.store.known_ids()
    runs = await daemon.store.runs()
    left = await daemon.driver.leftovers()
    await reconcile_volumes(daemon, left | runs.keys())
    for container in daemon.containers:
        try:
            await _settle_one(daemon, container, runs.get(container.id), container.id in left)
        except Exception:
            logger.exception("container %s could not be brought up to date", container.id)
    await reconcile_sandboxes(daemon)
    daemon.nursery.start_soon(_complete_networks, daemon)
    for id in (left | runs.keys()) - known:
        await _kill_stranger(daemon, id)
    await _discard_folders(daemon, known)


async def _complete_networks(daemon: Daemon) -> None:
    """Finish what a crash cut short. In the background: networks come up later than the daemon does."""
    current.set(None)
    if daemon.engine.signature(InterfacePlug.NAME) is None:
        return
    for container in daemon.containers:
        if is_connectable(container):
            try:
                await complete(daemon, container)
            except Exception:
                logger.exception("the networks of container %s could not be completed", container.id)


async def _settle_one(daemon: Daemon, container: Container, run: Run | None, is_left: bool) -> None:
    if run is None and not is_left:
        await _look_for_reboot(daemon, container)
        return
    found = await daemon.driver.adopt(container.id)
    if isinstance(found, Exit) or found is None:
        await _end_one(daemon, container, run, found)
        return
    container.running, container.is_settled = found, False
    begun(daemon, container, run.started_ns if run else etc.last_start(daemon.folder(container.id)))
    if run and run.health is not None:  # of this run, which goes on
        container.outcome = msgspec.structs.replace(container.outcome, health=run.health)
    if found.is_paused():
        container.life.advance(Step.PAUSED)
        if run and run.is_held:
            await resume(daemon, container)
    logger.info("container %s runs on, pid %d", container.id, found.pid)


async def _end_one(daemon: Daemon, container: Container, run: Run | None, end: Exit | None) -> None:
    """Note an end that nobody saw. Without an exit on record, the run may also never have begun."""
    started_ns = run.started_ns if run else container.outcome.started_ns
    container.is_settled = False
    if end is None and etc.last_start(daemon.folder(container.id)) == 0:
        await settle(daemon, container)
        return
    _has_run(container, started_ns)
    await ended(daemon, container, end or Exit(code=LOST, signal=9, time_ns=time.time_ns()))
    async with container.lock:
        if container.host.AutoRemove:
            await remove_locked(daemon, container, with_volumes=True)
        else:
            await settle(daemon, container)


async def _look_for_reboot(daemon: Daemon, container: Container) -> None:
    """A start that is younger than the last end, and no trace of its run: /run went with the host."""
    started_ns = etc.last_start(daemon.folder(container.id))
    if started_ns <= container.outcome.finished_ns or container.outcome.error:
        return
    _has_run(container, started_ns)
    await ended(daemon, container, Exit(code=HOST_WENT_DOWN, time_ns=time.time_ns()))
    async with container.lock:
        if container.host.AutoRemove:
            await remove_locked(daemon, container, with_volumes=True)
        else:
            await daemon.store.save_outcome(container.id, container.outcome)


def _has_run(container: Container, started_ns: int) -> None:
    container.outcome = msgspec.structs.replace(container.outcome, has_run=True, error="", started_ns=started_ns)
    container.life.advance(Step.STARTED)


async def _kill_stranger(daemon: Daemon, id: str) -> None:
    """End and forget what runs under no container of ours: a removal or a creation that a crash cut short."""
    logger.warning("container %s is in no database: ending it", id)
    try:
        found = await daemon.driver.adopt(id)
        if found is not None and not isinstance(found, Exit):
            await found.kill_all()
            with trio.move_on_after(10):
                await found.wait()
        await daemon.driver.destroy(id)
        await daemon.store.forget_run(id)
    except Exception:
        logger.exception("container %s could not be ended", id)


async def _discard_folders(daemon: Daemon, known: set[str]) -> None:
    """Unlink layers and folders without a row."""
    folders = {path.name for path in (daemon.data_root / "containers").iterdir()}
    for id in (folders | await daemon.graph.containers()) - known:
        try:
            await discard(daemon, id)
        except Exception:
            logger.exception("what is left of container %s could not be removed", id)
    daemon.nursery.start_soon(_sweep, daemon)


async def _sweep(daemon: Daemon) -> None:
    try:
        await sweep(daemon)
    except OSError:
        logger.exception("what was removed could not be unlinked")
