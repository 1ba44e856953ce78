"""`docker export`: a container's root file system as a tar."""

from __future__ import annotations

from windlass.engine import Job
from windlass.jobs.files import Export

from .archive import pass_on
from .daemon import Daemon
from .files import opened_root, told


async def export(daemon: Daemon, job: Job[Export]) -> None:
    """Write a tar of a container's root file system to stdout, without what is mounted in it."""
    name = job.params.name
    container = daemon.containers.get(name)
    with told(name, "/"):
        async with opened_root(daemon, container, "export") as files, files.export() as tar:
            await daemon.tell(container, "export")
            await pass_on(container, job, tar)
