"""Waiting for a container. The job is ready at once, so that a client knows that nothing will be missed."""

from __future__ import annotations

from collections.abc import Callable

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.containers import Wait, Waited

from .container import Container
from .daemon import Daemon

Done = Callable[[], bool]


async def wait(daemon: Daemon, job: Job[Wait]) -> Waited:
    """Wait for a container: until it does not run, for its next exit, or until it is removed."""
    container = daemon.containers.get(job.params.name)
    condition = job.params.condition or "not-running"
    if condition not in CONDITIONS:
        raise BadParameter(f'invalid condition: "{condition}"', key="condition")
    done = CONDITIONS[condition](container)
    await job.ready()
    while not done():
        await container.changed.wait()
    return Waited(StatusCode=container.outcome.code)


def _not_running(container: Container) -> Done:
    exits = container.exits
    return lambda: not container.is_running or container.exits != exits


def _next_exit(container: Container) -> Done:
    """A container that is removed never exits again."""
    exits = container.exits
    return lambda: container.exits != exits or container.is_gone


def _removed(container: Container) -> Done:
    return lambda: container.is_gone


CONDITIONS: dict[str, Callable[[Container], Done]] = {
    "not-running": _not_running,
    "next-exit": _next_exit,
    "removed": _removed,
}
