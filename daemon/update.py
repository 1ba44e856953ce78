"""Changing limits and the restart policy of a container that is there (moby: UpdateContainer).

What the request does not speak of stays. A running container gets its new limits first, and then they are made durable:
a failure of either leaves it as it was.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict, Internal
from windlass.execdriver.driver import Resources
from windlass.jobs.container_config import HostConfig
from windlass.jobs.containers import ContainerUpdate, Updated

from .container import Container
from .daemon import Daemon
from .host import check_restart
from .lifecycle import State
from .limits import check_limits, host_support
from .resources import resources

LIMITS = (
    "BlkioWeight", "CpuShares", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus",
    "CpusetMems", "Memory", "MemorySwap", "MemoryReservation", "KernelMemory", "NanoCpus", "PidsLimit",
)  # fmt: skip


async def container_update(daemon: Daemon, job: Job[ContainerUpdate]) -> Updated:
    """Change limits and restart policy of a container, running or not."""
    params = job.params
    warnings: list[str] = []
    asked = HostConfig(RestartPolicy=params.RestartPolicy, **{key: getattr(params, key) for key in LIMITS})
    check_restart(asked)
    asked = check_limits(asked, warnings.append, host_support(), is_update=True)
    container = daemon.containers.get(params.name)
    async with container.lock:
        if container.life.state in (State.REMOVING, State.DEAD, State.GONE):
            raise _refused(container, 'container is marked for removal and cannot be "update"')
        host = merge(container, asked)
        with trio.CancelScope(shield=True):
            await _apply(daemon, container, host)
            if params.RestartPolicy.Name:  # it decides with what was known in memory alone
                await daemon.store.save_outcome(container.id, container.outcome)
    await daemon.tell(container, "update")
    return Updated(Warnings=warnings)


def merge(container: Container, asked: HostConfig) -> HostConfig:
    """What the container's HostConfig becomes. Raises Conflict for what does not go with what it has."""
    host = container.host
    for one, its_name, other, other_name in _EXCLUSIVE:
        if getattr(asked, one) > 0 and getattr(host, other) > 0:
            raise _refused(
                container,
                f"Conflicting options: {its_name} cannot be updated as {other_name} has already been set",
            )
    # -1 is unlimited swap, which is never less than the memory.
    if asked.Memory and asked.MemorySwap == 0 and host.MemorySwap >= 0 and asked.Memory > host.MemorySwap:
        raise _refused(
            container,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    changes: dict[str, Any] = {key: value for key in LIMITS if (value := getattr(asked, key)) not in (0, "", None)}
    if asked.PidsLimit is not None:
        changes["PidsLimit"] = max(asked.PidsLimit, 0)
    if asked.RestartPolicy.Name:
        if host.AutoRemove and asked.RestartPolicy.Name != "no":
            raise _refused(
                container, "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        changes["RestartPolicy"] = asked.RestartPolicy
    return msgspec.structs.replace(host, **changes)


_EXCLUSIVE = (
    ("NanoCpus", "Nano CPUs", "CpuPeriod", "CPU Period"),
    ("NanoCpus", "Nano CPUs", "CpuQuota", "CPU Quota"),
    ("CpuPeriod", "CPU Period", "NanoCpus", "NanoCPUs"),
    ("CpuQuota", "CPU Quota", "NanoCpus", "NanoCPUs"),
)


async def _apply(daemon: Daemon, container: Container, host: HostConfig) -> None:
    old, new = resources(container.host), _lifted(resources(host), host)
    running = container.running
    if running:
        try:
            await running.update(old, new)
        except OSError as exc:
            raise Internal(f"Cannot update container {container.id}: {exc.strerror}: {exc.filename}") from exc
    definition = msgspec.structs.replace(container.definition, host=host)
    try:
        await daemon.store.redefine(definition)
    except BaseException:
        if running:
            await running.update(new, old)
        raise
    container.definition = definition


def _lifted(new: Resources, host: HostConfig) -> Resources:
    """Say aloud that there is no limit of processes any more: a running container may have one."""
    return dataclasses.replace(new, pids=-1) if host.PidsLimit == 0 else new


def _refused(container: Container, why: str) -> Conflict:
    return Conflict(f"Cannot update container {container.id}: {why}")
