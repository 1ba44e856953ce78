"""What a container uses: the answer of `stats`, in the Docker API's spelling and its two shapes, cgroup v1 and v2."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from windlass.engine.signature import Signature

from .container_views import NEVER, Time


class PidsStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many processes there are, and may be."""

    current: int = 0
    limit: int = 0


class BlkioEntry(msgspec.Struct, frozen=True):
    """One counter of one block device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(msgspec.Struct, frozen=True):
    """Block I/O; what cgroup v2 does not count is null."""

    io_service_bytes_recursive: list[BlkioEntry] | None = None
    io_serviced_recursive: list[BlkioEntry] | None = None
    io_queue_recursive: list[BlkioEntry] | None = None
    io_service_time_recursive: list[BlkioEntry] | None = None
    io_wait_time_recursive: list[BlkioEntry] | None = None
    io_merged_recursive: list[BlkioEntry] | None = None
    io_time_recursive: list[BlkioEntry] | None = None
    sectors_recursive: list[BlkioEntry] | None = None


class CpuUsage(msgspec.Struct, frozen=True):
    """Nanoseconds of CPU time since the container's start; each CPU's only on cgroup v1."""

    total_usage: int = 0
    percpu_usage: list[int] | UnsetType = UNSET
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class ThrottlingData(msgspec.Struct, frozen=True):
    """How often, and how many nanoseconds, the container was held back by its quota."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuStats(msgspec.Struct, frozen=True):
    """The container's CPU time, and the host's of the same moment, in nanoseconds."""

    cpu_usage: CpuUsage = CpuUsage()
    system_cpu_usage: int | UnsetType = UNSET
    online_cpus: int | UnsetType = UNSET
    throttling_data: ThrottlingData = ThrottlingData()


class MemoryStats(msgspec.Struct, frozen=True):
    """Bytes; `stats` is the kernel's memory.stat. The limit is the host's memory where there is none."""

    usage: int | UnsetType = UNSET
    max_usage: int | UnsetType = UNSET
    stats: dict[str, int] | UnsetType = UNSET
    failcnt: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET


class NetworkStats(msgspec.Struct, frozen=True):
    """Counters of one interface of the container."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class Sample(msgspec.Struct, frozen=True):
    """What a container has used up to `read`; of one that does not run, only name and id are told.

    `precpu_stats` is what `cpu_stats` was at `preread`, so that a rate can be had.
    """

    name: str
    id: str
    read: Time = NEVER
    preread: Time = NEVER
    pids_stats: PidsStats = PidsStats()
    blkio_stats: BlkioStats = BlkioStats()
    num_procs: int = 0
    storage_stats: dict[str, int] = {}
    cpu_stats: CpuStats = CpuStats()
    precpu_stats: CpuStats = CpuStats()
    memory_stats: MemoryStats = MemoryStats()
    networks: dict[str, NetworkStats] | UnsetType = UNSET


class Stats(Signature[Sample | None], frozen=True):
    """Tell what a container uses: lines of JSON on stdout, every second; without `stream` one, and it is the result."""

    NAME: ClassVar[str] = "stats"
    READONLY: ClassVar[bool] = True
    name: Annotated[str, Meta(description="Container name, id, or unique prefix of an id.")]
    stream: Annotated[bool, Meta(description="Go on until the container is removed.")] = True
    one_shot: Annotated[bool, Meta(description="Without a sample before, of which a rate could be had.")] = False
