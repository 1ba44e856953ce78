"""Limits of a container, spelled as the files of cgroup v1 and v2 (kernel: admin-guide/cgroup-v1, cgroup-v2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, microseconds; 0 and "" mean no limit of its own."""

    memory: int = 0
    memory_swap: int = 0  # memory and swap together; -1: unlimited
    memory_reservation: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0


class Setting(NamedTuple):
    """One write to one file of a group; an optional one is for files that not every kernel has."""

    controller: str
    file: str
    value: str
    optional: bool = False


def v1_settings(limits: Limits) -> Iterator[Setting]:
    """List the writes for v1, in the order in which they must be made."""
    yield from _numbers(
        ("memory", "memory.limit_in_bytes", limits.memory),
        ("memory", "memory.soft_limit_in_bytes", limits.memory_reservation),
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("cpu", "cpu.cfs_period_us", limits.cpu_period),
        ("cpu", "cpu.cfs_quota_us", limits.cpu_quota),
        ("pids", "pids.max", limits.pids),
    )
    # After limit_in_bytes, which it may never be less than. Missing without swap accounting: Docker drops it then.
    if limits.memory_swap:
        yield Setting("memory", "memory.memsw.limit_in_bytes", str(limits.memory_swap), optional=True)
    yield from _cpuset(limits)


def v2_settings(limits: Limits) -> Iterator[Setting]:
    """List the writes for v2."""
    yield from _numbers(
        ("memory", "memory.max", limits.memory),
        ("memory", "memory.low", limits.memory_reservation),
        ("cpu", "cpu.weight", _weight(limits.cpu_shares)),
        ("pids", "pids.max", limits.pids),
    )
    if limits.memory_swap:  # v2 counts swap alone
        swap = "max" if limits.memory_swap < 0 else str(max(limits.memory_swap - limits.memory, 0))
        yield Setting("memory", "memory.swap.max", swap, optional=True)
    if limits.cpu_quota or limits.cpu_period:
        quota = str(limits.cpu_quota) if limits.cpu_quota > 0 else "max"
        yield Setting("cpu", "cpu.max", f"{quota} {limits.cpu_period or 100_000}")
    yield from _cpuset(limits)


def _numbers(*settings: tuple[str, str, int]) -> Iterator[Setting]:
    for controller, file, value in settings:
        if value:
            yield Setting(controller, file, str(value))


def _cpuset(limits: Limits) -> Iterator[Setting]:
    if limits.cpuset_cpus:
        yield Setting("cpuset", "cpuset.cpus", limits.cpuset_cpus)
    if limits.cpuset_mems:
        yield Setting("cpuset", "cpuset.mems", limits.cpuset_mems)


def _weight(shares: int) -> int:
    """Map v1's 2..262144 to v2's 1..10000, as runc does (ConvertCPUSharesToCgroupV2Value)."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142 if shares else 0
