"""CPU and memory node lists (`0-3,7`), compared with what this host has (moby: pkg/sysinfo, IsCpusetCpusAvailable)."""

from __future__ import annotations

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import HostConfig
from windlass.kernel.cgroup_support import Support

MAXIMUM = 8192  # Linux's largest CONFIG_NR_CPUS; what is beyond is no list that anybody means (CVE-2018-20699)


def check_cpuset(host: HostConfig, can: Support) -> None:
    """Check both lists. Raises BadParameter: for what is no list, and for what this host does not have."""
    for key, wanted, there, noun, name in (
        ("CpusetCpus", host.CpusetCpus, can.cpus, "CPUs", "cpuset cpus"),
        ("CpusetMems", host.CpusetMems, can.mems, "memory nodes", "cpuset mems"),
    ):
        if not wanted:
            continue
        try:
            asked = parse_list(wanted)
        except ValueError as exc:
            raise BadParameter(f"Invalid value {wanted[:100]} for {name}: {exc}", key=key) from None
        if not asked <= parse_list(there):
            raise BadParameter(
                f"Requested {noun} are not available - requested {wanted[:100]}, available: {there}", key=key
            )


def parse_list(text: str) -> set[int]:
    """Parse `0-3,7`. Raises ValueError for what is none, or has numbers beyond MAXIMUM, before it takes memory."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        numbers = [first, last] if dash else [first]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ValueError(f"invalid format: {text[:100]}")
        if any(len(number) > 9 or int(number) > MAXIMUM for number in numbers):
            raise ValueError(f"value of out range, maximum is {MAXIMUM}")
        if int(numbers[0]) > int(numbers[-1]):
            raise ValueError(f"invalid format: {text[:100]}")
        found.update(range(int(numbers[0]), int(numbers[-1]) + 1))
    return found
