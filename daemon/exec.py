"""Execs: further processes in running containers. They live in memory: an exec does not outlive its daemon's interest.

A start that fails is told in the stream, as Docker does, since the stream is open by then; `exec_inspect` has the
exit code, 126 or 127.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, JobError, NotFound
from windlass.engine.job import current
from windlass.engine.streams import frame, session_socket
from windlass.execdriver.driver import Executing, Program, Running, Session, StartError
from windlass.jobs.containers import Streaming
from windlass.jobs.execs import ExecCreate, ExecCreated, ExecInfo, ExecInspect, ExecResize, ExecStart, Process
from windlass.kernel import caps

from .attachment import linked_environment
from .config import environment, working_directory
from .container import Container
from .daemon import Daemon
from .host import capabilities
from .keys import parse_keys
from .pause import check_not_restarting
from .resources import rlimits
from .security import parse_security
from .signals import SIGKILL
from .users import find_account

NEVER_BEGUN = 126  # exit code of an exec whose start was given up
CATCH_UP = 0.5  # seconds from the end of a process's output to its own; who waits longer runs on without output
EXEC_FAILED = "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown"


@dataclass(eq=False)
class Exec:
    """One exec: what it shall run, and how that went. `code` is None until it has ended."""

    id: str
    container: Container
    params: ExecCreate
    command: tuple[str, ...]
    keys: bytes
    tty: bool
    is_probe: bool = False  # of a health check
    has_started: bool = False
    stream_ended: bool = False
    code: int | None = None
    executing: Executing | None = None
    begun: trio.Event = field(default_factory=trio.Event)  # or it could not be
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def is_running(self) -> bool:
        """True from the start's request on, as Docker counts."""
        return self.has_started and self.code is None

    @property
    def text(self) -> str:
        return " ".join(self.command)

    @property
    def told(self) -> dict[str, str]:
        """What its events have besides the container's attributes: health checks can be told from what users run."""
        return {"execID": self.id} | ({"healthcheck": "true"} if self.is_probe else {})

    async def kill(self) -> None:
        """Kill it, if it runs."""
        if self.executing is not None and self.code is None:
            with trio.CancelScope(shield=True), suppress(ProcessLookupError):
                await self.executing.signal(SIGKILL)

    def forget(self, daemon: Daemon) -> None:
        self.container.execs.pop(self.id, None)
        daemon.execs.pop(self.id, None)


# -- jobs ------------------------------------------------------------------------------------------------------------


async def exec_create(daemon: Daemon, job: Job[ExecCreate]) -> ExecCreated:
    """Prepare a further process in a running container."""
    params = job.params
    container = daemon.containers.get(params.name)
    command = (params.Cmd,) if isinstance(params.Cmd, str) else tuple(params.Cmd or ())
    if not command:
        raise BadParameter("No exec command specified", key="Cmd")
    _check_words(params, command)
    _running(container)
    exec = await make_exec(daemon, container, params, command)
    return ExecCreated(Id=exec.id)


async def exec_start(daemon: Daemon, job: Job[ExecStart]) -> None:
    """Run an exec; the job's streams are its streams unless detached. `ready` carries a `Streaming`."""
    params = job.params
    exec = _get(daemon, params.name)
    if exec.has_started:
        raise Conflict(
            f"Error: Exec command {exec.id} {'is already running' if exec.code is None else 'has already run'}"
        )
    running = _running(exec.container)
    exec.has_started = True
    try:
        program = await _program(daemon, exec, params.ConsoleSize or exec.params.ConsoleSize or (0, 0))
        if params.Detach:
            await _start_detached(daemon, exec, running, program)
        else:
            await _start_attached(daemon, exec, running, program, job)
    finally:
        if not exec.begun.is_set():  # refused, or the client has gone before
            _end(daemon, exec, NEVER_BEGUN)


async def exec_inspect(daemon: Daemon, job: Job[ExecInspect]) -> ExecInfo:
    """Tell everything about an exec."""
    exec = _get(daemon, job.params.name)
    await _catch_up(exec)
    params = exec.params
    return ExecInfo(
        ID=exec.id,
        Running=exec.is_running,
        ExitCode=exec.code,
        ProcessConfig=Process(
            entrypoint=exec.command[0],
            arguments=list(exec.command[1:]),
            tty=exec.tty,
            privileged=params.Privileged,
            user=params.User,
        ),
        OpenStdin=params.AttachStdin,
        OpenStderr=params.AttachStderr,
        OpenStdout=params.AttachStdout,
        CanRemove=False,
        ContainerID=exec.container.id,
        DetachKeys=exec.keys.hex(),
        Pid=exec.executing.pid if exec.executing else 0,
    )


async def _catch_up(exec: Exec) -> None:
    """Let a client that has seen its stream end find the exit code, which takes the kernel a moment longer.

    That the stream has ended was told to us before the client could see it; a few turns of the loop bring it here.
    """
    for _ in range(3):
        if exec.is_running:
            await trio.lowlevel.checkpoint()
    if exec.is_running and exec.stream_ended:
        with trio.move_on_after(CATCH_UP):
            await exec.ended.wait()


async def exec_resize(daemon: Daemon, job: Job[ExecResize]) -> None:
    """Give an exec's terminal another size."""
    exec = _get(daemon, job.params.name)
    if exec.is_running:
        await exec.begun.wait()  # clients send the size as soon as the stream is open
    if exec.executing is None or exec.code is not None:
        raise Conflict(f"exec {exec.id} is not running")
    try:
        await exec.executing.resize(job.params.h, job.params.w)
    except ProcessLookupError:
        raise Conflict(f"exec {exec.id} is not running") from None


async def make_exec(
    daemon: Daemon, container: Container, params: ExecCreate, command: tuple[str, ...], *, is_probe: bool = False
) -> Exec:
    keys = parse_keys(params.DetachKeys)
    exec = Exec(secrets.token_hex(32), container, params, command, keys, params.Tty, is_probe)
    container.execs[exec.id] = daemon.execs[exec.id] = exec
    await daemon.tell(container, f"exec_create: {exec.text}", **exec.told)
    return exec


# -- starting --------------------------------------------------------------------------------------------------------


async def _start_detached(daemon: Daemon, exec: Exec, running: Running, program: Program) -> None:
    try:
        await _run(exec, running, program, None)
    except StartError as exc:
        _end(daemon, exec, exc.exit_code)
        raise BadParameter(EXEC_FAILED.format(exc)) from exc
    await _begun(daemon, exec)


async def _start_attached(daemon: Daemon, exec: Exec, running: Running, program: Program, job: Job[ExecStart]) -> None:
    await job.ready(Streaming(Tty=exec.tty))
    params = exec.params
    async with session_socket(job, framed=not exec.tty) as (fd, early):
        session = Session(
            fd,
            stdin=params.AttachStdin,
            stdout=params.AttachStdout,
            stderr=params.AttachStderr,
            raw=exec.tty,
            detach_keys=exec.keys,
            early=early,
        )
        try:
            await _run(exec, running, program, session)
        except (StartError, JobError) as exc:
            code = exc.exit_code if isinstance(exc, StartError) else 128
            _end(daemon, exec, code)
            await _write_error(fd, exec.tty, EXEC_FAILED.format(exc))
            return
        await _begun(daemon, exec)
        assert exec.executing is not None and exec.executing.session is not None
        how = await exec.executing.session.wait()
        exec.stream_ended = how.by == "end"
    if how.by == "keys":
        await daemon.tell(exec.container, "exec_detach", **exec.told)


async def run_exec(daemon: Daemon, exec: Exec, running: Running, session: Session) -> None:
    """Run an exec of our own. Raises StartError, Conflict, what the image's files make of its user."""
    exec.has_started = True
    await _run(exec, running, await _program(daemon, exec, (0, 0)), session)
    await _begun(daemon, exec)


async def _run(exec: Exec, running: Running, program: Program, session: Session | None) -> None:
    """Have the driver run it. Cancellation waits for the answer: a process is never left unknown."""
    with trio.CancelScope(shield=True):
        try:
            exec.executing = await running.exec(program, session)
        except ProcessLookupError:
            raise Conflict(f"container {exec.container.id} is not running") from None


async def _begun(daemon: Daemon, exec: Exec) -> None:
    assert exec.executing is not None
    exec.begun.set()
    daemon.nursery.start_soon(_watch, daemon, exec, exec.executing)
    await daemon.tell(exec.container, f"exec_start: {exec.text}", **exec.told)


async def _watch(daemon: Daemon, exec: Exec, executing: Executing) -> None:
    current.set(None)
    end = await executing.wait()
    _end(daemon, exec, end.code)
    await daemon.tell(exec.container, "exec_die", **exec.told, exitCode=str(end.code))


def _end(daemon: Daemon, exec: Exec, code: int) -> None:
    exec.code = code
    exec.begun.set()
    exec.ended.set()


async def _program(daemon: Daemon, exec: Exec, size: tuple[int, int]) -> Program:
    """What the exec runs: the container's environment, limits and confinement, and the request's differences."""
    container, params = exec.container, exec.params
    config, host = container.config, container.host
    rootfs = await daemon.graph.rootfs(container.id)
    user = params.User or config.User
    groups = host.GroupAdd or ()
    account = await trio.to_thread.run_sync(find_account, rootfs, user, groups)
    security = parse_security(host)
    return Program(
        args=exec.command,
        env=environment(
            config, config.Hostname, exec.tty, account.home, params.Env or (), linked_environment(daemon, container)
        ),
        cwd=params.WorkingDir or working_directory(config),
        user=account.user,
        tty=exec.tty,
        rows=size[0],
        columns=size[1],
        stdin=params.AttachStdin,
        capabilities=caps.own() if params.Privileged else capabilities(host),
        seccomp="unconfined" if params.Privileged else security.seccomp,
        no_new_privileges=security.no_new_privileges,
        rlimits=rlimits(host, daemon.default_ulimits),
        oom_score_adj=host.OomScoreAdj,
    )


# -- small parts -----------------------------------------------------------------------------------------------------


def _get(daemon: Daemon, id: str) -> Exec:
    exec = daemon.execs.get(id)
    if exec is None:
        raise NotFound(f"No such exec instance: {id}")
    return exec


def _running(container: Container) -> Running:
    check_not_restarting(container)
    if container.running is None:
        raise Conflict(f"container {container.id} is not running")
    if container.is_paused:
        raise Conflict(f"Container {container.id} is paused, unpause the container before exec")
    return container.running


def _check_words(params: ExecCreate, command: tuple[str, ...]) -> None:
    if any("\0" in word for word in (*command, *(params.Env or ()), params.User, params.WorkingDir)):
        raise BadParameter("a NUL byte cannot be in a command, an environment, a user or a working directory")
    if params.WorkingDir and not params.WorkingDir.startswith("/"):
        raise BadParameter(
            f"the working directory '{params.WorkingDir}' is invalid, it needs to be an absolute path",
            key="WorkingDir",
        )


async def _write_error(fd: int, tty: bool, message: str) -> None:
    """Say in the stream why there is none; a client that has gone does not mind."""
    data = f"{message}\r\n".encode()
    stream = trio.lowlevel.FdStream(os.dup(fd))
    try:
        await stream.send_all(data if tty else frame(1, data))
    except trio.BrokenResourceError:
        pass
    finally:
        await stream.aclose()
