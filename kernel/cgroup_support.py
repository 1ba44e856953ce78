"""Which limits this host can enforce: by the controllers that are there, and by the files that its kernel has.

Root groups lack some files, of which others tell that they are there in the groups below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .cgroup import Hierarchies


@dataclass(frozen=True, slots=True)
class Support:
    """One flag a limit, and the CPUs and memory nodes as the kernel writes them (`0-3,5`)."""

    memory: bool = False
    swap: bool = False
    swappiness: bool = False
    reservation: bool = False
    kernel_memory_tcp: bool = False
    oom_kill_disable: bool = False
    cpu_shares: bool = False
    cpu_cfs: bool = False
    cpu_realtime: bool = False
    cpuset: bool = False
    pids: bool = False
    blkio_weight: bool = False
    blkio_throttle: bool = False
    cpus: str = ""
    mems: str = ""


def support_of(hierarchies: Hierarchies) -> Support:
    """Look at the host. Takes about 0.2 ms; only CPUs that come and go can change it."""
    return _v2(hierarchies) if hierarchies.is_v2 else _v1(hierarchies)


def _v1(hierarchies: Hierarchies) -> Support:
    def has(controller: str, file: str) -> bool:
        mount = hierarchies.mount_of(controller)
        return mount is not None and (mount / file).exists()

    cpuset = hierarchies.mount_of("cpuset")
    return Support(
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        swappiness=has("memory", "memory.swappiness"),
        reservation=has("memory", "memory.soft_limit_in_bytes"),
        kernel_memory_tcp=has("memory", "memory.kmem.tcp.limit_in_bytes"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        cpu_shares=has("cpu", "cpu.shares"),
        cpu_cfs=has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime=has("cpu", "cpu.rt_runtime_us"),
        cpuset=cpuset is not None,
        pids=hierarchies.mount_of("pids") is not None,
        blkio_weight=has("blkio", "blkio.weight") or has("blkio", "blkio.bfq.io_serviced"),
        blkio_throttle=has("blkio", "blkio.throttle.read_bps_device"),
        cpus=_text(cpuset, "cpuset.effective_cpus") or _text(cpuset, "cpuset.cpus"),
        mems=_text(cpuset, "cpuset.effective_mems") or _text(cpuset, "cpuset.mems"),
    )


def _v2(hierarchies: Hierarchies) -> Support:
    there, mount = hierarchies.controllers, hierarchies.v2
    return Support(
        memory="memory" in there,
        swap="memory" in there and Path("/proc/swaps").exists(),  # as memory.swap.max: with CONFIG_SWAP
        reservation="memory" in there,
        cpu_shares="cpu" in there,
        cpu_cfs="cpu" in there,
        cpuset="cpuset" in there,
        pids="pids" in there,
        blkio_weight="io" in there and _has_io_weight(mount),
        blkio_throttle="io" in there,
        cpus=_text(mount, "cpuset.cpus.effective"),
        mems=_text(mount, "cpuset.mems.effective"),
    )


def _has_io_weight(mount: Path | None) -> bool:
    """Look for the cost model, whose file the root has, or for BFQ in any queue: they own the two weight files."""
    if mount and (mount / "io.cost.qos").exists():
        return True
    return any("bfq" in _text(path.parent, path.name) for path in Path("/sys/block").glob("*/queue/scheduler"))


def _text(folder: Path | None, file: str) -> str:
    try:
        return (folder / file).read_text().strip() if folder else ""
    except OSError:
        return ""
