"""Jobs `version` and `info`: which daemon this is, what it holds, what its host can do.

`version` is there before anything slow; `info` asks the other subsystems by their jobs, and counts nothing for one
that is not installed.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass.engine import Engine, Job
from windlass.engine.errors import NoSuchJob
from windlass.jobs import system
from windlass.jobs.system import Info, Plugins, SystemInfo, Version, VersionInfo
from windlass.lib import host, timestamp
from windlass.lib.version import API_VERSION, MIN_API_VERSION, VERSION

INDEX = "https://index.docker.io/v1/"
LOOPBACK = ["::1/128", "127.0.0.0/8"]
ABSENT = {
    "MemoryLimit": "No memory limit support",
    "SwapLimit": "No swap limit support",
    "CPUShares": "No cpu shares support",
    "CpuCfsQuota": "No cpu cfs quota support",
    "CPUSet": "No cpuset support",
    "PidsLimit": "No pids limit support",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What `info` cannot ask anybody for: the daemon's own settings and drivers."""

    data_root: Path
    graph_driver: str
    graph_status: Sequence[tuple[str, str]] = ()
    exec_driver: str = "native"
    labels: Sequence[str] = ()
    debug: bool = False
    insecure_registries: Sequence[str] = ()
    mirrors: Sequence[str] = ()
    commit: str = ""
    is_remapped: bool = False


def install_version(engine: Engine, commit: str = "", built: str = "") -> None:
    """Register `version`."""

    async def version(job: Job[Version]) -> VersionInfo:
        """Tell the version of the daemon, of its API, and of the kernel."""
        return version_info(commit, built)

    engine.register("version", version)


def install_info(engine: Engine, facts: Facts) -> None:
    """Register `info`. The daemon's id is made on first use and kept on the data root."""
    daemon_id = _daemon_id(facts.data_root / "engine-id")

    async def info(job: Job[Info]) -> SystemInfo:
        """Tell what the daemon holds, which drivers it has, and what its host can do."""
        return await system_info(job.engine, facts, daemon_id)

    engine.register("info", info)


def install_plugins(engine: Engine, names: Sequence[str]) -> None:
    """Register `plugins`."""

    async def plugins(job: Job[Plugins]) -> list[str]:
        """List the plugins that the daemon has installed, in order."""
        return list(names)

    engine.register("plugins", plugins)


def version_info(commit: str, built: str) -> VersionInfo:
    details: dict[str, Any] = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": commit,
        "GoVersion": f"python{platform.python_version()}",
        "Os": "linux",
        "Arch": host.architecture(),
        "KernelVersion": platform.release(),
        "BuildTime": built,
    }
    return VersionInfo(
        Platform=system.Platform("windlass"),
        Components=[system.Component("Engine", VERSION, details | {"Experimental": "false"})],
        Version=VERSION,
        **details,
    )


async def system_info(engine: Engine, facts: Facts, daemon_id: str) -> SystemInfo:
    """Gather it all. A subsystem that is not there counts as empty."""
    containers = Counter(each.State for each in await _ask(engine, "containers", all=True) or ())
    images = await _ask(engine, "images") or ()
    listeners = await _ask(engine, "subscribers_count")
    filtered = await _ask(engine, "network_warnings") or ()
    release = host.os_release()
    features: dict[str, Any] = {**host.cgroup_features()}
    lacking = [f"WARNING: {text}" for key, text in ABSENT.items() if not features[key]]
    return SystemInfo(
        ID=daemon_id,
        Containers=containers.total(),
        ContainersRunning=containers["running"],
        ContainersPaused=containers["paused"],
        ContainersStopped=containers.total() - containers["running"] - containers["paused"],
        Images=len(images),
        Driver=facts.graph_driver,
        DriverStatus=[list(pair) for pair in facts.graph_status],
        Plugins=_plugins(engine),
        **features,
        IPv4Forwarding=host.is_forwarding(),
        Debug=facts.debug,
        NFd=len(os.listdir("/proc/self/fd")),
        NGoroutines=len(engine.running),
        SystemTime=timestamp.text(time.time_ns()),
        LoggingDriver="json-file",
        CgroupDriver="cgroupfs",
        CgroupVersion=str(host.cgroup_version()),
        NEventsListener=listeners.count if listeners else 0,
        KernelVersion=platform.release(),
        OperatingSystem=release.get("PRETTY_NAME", "Linux"),
        OSVersion=release.get("VERSION_ID", ""),
        OSType="linux",
        Architecture=platform.machine(),
        NCPU=os.cpu_count() or 1,
        MemTotal=host.memory(),
        IndexServerAddress=INDEX,
        RegistryConfig=_registries(facts),
        DockerRootDir=str(facts.data_root),
        HttpProxy=os.environ.get("HTTP_PROXY", ""),
        HttpsProxy=os.environ.get("HTTPS_PROXY", ""),
        NoProxy=os.environ.get("NO_PROXY", ""),
        Name=platform.node(),
        Labels=list(facts.labels),
        ServerVersion=VERSION,
        Runtimes={facts.exec_driver: system.Runtime("windlass-shim")},
        DefaultRuntime=facts.exec_driver,
        SecurityOptions=["name=seccomp,profile=builtin", *(["name=userns"] if facts.is_remapped else [])],
        Warnings=[*lacking, *(f"WARNING: {text}" for text in filtered)],
    )


async def _ask(engine: Engine, name: str, **env: Any) -> Any:
    """What job `name` answers; None when there is none of that name."""
    try:
        return await engine.job(name, **env).run()
    except NoSuchJob:
        return None


def _plugins(engine: Engine) -> system.DriverNames:
    def names(kind: str, *builtin: str) -> list[str]:
        return sorted({*builtin, *(each.name for each in engine.provided(kind))})

    return system.DriverNames(
        Volume=names("volume-driver", "local"),
        Network=names("network-driver", "bridge", "host", "macvlan", "null"),
        Log=names("log-driver", "json-file", "none"),
    )


def _registries(facts: Facts) -> system.RegistryConfig:
    named = [each for each in facts.insecure_registries if "/" not in each]
    hosts = {each: system.Index(each, [], Secure=False, Official=False) for each in named}
    hub = system.Index("docker.io", list(facts.mirrors), Secure=True, Official=True)
    return system.RegistryConfig(
        InsecureRegistryCIDRs=[*LOOPBACK, *(each for each in facts.insecure_registries if "/" in each)],
        IndexConfigs={"docker.io": hub, **hosts},
        Mirrors=list(facts.mirrors) or None,
    )


def _daemon_id(path: Path) -> str:
    """The id in the file `path`, which is made when it is not there."""
    try:
        if text := path.read_text().strip():
            return text
    except FileNotFoundError:
        pass
    new = str(uuid.uuid4())
    path.write_text(new + "\n")
    return new
