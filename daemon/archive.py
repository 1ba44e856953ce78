"""`docker cp`: what is at a path of a container, as a tar; a tar, into a folder of a container."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import AsyncIterator
from typing import Any

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Internal
from windlass.execdriver.driver import FileStat
from windlass.jobs.files import ContainerArchive, ContainerArchiveStat, ContainerCopy, ContainerExtract, PathStat
from windlass.lib import timestamp
from windlass.lib.decompress import CompressionError, bounded, decompressed

from .container import Container
from .daemon import Daemon
from .files import opened, told
from .users import find_account

CHUNK = 256 << 10
# Go's FileMode (io/fs): kinds and special bits are not where stat(2) has them.
_KINDS = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}  # fmt: skip
_SPECIAL = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


async def container_archive_stat(daemon: Daemon, job: Job[ContainerArchiveStat]) -> PathStat:
    """Tell what is at a path of a container."""
    params = job.params
    container = daemon.containers.get(params.name)
    path = _checked(params.path)
    with told(params.name, path):
        async with opened(daemon, container) as files:
            return _shown(path, await files.stat(path))


async def container_archive(daemon: Daemon, job: Job[ContainerArchive]) -> None:
    """Write a tar of what is at a path of a container to stdout."""
    await _archive(daemon, job, job.params.name, job.params.path)


async def container_copy(daemon: Daemon, job: Job[ContainerCopy]) -> None:
    """The same for old clients."""
    await _archive(daemon, job, job.params.name, job.params.Resource)


async def _archive(daemon: Daemon, job: Job[ContainerArchive] | Job[ContainerCopy], name: str, path: str) -> None:
    container = daemon.containers.get(name)
    path = _checked(path)
    with told(name, path):
        async with opened(daemon, container) as files, files.read(path, _base(path)) as (found, tar):
            await daemon.tell(container, "archive-path")
            await job.ready(_shown(path, found))
            await pass_on(container, job, tar)


async def pass_on(container: Container, job: Job[Any], tar: AsyncIterator[bytes]) -> None:
    """Write a tar of a container to stdout. Raises Internal when the container was removed meanwhile."""
    async for chunk in tar:
        if job.stdout is not None:
            await job.stdout.send_all(chunk)
    if container.is_gone:
        raise Internal(f"container {container.id} was removed while its files were read")


async def container_extract(daemon: Daemon, job: Job[ContainerExtract]) -> None:
    """Unpack the tar on stdin into a folder of a container."""
    params = job.params
    container = daemon.containers.get(params.name)
    path = _checked(params.path)
    owner = await _owner(daemon, container) if params.copyUIDGID and container.config.User else None

    def say(name: str, sentence: str) -> str:
        if not sentence.startswith("cannot overwrite "):
            return sentence
        _, _, old, _, new = sentence.split()
        return f'cannot overwrite {old} "{posixpath.join(path, name).rstrip("/")}" with {new} "{path}"'

    with told(params.name, path, say):
        async with opened(daemon, container) as files:
            tar = bounded(decompressed(_sent(job)), daemon.data_root)
            try:
                await files.write(path, tar, keep_kinds=params.noOverwriteDirNonDir, owner=owner)
            except CompressionError as exc:
                raise BadParameter(str(exc)) from exc
    await daemon.tell(container, "extract-to-dir")


async def _sent(job: Job[ContainerExtract]) -> AsyncIterator[bytes]:
    while job.stdin is not None and (chunk := await job.stdin.receive_some(CHUNK)):
        yield bytes(chunk)


async def _owner(daemon: Daemon, container: Container) -> tuple[int, int]:
    rootfs = await daemon.graph.rootfs(container.id)
    account = await trio.to_thread.run_sync(find_account, rootfs, container.config.User)
    return account.user.uid, account.user.gid


def _checked(path: str) -> str:
    if not path or "\0" in path:
        raise BadParameter("bad parameter: path cannot be empty, or have a NUL byte in it", key="path")
    return path


def _base(path: str) -> str:
    """What the archive calls what is at `path` (Go: filepath.Base, after PreserveTrailingDotOrSeparator)."""
    if path == "." or path.endswith("/."):
        return "."
    return posixpath.basename(posixpath.normpath(f"/{path.lstrip('/')}")) or "/"


def _shown(path: str, found: FileStat) -> PathStat:
    mode = stat.S_IMODE(found.mode) & 0o777 | _KINDS.get(stat.S_IFMT(found.mode), 0)
    mode |= sum(bit for special, bit in _SPECIAL.items() if found.mode & special)
    return PathStat(_base(path), found.size, mode, timestamp.text(found.mtime_ns), found.target)
