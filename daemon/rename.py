"""Giving a container another name."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError, NotFound
from windlass.jobs.containers import ContainerRename
from windlass.jobs.networks import SandboxRename

from .container import Container
from .daemon import Daemon
from .names import check_name


async def container_rename(daemon: Daemon, job: Job[ContainerRename]) -> None:
    """Give a container another name."""
    container = daemon.containers.get(job.params.name)
    if not job.params.new_name:
        raise BadParameter("Neither old nor new names may be empty", key="new_name")
    new = check_name(job.params.new_name)
    async with container.lock:
        old = container.name
        if container.is_gone:
            raise NotFound(f"No such container: {job.params.name}")
        if new == old:
            raise BadParameter("Renaming a container with the same name as its current name", key="new_name")
        daemon.containers.hold(new, container.id)
        try:
            with trio.CancelScope(shield=True):
                await _rename_sandbox(daemon, container, new)
                await daemon.store.redefine(msgspec.structs.replace(container.definition, name=new))
        except BaseException:
            with trio.CancelScope(shield=True), suppress(JobError):
                await _rename_sandbox(daemon, container, old)
            daemon.containers.release(new, container.id)
            raise
        container.rename(new)
        daemon.containers.release(old, container.id)
    await daemon.tell(container, "rename", oldName=f"/{old}")


async def _rename_sandbox(daemon: Daemon, container: Container, name: str) -> None:
    """Let a running container be found by its new name; first, since this can be taken back."""
    if container.sandbox is not None:
        await daemon.engine.call(SandboxRename(id=container.id, name=name))
