"""Plain bytes out of compressed ones, with bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import resource
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import zstandard

from windlass.lib.decompress import STEP, CompressionError, decompressed

DATA = random.Random(1).randbytes(200_000) + b"a" * 1_500_000
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(level=1).compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}
formats = pytest.mark.parametrize("compress", FORMATS.values(), ids=FORMATS)


async def cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def plain(data: bytes, size: int = 65536) -> bytes:
    return b"".join([chunk async for chunk in decompressed(cut(data, size))])


@formats
@pytest.mark.parametrize("size", [700, 65536, 1 << 30])
async def test_every_format_comes_out_however_it_is_cut(compress: Callable[[bytes], bytes], size: int) -> None:
    assert await plain(compress(DATA), size) == DATA


@formats
async def test_single_bytes_are_enough(compress: Callable[[bytes], bytes]) -> None:
    assert await plain(compress(b"hello" * 20), 1) == b"hello" * 20


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f", b"plain text, long enough", os.urandom(100_000)])
async def test_plain_data_is_left_alone(data: bytes) -> None:
    assert await plain(data, 3 if len(data) < 100 else 65536) == data


@formats
async def test_members_one_after_the_other_are_one_stream(compress: Callable[[bytes], bytes]) -> None:
    two = compress(DATA) + compress(b"second")
    assert await plain(two) == await plain(two, 1000) == DATA + b"second"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
async def test_a_cut_stream_is_refused(name: str) -> None:
    """A cut zstd stream is found out by who reads the tar in it: see test_import.py."""
    whole = FORMATS[name](DATA)
    for end in (7, len(whole) // 2, len(whole) - 1):
        with pytest.raises(CompressionError):
            await plain(whole[:end])


@formats
async def test_a_damaged_stream_is_refused(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(os.urandom(50_000))
    with pytest.raises(CompressionError):
        await plain(whole[:6] + b"\xff" * 2000 + whole[2006:])


@formats
async def test_a_bomb_comes_out_in_small_steps(compress: Callable[[bytes], bytes]) -> None:
    """Much more comes out than may be in memory at once."""
    bomb = compress(bytes(96 << 20))
    before, total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    async for chunk in decompressed(cut(bomb, 256 << 10)):
        assert len(chunk) <= STEP
        total += len(chunk)
    assert total == 96 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10  # KiB


async def test_a_stream_that_wants_much_memory_is_refused() -> None:
    """Source: xz-file-format.txt, 3.1: the block's header, its filter's one byte of dictionary size, its CRC."""
    stream = bytearray(lzma.compress(b"x", preset=0))
    assert stream[14:16] == b"\x21\x01"
    stream[16] = 36  # 1 GiB
    end = 12 + (stream[12] + 1) * 4
    stream[end - 4 : end] = zlib.crc32(stream[12 : end - 4]).to_bytes(4, "little")
    with pytest.raises(CompressionError, match="[Mm]emory"):
        await plain(bytes(stream))


async def test_what_the_source_raises_comes_through() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield gzip.compress(DATA)[:5000]
        raise ConnectionResetError(104, "gone")

    with pytest.raises(ConnectionResetError):
        async for _ in decompressed(broken()):
            pass


async def test_a_source_that_says_nothing_can_be_cancelled() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield gzip.compress(DATA)[:5000]
        await trio.sleep_forever()

    with trio.move_on_after(0.1) as scope:
        async for _ in decompressed(silent()):
            pass
    assert scope.cancelled_caught
