"""Facts about the host, read from /proc, /sys and /etc: for `version`, `info` and the log."""

from __future__ import annotations

import os
import platform
import shlex
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}  # Go's words
CGROUP = Path("/sys/fs/cgroup")


def architecture() -> str:
    """The machine in the words of images: `amd64`, `arm64`."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def os_release() -> dict[str, str]:
    """The host's os-release(5); empty when there is none."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {key.strip(): " ".join(_unquote(value)) for key, _, value in pairs}
    return {}


def _unquote(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return [value.strip("\"'")]


def memory() -> int:
    """Bytes of memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_version() -> int:
    """2 when the unified hierarchy has the controllers, 1 when they are (also) mounted one by one."""
    return 2 if (CGROUP / "cgroup.controllers").exists() else 1


def cgroup_features() -> dict[str, bool]:
    """Which limits the host can enforce, by the keys of Docker's `info`."""
    return _features_v2() if cgroup_version() == 2 else _features_v1()


def _features_v2() -> dict[str, bool]:
    controllers = (CGROUP / "cgroup.controllers").read_text().split()
    cpu, memory = "cpu" in controllers, "memory" in controllers
    own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    return {
        "MemoryLimit": memory,
        "SwapLimit": memory and (CGROUP / own / "memory.swap.max").exists(),
        "CpuCfsPeriod": cpu,
        "CpuCfsQuota": cpu,
        "CPUShares": cpu,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": False,
    }


def _features_v1() -> dict[str, bool]:
    return {
        "MemoryLimit": (CGROUP / "memory/memory.limit_in_bytes").exists(),
        "SwapLimit": (CGROUP / "memory/memory.memsw.limit_in_bytes").exists(),
        "CpuCfsPeriod": (CGROUP / "cpu/cpu.cfs_period_us").exists(),
        "CpuCfsQuota": (CGROUP / "cpu/cpu.cfs_quota_us").exists(),
        "CPUShares": (CGROUP / "cpu/cpu.shares").exists(),
        "CPUSet": (CGROUP / "cpuset/cpuset.cpus").exists(),
        "PidsLimit": (CGROUP / "pids/cgroup.procs").exists(),
        "OomKillDisable": (CGROUP / "memory/memory.oom_control").exists(),
    }


def is_forwarding() -> bool:
    """True when the kernel routes IPv4."""
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False
