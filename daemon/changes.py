"""`docker diff`: what a container has changed in its image's files, without what a start makes there by itself."""

from __future__ import annotations

from windlass.engine import Job
from windlass.graphdriver.driver import Change
from windlass.jobs import files
from windlass.jobs.files import ContainerChanges

from .container import Container
from .daemon import Daemon
from .files import check_there, told

# Places of the mounts that every container has, made in its layer where the image lacks them. Docker makes them in a
# layer of their own, so that nobody takes them for changes (moby: daemon/initlayer).
OWN_FOLDERS = frozenset(("/dev", "/proc", "/sys", "/etc"))
OWN_FILES = frozenset(("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))


async def container_changes(daemon: Daemon, job: Job[ContainerChanges]) -> list[files.Change]:
    """List what a container has changed in its image's files."""
    container = daemon.containers.get(job.params.name)
    check_there(container, "list the changes of")
    found = await changes_of(daemon, container)
    below = {"/" + each.path.split("/")[1] for each in found if each.path.count("/") > 1}
    # That a start has made a file in it is no change of a folder either.
    return [files.Change(each.path, each.kind) for each in found if each.path != "/etc" or each.path in below]


async def changes_of(daemon: Daemon, container: Container) -> list[Change]:
    """The changes in Docker's order: a folder, what is in it, the next one. Raises BadParameter, JobError."""
    with told(container.id, "/"):
        everything = await daemon.graph.changes(container.id)
    found = [each for each in everything if each.path not in OWN_FILES or each.kind != 1]
    below = {"/" + each.path.split("/")[1] for each in found if each.path.count("/") > 1}
    kept = [
        each if each.path not in OWN_FOLDERS or each.kind != 1 else Change(each.path, 0)
        for each in found
        if each.path not in OWN_FOLDERS or each.kind != 1 or each.path in below
    ]
    return sorted(kept, key=lambda each: each.path.split("/"))
