"""Limits of a container, spelled as the files of cgroup v1 and v2 (kernel: admin-guide/cgroup-v1, cgroup-v2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

DeviceLimit = tuple[int, int, int]  # major, minor, and what is allowed: bytes or operations a second, or a weight


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, microseconds; 0 and "" mean no limit of its own."""

    memory: int = 0
    memory_swap: int = 0  # memory and swap together; -1: unlimited
    memory_reservation: int = 0
    memory_swappiness: int | None = None  # 0 to 100; v1 only
    kernel_memory_tcp: int = 0  # v1 only
    oom_kill_disable: bool = False  # v1 only
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0  # -1: unlimited
    cpu_rt_period: int = 0  # v1 only, as the next
    cpu_rt_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0  # -1: unlimited
    blkio_weight: int = 0  # 10 to 1000
    blkio_weight_devices: tuple[DeviceLimit, ...] = ()
    read_bps: tuple[DeviceLimit, ...] = ()
    write_bps: tuple[DeviceLimit, ...] = ()
    read_iops: tuple[DeviceLimit, ...] = ()
    write_iops: tuple[DeviceLimit, ...] = ()


class Setting(NamedTuple):
    """One write to one file of a group.

    An optional one is for files that not every kernel has; `instead` is what such a kernel has in its place.
    """

    controller: str
    file: str
    value: str
    optional: bool = False
    instead: tuple[str, str] | None = None  # file, value


def v1_settings(limits: Limits, old: Limits | None = None) -> Iterator[Setting]:
    """List the writes for v1, in the order in which they must be made in a new group, or over `old` in a live one."""
    yield from _v1_memory(limits, old)
    yield from _numbers(
        ("memory", "memory.soft_limit_in_bytes", limits.memory_reservation),
        ("memory", "memory.kmem.tcp.limit_in_bytes", limits.kernel_memory_tcp),
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("cpu", "cpu.cfs_period_us", limits.cpu_period),
        ("cpu", "cpu.cfs_quota_us", limits.cpu_quota),
        ("cpu", "cpu.rt_period_us", limits.cpu_rt_period),
        ("cpu", "cpu.rt_runtime_us", limits.cpu_rt_runtime),
    )
    yield from _pids(limits)
    if limits.memory_swappiness is not None:
        yield Setting("memory", "memory.swappiness", str(limits.memory_swappiness))
    if limits.oom_kill_disable:
        yield Setting("memory", "memory.oom_control", "1")
    yield from _cpuset(limits)
    yield from _v1_blkio(limits)


def _v1_memory(limits: Limits, old: Limits | None) -> Iterator[Setting]:
    """Memory alone may never have more than memory with swap: which of the two comes first depends on the old ones.

    Without swap accounting the second file is missing, and Docker drops the limit then.
    """
    settings = list(_numbers(("memory", "memory.limit_in_bytes", limits.memory)))
    if limits.memory_swap:
        swap = Setting("memory", "memory.memsw.limit_in_bytes", str(limits.memory_swap), optional=True)
        rises = old is not None and old.memory > 0 and (limits.memory_swap < 0 or old.memory < limits.memory_swap)
        settings.insert(0 if rises else len(settings), swap)
    yield from settings


def _v1_blkio(limits: Limits) -> Iterator[Setting]:
    if limits.blkio_weight:  # where the scheduler CFQ has gone, BFQ has a file of its own
        weight = str(limits.blkio_weight)
        yield Setting("blkio", "blkio.weight", weight, instead=("blkio.bfq.weight", weight))
    for major, minor, value in limits.blkio_weight_devices:
        text = f"{major}:{minor} {value}"
        yield Setting("blkio", "blkio.weight_device", text, instead=("blkio.bfq.weight_device", text))
    for file, limited in (
        ("read_bps", limits.read_bps),
        ("write_bps", limits.write_bps),
        ("read_iops", limits.read_iops),
        ("write_iops", limits.write_iops),
    ):
        for major, minor, value in limited:
            yield Setting("blkio", f"blkio.throttle.{file}_device", f"{major}:{minor} {value}")


def v2_settings(limits: Limits) -> Iterator[Setting]:
    """List the writes for v2."""
    yield from _numbers(
        ("memory", "memory.max", limits.memory),
        ("memory", "memory.low", limits.memory_reservation),
        ("cpu", "cpu.weight", _weight(limits.cpu_shares)),
    )
    yield from _pids(limits)
    if limits.memory_swap:  # v2 counts swap alone
        swap = "max" if limits.memory_swap < 0 else str(max(limits.memory_swap - limits.memory, 0))
        yield Setting("memory", "memory.swap.max", swap, optional=True)
    if limits.cpu_quota or limits.cpu_period:
        quota = str(limits.cpu_quota) if limits.cpu_quota > 0 else "max"
        yield Setting("cpu", "cpu.max", f"{quota} {limits.cpu_period or 100_000}")
    yield from _cpuset(limits)
    yield from _v2_io(limits)


def _v2_io(limits: Limits) -> Iterator[Setting]:
    if limits.blkio_weight:
        own = str(_io_weight(limits.blkio_weight))
        yield Setting("io", "io.bfq.weight", str(limits.blkio_weight), instead=("io.weight", own))
    for major, minor, value in limits.blkio_weight_devices:
        own = f"{major}:{minor} {_io_weight(value)}"
        yield Setting("io", "io.bfq.weight", f"{major}:{minor} {value}", instead=("io.weight", own))
    for key, limited in (
        ("rbps", limits.read_bps),
        ("wbps", limits.write_bps),
        ("riops", limits.read_iops),
        ("wiops", limits.write_iops),
    ):
        for major, minor, value in limited:
            yield Setting("io", "io.max", f"{major}:{minor} {key}={value}")


def _numbers(*settings: tuple[str, str, int]) -> Iterator[Setting]:
    for controller, file, value in settings:
        if value:
            yield Setting(controller, file, str(value))


def _pids(limits: Limits) -> Iterator[Setting]:
    if limits.pids:
        yield Setting("pids", "pids.max", "max" if limits.pids < 0 else str(limits.pids))


def _cpuset(limits: Limits) -> Iterator[Setting]:
    if limits.cpuset_cpus:
        yield Setting("cpuset", "cpuset.cpus", limits.cpuset_cpus)
    if limits.cpuset_mems:
        yield Setting("cpuset", "cpuset.mems", limits.cpuset_mems)


def _weight(shares: int) -> int:
    """Map v1's 2..262144 to v2's 1..10000, as runc does (ConvertCPUSharesToCgroupV2Value)."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142 if shares else 0


def _io_weight(weight: int) -> int:
    """Map v1's 10..1000 to v2's 1..10000, as runc does (ConvertBlkIOToIOWeightValue)."""
    return 1 + (weight - 10) * 9999 // 990
