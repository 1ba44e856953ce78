"""What containers look like to those who ask: the answers of `container_inspect` and `containers`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from . import container_config

Time = Annotated[str, Meta(description="RFC 3339 with nanoseconds; year 1 stands for never.")]
NEVER = "0001-01-01T00:00:00Z"


class Probe(msgspec.Struct, frozen=True):
    """One run of a health check. ExitCode 0 is healthy; -1: it could not run, or took too long."""

    Start: Time
    End: Time
    ExitCode: int
    Output: Annotated[str, Meta(description="What it wrote, 4096 bytes of it at most.")] = ""


class Health(msgspec.Struct, frozen=True):
    """What the health checks say: starting, healthy or unhealthy; failures in a row; the last five probes."""

    Status: str = "starting"
    FailingStreak: int = 0
    Log: list[Probe] = []


class ContainerState(msgspec.Struct, frozen=True):
    """Where a container is in its life. Pid is the init's on the host, 0 when there is none."""

    Status: str
    Running: bool = False
    Paused: bool = False
    Restarting: bool = False
    OOMKilled: bool = False
    Dead: bool = False
    Pid: int = 0
    ExitCode: int = 0
    Error: str = ""
    StartedAt: Time = NEVER
    FinishedAt: Time = NEVER
    Health: Health | msgspec.UnsetType = msgspec.UNSET


class MountPoint(msgspec.Struct, frozen=True):
    """One mount as the container has it. Name and Driver are a volume's; Name is an image's too."""

    Type: str
    Source: str
    Destination: str
    Name: str | msgspec.UnsetType = msgspec.UNSET
    Driver: str | msgspec.UnsetType = msgspec.UNSET
    Mode: str = ""
    RW: bool = True
    Propagation: str = ""


class DriverData(msgspec.Struct, frozen=True):
    """What the graph driver tells about the container's layer."""

    Name: str
    Data: dict[str, str] | None = None


class NetworkSettings(msgspec.Struct, frozen=True):
    """A container's networks; the fields before Networks are those of the default bridge, for old clients."""

    Bridge: str = ""
    SandboxID: str = ""
    SandboxKey: str = ""
    Ports: dict[str, Any] = {}
    HairpinMode: bool = False
    LinkLocalIPv6Address: str = ""
    LinkLocalIPv6PrefixLen: int = 0
    SecondaryIPAddresses: list[Any] | None = None
    SecondaryIPv6Addresses: list[Any] | None = None
    EndpointID: str = ""
    Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    MacAddress: str = ""
    Networks: dict[str, container_config.EndpointSettings] = {}


class ContainerInfo(msgspec.Struct, frozen=True):
    """Everything about one container."""

    Id: str
    Created: Time
    Path: str
    Args: list[str]
    State: ContainerState
    Image: Annotated[str, Meta(description="The image's id.")]
    ResolvConfPath: str
    HostnamePath: str
    HostsPath: str
    LogPath: str
    Name: Annotated[str, Meta(description="With a leading slash.")]
    RestartCount: int
    Driver: str
    Platform: str
    MountLabel: str
    ProcessLabel: str
    AppArmorProfile: str
    ExecIDs: list[str] | None
    HostConfig: container_config.HostConfig
    GraphDriver: DriverData
    Mounts: list[MountPoint]
    Config: container_config.Config
    NetworkSettings: NetworkSettings
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET


class SummaryHostConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of HostConfig that a list shows."""

    NetworkMode: str
    Annotations: dict[str, str] | None = None


class SummaryNetworks(msgspec.Struct, frozen=True):
    """The part of NetworkSettings that a list shows."""

    Networks: dict[str, container_config.EndpointSettings] = {}


class Summary(msgspec.Struct, frozen=True):
    """One line of the list of containers."""

    Id: str
    Names: Annotated[list[str], Meta(description="With leading slashes.")]
    Image: Annotated[str, Meta(description="The name that the container was created from.")]
    ImageID: str
    Command: str
    Created: Annotated[int, Meta(description="Seconds since the epoch.")]
    Ports: list[dict[str, Any]]
    Labels: dict[str, str]
    State: str
    Status: Annotated[str, Meta(description='For people: "Up 3 seconds", "Exited (0) 2 minutes ago".')]
    HostConfig: SummaryHostConfig
    NetworkSettings: SummaryNetworks
    Mounts: list[MountPoint]
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET
