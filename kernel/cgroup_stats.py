"""What a container has used so far, as the files of cgroup v1 and v2 count it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 10**9 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_MICRO = 1000  # nanoseconds

IoCount = tuple[int, int, str, int]  # major, minor, operation in the kernel's word, bytes or operations


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters since the group was made; nanoseconds, bytes. None where this version of cgroups does not count.

    `pids_limit` and `memory_limit` are None for unlimited.
    """

    is_v2: bool
    pids: int = 0
    pids_limit: int | None = None
    cpu_total: int = 0
    cpu_user: int = 0
    cpu_kernel: int = 0
    cpu_each: list[int] | None = None
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    memory: int = 0
    memory_limit: int | None = None
    memory_peak: int | None = None
    memory_failures: int | None = None
    memory_details: dict[str, int] = field(default_factory=dict)
    io_bytes: list[IoCount] = field(default_factory=list)
    io_operations: list[IoCount] | None = None


def usage_v2(group: Path) -> Usage:
    """Read all counters of a v2 group; those of controllers that are not there are 0. Raises FileNotFoundError."""
    cpu = _pairs(group / "cpu.stat")
    if not (group / "cgroup.procs").exists():
        raise FileNotFoundError(str(group))
    return Usage(
        is_v2=True,
        pids=_number(group / "pids.current") or 0,
        pids_limit=_number(group / "pids.max"),
        cpu_total=cpu.get("usage_usec", 0) * _MICRO,
        cpu_user=cpu.get("user_usec", 0) * _MICRO,
        cpu_kernel=cpu.get("system_usec", 0) * _MICRO,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_time=cpu.get("throttled_usec", 0) * _MICRO,
        memory=_number(group / "memory.current") or 0,
        memory_limit=_number(group / "memory.max"),
        memory_details=_pairs(group / "memory.stat"),
        io_bytes=_io_v2(group / "io.stat"),
    )


def usage_v1(find: Callable[[str], Path | None]) -> Usage:
    """Read all counters of a v1 container; `find` gives the group of a controller. Raises FileNotFoundError."""
    nowhere = Path("/nonexistent")
    pids, memory, cpu, cpuacct, blkio = (
        find(name) or nowhere for name in ("pids", "memory", "cpu", "cpuacct", "blkio")
    )
    if not any((group / "cgroup.procs").exists() for group in (pids, memory, cpu, cpuacct)):
        raise FileNotFoundError(str(memory))
    ticks, throttling = _pairs(cpuacct / "cpuacct.stat"), _pairs(cpu / "cpu.stat")
    return Usage(
        is_v2=False,
        pids=_number(pids / "pids.current") or 0,
        pids_limit=_number(pids / "pids.max"),
        cpu_total=_number(cpuacct / "cpuacct.usage") or 0,
        cpu_user=ticks.get("user", 0) * _TICK,
        cpu_kernel=ticks.get("system", 0) * _TICK,
        cpu_each=[int(word) for word in _text(cpuacct / "cpuacct.usage_percpu").split()],
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_time=throttling.get("throttled_time", 0),
        memory=_number(memory / "memory.usage_in_bytes") or 0,
        memory_limit=_number(memory / "memory.limit_in_bytes"),
        memory_peak=_number(memory / "memory.max_usage_in_bytes"),
        memory_failures=_number(memory / "memory.failcnt"),
        memory_details=_pairs(memory / "memory.stat"),
        io_bytes=_io_v1(blkio, "io_service_bytes_recursive"),
        io_operations=_io_v1(blkio, "io_serviced_recursive"),
    )


def _io_v1(group: Path, name: str) -> list[IoCount]:
    """Read the scheduler CFQ's counters, where it still is, else those of throttling: `8:0 Read 4096`."""
    text = _text(group / f"blkio.{name}") or _text(group / f"blkio.throttle.{name}")
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            found.append((int(major), int(minor), words[1], int(words[2])))
    return found


def _io_v2(path: Path) -> list[IoCount]:
    """Read lines as `8:0 rbytes=1 wbytes=2 rios=3 …`."""
    found = []
    for line in _text(path).splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        counts = dict(word.split("=", 1) for word in words if "=" in word)
        for key, operation in (("rbytes", "read"), ("wbytes", "write")):
            if key in counts:
                found.append((int(major), int(minor), operation, int(counts[key])))
    return found


def _pairs(path: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    """What the file says; nothing where there is none, or no longer (ENODEV: the group has been removed meanwhile)."""
    try:
        return path.read_text()
    except OSError:
        return ""
