"""What a container may use, as the exec driver takes it: bytes, microseconds, numbers of devices."""

from __future__ import annotations

from collections.abc import Iterable

from windlass.execdriver.driver import Resources, Rlimit
from windlass.jobs.container_config import HostConfig, Ulimit

from .blkio import device_limits

CPU_PERIOD = 100_000


def resources(host: HostConfig) -> Resources:
    """The limits of the container's cgroups. Raises BadParameter for a device that has gone."""
    period, quota = host.CpuPeriod, host.CpuQuota
    if host.NanoCpus:
        period, quota = CPU_PERIOD, host.NanoCpus * CPU_PERIOD // 10**9
    return Resources(
        memory=host.Memory,
        memory_swap=host.MemorySwap,
        memory_reservation=host.MemoryReservation,
        memory_swappiness=host.MemorySwappiness,
        kernel_memory_tcp=host.KernelMemoryTCP,
        oom_kill_disable=bool(host.OomKillDisable),
        cpu_shares=host.CpuShares,
        cpu_period=period,
        cpu_quota=quota,
        cpu_rt_period=host.CpuRealtimePeriod,
        cpu_rt_runtime=host.CpuRealtimeRuntime,
        cpuset_cpus=host.CpusetCpus,
        cpuset_mems=host.CpusetMems,
        pids=max(host.PidsLimit or 0, -1),
        blkio_weight=host.BlkioWeight,
        blkio_weight_devices=device_limits(host.BlkioWeightDevice, "BlkioWeightDevice"),
        read_bps=device_limits(host.BlkioDeviceReadBps, "BlkioDeviceReadBps"),
        write_bps=device_limits(host.BlkioDeviceWriteBps, "BlkioDeviceWriteBps"),
        read_iops=device_limits(host.BlkioDeviceReadIOps, "BlkioDeviceReadIOps"),
        write_iops=device_limits(host.BlkioDeviceWriteIOps, "BlkioDeviceWriteIOps"),
    )


def rlimits(host: HostConfig, defaults: Iterable[Ulimit] = ()) -> tuple[Rlimit, ...]:
    """The container's own limits, and the daemon's for what it says nothing about."""
    merged = {limit.Name: limit for limit in (*defaults, *(host.Ulimits or ()))}
    return tuple(Rlimit(limit.Name, limit.Soft, limit.Hard) for limit in merged.values())
