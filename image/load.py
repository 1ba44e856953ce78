"""Job `load`: the images of an archive, all of them or none."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from windlass.engine import Job
from windlass.engine.errors import JobError
from windlass.engine.events import Output, Progress
from windlass.jobs.images import Load
from windlass.lib.decompress import CompressionError, bounded, decompressed
from windlass.lib.groups import first_error
from windlass.lib.reference import Reference

from . import config, contents, platforms
from .apply import apply, stdin
from .archive import Archive, BadArchive, parse_member
from .contents import Found
from .events import tell
from .keep import Keeper, keeping
from .store import Layer, Store, chain_ids

AT_ONCE = 3  # layers
INTERVAL = 0.1  # seconds between two lines of progress of one layer


async def load(store: Store, data_root: Path, job: Job[Load]) -> list[str]:
    """Load images from a docker-archive or OCI-layout tar."""
    wanted = platforms.parse(job.params.platform)
    try:
        archive = await _spool(job, data_root / "image" / "ingest")
    finally:
        await job.ready()  # whatever is wrong with an archive is told in the stream, as dockerd does
    try:
        async with store.work(), keeping(store) as keeper:
            found = await trio.to_thread.run_sync(contents.read, archive, wanted)
            known: dict[str, Layer] = {}
            applied = [(each, await _Layers(store, keeper, archive, each, job, known).bring()) for each in found]
            return [name for each, layers in applied for name in await _record(store, job, each, layers)]
    finally:
        archive.close()


async def _spool(job: Job[Load], folder: Path) -> Archive:
    try:
        return await Archive.spool(bounded(decompressed(stdin(job)), folder), folder)
    except CompressionError as exc:
        raise BadArchive(f"invalid archive: {exc}") from None
    except OSError as exc:
        raise JobError(f"the archive cannot be kept while it is read: {exc.strerror}") from exc


async def _record(store: Store, job: Job[Load], found: Found, layers: list[Layer]) -> list[str]:
    """Put an image on record and tell its names; its id where it has none."""
    former = {name: await store.owner(name) for name in found.names}
    id = await store.add(found.config, layers, found.names, manifest=found.manifest)
    for name in found.names:
        _tell_name(job, name, former[name], id)
    if not found.names:
        job.emit(Output(f"Loaded image ID: {id}\n"))
    await tell(job, "load", id)
    return [name.familiar for name in found.names] or [id]


def _tell_name(job: Job[Load], name: Reference, former: str, id: str) -> None:
    if former not in ("", id):
        text = f"The image {name.familiar} already exists, renaming the old one with ID {former} to empty string\n"
        job.emit(Output(text))
    job.emit(Output(f"Loaded image: {name.familiar}\n"))


class _Layers:
    """The layers of one image of an archive, lowest first; each is put in its place after its parent."""

    def __init__(
        self, store: Store, keeper: Keeper, archive: Archive, found: Found, job: Job[Load], known: dict[str, Layer]
    ) -> None:
        self._store, self._keeper, self._archive, self._job = store, keeper, archive, job
        self._members = found.layers
        self._diff_ids = config.check(parse_member(found.config, "an image's configuration"))
        if len(self._diff_ids) != len(self._members):
            raise BadArchive(
                f"invalid manifest, layers length mismatch: {len(self._members)} layers, but {len(self._diff_ids)}"
                " diff_ids in the configuration"
            )
        self._sizes = [archive.size(member) for member in self._members]  # raises for one that is missing
        self._chains = chain_ids(self._diff_ids)
        self._placed = [trio.Event() for _ in self._chains]
        self._known = known  # by chain id, those of the archive's other images too
        self._slots = trio.Semaphore(AT_ONCE)

    async def bring(self) -> list[Layer]:
        """Unpack those that are not here, each checked against the configuration. Raises BadParameter, JobError."""
        try:
            async with trio.open_nursery() as nursery:
                for at in range(len(self._chains)):
                    await self._slots.acquire()  # in order, so that one that waits for its parent cannot hold it up
                    nursery.start_soon(self._bring_one, at)
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return [self._known[chain] for chain in self._chains]

    async def _bring_one(self, at: int) -> None:
        try:
            chain = self._chains[at]
            self._known[chain] = await self._here(chain) or await self._apply(at, chain)
            self._placed[at].set()
        finally:
            self._slots.release()

    async def _here(self, chain: str) -> Layer | None:
        """The layer, when it is here and can be saved again."""
        if chain in self._known:
            return self._known[chain]
        store = self._store
        if not await store.graph.has(chain):
            return None
        if not any([await store.blobs.has(blob.digest) for blob in await store.blobs_of(chain)]):
            return None
        return Layer(chain, await store.graph.size(chain))

    async def _apply(self, at: int, chain: str) -> Layer:
        parent = self._chains[at - 1] if at else None
        wait = self._placed[at - 1].wait if at else trio.lowlevel.checkpoint
        layer, _ = await apply(self._store, self._keeper, chain, parent, self._told(at), wait)
        return layer

    async def _told(self, at: int) -> AsyncIterator[bytes]:
        """The bytes of a layer, and how much of them has been read."""
        id, total = self._diff_ids[at].removeprefix("sha256:")[:12], self._sizes[at]
        done, next_time = 0, 0.0
        async for chunk in self._archive.stream(self._members[at]):
            done += len(chunk)
            if not self._job.params.quiet and (time.monotonic() >= next_time or done == total):
                self._job.emit(Progress("Loading layer", id, done, total))
                next_time = time.monotonic() + INTERVAL
            yield chunk
