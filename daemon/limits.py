"""Limits of a container: checked against what they can be and what this host can do, as dockerd does.

A value that can only be wrong is refused in Docker's words. What the host cannot enforce is discarded with a warning
where Docker discards it (moby: verifyPlatformContainerResources), and refused where Docker refuses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import msgspec

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import HostConfig, Ulimit
from windlass.kernel.cgroup import Hierarchies
from windlass.kernel.cgroup_support import Support, support_of

from .blkio import check_blkio
from .cpuset import check_cpuset

MINIMUM_MEMORY = 6 << 20
MINIMUM_CPUS = 10**7  # in 10^-9 of a CPU; less is a quota that the kernel refuses
MAXIMUM_QUOTA = (1 << 44) - 1  # kernel/sched/core.c: MAX_BW
MAXIMUM_PIDS = 1 << 22  # linux/threads.h: PID_MAX_LIMIT
CPU_PERIODS = range(1000, 1_000_001)
_ULIMITS = """
    as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
ULIMITS = frozenset(_ULIMITS.split())

Warn = Callable[[str], None]


@cache
def host_support() -> Support:
    """What this host can enforce."""
    return support_of(Hierarchies.of_host())


def check_limits(host: HostConfig, warn: Warn, can: Support, *, is_update: bool = False) -> HostConfig:
    """Check all limits; return `host` without what this host cannot enforce, and with what follows from the rest.

    An update may set swap without memory. Raises BadParameter.
    """
    host = msgspec.structs.replace(host, **dict(_discarded(host, warn, can)))
    _check_memory(host, is_update)
    _check_cpu(host, can)
    check_cpuset(host, can)
    check_blkio(host)
    _check_others(host)
    check_ulimits(host.Ulimits or (), "Ulimits")
    if host.OomKillDisable and not host.Memory and not is_update:
        warn(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    if host.Memory > 0 and host.MemorySwap == 0 and not is_update:
        return msgspec.structs.replace(host, MemorySwap=2 * host.Memory)
    return host


# -- what the host cannot do -----------------------------------------------------------------------------------------

_MISSING = "Your kernel does not support {} or the cgroup is not mounted. {} discarded."
# Fields that stand or fall together: the flag of `Support`, what lacks, and what is discarded.
_CONDITIONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("MemoryReservation",), "reservation", _MISSING.format("memory soft limit capabilities", "Limitation")),
    (
        ("MemorySwappiness",),
        "swappiness",
        _MISSING.format("memory swappiness capabilities", "Memory swappiness"),
    ),
    (("KernelMemoryTCP",), "kernel_memory_tcp", _MISSING.format("kernel memory TCP limit capabilities", "Limitation")),
    (("OomKillDisable",), "oom_kill_disable", "Your kernel does not support OomKillDisable. OomKillDisable discarded."),
    (("PidsLimit",), "pids", _MISSING.format("PIDs limit capabilities", "PIDs limit")),
    (("CpuShares",), "cpu_shares", _MISSING.format("CPU shares", "Shares")),
    (
        ("CpuPeriod", "CpuQuota"),
        "cpu_cfs",
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
    ),
    (("CpusetCpus", "CpusetMems"), "cpuset", _MISSING.format("cpuset", "Cpuset")),
    (("BlkioWeight",), "blkio_weight", _MISSING.format("Block I/O weight", "Weight")),
    (("BlkioWeightDevice",), "blkio_weight", _MISSING.format("Block I/O weight_device", "Weight-device")),
    *(
        ((field,), "blkio_throttle", _MISSING.format(f"{what} limit", f"Block I/O {kind} limit"))
        for field, what, kind in (
            ("BlkioDeviceReadBps", "BPS Block I/O read", "BPS read"),
            ("BlkioDeviceWriteBps", "BPS Block I/O write", "BPS write"),
            ("BlkioDeviceReadIOps", "IOPS Block read", "IOPS read"),
            ("BlkioDeviceWriteIOps", "IOPS Block write", "IOPS write"),
        )
    ),
)


def _discarded(host: HostConfig, warn: Warn, can: Support) -> Iterator[tuple[str, object]]:
    """Tell which fields are not what the request says, and warn of each that somebody wanted."""
    if host.MemorySwappiness == -1:  # how old clients say that they do not care
        host = msgspec.structs.replace(host, MemorySwappiness=None)
        yield "MemorySwappiness", None
    if not host.OomKillDisable:
        host = msgspec.structs.replace(host, OomKillDisable=None)
        yield "OomKillDisable", False if can.oom_kill_disable else None
    yield from _discarded_memory(host, warn, can)
    for fields, flag, sentence in _CONDITIONS:
        given = [field for field in fields if getattr(host, field) not in (_EMPTY[field], [])]
        if not given or getattr(can, flag):
            continue
        if host.PidsLimit is None or fields != ("PidsLimit",) or host.PidsLimit > 0:
            warn(sentence)
        for field in given:
            yield field, _EMPTY[field]
    if host.CpuPercent:
        warn("linux does not support CPU percent. Percent discarded.")
        yield "CpuPercent", 0


def _discarded_memory(host: HostConfig, warn: Warn, can: Support) -> Iterator[tuple[str, object]]:
    if host.Memory > 0 and not can.memory:
        warn(_MISSING.format("memory limit capabilities", "Limitation"))
        yield from (("Memory", 0), ("MemorySwap", -1))
    elif host.Memory > 0 and host.MemorySwap != -1 and not can.swap:
        warn(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        yield "MemorySwap", -1
    if host.KernelMemory:  # gone from cgroup v2, from runc, and from the API since 1.42
        warn(_MISSING.format("kernel memory limit capabilities", "Limitation"))
        yield "KernelMemory", 0


_EMPTY = {field.name: field.default for field in msgspec.structs.fields(HostConfig)}


# -- what can only be wrong ------------------------------------------------------------------------------------------


def _check_memory(host: HostConfig, is_update: bool) -> None:
    if host.Memory and host.Memory < MINIMUM_MEMORY:
        raise BadParameter("Minimum memory limit allowed is 6MB", key="Memory")
    if host.MemorySwap < -1:
        raise BadParameter(f"Invalid value {host.MemorySwap} for memory swap: -1 is unlimited", key="MemorySwap")
    if host.Memory == 0 and host.MemorySwap > 0 and not is_update:
        raise BadParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage", key="MemorySwap"
        )
    if 0 < host.MemorySwap < host.Memory:
        raise BadParameter("Minimum memoryswap limit should be larger than memory limit, see usage", key="MemorySwap")
    if host.MemoryReservation and host.MemoryReservation < MINIMUM_MEMORY:
        raise BadParameter("Minimum memory reservation allowed is 6MB", key="MemoryReservation")
    if 0 < host.Memory < host.MemoryReservation:
        raise BadParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage", key="MemoryReservation"
        )
    if host.MemorySwappiness is not None and not 0 <= host.MemorySwappiness <= 100:
        raise BadParameter(
            f"Invalid value: {host.MemorySwappiness}, valid memory swappiness range is 0-100", key="MemorySwappiness"
        )
    if host.KernelMemoryTCP < 0:
        raise BadParameter(f"Invalid value {host.KernelMemoryTCP} for kernel memory TCP", key="KernelMemoryTCP")


def _check_cpu(host: HostConfig, can: Support) -> None:
    if host.NanoCpus:
        _check_cpus(host, can)
    if host.CpuPeriod and host.CpuPeriod not in CPU_PERIODS:
        raise BadParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", key="CpuPeriod"
        )
    if 0 < host.CpuQuota < 1000:
        raise BadParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)", key="CpuQuota")
    if not -1 <= host.CpuQuota <= MAXIMUM_QUOTA:
        raise BadParameter(f"Invalid value {host.CpuQuota} for CPU cfs quota: -1 is unlimited", key="CpuQuota")
    if host.CpuShares < 0:
        raise BadParameter(f"invalid CPU shares ({host.CpuShares}): value must be a positive integer", key="CpuShares")
    _check_realtime(host, can)


def _check_cpus(host: HostConfig, can: Support) -> None:
    for key, name in (("CpuPeriod", "Period"), ("CpuQuota", "Quota")):
        if getattr(host, key):
            raise BadParameter(f"Conflicting options: Nano CPUs and CPU {name} cannot both be set", key="NanoCpus")
    if not can.cpu_cfs:
        raise BadParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
            key="NanoCpus",
        )
    count = os.cpu_count() or 1
    if not MINIMUM_CPUS <= host.NanoCpus <= count * 10**9:
        raise BadParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available", key="NanoCpus"
        )


def _check_realtime(host: HostConfig, can: Support) -> None:
    period, runtime = host.CpuRealtimePeriod, host.CpuRealtimeRuntime
    if (period or runtime) and not can.cpu_realtime:
        raise BadParameter("kernel does not support CPU real-time scheduler", key="CpuRealtimeRuntime")
    for key, value in (("CpuRealtimePeriod", period), ("CpuRealtimeRuntime", runtime)):
        if not 0 <= value <= MAXIMUM_QUOTA:
            raise BadParameter(f"Invalid value {value} for {key}: it is a number of microseconds", key=key)
    if period and runtime > period:
        raise BadParameter("cpu real-time runtime cannot be higher than cpu real-time period", key="CpuRealtimeRuntime")


def _check_others(host: HostConfig) -> None:
    if (host.PidsLimit or 0) > MAXIMUM_PIDS:
        raise BadParameter(
            f"Invalid value {host.PidsLimit} for pids limit: the kernel has {MAXIMUM_PIDS} at most", key="PidsLimit"
        )
    if not -1000 <= host.OomScoreAdj <= 1000:
        raise BadParameter(
            f"Invalid value {host.OomScoreAdj}, range for oom score adj is [-1000, 1000]", key="OomScoreAdj"
        )
    if host.ShmSize < 0:
        raise BadParameter("SHM size can not be less than 0", key="ShmSize")
    for key in ("IOMaximumIOps", "IOMaximumBandwidth"):
        if getattr(host, key):
            raise BadParameter(
                "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps", key=key
            )
    _check_parent(host.CgroupParent)


def _check_parent(parent: str) -> None:
    parts = parent.split("/")
    if ".." in parts or not parent.isprintable() or any(len(part.encode()) > 200 for part in parts) or len(parts) > 32:
        raise BadParameter(f"invalid cgroup parent: {parent[:100]!r}", key="CgroupParent")


def check_ulimits(ulimits: list[Ulimit] | tuple[Ulimit, ...], key: str) -> None:
    """Check names and ranges. Raises BadParameter for `key`."""
    for ulimit in ulimits:
        soft, hard = ulimit.Soft, ulimit.Hard
        if ulimit.Name not in ULIMITS:
            raise BadParameter(f"invalid ulimit type: {ulimit.Name}", key=key)
        if soft < -1 or hard < -1:
            raise BadParameter(f"invalid ulimit {ulimit.Name}={soft}:{hard}: -1 is unlimited", key=key)
        if hard != -1 and (soft > hard or soft == -1):
            raise BadParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}", key=key)
