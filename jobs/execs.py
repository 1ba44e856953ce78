"""The exec family: further processes in running containers. `name` is the exec's id, but for `execCreate`."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

ExecId = Annotated[str, Meta(description="The exec's id, as `execCreate` gave it.")]


class ExecCreated(msgspec.Struct, frozen=True):
    """A new exec's id."""

    Id: str


class ExecCreate(Signature[ExecCreated], frozen=True):
    """Prepare a further process in a running container."""

    NAME: ClassVar[str] = "execCreate"
    name: Annotated[str, Meta(description="Container name, id, or unique prefix of an id.")]
    Cmd: Annotated[list[str] | str | None, Meta(description="Program and arguments.")] = None
    User: Annotated[str, Meta(description="USER, UID, USER:GROUP or UID:GID; empty: the container's.")] = ""
    Privileged: bool = False
    Tty: bool = False
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    Detach: bool = False
    DetachKeys: Annotated[str, Meta(description="Keys that leave the process: `ctrl-p,ctrl-q`.")] = ""
    Env: Annotated[list[str] | None, Meta(description="KEY=VALUE, on top of the container's.")] = None
    WorkingDir: Annotated[str, Meta(description="Absolute path inside; empty: the container's.")] = ""
    ConsoleSize: Annotated[tuple[int, int] | None, Meta(description="Rows and columns of the terminal.")] = None
    Container: Annotated[str, Meta(description="Ignored: the path says the container.")] = ""


class ExecStart(Signature[None], frozen=True):
    """Run an exec; the job's streams are its streams unless detached. `ready` carries a `Streaming`."""

    NAME: ClassVar[str] = "execStart"
    name: ExecId
    Detach: bool = False
    Tty: bool = False
    ConsoleSize: Annotated[tuple[int, int] | None, Meta(description="Rows and columns of the terminal.")] = None


class ExecResize(Signature[None], frozen=True):
    """Give an exec's terminal another size."""

    NAME: ClassVar[str] = "execResize"
    name: ExecId
    h: Annotated[int, Meta(description="Rows.")] = 0
    w: Annotated[int, Meta(description="Columns.")] = 0


class Process(msgspec.Struct, frozen=True):
    """What an exec runs."""

    entrypoint: str
    arguments: list[str]
    tty: bool
    privileged: bool
    user: str


class ExecInfo(msgspec.Struct, frozen=True):
    """Everything about one exec. ExitCode is null until it has ended; Pid is 0 before it runs."""

    ID: str
    Running: bool
    ExitCode: int | None
    ProcessConfig: Process
    OpenStdin: bool
    OpenStderr: bool
    OpenStdout: bool
    CanRemove: bool
    ContainerID: str
    DetachKeys: Annotated[str, Meta(description="The keys' bytes, as hexadecimal digits.")]
    Pid: int


class ExecInspect(Signature[ExecInfo], frozen=True):
    """Tell everything about an exec."""

    NAME: ClassVar[str] = "exec_inspect"
    READONLY: ClassVar[bool] = True
    name: ExecId
