"""Health checks: a probe runs in the container every so often, and what it says is the container's health.

    starting ──probe says 0──▶ healthy ◀──0── unhealthy
        └──── `Retries` failures in a row ─────────▲
                                     healthy ──────┘

Failures do not count in the start period, as long as no probe has said 0. A run begins as `starting`; a container
that is paused or has ended is `unhealthy`, as in Docker, and no event tells of that (moby: daemon/health.go). The
health of a run is kept on the exec root, so that the next daemon goes on with it.
"""

from __future__ import annotations

import logging
import socket
import sqlite3
import time

import msgspec
import trio

from windlass.engine.errors import JobError
from windlass.engine.job import current
from windlass.engine.streams import Demultiplexer
from windlass.execdriver.driver import Running, Session, StartError
from windlass.jobs.container_config import Config, HealthConfig
from windlass.jobs.container_views import Health, Probe
from windlass.jobs.containers import Kill, Stop
from windlass.jobs.execs import ExecCreate
from windlass.lib import duration, timestamp
from windlass.lib.timestamp import SECOND

from .config import SHORTEST
from .container import Container
from .daemon import Daemon
from .exec import EXEC_FAILED, Exec, make_exec, run_exec
from .kill import stop_gently
from .signals import stop_signal
from .supervise import ask

INTERVAL, TIMEOUT, START_INTERVAL = 30 * SECOND, 30 * SECOND, 5 * SECOND
RETRIES = 3
OUTPUT_MAX = 4096  # bytes of a probe's output that are kept
KEPT = 5  # probes
CATCH_UP = 0.5  # seconds from a probe's end to that of its output
NO_ANSWER = -1  # exit code of a probe that could not run, or took too long
SHELL = ("/bin/sh", "-c")
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"

logger = logging.getLogger("windlass.daemon")


def probe_command(config: Config) -> tuple[str, ...]:
    """What a container's probe runs; empty when it has none."""
    match config.Healthcheck.Test if config.Healthcheck else []:
        case ["CMD", *words]:
            return tuple(words)
        case ["CMD-SHELL", *words]:
            return (*(config.Shell or SHELL), *words)
        case _:
            return ()


# -- when probes run -------------------------------------------------------------------------------------------------


def first_health(container: Container) -> Health | None:
    """The health that a run begins with, and the probes of the last one; None where there is no probe."""
    if not probe_command(container.config):
        return None
    last = container.outcome.health
    return Health(STARTING, 0, last.Log if last else [])


async def watch_health(daemon: Daemon, container: Container, running: Running) -> None:
    """Probe one run of a container to its end, but for the times when it is paused. Never raises."""
    current.set(None)
    try:
        while container.running is running:
            async with trio.open_nursery() as nursery:
                was_paused = container.is_paused
                if not was_paused:
                    nursery.start_soon(_probe_for_ever, daemon, container, running)
                while container.running is running and container.is_paused == was_paused:
                    await container.changed.wait()
                _set(container, msgspec.structs.replace(container.outcome.health or Health(), Status=UNHEALTHY))
                nursery.cancel_scope.cancel()
    except Exception:
        logger.exception("the health of container %s is not looked after any more", container.id)


async def _probe_for_ever(daemon: Daemon, container: Container, running: Running) -> None:
    config = container.config.Healthcheck or HealthConfig()
    while True:
        age = time.time_ns() - container.outcome.started_ns
        await trio.sleep(interval(config, container.outcome.health, age) / SECOND)
        probe = await _probe(daemon, container, running, _at_least(config.Timeout, TIMEOUT))
        await _note(daemon, container, config, probe)


def interval(config: HealthConfig, health: Health | None, age: int) -> int:
    """Nanoseconds until the next probe of a run that is `age` nanoseconds old."""
    if age < config.StartPeriod and (health is None or health.Status == STARTING):
        return _at_least(config.StartInterval, START_INTERVAL)
    return _at_least(config.Interval, INTERVAL)


def _at_least(given: int, otherwise: int) -> int:
    """A time as an image may have it: anybody's number."""
    return max(given, SHORTEST) if given else otherwise


# -- what they say ---------------------------------------------------------------------------------------------------


def after(health: Health, probe: Probe, config: HealthConfig, age: int) -> Health:
    """What the health is after a probe that began `age` nanoseconds after the container."""
    log = [*health.Log, probe][-KEPT:]
    if probe.ExitCode == 0:
        return Health(HEALTHY, 0, log)
    if health.Status == STARTING and age < config.StartPeriod:
        return msgspec.structs.replace(health, Log=log)
    streak = health.FailingStreak + 1
    status = UNHEALTHY if streak >= (config.Retries if config.Retries > 0 else RETRIES) else health.Status
    return Health(status, streak, log)


def _set(container: Container, health: Health) -> None:
    container.outcome = msgspec.structs.replace(container.outcome, health=health)


async def _note(daemon: Daemon, container: Container, config: HealthConfig, probe: Probe) -> None:
    before = container.outcome.health or Health()
    health = after(before, probe, config, timestamp.parse(probe.Start) - container.outcome.started_ns)
    _set(container, health)
    container.changed.give()
    try:
        await daemon.store.save_health(container.id, health)
    except sqlite3.Error as exc:  # the next daemon will know less
        logger.warning("the health of container %s could not be written down: %s", container.id, exc)
    if health.Status != before.Status:
        await daemon.tell(container, f"health_status: {health.Status}")
        if health.Status == UNHEALTHY:
            daemon.nursery.start_soon(_act, daemon, container)


async def _act(daemon: Daemon, container: Container) -> None:
    """Do what `supervise` wants done about a container that has become unhealthy."""
    current.set(None)
    verdict = await ask(daemon, container, "unhealthy")
    try:
        match verdict.action:
            case "restart":
                container.comes_back = verdict
                await stop_gently(daemon, container, stop_signal(container.config))
            case "stop":
                await daemon.engine.call(Stop(name=container.id))
            case "kill":
                await daemon.engine.call(Kill(name=container.id))
    except JobError as exc:
        logger.error("nothing could be done about container %s, which is unhealthy: %s", container.id, exc)


# -- one probe -------------------------------------------------------------------------------------------------------


async def _probe(daemon: Daemon, container: Container, running: Running, timeout: int) -> Probe:
    """Run the probe once. Cancelled, or out of time, it is killed."""
    began, output = time.time_ns(), Output()
    params = ExecCreate(name=container.id, AttachStdout=True, AttachStderr=True)
    exec = await make_exec(daemon, container, params, probe_command(container.config), is_probe=True)
    try:
        code = await _run(daemon, exec, running, timeout, output)
        text = output.text
    except (StartError, JobError, OSError, ValueError) as exc:
        code, text = NO_ANSWER, EXEC_FAILED.format(exc) if isinstance(exc, StartError) else str(exc)
    else:
        if code is None:
            code, text = NO_ANSWER, f"Health check exceeded timeout ({duration.text(timeout)})" + (text and f": {text}")
    finally:
        await exec.kill()
        exec.forget(daemon)
    return Probe(timestamp.text(began), timestamp.text(time.time_ns()), code, text)


async def _run(daemon: Daemon, exec: Exec, running: Running, timeout: int, output: Output) -> int | None:
    """Run an exec; return its exit code, None when it took too long."""
    ours, theirs = socket.socketpair()
    async with trio.lowlevel.FdStream(ours.detach()) as stream:
        with theirs:
            await run_exec(daemon, exec, running, Session(theirs.fileno(), stdin=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.take, stream)
            with trio.move_on_after(timeout / SECOND):
                await exec.ended.wait()
                with trio.move_on_after(CATCH_UP):
                    await output.ended.wait()
            nursery.cancel_scope.cancel()
    return exec.code


class Output:
    """What a probe writes: the beginning of it is kept, the rest is read and dropped."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_cut = False
        self.ended = trio.Event()

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace") + ("..." if self._is_cut else "")

    async def take(self, stream: trio.abc.ReceiveStream) -> None:
        """Read until the stream ends."""
        demultiplexer = Demultiplexer()
        try:
            while data := await stream.receive_some(65536):
                for _, payload in demultiplexer.feed(bytes(data)):
                    self._keep(payload)
        except trio.BrokenResourceError:
            pass  # whoever wrote has gone
        self.ended.set()

    def _keep(self, payload: bytes) -> None:
        room = OUTPUT_MAX - len(self._kept)
        self._kept += payload[:room]
        self._is_cut = self._is_cut or len(payload) > room
