"""Resources: checked as dockerd does (daemon/daemon_unix.go), and in the exec driver's units.

Bytes, microseconds. 0 means no limit; a limit that can only be wrong is refused in Docker's words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import msgspec

from windlass.engine.errors import BadParameter, Unsupported
from windlass.execdriver.driver import LogConfig, Resources, Rlimit
from windlass.jobs.container_config import HostConfig

MINIMUM_MEMORY = 6 << 20
CPU_PERIOD = 100_000
_ULIMITS = """
    as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
_LOG_OPTIONS = """
    max-size max-file compress labels labels-regex env env-regex tag mode max-buffer-size cache-disabled
    cache-max-size cache-max-file cache-compress
"""
ULIMITS = frozenset(_ULIMITS.split())
LOG_OPTIONS = frozenset(_LOG_OPTIONS.split())
_SIZE = re.compile(r"([0-9]{1,15})(?:\.[0-9]+)? ?([kmgtp]?)i?b?\Z", re.ASCII | re.IGNORECASE)
_CPUSET = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*\Z", re.ASCII)


def check_limits(host: HostConfig, warn: Callable[[str], None]) -> HostConfig:
    """Check all limits; return `host` with the swap that belongs to the memory. Raises BadParameter."""
    _check_memory(host)
    _check_cpu(host)
    for ulimit in host.Ulimits or ():
        if ulimit.Name not in ULIMITS:
            raise BadParameter(f"invalid ulimit type: {ulimit.Name}", key="Ulimits")
        if ulimit.Hard != -1 and (ulimit.Soft > ulimit.Hard or ulimit.Soft == -1):
            raise BadParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.Soft} > {ulimit.Hard}",
                key="Ulimits",
            )
    if not -1000 <= host.OomScoreAdj <= 1000:
        raise BadParameter(
            f"Invalid value {host.OomScoreAdj}, range for oom score adj is [-1000, 1000]", key="OomScoreAdj"
        )
    if host.ShmSize < 0:
        raise BadParameter("SHM size can not be less than 0", key="ShmSize")
    if host.MemorySwappiness not in (None, -1):
        _check_swappiness(host.MemorySwappiness or 0)
        warn("Your engine does not support memory swappiness yet. Discarded.")
    if host.Memory > 0 and host.MemorySwap == 0:
        return msgspec.structs.replace(host, MemorySwap=2 * host.Memory)
    return host


def _check_memory(host: HostConfig) -> None:
    if host.Memory < 0 or 0 < host.Memory < MINIMUM_MEMORY:
        raise BadParameter("Minimum memory limit allowed is 6MB", key="Memory")
    if host.Memory == 0 and host.MemorySwap > 0:
        raise BadParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage", key="MemorySwap"
        )
    if 0 < host.MemorySwap < host.Memory:
        raise BadParameter("Minimum memoryswap limit should be larger than memory limit, see usage", key="MemorySwap")
    if host.MemoryReservation < 0 or 0 < host.MemoryReservation < MINIMUM_MEMORY:
        raise BadParameter("Minimum memory reservation allowed is 6MB", key="MemoryReservation")
    if 0 < host.Memory < host.MemoryReservation:
        raise BadParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage", key="MemoryReservation"
        )


def _check_swappiness(value: int) -> None:
    if not 0 <= value <= 100:
        raise BadParameter(f"Invalid value: {value}, valid memory swappiness range is 0-100", key="MemorySwappiness")


def _check_cpu(host: HostConfig) -> None:
    if host.NanoCpus and (host.CpuPeriod or host.CpuQuota):
        other = "Period" if host.CpuPeriod else "Quota"
        raise BadParameter(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set.", key="NanoCpus")
    count = os.cpu_count() or 1
    if host.NanoCpus < 0 or host.NanoCpus > count * 10**9:
        raise BadParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available", key="NanoCpus"
        )
    if host.CpuPeriod and not 1000 <= host.CpuPeriod <= 1_000_000:
        raise BadParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", key="CpuPeriod"
        )
    if 0 < host.CpuQuota < 1000:
        raise BadParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)", key="CpuQuota")
    if host.CpuShares < 0:
        raise BadParameter(f"invalid CPU shares ({host.CpuShares}): value must be a positive integer", key="CpuShares")
    for key in ("CpusetCpus", "CpusetMems"):
        if (text := getattr(host, key)) and not _CPUSET.match(text):
            raise BadParameter(f"Invalid value {text} for {key}", key=key)


def resources(host: HostConfig) -> Resources:
    """The limits as the exec driver takes them."""
    period, quota = host.CpuPeriod, host.CpuQuota
    if host.NanoCpus:
        period, quota = CPU_PERIOD, host.NanoCpus * CPU_PERIOD // 10**9
    return Resources(
        memory=host.Memory,
        memory_swap=host.MemorySwap,
        memory_reservation=host.MemoryReservation,
        cpu_shares=host.CpuShares,
        cpu_period=period,
        cpu_quota=max(quota, 0),
        cpuset_cpus=host.CpusetCpus,
        cpuset_mems=host.CpusetMems,
        pids=max(host.PidsLimit or 0, 0),
    )


def rlimits(host: HostConfig) -> tuple[Rlimit, ...]:
    return tuple(Rlimit(limit.Name, limit.Soft, limit.Hard) for limit in host.Ulimits or ())


# -- the log ---------------------------------------------------------------------------------------------------------


def check_log(host: HostConfig) -> None:
    """Check the log driver and its options. Raises BadParameter, Unsupported."""
    kind, options = host.LogConfig.Type, host.LogConfig.Config
    if kind not in ("", "json-file", "none"):
        raise Unsupported(f"the log driver {kind!r} cannot be used yet: json-file and none can", key="LogConfig")
    for name in options:
        if kind == "none" or name not in LOG_OPTIONS:
            raise BadParameter(f"unknown log opt '{name}' for {kind or 'json-file'} log driver", key="LogConfig")
    size, files = _log_limits(options)
    if files > 1 and not size:
        raise BadParameter("max-file cannot be greater than 1 when max-size is not set", key="LogConfig")


def log_config(host: HostConfig, path: str) -> LogConfig:
    """The log as the exec driver takes it."""
    size, files = _log_limits(host.LogConfig.Config)
    return LogConfig("none" if host.LogConfig.Type == "none" else "json-file", path, size, files)


def _log_limits(options: dict[str, str]) -> tuple[int, int]:
    size, files = options.get("max-size", ""), options.get("max-file", "")
    if files and not (files.isascii() and files.isdecimal() and 1 <= int(files) <= 10_000):
        raise BadParameter(f"max-file cannot be {files!r}: it must be a number from 1 to 10000", key="LogConfig")
    return 0 if size in ("", "-1") else parse_size(size), int(files or 1)


def parse_size(text: str) -> int:
    """Bytes from `10m`, `1GiB`, `4096`: powers of 1024. Raises BadParameter."""
    match = _SIZE.match(text)
    if match is None:
        raise BadParameter(f"invalid size: '{text}'", key="LogConfig")
    return int(match[1]) << (10 * (" kmgtp".index(match[2].lower() or " ")))
