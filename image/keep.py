"""Keeps the blobs of layers that come in an archive, so that push and save need not make them.

A layer that comes as gzip or zstd is kept as it is. Any other is kept as zstd, which costs a fraction of what gzip
does; who wants gzip, a push for one, makes it when it is wanted. That the tar itself is known, by its digest and size,
is recorded too: who wants it, a save for one, has only to decompress.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from windlass.jobs.images import Blob
from windlass.lib.blobs import Writer
from windlass.lib.decompress import decompressed

from .store import Store

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP, ZSTD = f"{TAR}+gzip", f"{TAR}+zstd"
KEPT_AS_IT_IS = {b"\x1f\x8b": GZIP, b"\x28\xb5": ZSTD}
LEVEL = 1
AHEAD = 4  # chunks that the unpacking may be ahead of the keeping


@asynccontextmanager
async def keeping(store: Store) -> AsyncIterator[Keeper]:
    """A Keeper; when the job fails, what it kept is taken away."""
    keeper = Keeper(store)
    try:
        yield keeper
    except BaseException:
        await keeper.forget()
        raise


class Keeper:
    """What one job keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.digests: set[str] = set()

    @asynccontextmanager
    async def keep(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Keep]:
        """Keep a layer's blob while it is read through `plain` of what this gives, whose blobs are known afterwards."""
        writer = await self._store.blobs.writer()
        try:
            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel[tuple[bytes, bool]](AHEAD)
                keep = Keep(chunks, send)
                nursery.start_soon(keep.write, writer, receive)
                async with send:
                    yield keep
            size = writer.size
            keep.kept = Blob(await writer.commit(), size, keep.media_type)
            self.digests.add(keep.kept.digest)
        finally:
            writer.close()

    async def forget(self) -> None:
        """Take away what no image has."""
        with trio.CancelScope(shield=True):
            await self._store.blobs.remove(await self._store.strangers(self.digests))


class Keep:
    """One layer that is being kept."""

    def __init__(self, chunks: AsyncIterator[bytes], send: trio.MemorySendChannel[tuple[bytes, bool]]) -> None:
        self.kept: Blob | None = None
        self.media_type = ""
        self._size = 0
        self._is_raw = False
        self._chunks, self._send = chunks, send

    async def plain(self) -> AsyncIterator[bytes]:
        """The layer's tar."""
        async for data in decompressed(self._raw()):
            self._size += len(data)
            if self.media_type == ZSTD and not self._is_raw:
                await self._send.send((data, False))
            yield data

    def blobs(self, diff_id: str) -> tuple[Blob, ...]:
        """What the layer is known as: the blob that is kept, and its tar where that is how it came."""
        assert self.kept is not None
        return (self.kept,) if self._is_raw else (self.kept, Blob(diff_id, self._size, TAR))

    async def _raw(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            if not self.media_type:
                found = KEPT_AS_IT_IS.get(chunk[:2])
                self._is_raw = found is not None
                self.media_type = found or ZSTD
            if self._is_raw:
                await self._send.send((chunk, True))
            yield chunk

    async def write(self, writer: Writer, chunks: trio.MemoryReceiveChannel[tuple[bytes, bool]]) -> None:
        """Write what comes until there is no more, compressed unless it is as it shall be."""
        import zstandard

        compressor: Any = None
        async for data, is_raw in chunks:
            if is_raw:
                await writer.write(data)
                continue
            compressor = compressor or zstandard.ZstdCompressor(level=LEVEL).compressobj()
            await trio.to_thread.run_sync(_compress, compressor, data, writer)
        if compressor is not None:
            await writer.write(compressor.flush())


def _compress(compressor: Any, data: bytes, writer: Writer) -> None:
    if packed := compressor.compress(data):
        writer.write_now(packed)
