"""A container's files, whether it runs or not.

One that runs is looked at as it is, its lock free. One that does not is kept from starting, and its volumes are made
available, for as long as somebody looks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import trio

from windlass.engine.errors import BadParameter, Conflict, Internal, JobError, NotFound
from windlass.execdriver.driver import Files, FilesError, View
from windlass.lib.rootfs import RootFS

from . import etc
from .container import Container
from .daemon import Daemon
from .lifecycle import State
from .mounts import Sources, driver_mounts
from .settle import settle
from .volumes import mount_volumes, unmount_volumes, view_images

HOST_ERRORS = frozenset({5, 12, 28, 122})  # EIO, ENOMEM, ENOSPC, EDQUOT


@asynccontextmanager
async def opened(daemon: Daemon, container: Container, verb: str = "copy files of") -> AsyncIterator[Files]:
    """The files of a container, volumes and all. Raises NotFound, Conflict, JobError."""
    async with AsyncExitStack() as held:
        if await kept_from_starting(daemon, held, container, verb):
            yield daemon.driver.files(container.id, await held.enter_async_context(_mounted(daemon, container)))
        else:
            yield daemon.driver.files(container.id)


@asynccontextmanager
async def opened_root(daemon: Daemon, container: Container, verb: str) -> AsyncIterator[Files]:
    """The root file system alone. Raises NotFound, Conflict."""
    async with AsyncExitStack() as held:
        if await kept_from_starting(daemon, held, container, verb):
            yield daemon.driver.files(container.id, View(await daemon.graph.rootfs(container.id)))
        else:
            yield daemon.driver.files(container.id)


async def kept_from_starting(daemon: Daemon, held: AsyncExitStack, container: Container, verb: str) -> bool:
    """Hold the lock of a container that has no process, for as long as `held`; False for one that has.

    Raises NotFound, Conflict for one that is on its way out.
    """
    await held.enter_async_context(container.lock)
    if container.running is not None:
        await held.aclose()
        return False
    check_there(container, verb)
    await settle(daemon, container)
    return True


def check_there(container: Container, verb: str) -> None:
    """Raises NotFound, Conflict for a container that is on its way out."""
    if container.is_gone:
        raise NotFound(f"No such container: {container.id}")
    if container.life.state in (State.REMOVING, State.DEAD):
        what = "Dead" if container.life.state is State.DEAD else "being removed"
        raise Conflict(f"You cannot {verb} container {container.id} which is {what}")


@asynccontextmanager
async def _mounted(daemon: Daemon, container: Container) -> AsyncIterator[View]:
    rootfs = await daemon.graph.rootfs(container.id)
    try:
        sources = Sources(await mount_volumes(daemon, container), await view_images(daemon, container))
        yield await trio.to_thread.run_sync(_view, container, daemon.folder(container.id), rootfs, sources)
    finally:
        with trio.CancelScope(shield=True):
            await unmount_volumes(daemon, container)


def _view(container: Container, folder: Path, rootfs: RootFS, sources: Sources) -> View:
    host = container.host
    mounts = driver_mounts(host, container.definition.mounts, sources)
    taken = {mount.target for mount in mounts}
    files = [mount for mount in etc.kept(folder) if mount.target not in taken]
    return View(rootfs, (*files, *mounts), host.ReadonlyRootfs)


@contextmanager
def told(container: str, path: str, say: Callable[[str, str], str] = lambda name, sentence: sentence) -> Iterator[None]:
    """Tell what goes wrong with `path` of a container as Docker does; `say` words what is refused."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(f"Could not find the file {path} in container {container}") from exc
    except ProcessLookupError as exc:
        raise Conflict(f"container {container} has just ended: try again") from exc
    except FilesError as exc:
        if len(exc.args) > 1:
            raise BadParameter(say(exc.args[1], exc.args[0])) from exc
        raise Internal(str(exc)) from exc
    except OSError as exc:
        message = f"{exc.filename or path}: {exc.strerror}"
        raise (JobError if exc.errno in HOST_ERRORS else BadParameter)(message) from exc
