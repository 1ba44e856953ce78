"""The container family: create, start, stop, kill, restart, wait, delete, list, inspect, logs, attach, resize, rename.

`name` is a container's name, full id or unique prefix of an id; for `create` it is the name to be. Jobs with bytes on
their streams (`logs`, `attach`) say `ready` with a `Streaming` before the first byte, `wait` says `ready` at once.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

from . import container_config
from .container_views import ContainerInfo, Summary

Name = Annotated[str, Meta(description="Container name, id, or unique prefix of an id.")]
StopTimeout = Annotated[
    int | None,
    Meta(description="Seconds between the stop signal and KILL; -1: for ever. Default: the container's, 10."),
]
StopSignal = Annotated[str, Meta(description="Signal to send first, name or number. Default: the container's, TERM.")]
Filters = Annotated[dict[str, list[str] | dict[str, bool]], Meta(description="What to keep, by Docker's filter names.")]
DetachKeys = Annotated[str, Meta(description="Keys that leave the process: `a`, `ctrl-p`, with commas between.")]


class Streaming(msgspec.Struct, frozen=True):
    """The ready value of jobs that stream: with `Tty` the bytes are plain, else stdout and stderr are apart."""

    Tty: bool


class Created(msgspec.Struct, frozen=True):
    """A new container's id, and what was asked for and cannot be had."""

    Id: str
    Warnings: list[str]


class Create(Signature[Created], frozen=True):
    """Create a container from an image; it does not run yet."""

    NAME: ClassVar[str] = "create"
    name: Annotated[str, Meta(description="Name of the container; empty: a random one.")] = ""
    platform: Annotated[str, Meta(description="OS[/ARCH[/VARIANT]] that the image must have.")] = ""
    Hostname: str = ""
    Domainname: str = ""
    User: Annotated[str, Meta(description="USER, UID, USER:GROUP or UID:GID.")] = ""
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    ExposedPorts: dict[str, dict[str, Any]] | None = None
    Tty: Annotated[bool, Meta(description="Give the process a terminal; stdout and stderr are one then.")] = False
    OpenStdin: Annotated[bool, Meta(description="Keep stdin open.")] = False
    StdinOnce: Annotated[bool, Meta(description="Close stdin when the first client that had it leaves.")] = False
    Env: Annotated[list[str] | None, Meta(description="KEY=VALUE; a KEY alone takes the image's away.")] = None
    Cmd: Annotated[list[str] | str | None, Meta(description="Command, or arguments of the entry point.")] = None
    Healthcheck: container_config.HealthConfig | None = None
    ArgsEscaped: bool = False
    Image: Annotated[str, Meta(description="Image name or id.")] = ""
    Volumes: dict[str, dict[str, Any]] | None = None
    WorkingDir: str = ""
    Entrypoint: list[str] | str | None = None
    NetworkDisabled: bool = False
    MacAddress: str = ""
    OnBuild: list[str] | None = None
    Labels: dict[str, str] = {}
    StopSignal: str = ""
    StopTimeout: Annotated[int | None, Meta(description="Seconds between the stop signal and KILL; -1: for ever.")] = (
        None
    )
    Shell: list[str] | None = None
    HostConfig: container_config.HostConfig = container_config.HostConfig()
    NetworkingConfig: container_config.NetworkingConfig = container_config.NetworkingConfig()


class Start(Signature[None], frozen=True):
    """Start a container. Raises NotModified when it runs."""

    NAME: ClassVar[str] = "start"
    name: Name
    detachKeys: DetachKeys = ""


class Stop(Signature[None], frozen=True):
    """Stop a container: its stop signal first, then KILL. Raises NotModified when it does not run."""

    NAME: ClassVar[str] = "stop"
    name: Name
    t: StopTimeout = None
    signal: StopSignal = ""


class Restart(Signature[None], frozen=True):
    """Stop a container if it runs, and start it."""

    NAME: ClassVar[str] = "restart"
    name: Name
    t: StopTimeout = None
    signal: StopSignal = ""


class Kill(Signature[None], frozen=True):
    """Send a signal to a container's first process. Raises Conflict when it does not run."""

    NAME: ClassVar[str] = "kill"
    name: Name
    signal: Annotated[str, Meta(description="Name, with or without SIG, or number.")] = "KILL"


class Pause(Signature[None], frozen=True):
    """Suspend all processes of a container. Raises Conflict when it does not run, or is paused already."""

    NAME: ClassVar[str] = "pause"
    name: Name


class Unpause(Signature[None], frozen=True):
    """Let the processes of a paused container run on. Raises Conflict when it is not paused."""

    NAME: ClassVar[str] = "unpause"
    name: Name


class Updated(msgspec.Struct, frozen=True):
    """What was asked for and cannot be had."""

    Warnings: list[str]


class ContainerUpdate(Signature[Updated], frozen=True):
    """Change limits and restart policy of a container, running or not. What is not said, or is 0, stays."""

    NAME: ClassVar[str] = "container_update"
    name: Name
    BlkioWeight: int = 0
    CpuShares: int = 0
    CpuPeriod: int = 0
    CpuQuota: int = 0
    CpuRealtimePeriod: int = 0
    CpuRealtimeRuntime: int = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    Memory: int = 0
    MemorySwap: int = 0
    MemoryReservation: int = 0
    KernelMemory: int = 0
    NanoCpus: int = 0
    PidsLimit: Annotated[int | None, Meta(description="0 or less: no limit any more.")] = None
    RestartPolicy: container_config.RestartRule = container_config.RestartRule(Name="")


class Processes(msgspec.Struct, frozen=True):
    """What ps says of a container's processes: a list of columns for each."""

    Titles: list[str]
    Processes: list[list[str]]


class Top(Signature[Processes], frozen=True):
    """List the processes of a running container, with the columns that ps gives for `ps_args`."""

    NAME: ClassVar[str] = "top"
    READONLY: ClassVar[bool] = True
    name: Name
    ps_args: Annotated[str, Meta(description="Arguments of the host's ps(1).")] = "-ef"


class WaitError(msgspec.Struct, frozen=True):
    """Why a wait ended otherwise than by the container's exit."""

    Message: str


class Waited(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container's exit code."""

    StatusCode: int
    Error: WaitError | None = None


class Wait(Signature[Waited], frozen=True):
    """Wait for a container: until it does not run, for its next exit, or until it is removed."""

    NAME: ClassVar[str] = "wait"
    READONLY: ClassVar[bool] = True
    name: Name
    condition: Annotated[str, Meta(description="not-running, next-exit or removed.")] = "not-running"


class Delete(Signature[None], frozen=True):
    """Remove a container, and its files."""

    NAME: ClassVar[str] = "delete"
    name: Name
    v: Annotated[bool, Meta(description="Remove its anonymous volumes too.")] = False
    link: Annotated[bool, Meta(description="Remove the link of this name, not the container.")] = False
    force: Annotated[bool, Meta(description="Kill it first if it runs.")] = False


class ContainersPruned(msgspec.Struct, frozen=True):
    """What `containers_prune` took away; SpaceReclaimed in bytes."""

    ContainersDeleted: list[str] | None
    SpaceReclaimed: int


class ContainersPrune(Signature[ContainersPruned], frozen=True):
    """Remove the containers that do not run. Raises Conflict while another one is at it."""

    NAME: ClassVar[str] = "containers_prune"
    filters: Annotated[
        dict[str, list[str] | dict[str, bool]], Meta(description="until, label, label!: which to remove.")
    ] = {}


class Containers(Signature[list[Summary]], frozen=True):
    """List containers, the youngest first."""

    NAME: ClassVar[str] = "containers"
    READONLY: ClassVar[bool] = True
    all: Annotated[bool, Meta(description="Also those that do not run.")] = False
    limit: Annotated[int, Meta(description="At most so many, running or not; 0: no limit.")] = 0
    size: Annotated[bool, Meta(description="Fill in SizeRw and SizeRootFs, in bytes.")] = False
    since: Annotated[str, Meta(description="Only containers created after this one.")] = ""
    before: Annotated[str, Meta(description="Only containers created before this one.")] = ""
    filters: Filters = {}


class ContainerInspect(Signature[ContainerInfo], frozen=True):
    """Tell everything about a container."""

    NAME: ClassVar[str] = "container_inspect"
    READONLY: ClassVar[bool] = True
    name: Name
    size: Annotated[bool, Meta(description="Fill in SizeRw and SizeRootFs, in bytes.")] = False


class Logs(Signature[None], frozen=True):
    """Write a container's kept output to the job's stdout and stderr; `ready` carries a `Streaming`."""

    NAME: ClassVar[str] = "logs"
    READONLY: ClassVar[bool] = True
    name: Name
    follow: Annotated[bool, Meta(description="Go on until the container ends.")] = False
    stdout: bool = False
    stderr: bool = False
    since: Annotated[str, Meta(description="Unix time with up to nine decimals; lines from then on.")] = ""
    until: Annotated[str, Meta(description="Unix time with up to nine decimals; lines before then.")] = ""
    timestamps: bool = False
    tail: Annotated[str, Meta(description="How many lines from the end; `all`.")] = "all"
    details: Annotated[bool, Meta(description="Show the log driver's attributes before each line.")] = False
    frames: Annotated[bool, Meta(description="Without a tty: write both in Docker's frames to stdout.")] = False


class Attach(Signature[None], frozen=True):
    """Connect the job's streams to a container's first process; `ready` carries a `Streaming`."""

    NAME: ClassVar[str] = "attach"
    name: Name
    logs: Annotated[bool, Meta(description="Give what was written so far.")] = False
    stream: Annotated[bool, Meta(description="Give what is written from now on.")] = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detachKeys: DetachKeys = ""


class Resize(Signature[None], frozen=True):
    """Give a container's terminal another size. Raises Conflict when the container does not run."""

    NAME: ClassVar[str] = "resize"
    name: Name
    h: Annotated[int, Meta(description="Rows.")] = 0
    w: Annotated[int, Meta(description="Columns.")] = 0


class ContainerRename(Signature[None], frozen=True):
    """Give a container another name. The API's query says the new one as `name`."""

    NAME: ClassVar[str] = "container_rename"
    name: Name
    new_name: Annotated[str, Meta(description="The name to be.")]
