"""`docker container prune`: the containers that do not run are removed, or those of them that the filters name."""

from __future__ import annotations

import logging
import time

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, JobError
from windlass.jobs.containers import ContainersPrune, ContainersPruned, Delete
from windlass.jobs.events import Log
from windlass.lib import filters

from .container import Container
from .daemon import Daemon
from .views import sizes

KNOWN = frozenset(("until", "label", "label!"))

logger = logging.getLogger("windlass.daemon")


async def containers_prune(daemon: Daemon, pruning: trio.Lock, job: Job[ContainersPrune]) -> ContainersPruned:
    """Remove the containers that do not run."""
    wanted = _parse(job.params.filters)
    until = _until(wanted["until"])
    try:
        pruning.acquire_nowait()
    except trio.WouldBlock:
        raise Conflict("a prune operation is already running") from None
    try:
        chosen = [
            each
            for each in daemon.containers
            if not each.is_running and each.definition.created_ns <= until and _fits(each, wanted)
        ]
        removed = [(each.id, size) for each in chosen if (size := await _remove(daemon, each)) is not None]
    finally:
        pruning.release()
    reclaimed = sum(size for _, size in removed)
    await _tell(daemon, reclaimed)
    return ContainersPruned([id for id, _ in removed] or None, reclaimed)


async def _remove(daemon: Daemon, container: Container) -> int | None:
    """Remove a container by the job that everybody can wrap; return its size, None when it is still there."""
    try:
        size, _ = await sizes(daemon.graph, container)
        await daemon.engine.call(Delete(name=container.id))
    except (JobError, OSError) as exc:
        logger.warning("container %s is not pruned, going on: %s", container.id, exc)
        return None
    return size


async def _tell(daemon: Daemon, reclaimed: int) -> None:
    try:
        await daemon.engine.call(Log(action="prune", id="", attributes={"reclaimed": str(reclaimed)}))
    except JobError as exc:
        logger.info("the event of a prune is not told: %s", exc)


def _parse(given: dict[str, list[str] | dict[str, bool]]) -> dict[str, list[str]]:
    if unknown := sorted(given.keys() - KNOWN):
        raise BadParameter(f"invalid filter '{unknown[0]:.100}'", key="filters")
    return {
        name: [key for key, on in values.items() if on] if isinstance(values, dict) else list(values)
        for name, values in ((name, given.get(name, [])) for name in sorted(KNOWN))
    }


def _fits(container: Container, wanted: dict[str, list[str]]) -> bool:
    labels, spared = container.config.Labels, wanted["label!"]
    return filters.has_labels(labels, wanted["label"]) and not (spared and filters.has_labels(labels, spared))


def _until(values: list[str]) -> int:
    """Nanoseconds since the epoch. Raises BadParameter."""
    if not values:
        return time.time_ns()
    if len(values) > 1:
        raise BadParameter("more than one until filter specified", key="filters")
    try:
        return filters.until(values[0])
    except ValueError as exc:
        raise BadParameter(f"invalid filter 'until={values[0]:.100}': {exc}", key="filters") from None
