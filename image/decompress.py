"""Plain bytes out of compressed ones: gzip, zstd, bzip2, xz, or nothing, told by the first bytes.

Decompressors are libraries in this process, never a program looked up somewhere (CVE-2014-9357, CVE-2026-41567).
Each step gives at most STEP bytes, so that a bomb costs time, not memory.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import AsyncIterator, Generator
from typing import Any, cast

import trio
import zstandard
from zlib_ng import zlib_ng

DAMAGE: tuple[type[Exception], ...] = (
    cast(type[Exception], zlib_ng.error),
    OSError,
    EOFError,
    lzma.LZMAError,
    zstandard.ZstdError,
    ValueError,
)

STEP = 1 << 20
MAGIC = 6


class CompressionError(Exception):
    """The stream is damaged, or cut short."""


class _Gzip:
    """zlib's object with the interface that bz2 and lzma have."""

    def __init__(self) -> None:
        self._object = zlib_ng.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        plain: bytes = self._object.decompress(self._object.unconsumed_tail + data, max_length)
        return plain

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)


FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_MAKERS: dict[str, Any] = {"gzip": _Gzip, "bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}


def format_of(head: bytes) -> str:
    """What a stream that begins with `head` is compressed with; empty for nothing."""
    return next((name for magic, name in FORMATS if head.startswith(magic)), "")


async def decompressed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The plain bytes of `chunks`. Raises CompressionError."""
    head, source = await _peek(chunks)
    name = format_of(head)
    if not name:
        async for chunk in source:
            yield chunk
        return
    steps = _zstd if name == "zstd" else _generic
    state = steps(name)
    next(state)
    async for chunk in source:
        for plain in await trio.to_thread.run_sync(_step, state, chunk, name):
            yield plain
    for plain in await trio.to_thread.run_sync(_step, state, b"", name):
        yield plain


def _step(state: Any, chunk: bytes, name: str) -> list[bytes]:
    """All the plain bytes that one compressed chunk gives: bounded by the chunk's size and the format's ratio."""
    try:
        return [plain for plain in state.send(chunk) if plain]
    except DAMAGE as exc:
        raise CompressionError(f"invalid {name} stream: {exc}") from exc


def _generic(name: str) -> Generator[list[bytes], bytes, None]:
    """A coroutine: compressed chunks in, lists of plain ones out; an empty chunk ends it."""
    decompressor: Any = _MAKERS[name]()
    out: list[bytes] = []
    while True:
        chunk = yield out
        out = []
        if not chunk:
            if not decompressor.eof:
                raise EOFError("it is cut short")
            continue
        while chunk or not decompressor.needs_input:
            if decompressor.eof:  # a further member, or padding
                chunk = (decompressor.unused_data or chunk).lstrip(b"\0")
                if not chunk:
                    break
                decompressor = _MAKERS[name]()
            out.append(decompressor.decompress(chunk, STEP))
            chunk = b""
            if decompressor.eof:
                chunk = decompressor.unused_data.lstrip(b"\0")
                if not chunk:
                    break
                decompressor = _MAKERS[name]()


def _zstd(name: str) -> Generator[list[bytes], bytes, None]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=True)
    out: list[bytes] = []
    seen = 0
    while True:
        chunk = yield out
        if not chunk and not seen:
            raise EOFError("it is cut short")
        seen += len(chunk)
        out = [decompressor.decompress(chunk)] if chunk else []


async def _peek(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= MAGIC:
            break
    return head[:MAGIC], _chain(head, chunks)


async def _chain(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk
