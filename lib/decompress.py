"""Compressed streams made plain: gzip, zstd, bzip2 and xz, told apart by their first bytes.

The libraries decompress, in a thread; no program is started, wherever it may be (CVE-2026-41567). A step gives at
most STEP bytes, however small the input that they come from, and the window of a format that has one is bounded: a
stranger's stream costs time, never memory.

A zstd stream that is cut is not told from one that has ended: its readers find out, by the end of the tar in it and
by the digest of the whole.
"""

from __future__ import annotations

import bz2
import errno
import io
import lzma
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol, cast

import trio

STEP = 1 << 20
CHECK = 32 << 20  # bytes between two looks at the free space
RESERVE = 50  # the part of a file system, one in so many, that no image may fill
MAGIC_MAX = 6
XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MiB to decompress
ZSTD_WINDOW = 128 << 20  # bytes; what zstd(1) accepts without being told


class CompressionError(Exception):
    """The stream is damaged, cut, or needs too much memory."""


class Reader(Protocol):
    """A decompressor with a source behind it: `read1` blocks, and gives b"" at the end."""

    def read1(self, size: int, /) -> bytes: ...


async def decompressed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what `chunks` hold, decompressed if they are compressed. Raises CompressionError."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= MAGIC_MAX:
            break
    make = next((make for magic, make in FORMATS.items() if head.startswith(magic)), None)
    if make is None:
        if head:
            yield head
        async for chunk in chunks:
            yield chunk
        return
    reader = await trio.to_thread.run_sync(make, _Source(head, chunks))
    while data := await trio.to_thread.run_sync(_step, reader):
        yield data


async def bounded(chunks: AsyncIterator[bytes], where: Path) -> AsyncIterator[bytes]:
    """`chunks`, as long as the file system of `where` does not fill up: a bomb ends there. Raises OSError (ENOSPC)."""
    unchecked = CHECK
    async for chunk in chunks:
        unchecked += len(chunk)
        if unchecked >= CHECK:
            unchecked = 0
            found = os.statvfs(where)
            if found.f_bavail < found.f_blocks // RESERVE:
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: the image would fill the disk")
        yield chunk


def _step(reader: Reader) -> bytes:
    try:
        return reader.read1(STEP)
    except _damage() as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise  # the source's, not the format's
        raise CompressionError(f"invalid compressed stream: {exc}") from exc


def _damage() -> tuple[type[Exception], ...]:
    """What the libraries raise. Two of them are imported where they are needed: they take memory."""
    import zstandard
    from zlib_ng import zlib_ng

    ours: Any = zlib_ng.error  # its stub has an instance
    return EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ours


class _Source(io.RawIOBase):
    """The chunks as a file, for a thread that trio runs: the next one is asked for in the loop."""

    def __init__(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._rest = memoryview(head)
        self._chunks = chunks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = trio.from_thread.run(self._next)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)


class _Members:
    """Reads one member after the other; zeros between and after them are padding."""

    def __init__(self, source: _Source, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._source = source
        self._make = make
        self._current = make()
        self._pending = b""

    def read1(self, size: int) -> bytes:
        while True:
            if self._current.eof and not self._begin_next():
                return b""
            data = self._pending
            self._pending = b""
            if not data and self._current.needs_input and not (data := self._source.read(STEP) or b""):
                raise EOFError("the stream is cut")
            if plain := self._current.decompress(data, size):
                return plain

    def _begin_next(self) -> bool:
        """Skip padding and begin the next member, if there is one."""
        rest = self._current.unused_data.lstrip(b"\0")
        while not rest:
            data = self._source.read(STEP)
            if not data:
                return False
            rest = data.lstrip(b"\0")
        self._current = self._make()
        self._pending = rest
        return True


def _gzip(source: _Source) -> Reader:
    from zlib_ng import gzip_ng

    make: Any = gzip_ng.GzipNGFile  # has no types
    return cast(Reader, make(fileobj=source, mode="rb"))


def _zstd(source: _Source) -> Reader:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    return decompressor.stream_reader(cast(Any, source), read_size=64 << 10, read_across_frames=True)


def _bzip2(source: _Source) -> Reader:
    return _Members(source, bz2.BZ2Decompressor)


def _xz(source: _Source) -> Reader:
    return _Members(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY))


FORMATS: dict[bytes, Callable[[_Source], Reader]] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": _bzip2,
    b"\xfd7zXZ\0": _xz,
}
