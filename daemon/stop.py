"""Ending containers gently: stop asks, waits, and kills; restart stops and starts."""

from __future__ import annotations

from windlass.engine import Job
from windlass.engine.errors import NotModified
from windlass.jobs.containers import Restart, Stop

from .daemon import Daemon
from .kill import stop_gently
from .signals import parse_signal, stop_signal
from .start import start_locked
from .supervise import note_start, note_stop


async def stop(daemon: Daemon, job: Job[Stop]) -> None:
    """Stop a container: its stop signal first, then KILL. Raises NotModified when it does not run."""
    params = job.params
    container = daemon.containers.get(params.name)
    signal = parse_signal(params.signal) if params.signal else stop_signal(container.config)
    if not container.is_running:
        raise NotModified(f"container {container.id} is already stopped")
    await note_stop(daemon, container)
    await stop_gently(daemon, container, signal, params.t)


async def restart(daemon: Daemon, job: Job[Restart]) -> None:
    """Stop a container if it runs, and start it."""
    params = job.params
    container = daemon.containers.get(params.name)
    signal = parse_signal(params.signal) if params.signal else stop_signal(container.config)
    container.survives_its_end = True
    try:
        if container.is_running:
            await stop_gently(daemon, container, signal, params.t)
        async with container.lock:
            if not container.is_running:
                await note_start(daemon, container)
                await start_locked(daemon, container)
    finally:
        container.survives_its_end = False
    await daemon.tell(container, "restart")
