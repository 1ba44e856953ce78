"""Starting: the intent, the Command, the driver; then a monitor goes on, and the answer leaves.

    lock ─▶ settle the last run ─▶ network ─▶ command (thread) ─▶ intent (exec root) ─▶ driver.start ─▶ running
         ─▶ `start` event

Clients that attached before are handed over with the command, so they miss no byte. The network comes first, since
its addresses are in the container's files; a start that fails gives it back.
"""

from __future__ import annotations

import time

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, Internal, JobError, NotFound, NotModified
from windlass.execdriver.driver import Running, StartError
from windlass.jobs.containers import Start

from .attachment import attach_network, follow_links, release, watch
from .command import build_command
from .container import Client, Container
from .daemon import Daemon
from .health import first_health, watch_health
from .lifecycle import Step
from .monitor import monitor
from .mounts import Sources
from .namespaces import joined
from .remove import remove_locked
from .settle import settle
from .supervise import note_start
from .volumes import mount_volumes, unmount_volumes, view_images

# The words that clients look for in the message: 127 and 126 of `docker run` come from them.
CREATE_FAILED = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: {}: unknown"
)


async def start(daemon: Daemon, job: Job[Start]) -> None:
    """Start a container. Raises NotModified when it runs."""
    container = daemon.containers.get(job.params.name)
    async with container.lock:
        if container.is_paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.is_running:
            raise NotModified(f"container {container.id} is already started")
        await note_start(daemon, container)
        await start_locked(daemon, container)


async def start_locked(daemon: Daemon, container: Container) -> None:
    """Start a container that does not run, with its lock held. On failure a container of `--rm` is removed.

    One that was restarting has ended then.
    """
    if container.is_gone:
        raise NotFound(f"No such container: {container.id}")
    if not container.life.allows(Step.STARTED):
        raise Conflict("container is marked for removal and cannot be started")
    await settle(daemon, container)
    try:
        with trio.CancelScope(shield=True):  # the driver either has it or not; half a start helps nobody
            await _run(daemon, container)
    except (StartError, JobError, OSError, ValueError) as exc:
        error = _explain(exc)
        await release(daemon, container)
        await unmount_volumes(daemon, container)
        await _note_failure(daemon, container, exc, error)
        raise error from exc
    await daemon.tell(container, "start")
    await follow_links(daemon, container)


async def _run(daemon: Daemon, container: Container) -> None:
    rootfs = await daemon.graph.rootfs(container.id)
    folder, log_path = daemon.folder(container.id), daemon.log_path(container.id)
    init = daemon.driver.init_program()
    async with joined(daemon, container) as namespaces:
        attachment = await attach_network(daemon, container, namespaces.sandbox)
        sources = Sources(await mount_volumes(daemon, container), await view_images(daemon, container))
        command = await trio.to_thread.run_sync(
            build_command,
            *(container, attachment, namespaces, sources, rootfs, folder, log_path, init),
            daemon.default_ulimits,
        )
        started_ns = time.time_ns()
        await daemon.store.intend_run(container.id, started_ns)
        clients = list(container.clients)
        running, attached = await daemon.driver.start(command, [client.session for client in clients])
    late, container.clients = container.clients[len(clients) :], clients
    container.settle_clients(attached)
    container.running, container.is_settled = running, False
    await watch(daemon, container, attachment, running)
    begun(daemon, container, started_ns)
    for client in late:  # these came while the driver was at work
        await attach_late(running, client)


async def attach_late(running: Running, client: Client) -> None:
    """Attach a client to what runs already; it goes away when that has ended meanwhile."""
    try:
        client.settle(await running.attach(client.session))
    except ProcessLookupError:
        client.settle()


def begun(daemon: Daemon, container: Container, started_ns: int) -> None:
    """Note that a run is under way, and watch over it."""
    container.outcome = msgspec.structs.replace(
        container.outcome,
        has_run=True,
        code=0,
        error="",
        oom_killed=False,
        started_ns=started_ns,
        finished_ns=0,
        is_due=False,
        health=first_health(container),
    )
    container.life.advance(Step.STARTED)
    container.comes_back = None
    container.changed.give()
    assert container.running is not None
    if container.outcome.health is not None:
        daemon.nursery.start_soon(watch_health, daemon, container, container.running)
    daemon.nursery.start_soon(monitor, daemon, container, container.running, start_locked)


def _explain(exc: Exception) -> JobError:
    """Say why a start failed as Docker does."""
    if isinstance(exc, JobError):
        return exc
    message = CREATE_FAILED.format(exc)
    if isinstance(exc, StartError) and exc.exit_code in (126, 127):
        return BadParameter(message)
    return BadParameter(message) if isinstance(exc, ValueError) else Internal(message)


async def _note_failure(daemon: Daemon, container: Container, exc: Exception, error: JobError) -> None:
    """Keep why a start failed, let the waiting clients go, and remove what was to be removed at its end."""
    code = exc.exit_code if isinstance(exc, StartError) else 128
    container.outcome = msgspec.structs.replace(container.outcome, code=code, error=error.message)
    if container.is_restarting:
        container.note_end_of_restarts()
    container.settle_clients()
    with trio.CancelScope(shield=True):
        await daemon.store.forget_run(container.id)
        if container.host.AutoRemove:
            await remove_locked(daemon, container, with_volumes=True)
        else:
            await daemon.store.save_outcome(container.id, container.outcome)
    container.changed.give()
