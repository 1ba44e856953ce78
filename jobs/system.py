"""The daemon and its host: jobs `version` and `info`. The results have the Docker API's spelling."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature


class Platform(msgspec.Struct, frozen=True):
    Name: str


class Component(msgspec.Struct, frozen=True):
    """One program of the daemon; the docker CLI prints the details of `Engine`."""

    Name: str
    Version: str
    Details: dict[str, str] = {}


class VersionInfo(msgspec.Struct, frozen=True):
    """Which daemon this is."""

    Platform: Platform
    Components: list[Component]
    Version: str
    ApiVersion: str
    MinAPIVersion: str
    GitCommit: str
    GoVersion: Annotated[str, Meta(description="The language's version: here, Python's.")]
    Os: str
    Arch: str
    KernelVersion: str
    BuildTime: str
    Experimental: bool = False


class Version(Signature[VersionInfo], frozen=True):
    """Tell the version of the daemon, of its API, and of the kernel."""

    NAME: ClassVar[str] = "version"
    READONLY: ClassVar[bool] = True


class DriverNames(msgspec.Struct, frozen=True):
    """The drivers of each kind; Docker counts them as plugins."""

    Volume: list[str]
    Network: list[str]
    Log: list[str]
    Authorization: list[str] | None = None


class Index(msgspec.Struct, frozen=True):
    Name: str
    Mirrors: list[str]
    Secure: bool
    Official: bool


class RegistryConfig(msgspec.Struct, frozen=True):
    InsecureRegistryCIDRs: list[str]
    IndexConfigs: dict[str, Index]
    Mirrors: list[str] | None


class Runtime(msgspec.Struct, frozen=True):
    path: str


class SwarmInfo(msgspec.Struct, frozen=True):
    """No swarm: clients look at LocalNodeState."""

    NodeID: str = ""
    NodeAddr: str = ""
    LocalNodeState: str = "inactive"
    ControlAvailable: bool = False
    Error: str = ""
    RemoteManagers: None = None


class Commit(msgspec.Struct, frozen=True):
    ID: str


class Firewall(msgspec.Struct, frozen=True):
    Driver: str


class SystemInfo(msgspec.Struct, frozen=True):
    """The daemon's state, its drivers, and what its host can do."""

    ID: str
    Containers: int
    ContainersRunning: int
    ContainersPaused: int
    ContainersStopped: int
    Images: int
    Driver: str
    DriverStatus: list[list[str]]
    Plugins: DriverNames
    MemoryLimit: bool
    SwapLimit: bool
    CpuCfsPeriod: bool
    CpuCfsQuota: bool
    CPUShares: bool
    CPUSet: bool
    PidsLimit: bool
    OomKillDisable: bool
    IPv4Forwarding: bool
    Debug: bool
    NFd: Annotated[int, Meta(description="Open file descriptors of the daemon.")]
    NGoroutines: Annotated[int, Meta(description="Jobs that run now.")]
    SystemTime: str
    LoggingDriver: str
    CgroupDriver: str
    CgroupVersion: str
    NEventsListener: int
    KernelVersion: str
    OperatingSystem: str
    OSVersion: str
    OSType: str
    Architecture: str
    NCPU: int
    MemTotal: Annotated[int, Meta(description="Bytes.")]
    IndexServerAddress: str
    RegistryConfig: RegistryConfig
    DockerRootDir: str
    HttpProxy: str
    HttpsProxy: str
    NoProxy: str
    Name: str
    Labels: list[str]
    ServerVersion: str
    Runtimes: dict[str, Runtime]
    DefaultRuntime: str
    SecurityOptions: list[str]
    Warnings: list[str]
    FirewallBackend: Firewall | None = None
    GenericResources: None = None
    ExperimentalBuild: bool = False
    Swarm: SwarmInfo = SwarmInfo()
    LiveRestoreEnabled: bool = True
    Isolation: str = ""
    InitBinary: str = "windlass-shim"
    ContainerdCommit: Commit = Commit("")
    RuncCommit: Commit = Commit("")
    InitCommit: Commit = Commit("")
    CDISpecDirs: list[str] = []


class Info(Signature[SystemInfo], frozen=True):
    """Tell what the daemon holds, which drivers it has, and what its host can do."""

    NAME: ClassVar[str] = "info"
    READONLY: ClassVar[bool] = True


class Plugins(Signature[list[str]], frozen=True):
    """List the plugins that the daemon has installed, in order."""

    NAME: ClassVar[str] = "plugins"
    READONLY: ClassVar[bool] = True
