"""Signals to containers, and the end by KILL."""

from __future__ import annotations

import logging
import signal

import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict, Internal
from windlass.jobs.containers import Kill

from .container import Container
from .daemon import Daemon
from .pause import resume
from .signals import SIGKILL, parse_signal, stop_signal
from .supervise import call_off, note_stop

ENDING = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM))
TIMEOUT = 10  # seconds between the stop signal and KILL, when neither the container nor the request says
KILL_TIMEOUT = 10.0  # seconds that the kernel has to end a killed process before all of the cgroup is killed

logger = logging.getLogger("windlass.daemon")


async def kill(daemon: Daemon, job: Job[Kill]) -> None:
    """Send a signal to a container's first process. Raises Conflict when it does not run."""
    container = daemon.containers.get(job.params.name)
    number = parse_signal(job.params.signal or "KILL")
    if container.is_restarting and not is_ending(container, number):
        return  # there is nobody to hear it, and it will be started again
    if container.is_running and is_ending(container, number):
        await note_stop(daemon, container)
    sent = await (kill_and_wait(daemon, container) if number == SIGKILL else send(daemon, container, number))
    if not sent and not await call_off(daemon, container):
        raise Conflict(f"cannot kill container: {job.params.name}: container {container.id} is not running")


async def kill_and_wait(daemon: Daemon, container: Container) -> bool:
    """Kill a container, all of it if its first process does not end, or call its restart off; False when it is over.

    Raises Internal when even that does not help.
    """
    exits, running = container.exits, container.running
    if running is None or not await send(daemon, container, SIGKILL):
        if await call_off(daemon, container):
            return True
        await until_exit(container, exits)  # its end is known to the driver, and will be to us
        return False
    for _ in range(2):
        with trio.move_on_after(KILL_TIMEOUT):
            await until_exit(container, exits)
            return True
        logger.warning("container %s did not end by KILL within %g s", container.id, KILL_TIMEOUT)
        await running.kill_all()
    raise Internal(f"container {container.id} does not end")


async def send(daemon: Daemon, container: Container, number: int) -> bool:
    """Send a signal and tell so; False when nothing runs."""
    async with container.signalling:
        running = container.running
        if running is None:
            return False
        try:
            await running.signal(number)
        except ProcessLookupError:
            return False
        await daemon.tell(container, "kill", signal=str(number))
        if container.is_paused and _wakes(container, number):
            await resume(daemon, container)
        return True


async def stop_gently(daemon: Daemon, container: Container, number: int, timeout: int | None = None) -> None:
    """Send a signal, and KILL if that is no end after `timeout` seconds; -1 is for ever, None as the container says."""
    if timeout is None:
        timeout = TIMEOUT if container.config.StopTimeout is None else container.config.StopTimeout
    exits = container.exits
    if not await send(daemon, container, number):
        await call_off(daemon, container)
    with trio.move_on_after(float("inf") if timeout < 0 else timeout):
        await until_exit(container, exits)
    if container.exits == exits and container.is_running:
        await kill_and_wait(daemon, container)
    await daemon.tell(container, "stop")


def is_ending(container: Container, number: int) -> bool:
    """Whether who sends this signal wants the container to end, and to stay so."""
    return number in ENDING or number == stop_signal(container.config)


def _wakes(container: Container, number: int) -> bool:
    """Whether a paused container runs on for a signal: for what is to end it (moby: killWithSignal)."""
    return number == SIGKILL or not container.config.StopSignal or number == stop_signal(container.config)


async def until_exit(container: Container, exits: int) -> None:
    """Wait for the first exit after `exits` were counted."""
    while container.exits == exits and container.is_running:
        await container.changed.wait()
