"""What a container is made from, in the Docker API's spelling: `Config`, `HostConfig` and their parts.

`None` stands where Docker's answers show null. Parts that nobody acts upon yet are kept as they came.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Nanoseconds = Annotated[int, Meta(description="Nanoseconds.")]


class HealthConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to test that a container is healthy. 0 means the image's value, or the default."""

    Test: list[str] = []
    Interval: Nanoseconds = 0
    Timeout: Nanoseconds = 0
    StartPeriod: Nanoseconds = 0
    StartInterval: Nanoseconds = 0
    Retries: int = 0


class Config(msgspec.Struct, frozen=True):
    """The part of a container that an image may set too, and that does not depend on the host.

    `jobs.containers.Create` takes the same keys and says what they mean.
    """

    Hostname: str = ""
    Domainname: str = ""
    User: str = ""
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    ExposedPorts: dict[str, dict[str, Any]] | None = None
    Tty: bool = False
    OpenStdin: bool = False
    StdinOnce: bool = False
    Env: list[str] | None = None
    Cmd: list[str] | None = None
    Healthcheck: HealthConfig | None = None
    ArgsEscaped: bool = False
    Image: str = ""
    Volumes: dict[str, dict[str, Any]] | None = None
    WorkingDir: str = ""
    Entrypoint: list[str] | None = None
    NetworkDisabled: bool = False
    MacAddress: str = ""
    OnBuild: list[str] | None = None
    Labels: dict[str, str] = {}
    StopSignal: str = ""
    StopTimeout: int | None = None
    Shell: list[str] | None = None


class RestartRule(msgspec.Struct, frozen=True):
    """When to start a container again: `no`, `always`, `unless-stopped` or `on-failure`."""

    Name: str = "no"
    MaximumRetryCount: int = 0


class LogSettings(msgspec.Struct, frozen=True):
    """Where the output is kept: the log driver's name (empty: the default) and its options."""

    Type: str = ""
    Config: dict[str, str] = {}


class PortBinding(msgspec.Struct, frozen=True):
    """Where on the host a port is published; an empty HostPort lets the engine choose."""

    HostIp: str = ""
    HostPort: str = ""


class DeviceMapping(msgspec.Struct, frozen=True):
    """A device of the host that the container gets."""

    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = "rwm"


class DeviceRequest(msgspec.Struct, frozen=True):
    """Devices asked for by what they can do, to be chosen by a driver; `--gpus`."""

    Driver: str = ""
    Count: int = 0
    DeviceIDs: list[str] | None = None
    Capabilities: list[list[str]] | None = None
    Options: dict[str, str] | None = None


class Ulimit(msgspec.Struct, frozen=True):
    """One resource limit by its name in ulimit(1)'s long form: `nofile`, `nproc` …"""

    Name: str = ""
    Soft: int = 0
    Hard: int = 0


class WeightDevice(msgspec.Struct, frozen=True):
    """A block device of the host, and the container's share of it: 10 to 1000."""

    Path: str = ""
    Weight: int = 0


class ThrottleDevice(msgspec.Struct, frozen=True):
    """A block device of the host, and how many bytes or operations a second the container gets of it."""

    Path: str = ""
    Rate: int = 0


class BindSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a bind mount."""

    Propagation: str = ""
    NonRecursive: bool = False
    CreateMountpoint: bool = False
    ReadOnlyNonRecursive: bool = False
    ReadOnlyForceRecursive: bool = False


class TmpfsSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a tmpfs."""

    SizeBytes: int = 0
    Mode: int = 0
    Options: list[list[str]] | None = None


class VolumeDriverConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which driver makes a volume that is not there yet, and with which options."""

    Name: str = ""
    Options: dict[str, str] | None = None


class VolumeSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a volume's mount. Labels and DriverConfig are for a volume that is made by it."""

    NoCopy: bool = False
    Labels: dict[str, str] | None = None
    DriverConfig: VolumeDriverConfig | None = None
    Subpath: str = ""


class ImageSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of an image's mount."""

    Subpath: str = ""


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount as `--mount` gives it: Type is bind, volume, tmpfs, image or npipe."""

    Type: str = ""
    Source: str = ""
    Target: str = ""
    ReadOnly: bool = False
    Consistency: str = ""
    BindOptions: BindSettings | None = None
    VolumeOptions: VolumeSettings | None = None
    ImageOptions: ImageSettings | None = None
    TmpfsOptions: TmpfsSettings | None = None


class HostConfig(msgspec.Struct, frozen=True):
    """The part of a container that depends on the host: limits, mounts, namespaces, privileges.

    Memory in bytes, CPU periods in microseconds; 0 means no limit.
    """

    Binds: list[str] | None = None
    ContainerIDFile: str = ""
    LogConfig: LogSettings = LogSettings()
    NetworkMode: str = ""
    PortBindings: dict[str, list[PortBinding] | None] | None = None
    RestartPolicy: RestartRule = RestartRule()
    AutoRemove: bool = False
    VolumeDriver: str = ""
    VolumesFrom: list[str] | None = None
    ConsoleSize: Annotated[tuple[int, int], Meta(description="Rows and columns of the first terminal.")] = (0, 0)
    Annotations: dict[str, str] | None = None
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupnsMode: str = ""
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str = ""
    Cgroup: str = ""
    Links: list[str] | None = None
    OomScoreAdj: int = 0
    PidMode: str = ""
    Privileged: bool = False
    PublishAllPorts: bool = False
    ReadonlyRootfs: bool = False
    SecurityOpt: list[str] | None = None
    StorageOpt: dict[str, str] | None = None
    Tmpfs: dict[str, str] | None = None
    UTSMode: str = ""
    UsernsMode: str = ""
    ShmSize: Annotated[int, Meta(description="Bytes of /dev/shm; 0: the default of 64 MiB.")] = 0
    Sysctls: dict[str, str] | None = None
    Runtime: str = ""
    Isolation: str = ""
    CpuShares: int = 0
    Memory: int = 0
    NanoCpus: int = 0
    CgroupParent: str = ""
    BlkioWeight: int = 0
    BlkioWeightDevice: list[WeightDevice] | None = None
    BlkioDeviceReadBps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteBps: list[ThrottleDevice] | None = None
    BlkioDeviceReadIOps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteIOps: list[ThrottleDevice] | None = None
    CpuPeriod: int = 0
    CpuQuota: int = 0
    CpuRealtimePeriod: int = 0
    CpuRealtimeRuntime: int = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    Devices: list[DeviceMapping] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[DeviceRequest] | None = None
    KernelMemory: int = 0
    KernelMemoryTCP: int = 0
    MemoryReservation: int = 0
    MemorySwap: int = 0
    MemorySwappiness: int | None = None
    OomKillDisable: bool | None = None
    PidsLimit: int | None = None
    Ulimits: list[Ulimit] | None = None
    CpuCount: int = 0
    CpuPercent: int = 0
    IOMaximumIOps: int = 0
    IOMaximumBandwidth: int = 0
    Mounts: list[Mount] | None = None
    Init: bool | None = None
    MaskedPaths: list[str] | None = None
    ReadonlyPaths: list[str] | None = None


class EndpointIPAMConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The addresses that an endpoint asks for; empty ones are chosen."""

    IPv4Address: str = ""
    IPv6Address: str = ""
    LinkLocalIPs: list[str] | None = None


class EndpointSettings(msgspec.Struct, frozen=True):
    """A container's end of one network: what is asked for, and, while it runs, what it has (from NetworkID on).

    Of the latter a client may send anything; it is left out of account. MacAddress is both.
    """

    IPAMConfig: EndpointIPAMConfig | None = None
    Links: list[str] | None = None
    Aliases: list[str] | None = None
    MacAddress: str = ""
    DriverOpts: dict[str, str] | None = None
    GwPriority: int = 0
    NetworkID: str = ""
    EndpointID: str = ""
    Gateway: str = ""
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    DNSNames: list[str] | None = None


class NetworkingConfig(msgspec.Struct, frozen=True):
    """The networks to join at the start, by name, with the settings of each end."""

    EndpointsConfig: dict[str, EndpointSettings | None] | None = None
