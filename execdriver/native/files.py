"""A container's files, by a child, windlass-files, that lives inside of it for the time of one operation.

See `c/files.c`. A running container is entered by the mount namespace of its first process, a stopped one is mounted
for the child alone, by the same ops that a start has.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import trio

from windlass.execdriver.driver import FilesError, FileStat, View
from windlass.kernel.mount import MountAttr
from windlass.kernel.ns import process_folder
from windlass.lib.helper import Helper, helper
from windlass.lib.rootfs import Overlay

from .memfd import sealed_memfd
from .message import SLOTS, Op, OpList, Tree
from .mounts import UserMounts

World = tuple[list[str], list[int]]  # the first arguments, and descriptors, which are held by who is given
_HARMLESS = MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC


class NativeFiles:
    """See `driver.Files`. `world` opens what the child is to see."""

    def __init__(self, program: str, world: Callable[[ExitStack], World]) -> None:
        self._program, self._world = program, world

    async def stat(self, path: str) -> FileStat:
        async with self._run("stat", path) as child:
            return _stat(await child.line())

    @asynccontextmanager
    async def read(self, path: str, name: str) -> AsyncIterator[tuple[FileStat, AsyncIterator[bytes]]]:
        async with self._run("get", path, name) as child:
            yield _stat(await child.line()), _whole(child)

    @asynccontextmanager
    async def export(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._run("export") as child:
            yield _whole(child)

    async def write(
        self, path: str, tar: AsyncIterator[bytes], *, keep_kinds: bool = False, owner: tuple[int, int] | None = None
    ) -> None:
        uid, gid = owner or (-1, -1)
        async with self._run("put", path, "k" if keep_kinds else "-", str(uid), str(gid)) as child:
            await child.feed(tar)
            check(await child.line())

    @asynccontextmanager
    async def _run(self, *operation: str) -> AsyncIterator[Helper]:
        with ExitStack() as held:
            try:
                world, fds = await trio.to_thread.run_sync(self._world, held)
            except ValueError as exc:
                raise FilesError(str(exc)) from exc
            async with helper(self._program, ["files", *world, *operation], fds) as child:
                held.close()
                yield child


async def _whole(child: Helper) -> AsyncIterator[bytes]:
    async for chunk in child.output():
        yield chunk
    check(await child.line())


def _stat(line: str) -> FileStat:
    words = line.split(" ")
    if words[0] != "stat":
        check(line)
        raise FilesError(f"the shim says {line!r:.100}")
    target = "" if words[5] == "-" else os.fsdecode(bytes.fromhex(words[5]))
    return FileStat(int(words[1], 8), int(words[2]), int(words[3]) * 10**9 + int(words[4]), target)


def check(line: str) -> None:
    """Raise what a line of the report tells, unless that is "ok"."""
    word, _, rest = line.partition(" ")
    if word == "ok":
        return
    number, _, rest = rest.partition(" ")
    if word == "failed":
        raise FilesError(f"the container's files cannot be looked at: {rest}")
    if word != "error":
        raise FilesError("the helper that looks at the container's files was killed")
    name, _, sentence = rest.partition(": ")  # blanks in a name are told as \040
    if int(number):
        raise OSError(int(number), os.strerror(int(number)), name)
    raise FilesError(sentence, name)


def world_of_process(held: ExitStack, id: str, pid: int) -> World:
    """Enter where the first process of a running container is. Blocks. Raises ProcessLookupError when it has ended."""
    folder = process_folder(pid, id)
    held.callback(os.close, folder)
    try:
        fds = [os.open(f"ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder) for kind in ("mnt", "user")]
    except FileNotFoundError as exc:
        raise ProcessLookupError(f"container {id} has ended") from exc
    for fd in fds:
        held.callback(os.close, fd)
    is_mapped = os.stat(fds[1]).st_ino != os.stat("/proc/self/ns/user").st_ino
    return (["userns"], fds) if is_mapped else (["namespace"], fds[:1])


def world_of_view(held: ExitStack, view: View, place: str) -> World:
    """Mount what a container would see. Blocks. Raises ValueError for a place that nothing may be mounted on."""
    memfd = sealed_memfd("oplist", compile_view(view, place).encode())
    held.callback(os.close, memfd)
    return ["ops", place], [memfd]


def compile_view(view: View, place: str) -> OpList:
    """Compile the mounts of a start, without those of the kernel's own file systems."""
    ops, slots = OpList(), iter(range(SLOTS))  # a container has fewer mounts than there are slots
    root = next(slots)
    match view.rootfs:
        case Overlay(lower, upper, work):
            ops.add(Op.OVERLAY, upper, work, *lower, a=root, b=_HARMLESS)
        case directory:
            ops.add(Op.OPEN_TREE, directory.path, a=root, b=Tree(0), c=_HARMLESS)
    mounts = UserMounts(ops, [mount for mount in view.mounts if mount.kind != "tmpfs"], lambda: next(slots))
    mounts.open()
    ops.add(Op.ROOT, place, a=root)
    mounts.build()
    if view.readonly:
        ops.add(Op.READONLY_ROOT)
    ops.add(Op.PIVOT)
    return ops
