"""Attaching clients: the connection itself goes to whatever supervises the process; no byte passes through here.

A client may come before the start, as `docker run` does; it then waits in the container and is handed over with the
Command, so that it misses nothing.
"""

from __future__ import annotations

from windlass.engine import Job
from windlass.engine.errors import Conflict
from windlass.engine.streams import session_socket
from windlass.execdriver.driver import Attached, Session
from windlass.jobs.containers import Attach, Resize, Streaming

from .container import Client, Container
from .daemon import Daemon
from .keys import parse_keys
from .lifecycle import State
from .logs import replay


async def attach(daemon: Daemon, job: Job[Attach]) -> None:
    """Connect the job's streams to a container's first process; `ready` carries a `Streaming`."""
    params = job.params
    container = daemon.containers.get(params.name)
    keys = parse_keys(params.detachKeys)
    tty = container.config.Tty
    if container.life.state in (State.REMOVING, State.DEAD):
        raise Conflict(f"container {container.id} is marked for removal and cannot be attached to")
    if container.is_paused:
        raise Conflict(f"container {params.name} is paused, unpause the container before attach")
    if container.is_restarting:
        raise Conflict(f"container {params.name} is restarting, wait until the container is running")
    await job.ready(Streaming(Tty=tty))
    await daemon.tell(container, "attach")
    async with session_socket(job, framed=not tty) as (fd, early):
        if params.logs:
            await replay(daemon, container, fd, stdout=params.stdout, stderr=params.stderr)
        if not params.stream:
            return
        session = Session(
            fd,
            stdin=params.stdin and container.config.OpenStdin,
            stdout=params.stdout,
            stderr=params.stderr,
            raw=tty,
            detach_keys=keys,
            early=early,
        )
        attached = await _join(container, session)
        if attached is None:
            return
        how = await attached.wait()
    if how.by == "keys":
        await daemon.tell(container, "detach")


async def _join(container: Container, session: Session) -> Attached | None:
    """Attach a session, or let it wait for the start; None when there was no start, or it has ended already."""
    if container.running is not None:
        try:
            return await container.running.attach(session)
        except ProcessLookupError:
            return None
    if container.is_gone:
        return None
    client = Client(session)
    container.clients.append(client)
    try:
        await client.settled.wait()
    finally:
        if client in container.clients:
            container.clients.remove(client)
    return client.attached


async def resize(daemon: Daemon, job: Job[Resize]) -> None:
    """Give a container's terminal another size. Raises Conflict when the container does not run."""
    container = daemon.containers.get(job.params.name)
    if container.running is None:
        raise Conflict(f"container {container.id} is not running")
    try:
        await container.running.resize(job.params.h, job.params.w)
    except ProcessLookupError:
        raise Conflict(f"container {container.id} is not running") from None
