"""The exec driver's interface: a `Command` goes in, a running container comes out.

Terms. A *command* says everything about one start of one container, already decided: no name to resolve, no
default to fill in, no path of the image joined to a path of the host. The *init* is the container's first process.
A *shim* is whatever watches over the init when the daemon is gone. A *session* is one client attached to a process.

Starting a container. The daemon fills in a Command, calls `start`, and gets a Running once the init has executed
its program. If that fails, `start` raises StartError and nothing is left. From then on the daemon awaits
`running.wait()`; when it answers, the exit is on record on the exec root, and the daemon makes it durable and calls
`destroy`, which forgets the container's folder and cgroups.

Coming back. After the daemon's death its containers run on. The next daemon calls `adopt` for each container that
its database believes to be running: the answer is a Running, an Exit, or None when nobody knows how it ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from windlass.kernel.cgroup_stats import Usage
from windlass.lib.rootfs import RootFS


class StartError(Exception):
    """A container's or an exec's process could not be started; `step` is the item of the Command that failed.

    `exit_code` is what Docker reports for it: 127 when the program is not there, 126 when it may not be executed,
    128 for everything else (125 is the client's own).
    """

    def __init__(self, step: str, errno: int, message: str, exit_code: int = 128) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno
        self.exit_code = exit_code


IdMap = tuple[tuple[int, int, int], ...]
"""Ranges of ids: the first inside, the first outside, how many; as in user_namespaces(7)."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount inside the container, besides the defaults. `target` is a path inside, resolved in the root only.

    `kind` is `bind` (source: a path of the host, opened before the container exists), `tmpfs` (options text) or `image`
    (layers: a root file system, mounted read-only). `subpath` names what of a bind or an image is mounted: the kernel
    resolves it, and never outside of that. A mount is recursive and so is `readonly`, but for the two words against it;
    `propagation` is about mounts that come later, on either side.
    """

    target: str
    kind: Literal["bind", "tmpfs", "image"] = "bind"
    source: str = ""
    readonly: bool = False
    options: str = ""
    layers: RootFS | None = None
    subpath: str = ""
    propagation: Literal["private", "slave", "shared"] = "private"
    recursive: bool = True
    readonly_below: bool = True
    mapped: bool = False  # its files are the engine's own: their owners are seen as the container's users


@dataclass(frozen=True, slots=True)
class Device:
    """A device node that the container gets: `access` is out of `rwm`, for the device cgroup."""

    path: str
    kind: Literal["c", "b"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"
    source: str = ""  # its node on the host, where that is elsewhere


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Devices that may be used, whoever made their nodes. None stands for any number, kind `a` for all devices."""

    kind: Literal["a", "b", "c"]
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


DeviceLimit = tuple[int, int, int]  # major, minor, and what is allowed: bytes or operations a second, or a weight


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits for the container's cgroups. Bytes, microseconds; 0 means no limit of its own."""

    memory: int = 0
    memory_swap: int = 0  # memory and swap together; -1: unlimited swap
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    kernel_memory_tcp: int = 0
    oom_kill_disable: bool = False
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0  # -1: unlimited
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0  # -1: unlimited
    blkio_weight: int = 0
    blkio_weight_devices: tuple[DeviceLimit, ...] = ()
    read_bps: tuple[DeviceLimit, ...] = ()
    write_bps: tuple[DeviceLimit, ...] = ()
    read_iops: tuple[DeviceLimit, ...] = ()
    write_iops: tuple[DeviceLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """Who the process is, in numbers. `groups` are the supplementary ones; the primary is always among them."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rlimit:
    """One resource limit by its name in prlimit(2) without `RLIMIT_`, lower case; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Program:
    """A process to run in a container: the part that the init and an exec have in common."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    tty: bool = False
    rows: int = 0
    columns: int = 0
    stdin: bool = False
    capabilities: frozenset[str] = frozenset()  # names with CAP_; permitted, effective and bounding
    seccomp: dict[str, object] | Literal["builtin", "unconfined"] = "builtin"
    no_new_privileges: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where the init's output is kept: Docker's json-file, or nowhere."""

    driver: Literal["json-file", "none"] = "json-file"
    path: str = ""
    max_size: int = 0  # bytes; 0: no rotation
    max_files: int = 1


@dataclass(frozen=True, slots=True)
class Command:
    """One start of one container."""

    id: str
    program: Program
    rootfs: RootFS
    hostname: str = ""
    domainname: str = ""
    stdin_once: bool = False
    log: LogConfig = LogConfig()
    network: str = "private"  # `private`: own namespace with loopback only; `host`; or a path of a namespace
    ipc: str = "private"  # or `host`, or a path; so are pid and uts
    pid: str = "private"
    uts: str = "private"
    userns: str = "host"  # or a path: then other paths of namespaces are of those that belong to it
    cgroupns: str = "default"  # `private` on cgroup v2, `host` on v1, as Docker does
    cgroup_parent: str = ""
    resources: Resources = Resources()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()  # beyond those of the default and of `devices`
    writable_cgroups: bool = False
    readonly_rootfs: bool = False
    privileged: bool = False
    masked_paths: tuple[str, ...] | None = None  # None: the driver's default
    readonly_paths: tuple[str, ...] | None = None
    sysctls: dict[str, str] = field(default_factory=dict)
    shm_size: int = 64 << 20
    shm: str = "private"  # /dev/shm: a tmpfs of its own; `host`; `none`; or that of the mount namespace with this path


@dataclass(frozen=True, slots=True)
class Session:
    """One client of one process. The driver duplicates `fd`: the caller closes its own after the call.

    The fd is a connected stream socket. Without `raw` the client gets Docker's frames, with the 8-byte header;
    with it plain bytes (terminals). `early` are bytes that the client has sent ahead, for the process's stdin.
    """

    fd: int
    stdin: bool = True
    stdout: bool = True
    stderr: bool = True
    raw: bool = False
    detach_keys: bytes = b"\x10\x11"  # ctrl-p ctrl-q; empty: none
    early: bytes = b""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` is 128 + signal when `signal` killed it; `time_ns` counts from the epoch."""

    code: int
    signal: int = 0
    time_ns: int = 0
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class Detached:
    """How a session ended."""

    by: Literal["keys", "client", "end"]


@dataclass(frozen=True, slots=True)
class View:
    """What a container that does not run would see: its root file system, and what is mounted in it."""

    rootfs: RootFS
    mounts: tuple[Mount, ...] = ()
    readonly: bool = False  # the root file system, not what is mounted in it


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a path of a container is: `mode` as in stat(2), `target` where a link ends, as far as it leads."""

    mode: int
    size: int
    mtime_ns: int
    target: str = ""


class FilesError(Exception):
    """A container's files cannot be looked at; or an archive cannot be put there, in words for who sent it."""


class Files(Protocol):
    """A container's files, seen from inside: no path leads out of it, no link, and no archive.

    Raises OSError for a path (FileNotFoundError …), FilesError for everything else.
    """

    async def stat(self, path: str) -> FileStat: ...

    def read(self, path: str, name: str) -> AbstractAsyncContextManager[tuple[FileStat, AsyncIterator[bytes]]]:
        """What is at `path`, and a tar of it, in which it is called `name`. A stream that raises was not whole."""
        ...

    def export(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A tar of the root file system, without what is mounted in it."""
        ...

    async def write(
        self, path: str, tar: AsyncIterator[bytes], *, keep_kinds: bool = False, owner: tuple[int, int] | None = None
    ) -> None:
        """Unpack a tar into the directory at `path`; what has been unpacked stays when it fails.

        With `keep_kinds` no directory gives way to anything else, nor the other way round; `owner` gets everything.
        """
        ...


class Attached(Protocol):
    """One session under way; it goes on when nobody waits for it."""

    async def wait(self) -> Detached:
        """Wait until the client has gone, has typed its detach keys, or the process's output has ended."""
        ...


class Executing(Protocol):
    """A further process in a running container."""

    pid: int
    session: Attached | None

    async def wait(self) -> Exit:
        """Wait for its end; the answer stays the same afterwards."""
        ...

    async def signal(self, number: int) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...


class Running(Protocol):
    """A container whose init runs, or has run."""

    id: str
    pid: int

    async def wait(self) -> Exit:
        """Wait for the init's end; the answer stays the same afterwards.

        When the shim itself is gone without a word, what is left is killed and the answer is 137.
        """
        ...

    async def signal(self, number: int) -> None:
        """Send a signal to the init. Raises ProcessLookupError when it has ended."""
        ...

    async def kill_all(self) -> None:
        """SIGKILL to every process of the container, by cgroup."""
        ...

    async def pause(self) -> None:
        """Suspend every process of the container, now and to come. Raises OSError when that cannot be done."""
        ...

    async def resume(self) -> None:
        """Let them run on; does nothing when they do."""
        ...

    def is_paused(self) -> bool: ...

    def processes(self) -> list[int]:
        """The pids of all processes of the container, as the host counts."""
        ...

    def usage(self) -> Usage:
        """What the container has used so far. Blocks for a moment. Raises FileNotFoundError when it has ended."""
        ...

    async def update(self, old: Resources, new: Resources) -> None:
        """Change the limits from `old` to `new`. Raises OSError naming the file; `old` holds on then."""
        ...

    async def resize(self, rows: int, columns: int) -> None: ...

    async def attach(self, session: Session) -> Attached:
        """Attach one more client. Raises ProcessLookupError when the container has ended."""
        ...

    async def exec(self, program: Program, session: Session | None) -> Executing:
        """Run a further process. Raises StartError, or ProcessLookupError when the container has ended."""
        ...


class Driver(Protocol):
    """Starts containers and finds them again."""

    name: str

    async def start(self, command: Command, sessions: Sequence[Session] = ()) -> tuple[Running, list[Attached]]:
        """Start a container; clients in `sessions` miss no byte of its output.

        Raises StartError when it cannot; nothing is left then.
        """
        ...

    async def adopt(self, id: str) -> Running | Exit | None:
        """Find a container that an earlier daemon started. None: nothing is known, and nothing runs any more."""
        ...

    async def destroy(self, id: str) -> None:
        """Forget a container that has ended: its folder and its cgroups. Does nothing when there is nothing."""
        ...

    async def leftovers(self) -> set[str]:
        """Ids of all containers that have a folder or a cgroup of ours on this host."""
        ...

    def user_namespace(self, uids: IdMap, gids: IdMap, *, network: bool, within: str = "") -> tuple[int, int]:
        """Make a user namespace, for a Command, and a network namespace that belongs to it when that is asked for.

        With `within`, the path of one, that one is taken, whose maps stay as they are.
        Returns descriptors of both, the second -1 when not asked for; they are the caller's. Blocks for milliseconds:
        call it in a thread. Raises OSError.
        """
        ...

    def files(self, id: str, view: View | None = None) -> Files:
        """The files of a container that runs; of one that does not by its `view`, while nobody starts it."""
        ...

    def log_reader(self) -> str:
        """Path of the program whose mode `logs` reads what LogConfig kept; see `native/c/logs.c`."""
        ...

    def init_program(self) -> str:
        """Path of the program that is bound into containers of `--init`, to be run as `init -- PROGRAM …`."""
        ...

    def warnings(self) -> list[str]:
        """What this host cannot give, one sentence each, for `info`."""
        ...
