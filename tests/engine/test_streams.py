"""Pipes, taps, captures, files, and Docker's multiplexing."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine import Engine, streams
from windlass.engine.streams import Capture, Demultiplexer, Null, Tap, frame


class Broken(Null):
    async def send_all(self, data: Any) -> None:
        raise trio.BrokenResourceError("gone")


def test_a_frame_has_dockers_header() -> None:
    assert frame(2, b"oops") == b"\x02\0\0\0\0\0\0\x04oops"


@given(st.lists(st.tuples(st.integers(0, 7), st.binary(max_size=40))), st.integers(1, 13))
def test_frames_are_found_however_they_are_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(stream, payload) for stream, payload in frames)
    demultiplexer = Demultiplexer()
    found = [each for at in range(0, len(data), size) for each in demultiplexer.feed(data[at : at + size])]
    assert found == frames and demultiplexer.is_between_frames


@pytest.mark.parametrize(
    "data", [b"\x08\0\0\0\0\0\0\0", b"\x01x\0\0\0\0\0\0", b"\x01\0\0\0\xff\xff\xff\xff", b"GET / HT"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="unrecognized input header"):
        Demultiplexer().feed(data)


def test_a_stream_cut_in_a_frame_is_seen() -> None:
    demultiplexer = Demultiplexer()
    assert demultiplexer.feed(frame(1, b"abc")[:-1]) == []
    assert not demultiplexer.is_between_frames


async def test_a_pipe_carries_bytes_and_their_end() -> None:
    writer, reader = streams.pipe()
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for line in (b"one\n", b"", b"\n\n", b"x" * 200_000):
                await writer.send_all(line)
            await writer.aclose()

        nursery.start_soon(write)
        got = b""
        while data := await reader.receive_some():
            assert len(data) <= streams.CHUNK
            got += data
    assert got == b"one\n\n\n" + b"x" * 200_000


async def test_a_full_pipe_waits_and_a_reader_that_leaves_breaks_it() -> None:
    writer, reader = streams.pipe(1)
    await writer.send_all(b"1")
    with trio.move_on_after(0.01) as scope:
        await writer.send_all(b"2")
    assert scope.cancelled_caught
    await reader.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await writer.send_all(b"3")


async def test_a_reader_takes_as_little_as_it_wants() -> None:
    reader = streams.source(b"abcdef")
    assert [await reader.receive_some(4), await reader.receive_some(4), await reader.receive_some()] == [
        b"abcd", b"ef", b"",
    ]  # fmt: skip


async def test_a_source_of_nothing_ends_at_once() -> None:
    assert await streams.source(b"").receive_some() == b""


async def test_a_capture_keeps_the_end_and_counts_the_rest() -> None:
    """Q6: 1.3 kept all of stderr for ever."""
    capture = Capture(limit=4)
    await capture.send_all(b"abc")
    await capture.send_all(b"def")
    assert (capture.data, capture.dropped, capture.text) == (b"cdef", 2, "cdef")


async def test_a_tap_goes_on_without_those_that_fail() -> None:
    left = Capture()
    tap = Tap(Broken(), left)
    await tap.send_all(b"a")
    tap.add(right := Capture())
    await tap.send_all(b"b")
    assert (left.data, right.data) == (b"ab", b"b")


async def test_a_tap_without_destinations_breaks() -> None:
    tap = Tap(Broken())
    with pytest.raises(trio.BrokenResourceError):
        await tap.send_all(b"a")


async def test_multiplexed_frames_stay_whole() -> None:
    capture, lock = Capture(), trio.Lock()
    out, err = (streams.Multiplexed(capture, number, lock) for number in (1, 2))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(out.send_all, b"out")
            nursery.start_soon(err.send_all, b"error")
    await out.send_all(b"")
    found = Demultiplexer().feed(capture.data)
    assert sorted(found) == [(1, b"out")] * 20 + [(2, b"error")] * 20


async def test_files_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        await streams.FileSink(file).send_all(b"hello")
        assert path.read_bytes() == b"hello", "each write is flushed"
    with path.open("rb") as file:
        capture = Capture()
        await streams.copy(streams.FileSource(file), capture)
    assert capture.data == b"hello"


async def test_a_file_whose_reader_is_gone_is_broken() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as file, pytest.raises(trio.BrokenResourceError):
        await streams.FileSink(file).send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await streams.FileSink(file).send_all(b"x")


async def test_reading_a_file_that_gives_nothing_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, trio.move_on_after(0.05) as scope:
        try:
            await streams.FileSource(file).receive_some()
        finally:
            os.close(writing)
    assert scope.cancelled_caught


async def test_a_session_socket_stands_for_the_jobs_streams() -> None:
    job = Engine().job("attach")
    job.stdin = streams.source(b"to the process")
    job.stdout, job.stderr = out, err = Capture(), Capture()
    async with streams.session_socket(job, framed=True) as (fd, early):
        process = trio.SocketStream(trio.socket.fromfd(fd, trio.socket.AF_UNIX, trio.socket.SOCK_STREAM))
        got = b""
        while data := await process.receive_some():
            got += data
        await process.send_all(frame(1, b"result") + frame(2, b"complaint"))
        await process.aclose()
    assert (got, early, out.data, err.data) == (b"to the process", b"", b"result", b"complaint")


async def test_a_session_socket_without_frames_is_a_terminal() -> None:
    job = Engine().job("attach")
    job.stdout = out = Capture()
    async with streams.session_socket(job, framed=False) as (fd, _):
        os.write(fd, b"$ ")
    assert out.data == b"$ "
