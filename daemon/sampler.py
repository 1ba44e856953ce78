"""One reader of a container's counters, for any number of clients.

The first client starts it, and the last that leaves ends it. Each sample is kept for whoever waits; who is slow misses
some, and holds nobody up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import trio

from windlass.engine.job import current
from windlass.execdriver.driver import Running
from windlass.jobs.container_stats import (
    BlkioEntry,
    BlkioStats,
    CpuStats,
    CpuUsage,
    MemoryStats,
    NetworkStats,
    PidsStats,
    Sample,
    ThrottlingData,
)
from windlass.kernel.cgroup_stats import Usage
from windlass.lib import host, timestamp

from .container import Container, Notice

INTERVAL = 1.0  # seconds between two samples, as dockerd's
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_UNLIMITED = (1 << 64) - 1  # how Docker says it of processes on v2


class Sampler:
    """The latest sample of one container; owned by the container while somebody reads."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._readers = 0
        self._taken = Notice()
        self._scope = trio.CancelScope()
        self.latest = Sample(name=f"/{container.name}", id=container.id)

    async def next(self) -> Sample:
        """Wait for the next sample."""
        await self._taken.wait()
        return self.latest

    async def run(self) -> None:
        """Take samples until the last reader has left."""
        current.set(None)  # it belongs to no job
        with self._scope:
            while True:
                self.latest = await take(self._container)
                self._taken.give()
                await trio.sleep(INTERVAL)

    @contextmanager
    def reading(self) -> Iterator[None]:
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0:
                self._scope.cancel()
                self._container.sampler = None


@contextmanager
def reading(nursery: trio.Nursery, container: Container) -> Iterator[Sampler]:
    """Give the container's sampler, which is started where nobody reads yet."""
    sampler = container.sampler
    if sampler is None:
        sampler = container.sampler = Sampler(container)
        nursery.start_soon(sampler.run)
    with sampler.reading():
        yield sampler


async def take(container: Container) -> Sample:
    """Take one sample; an empty one of a container that does not run."""
    empty = Sample(name=f"/{container.name}", id=container.id)
    running = container.running
    if running is None or not container.is_running:
        return empty
    has_network = container.host.NetworkMode not in ("host", "none") and not container.config.NetworkDisabled
    try:
        return await trio.to_thread.run_sync(_read, empty, running, has_network)
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return empty


def _read(empty: Sample, running: Running, has_network: bool) -> Sample:
    usage = running.usage()
    networks = interfaces(running.pid) if has_network else {}
    system, cpus = system_cpu()
    return msgspec.structs.replace(
        empty,
        read=timestamp.text(time.time_ns()),
        pids_stats=PidsStats(usage.pids, usage.pids_limit or (_UNLIMITED if usage.is_v2 else 0)),
        blkio_stats=_blkio(usage),
        cpu_stats=_cpu(usage, system, cpus),
        memory_stats=_memory(usage),
        networks=networks or msgspec.UNSET,
    )


def _cpu(usage: Usage, system: int, cpus: int) -> CpuStats:
    return CpuStats(
        cpu_usage=CpuUsage(
            total_usage=usage.cpu_total,
            percpu_usage=usage.cpu_each or msgspec.UNSET,
            usage_in_kernelmode=usage.cpu_kernel,
            usage_in_usermode=usage.cpu_user,
        ),
        system_cpu_usage=system,
        online_cpus=cpus,
        throttling_data=ThrottlingData(usage.periods, usage.throttled_periods, usage.throttled_time),
    )


def _memory(usage: Usage) -> MemoryStats:
    there = host.memory()
    return MemoryStats(
        usage=usage.memory,
        max_usage=usage.memory_peak or msgspec.UNSET,
        stats=usage.memory_details,
        failcnt=usage.memory_failures or msgspec.UNSET,
        limit=min(usage.memory_limit or there, there),
    )


def _blkio(usage: Usage) -> BlkioStats:
    """Name the counters: on v2 all but the first are null, on v1 those that no kernel has any more are empty."""
    moved = [BlkioEntry(*count) for count in usage.io_bytes]
    if usage.io_operations is None:
        return BlkioStats(moved)
    return BlkioStats(moved, [BlkioEntry(*count) for count in usage.io_operations], [], [], [], [], [], [])


def interfaces(pid: int) -> dict[str, NetworkStats]:
    """Read the counters of a process's interfaces, but for the loopback (proc(5), /proc/net/dev)."""
    found = {}
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, text = line.partition(":")
        counts = [int(word) for word in text.split()]
        if name.strip() != "lo" and len(counts) >= 12:
            found[name.strip()] = NetworkStats(*counts[:4], *counts[8:12])
    return found


def system_cpu() -> tuple[int, int]:
    """Return the host's CPU time since boot, in nanoseconds, and how many CPUs are online (proc(5), /proc/stat)."""
    total, count = 0, 0
    with suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, *words = line.split()
            if name == "cpu":
                total = sum(map(int, words[:7])) * _TICK
            elif name.startswith("cpu"):
                count += 1
    return total, count
