"""Watching over a run: its end is told at once, made durable soon after, and then the driver forgets it.

`wait` answers before anything is written: the exit is on record on the exec root already. What follows is done under
the container's lock by whoever comes first: the monitor, after a moment, or a `start`, or a `delete`, which needs no
exit result any more. So a container that is removed right after its end costs no commit for the result.
"""

from __future__ import annotations

import logging

import trio

from windlass.engine.job import current
from windlass.execdriver.driver import Exit, Running
from windlass.jobs.supervision import Verdict

from .attachment import release
from .container import Container
from .daemon import Daemon
from .lifecycle import State, Step
from .remove import remove_locked
from .settle import settle
from .supervise import Starter, ask, back_off

NOTHING = Verdict()
SETTLE_DELAY = 0.05  # seconds that a removal has to come before the result is made durable

logger = logging.getLogger("windlass.daemon")


async def monitor(daemon: Daemon, container: Container, running: Running, start: Starter) -> None:
    """Follow one run to its end, and on to the next by `start`. Never raises: it is nobody's child but the daemon's."""
    current.set(None)  # the job that started the container ends; this does not belong to it
    try:
        end = await running.wait()
        verdict = await _judge(daemon, container, end)
        await ended(daemon, container, end, verdict)
        await _clean_up(daemon, container)
        if container.is_restarting:
            await back_off(daemon, container, max(0.0, verdict.delay - SETTLE_DELAY), start)
            await _clean_up(daemon, container)
    except Exception:
        logger.exception("the end of container %s could not be dealt with", container.id)


async def _judge(daemon: Daemon, container: Container, end: Exit) -> Verdict:
    if container.outcome.stopped:
        return NOTHING
    return container.comes_back or await ask(daemon, container, "exit", end)


async def ended(daemon: Daemon, container: Container, end: Exit, verdict: Verdict = NOTHING) -> None:
    """Note and tell that a run has ended; waiters wake up. Its ports and addresses are free by then.

    By the `verdict` it is restarting afterwards, unless a client has come first.
    """
    await release(daemon, container)
    async with container.signalling:
        container.note_exit(end)
        is_wanted = not container.outcome.stopped and not container.survives_its_end
        if verdict.action == "restart" and is_wanted:
            container.note_restart(verdict.delay)
        else:
            container.life.advance(Step.ENDED)
        if end.oom_killed:
            await daemon.tell(container, "oom")
        await daemon.tell(container, "die", exitCode=str(end.code), execDuration=str(_seconds(container)))
        if verdict.gives_up and is_wanted:
            await daemon.tell(container, "give_up", exitCode=str(end.code))
        container.changed.give()


async def _clean_up(daemon: Daemon, container: Container) -> None:
    removes = container.host.AutoRemove and not container.survives_its_end and not container.is_restarting
    if not removes:
        await trio.sleep(SETTLE_DELAY)
    async with container.lock:
        if container.life.state not in (State.EXITED, State.RESTARTING):
            return
        if removes:
            await remove_locked(daemon, container, with_volumes=True)
        else:
            await settle(daemon, container)


def _seconds(container: Container) -> int:
    return max(0, container.outcome.finished_ns - container.outcome.started_ns) // 10**9
