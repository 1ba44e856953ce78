"""Starting the containers whose policy says so, when the daemon has come up: after a crash, an upgrade, a reboot.

All of them are `restarting` at once, so that clients see what will be, and can call it off; then each is started as
soon as what it needs is there:

    --link X, --network / --pid / --ipc container:X     X runs
    label windlass.requires=X[:CONDITION],...           X is `started` (the default) or `healthy`, or has `completed`

A container that needs what nobody will start waits for it; one that needs itself, or what does not exist, waits for
nothing, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.job import current
from windlass.jobs.supervision import ContainersRestore
from windlass.lib.groups import in_parallel

from .container import HOST_WENT_DOWN, Container
from .daemon import Daemon
from .endpoints import shared_container
from .health import HEALTHY
from .lifecycle import State, Step
from .links import children
from .start import start_locked
from .supervise import ask, back_off

REQUIRES = "windlass.requires"
AT_ONCE = 8  # starts under way

Need = tuple[Container, str]

logger = logging.getLogger("windlass.daemon")


async def containers_restore(daemon: Daemon, job: Job[ContainersRestore]) -> None:
    """Start what is to run, in the background."""
    wanted: set[str] = set()

    async def judge(container: Container) -> None:
        if await _is_wanted(daemon, container):
            wanted.add(container.id)

    await in_parallel(judge, [(container,) for container in daemon.containers])  # a plugin may be slow to answer
    chosen = [container for container in daemon.containers if container.id in wanted]
    for container in chosen:
        _count(container)
    needs = {container.id: list(_needs(daemon, container)) for container in chosen}
    limiter = trio.CapacityLimiter(AT_ONCE)
    for container in chosen:
        if circle := _circle(needs, container):
            names = " -> ".join(each.name for each in circle)
            logger.error("container %s needs itself, so it waits for nothing: %s", container.name, names)
        daemon.nursery.start_soon(_start, daemon, container, [] if circle else needs[container.id], limiter)


async def _is_wanted(daemon: Daemon, container: Container) -> bool:
    if container.life.state is not State.EXITED:
        return False
    if container.outcome.is_due and not container.outcome.stopped:
        return True  # it was decided before the daemon went down
    verdict = await ask(daemon, container, "daemon-start")
    return verdict.action == "restart"


def _count(container: Container) -> None:
    """Go on counting where a loop was cut short; a reboot, and a stop that is over with now, let it begin anew."""
    before = container.outcome
    if before.is_due and not before.stopped:
        container.life.advance(Step.AGAIN)
        return
    begins = before.stopped or before.code == HOST_WENT_DOWN
    container.outcome = msgspec.structs.replace(before, stopped=False)
    container.note_restart(0.0)
    if begins:
        container.outcome = msgspec.structs.replace(container.outcome, restarts=0)


async def _start(daemon: Daemon, container: Container, needs: Sequence[Need], limiter: trio.CapacityLimiter) -> None:
    current.set(None)
    try:
        for need in needs:
            await _until(container, *need)
        async with limiter:
            await back_off(daemon, container, 0.0, start_locked)
    except Exception:
        logger.exception("container %s could not be started", container.id)


# -- conditions ------------------------------------------------------------------------------------------------------


def _has_completed(container: Container) -> bool:
    return container.life.state is State.EXITED and container.outcome.code == 0


CONDITIONS: dict[str, Callable[[Container], bool]] = {
    "started": lambda container: container.running is not None,
    "healthy": lambda container: container.outcome.health is not None and container.outcome.health.Status == HEALTHY,
    "completed": _has_completed,
}


def _needs(daemon: Daemon, container: Container) -> Iterator[Need]:
    """What a container waits for, as far as it is there."""
    for _, child in children(daemon.containers, container):
        yield child, "started"
    for mode in (container.host.NetworkMode, container.host.PidMode, container.host.IpcMode):
        if (word := shared_container(mode)) and (other := daemon.containers.find(word)):
            yield other, "started"
    for entry in filter(None, container.config.Labels.get(REQUIRES, "").split(",")):
        name, _, condition = entry.strip().partition(":")
        other = daemon.containers.find(name)
        if other is None or (condition or "started") not in CONDITIONS:
            logger.error("container %s needs %r, which makes no sense: it does not wait", container.name, entry)
        else:
            yield other, condition or "started"


def _circle(needs: dict[str, list[Need]], container: Container) -> list[Container]:
    """The way from a container over what it needs back to itself; empty when there is none."""
    ways = [[container]]
    seen = set()
    while ways:
        way = ways.pop()
        for other, _ in needs.get(way[-1].id, ()):
            if other is container:
                return [*way, other]
            if other.id not in seen:
                seen.add(other.id)
                ways.append([*way, other])
    return []


async def _until(container: Container, other: Container, condition: str) -> None:
    """Wait for `other`, as long as `container` is to be started at all."""
    is_met, exits = CONDITIONS[condition], container.exits
    while not is_met(other) and not other.is_gone and container.is_restarting and container.exits == exits:
        changes = [each.changed.next for each in (container, other)]
        async with trio.open_nursery() as nursery:
            for change in changes:
                nursery.start_soon(_wake, nursery.cancel_scope, change)


async def _wake(scope: trio.CancelScope, change: trio.Event) -> None:
    await change.wait()
    scope.cancel()
