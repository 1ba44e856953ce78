"""Job `layer_pack`: a layer as gzip, which every registry and every client takes.

The same tar gives the same bytes: no time and no name is in the header, and the level is fixed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from windlass.engine import Job
from windlass.engine.errors import NotFound
from windlass.jobs.images import Blob, LayerPack
from windlass.lib.blobs import Writer
from windlass.lib.decompress import decompressed

from .keep import GZIP
from .store import Store

LEVEL = 1
WINDOW = 31  # zlib's largest window, with a gzip header (zlib.h, deflateInit2)


async def layer_pack(store: Store, job: Job[LayerPack]) -> Blob:
    """Give the gzip blob of a layer."""
    chain = job.params.chain
    async with store.work(), store.packing:
        while True:
            kept = [blob for blob in await store.blobs_of(chain) if await store.blobs.has(blob.digest)]
            for blob in kept:
                if blob.media_type.endswith("gzip"):
                    return blob
            if not kept:
                raise NotFound(f"layer {chain} cannot be pushed: nothing is kept that it could be made of")
            with suppress(FileNotFoundError):  # another push has made gzip of it, and taken it away
                packed = await _pack(store, kept[0])
                await store.add_blob(chain, packed)
                return packed


async def _pack(store: Store, source: Blob) -> Blob:
    from zlib_ng import zlib_ng

    writer = await store.blobs.writer()
    try:
        compressor: Any = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, WINDOW)
        async for data in decompressed(store.blobs.read(source.digest)):
            await trio.to_thread.run_sync(_compress, compressor, data, writer)
        await writer.write(compressor.flush())
        size = writer.size
        return Blob(await writer.commit(), size, GZIP)
    finally:
        writer.close()


def _compress(compressor: Any, data: bytes, writer: Writer) -> None:
    if packed := compressor.compress(data):
        writer.write_now(packed)
