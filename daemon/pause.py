"""Pausing: all processes of a container are suspended by the freezer, and run on where they were.

That a container is paused is true while its cgroup is frozen, whatever becomes of the daemon. All that is written down
is that we have suspended one ourselves, for the time of a commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict, Internal
from windlass.execdriver.driver import Running
from windlass.jobs.containers import Pause, Unpause

from .container import Container
from .daemon import Daemon
from .lifecycle import Step


async def pause(daemon: Daemon, job: Job[Pause]) -> None:
    """Suspend all processes of a container. Raises Conflict when it does not run, or is paused already."""
    container = daemon.containers.get(job.params.name)
    async with container.signalling:
        running = container.running
        check_not_restarting(container)
        if running is None or not container.is_running:
            raise Conflict(f"container {container.id} is not running")
        if container.is_paused:
            raise Conflict(f"Container {container.id} is already paused")
        await _suspend(daemon, container, running)


async def _suspend(daemon: Daemon, container: Container, running: Running) -> None:
    try:
        await running.pause()
    except OSError as exc:
        raise Internal(f"Cannot pause container {container.id}: {exc}") from exc
    container.life.advance(Step.PAUSED)
    container.changed.give()
    await daemon.tell(container, "pause")


@asynccontextmanager
async def held_still(daemon: Daemon, container: Container) -> AsyncIterator[None]:
    """Keep a container's processes suspended; one that was paused before stays so, one that does not run does not."""
    running, holds = container.running, False
    try:
        async with container.signalling:
            running = container.running
            holds = running is not None and container.is_running and not container.is_paused
            if holds and running is not None:
                with trio.CancelScope(shield=True):
                    await daemon.store.hold(container.id)  # the next daemon is not to take it for a client's wish
                    await _suspend(daemon, container, running)
        yield
    finally:
        with trio.CancelScope(shield=True):
            if holds:
                async with container.signalling:
                    if container.is_paused and container.running is running:
                        await resume(daemon, container)
                await daemon.store.let_go(container.id)


def check_not_restarting(container: Container) -> None:
    """Raise Conflict for a container that will be started again."""
    if container.is_restarting:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")


async def unpause(daemon: Daemon, job: Job[Unpause]) -> None:
    """Let the processes of a paused container run on. Raises Conflict when it is not paused."""
    container = daemon.containers.get(job.params.name)
    async with container.signalling:
        if not container.is_paused:
            raise Conflict(f"Container {container.id} is not paused")
        await resume(daemon, container)


async def resume(daemon: Daemon, container: Container) -> None:
    """Let a paused container run on, with its `signalling` held."""
    assert container.running is not None
    try:
        await container.running.resume()
    except OSError as exc:
        raise Internal(f"Cannot unpause container {container.id}: {exc}") from exc
    container.life.advance(Step.UNPAUSED)
    container.changed.give()
    await daemon.tell(container, "unpause")
