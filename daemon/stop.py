"""Ending containers gently: stop asks, waits, and kills; restart stops and starts."""

from __future__ import annotations

import trio

from windlass.engine import Job
from windlass.engine.errors import NotModified
from windlass.jobs.containers import Restart, Stop

from .container import Container
from .daemon import Daemon
from .kill import kill_and_wait, send, until_exit
from .signals import parse_signal, stop_signal
from .start import start_locked
from .supervise import call_off, note_start, note_stop

TIMEOUT = 10  # seconds between the stop signal and KILL, when neither the container nor the request says


async def stop(daemon: Daemon, job: Job[Stop]) -> None:
    """Stop a container: its stop signal first, then KILL. Raises NotModified when it does not run."""
    params = job.params
    container = daemon.containers.get(params.name)
    signal = parse_signal(params.signal) if params.signal else stop_signal(container.config)
    if not container.is_running:
        raise NotModified(f"container {container.id} is already stopped")
    await note_stop(daemon, container)
    await _stop(daemon, container, signal, params.t)


async def restart(daemon: Daemon, job: Job[Restart]) -> None:
    """Stop a container if it runs, and start it."""
    params = job.params
    container = daemon.containers.get(params.name)
    signal = parse_signal(params.signal) if params.signal else stop_signal(container.config)
    container.survives_its_end = True
    try:
        if container.is_running:
            await _stop(daemon, container, signal, params.t)
        async with container.lock:
            if not container.is_running:
                await note_start(daemon, container)
                await start_locked(daemon, container)
    finally:
        container.survives_its_end = False
    await daemon.tell(container, "restart")


async def _stop(daemon: Daemon, container: Container, signal: int, timeout: int | None) -> None:
    if timeout is None:
        timeout = TIMEOUT if container.config.StopTimeout is None else container.config.StopTimeout
    exits = container.exits
    if not await send(daemon, container, signal):
        await call_off(daemon, container)
    with trio.move_on_after(float("inf") if timeout < 0 else timeout):
        await until_exit(container, exits)
    if container.exits == exits and container.is_running:
        await kill_and_wait(daemon, container)
    await daemon.tell(container, "stop")
