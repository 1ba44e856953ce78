"""What the drivers that keep layers in folders have in common: where they are, how they come and go.

    ROOT/layers/ID/     a read-only layer: `size`, and the driver's own
    ROOT/containers/ID/ a writable layer
                        either has `parent`, a symbolic link to the layer that it stands on, absent at the bottom
    ROOT/ingest/…       on the way in; whatever is here at start-up is garbage
    ROOT/trash/…        on the way out, likewise

A layer is there when its folder is: it is made in `ingest`, synced, and renamed. A container layer is folders and a
link, which a file system's journal keeps in order: it is not synced, as the caller's next commit on the same file
system carries it along, and an empty one that a power cut took away can be made again.

Folders are 0700: an image's setuid programs must not be within reach of the host's users (CVE-2021-41091).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Literal, TypeVar

import trio

from windlass.kernel import quota
from windlass.lib.disk import sync
from windlass.lib.helper import Helper, helper
from windlass.lib.rootfs import RootFS
from windlass.lib.trash import Trash

from .driver import Applied, Change, LayerError
from .unpack import unpack

T = TypeVar("T")

DISK_THREADS = 8
_ID = re.compile(r"[0-9a-f]{64}\Z")


def chain_id(parent: str | None, diff_id: str) -> str:
    """The chain id of a layer, without its `sha256:` (OCI image spec, config.md, "Layer ChainID")."""
    digest = diff_id.removeprefix("sha256:")
    if parent is None:
        return digest
    return hashlib.sha256(f"sha256:{parent} sha256:{digest}".encode()).hexdigest()


class LayerFolders:
    """The folders of one driver. A driver derives from it and says what is in a layer's folder."""

    name = ""
    flavour: Literal["overlay", "plain"] = "plain"
    changed = "root"  # the folder in which a container's changes are
    needs_parent = True  # to unpack a layer, and not only to put it in its place

    def __init__(self, root: Path, program: str) -> None:
        """Use `root`, made when missing; `program` is the path of windlass-files. Blocks; meant for start-up."""
        self.root = root
        self._program = program
        self._limit = trio.CapacityLimiter(DISK_THREADS)
        for folder in ("", "layers", "containers", "ingest", "trash"):
            (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._trash = Trash(root / "trash")
        self._has_quotas = quota.is_enforced(root)
        self._parents: dict[str, str | None] = {}  # of read-only layers, which never change
        for leftover in (root / "ingest").iterdir():
            self._trash.put(leftover)

    # -- what a driver says --------------------------------------------------------------------------------------

    def status(self) -> list[tuple[str, str]]:
        return [("Root Dir", str(self.root)), ("Backing Filesystem", _file_system(self.root))]

    def _prepare(self, folder: Path, parent: str | None) -> Path:
        """Fill the new layer folder and return where its tar is unpacked. Blocks."""
        raise NotImplementedError

    def _prepare_container(self, folder: Path, parent: str | None) -> None:
        """Fill the folder of a new container layer. Blocks."""
        raise NotImplementedError

    def _rootfs(self, folder: Path, parent: str | None) -> RootFS:
        raise NotImplementedError

    def _view(self, chain: list[Path]) -> RootFS:
        """The same for the layers in `chain`, topmost first, without anything to write in."""
        raise NotImplementedError

    def _changes(self, folder: Path, parent: str | None) -> list[Change]:
        raise NotImplementedError

    # -- read-only layers ----------------------------------------------------------------------------------------

    async def apply(
        self,
        id: str | None,
        parent: str | None,
        tar: AsyncIterator[bytes],
        wait_parent: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> tuple[str, Applied]:
        if self.needs_parent:
            await self._await_parent(parent, wait_parent)
        if id is not None and await self.has(id):
            return id, await self._read_through(id, parent, tar)
        ingest = self.root / "ingest" / secrets.token_hex(8)
        try:
            where = await self._in_thread(self._new_folder, ingest, parent, self._prepare)
            applied = await unpack(self._program, where, self.flavour, tar)
            found = chain_id(parent, applied.diff_id)
            if id not in (None, found):
                raise LayerError(f"layer {id} was announced, but its content is {found} (diff id {applied.diff_id})")
            await self._await_parent(parent, wait_parent)
            await self._in_thread(self._publish, ingest, self._layer(found), applied.size)
            return found, applied
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(self._discard, ingest)

    async def _await_parent(self, parent: str | None, wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        if parent is not None and not await self.has(parent):
            raise FileNotFoundError(f"no such layer: {parent}")

    async def _read_through(self, id: str, parent: str | None, tar: AsyncIterator[bytes]) -> Applied:
        digest = hashlib.sha256()
        async for chunk in tar:
            digest.update(chunk)
        diff_id = f"sha256:{digest.hexdigest()}"
        if chain_id(parent, diff_id) != id:
            raise LayerError(f"layer {id} was announced, but its content is {chain_id(parent, diff_id)}")
        return Applied(diff_id, await self._in_thread(self._size, id))

    async def has(self, id: str) -> bool:
        return await self._in_thread(self._layer(id).is_dir)

    async def size(self, id: str) -> int:
        """Bytes of the files in layer `id`, without its parents."""
        return await self._in_thread(self._size, id)

    # -- container layers ----------------------------------------------------------------------------------------

    def can_limit_size(self) -> bool:
        return self._has_quotas

    async def create(self, id: str, parent: str | None, size: int = 0) -> None:
        ingest = self.root / "ingest" / secrets.token_hex(8)

        def prepare(folder: Path, parent: str | None) -> None:
            if size:
                _limit(folder, size)  # first: what is made in a project later on belongs to it
            self._prepare_container(folder, parent)

        def make() -> None:
            if parent is not None and not self._layer(parent).is_dir():
                raise FileNotFoundError(f"no such layer: {parent}")
            if self._container(id).exists():
                raise FileExistsError(f"layer {id} exists already")
            self._new_folder(ingest, parent, prepare)
            ingest.rename(self._container(id))

        try:
            await self._in_thread(make)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._in_thread(self._discard, ingest)
            raise

    async def rootfs(self, id: str) -> RootFS:
        def find() -> RootFS:
            folder = self._container(id)
            if not folder.is_dir():
                raise FileNotFoundError(f"no such container layer: {id}")
            return self._rootfs(folder, _parent(folder))

        return await self._in_thread(find)

    async def view(self, id: str) -> RootFS:
        return await self._in_thread(lambda: self._view(self._chain(id)))

    async def changes(self, id: str) -> list[Change]:
        def compare() -> list[Change]:
            folder = self._container(id)
            return sorted(self._changes(folder, _parent(folder)), key=lambda change: change.path)

        return await self._in_thread(compare)

    @asynccontextmanager
    async def diff(self, id: str, changes: Sequence[Change]) -> AsyncIterator[AsyncIterator[bytes]]:
        listed = tempfile.TemporaryFile(dir=self.root / "ingest")  # noqa: SIM115 - closed when the helper has it
        try:
            await self._in_thread(_list, listed, changes)
            folder = str(self._container(id) / self.changed)
            run = helper(self._program, ["files", "folder", folder, "list"], stdin=listed.fileno())
            async with run as child:
                yield _diff(child)
        finally:
            listed.close()

    # -- both ----------------------------------------------------------------------------------------------------

    async def remove(self, id: str) -> None:
        """Forget a layer: it is renamed away before this returns; `sweep` unlinks its files."""

        def move() -> None:
            if self._has_quotas and self._container(id).is_dir():
                quota.lift(self._container(id))
            for folder in (self._container(id), self._layer(id)):
                self._trash.put(folder)

        self._parents.pop(id, None)
        await self._in_thread(move)

    async def sweep(self) -> None:
        """Unlink what `remove` has put aside. May take long; cancel it whenever you like."""
        while await self._in_thread(self._trash.empty):
            continue

    async def layers(self) -> set[str]:
        return set(await self._in_thread(os.listdir, self.root / "layers"))

    async def containers(self) -> set[str]:
        return set(await self._in_thread(os.listdir, self.root / "containers"))

    def _discard(self, ingest: Path) -> None:
        if self._trash.put(ingest):
            self._trash.empty()

    def _layer(self, id: str) -> Path:
        return self.root / "layers" / _checked(id)

    def _container(self, id: str) -> Path:
        return self.root / "containers" / _checked(id)

    def _size(self, id: str) -> int:
        return int((self._layer(id) / "size").read_text())

    def _chain(self, parent: str | None) -> list[Path]:
        """The folders of the layers from `parent` down, topmost first."""
        folders = []
        while parent is not None:
            folders.append(self._layer(parent))
            if parent not in self._parents:
                self._parents[parent] = _parent(folders[-1])
            parent = self._parents[parent]
        return folders

    def _new_folder(self, folder: Path, parent: str | None, prepare: Callable[[Path, str | None], T]) -> T:
        folder.mkdir(mode=0o700)
        if parent is not None:
            (folder / "parent").symlink_to(f"../../layers/{parent}")
        return prepare(folder, parent)

    def _publish(self, ingest: Path, layer: Path, size: int) -> None:
        (ingest / "size").write_text(str(size))
        for path in (ingest / "size", ingest):
            sync(path)
        try:
            ingest.rename(layer)
        except OSError:
            if not layer.is_dir():  # somebody else was quicker: the same content
                raise
        sync(layer.parent)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args, limiter=self._limit)


def _list(file: IO[bytes], changes: Sequence[Change]) -> None:
    for change in changes:
        file.write((b"-" if change.kind == 2 else b"+") + os.fsencode(change.path) + b"\0")
    file.seek(0)


async def _diff(child: Helper) -> AsyncIterator[bytes]:
    async for chunk in child.output():
        yield chunk
    line = await child.line()
    if line != "ok":
        raise LayerError(f"the container's changes cannot be read: {line or 'the helper was killed'}")


def _checked(id: str) -> str:
    if not _ID.match(id):
        raise ValueError(f"a layer's id is 64 hexadecimal digits, not {id!r:.100}")
    return id


def _parent(folder: Path) -> str | None:
    try:
        return (folder / "parent").readlink().name
    except FileNotFoundError:
        if not folder.is_dir():
            raise FileNotFoundError(f"no such layer: {folder.name}") from None
        return None


def _file_system(path: Path) -> str:
    """The type of the file system that `path` is on, from mountinfo (proc_pid_mountinfo(5))."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"


def _limit(folder: Path, size: int) -> None:
    """Make a new folder a project of its own. Its number is any that nobody has: others may use quotas here, too."""
    while True:
        try:
            quota.limit(folder, secrets.randbelow(1 << 31) + 1, size)
        except FileExistsError:
            continue
        return
