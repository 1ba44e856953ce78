"""Layers out of streams: unpacked, and their blobs kept, in one go. What goes wrong is told as the client's fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError
from windlass.graphdriver.driver import LayerError
from windlass.lib.decompress import CompressionError, bounded
from windlass.lib.groups import first_error

from .keep import Keeper
from .store import Layer, Store

CHUNK = 256 << 10


async def apply(
    store: Store,
    keeper: Keeper,
    id: str | None,
    parent: str | None,
    chunks: AsyncIterator[bytes],
    wait_parent: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
) -> tuple[Layer, str]:
    """Unpack a layer and keep its blob; return it with its diff id. Raises BadParameter, JobError."""
    try:
        async with keeper.keep(chunks) as keep:
            plain = bounded(keep.plain(), store.blobs.root)
            chain, applied = await store.graph.apply(id, parent, plain, wait_parent)
    except BaseExceptionGroup as group:
        raise as_told(first_error(group)) from group
    return Layer(chain, applied.size, keep.blobs(applied.diff_id)), applied.diff_id


def as_told(error: BaseException) -> BaseException:
    """A layer's failure as the client shall read it: its own fault, or the disk's."""
    if isinstance(error, LayerError | CompressionError):
        return BadParameter(str(error))
    if isinstance(error, OSError):
        return JobError(f"failed to register layer: {error.strerror or error}")
    return error


async def stdin(job: Job[Any]) -> AsyncIterator[bytes]:
    """What the client sends."""
    while job.stdin is not None and (chunk := await job.stdin.receive_some(CHUNK)):
        yield bytes(chunk)
