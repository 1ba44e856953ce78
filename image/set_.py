"""Jobs between the images and the registries: `image_set`, `image_contents`, `image_keep`, `blob_sources`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Cancelled, JobError, Unavailable
from windlass.engine.params import parse_json
from windlass.graphdriver.driver import LayerError
from windlass.jobs.images import BlobSources, ImageContent, ImageContents, ImageKeep, ImageSet, LayerSource
from windlass.lib import reference
from windlass.lib.decompress import CompressionError, bounded, decompressed
from windlass.lib.groups import in_parallel

from . import config
from .events import tell
from .store import Layer, Origin, Store, chain_ids

INTERVAL = 0.1  # seconds between two lines of progress of one layer


async def image_set(store: Store, job: Job[ImageSet]) -> str:
    """Put an image on record whose layers are on their way."""
    params = job.params
    diff_ids = config.check(parse_json(params.config, "an image's configuration"))
    if len(diff_ids) != len(params.layers):
        raise BadParameter(
            f"layers from manifest don't match image configuration: {len(params.layers)} and {len(diff_ids)}"
        )
    name = reference.parse(params.name)
    async with store.work():
        try:
            layers = await _Incoming(store, chain_ids(diff_ids), params.layers).bring()
        except Exception as exc:
            await _clean_up(store, params.layers, exc)
            raise
        origin = Origin(name.repository, params.digest, params.manifest)
        id = await store.add(params.config, layers, [name] if name.tag else [], origin)
    await tell(job, "pull", name.familiar, name.familiar_name)
    return id


async def _clean_up(store: Store, layers: Sequence[LayerSource], error: Exception) -> None:
    """Take away what came for an image that can never be; after a cut it waits for the next attempt."""
    if isinstance(error, Cancelled | Unavailable) or store.is_shared:
        return
    with trio.CancelScope(shield=True):
        await store.blobs.remove(await store.strangers({layer.blob.digest for layer in layers}))


class _Incoming:
    """The layers of one image, lowest first: each is unpacked when it is here, and in its place after its parent."""

    def __init__(self, store: Store, chains: list[str], sources: Sequence[LayerSource]) -> None:
        self._store = store
        self._chains = chains
        self._sources = sources
        self._sizes = [0] * len(chains)
        self._placed = [trio.Event() for _ in chains]

    async def bring(self) -> list[Layer]:
        """Bring what is missing. Raises JobError for what cannot be had or is not what was promised."""
        missing = []
        for at, (chain, source) in enumerate(zip(self._chains, self._sources, strict=True)):
            if await self._store.graph.has(chain):
                source.tell("Already exists")
                self._sizes[at] = await self._store.graph.size(chain)
                self._placed[at].set()
            else:
                source.tell("Pulling fs layer")
                missing.append(at)
        await in_parallel(self._bring_one, [(at,) for at in missing])
        triples = zip(self._chains, self._sizes, self._sources, strict=True)
        return [Layer(chain, size, (source.blob,)) for chain, size, source in triples]

    async def _bring_one(self, at: int) -> None:
        source = self._sources[at]
        await source.fetch()
        chunks = bounded(
            decompressed(_told(self._store.blobs.read(source.blob.digest), source)), self._store.blobs.root
        )
        parent = self._chains[at - 1] if at else None
        try:
            _, applied = await self._store.graph.apply(
                self._chains[at], parent, chunks, self._placed[at - 1].wait if at else trio.lowlevel.checkpoint
            )
        except (LayerError, CompressionError) as exc:
            raise BadParameter(f"failed to register layer: {exc}") from exc
        except OSError as exc:  # the disk is full, or broken
            raise JobError(f"failed to register layer: {exc.strerror}") from exc
        self._sizes[at] = applied.size
        source.tell("Pull complete")
        self._placed[at].set()


async def _told(chunks: AsyncIterator[bytes], source: LayerSource) -> AsyncIterator[bytes]:
    """`chunks`, and how much of them has been unpacked."""
    done, next_time = 0, 0.0
    async for chunk in chunks:
        done += len(chunk)
        if time.monotonic() >= next_time or done == source.blob.size:
            source.tell("Extracting", done, source.blob.size)
            next_time = time.monotonic() + INTERVAL
        yield chunk


async def image_contents(store: Store, job: Job[ImageContents]) -> ImageContent:
    """Find what an image consists of."""
    return await store.contents(job.params.name)


async def image_keep(store: Store, job: Job[ImageKeep]) -> None:
    """Remember what a registry knows an image as."""
    params = job.params
    await store.keep(params.id, params.repository, params.manifest, params.blobs)


async def blob_sources(store: Store, job: Job[BlobSources]) -> list[str]:
    """Name the repositories that are known to have a blob."""
    return await store.sources(job.params.digest)
