"""Bytes in and out of jobs: pipes, taps, capture, null, files, and Docker's multiplexing.

A job's `stdin` is a trio ReceiveStream, its `stdout` and `stderr` are SendStreams; None stands for "nobody". Who
opens a stream closes it. A consumer that leaves makes writes fail with BrokenResourceError; nothing here blocks for
ever on a reader that is gone, and nothing keeps more than it says.

Docker multiplexes stdout and stderr over one connection in frames: one byte for the stream (0 stdin, 1 stdout,
2 stderr), three zero bytes, the payload's length as 32 bits big-endian, the payload.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

import trio

if TYPE_CHECKING:
    from .job import Job

CHUNK = 64 * 1024
MAX_FRAME = 64 << 20
_FRAME = struct.Struct(">BxxxI")


def frame(stream: int, data: bytes) -> bytes:
    """One frame of Docker's multiplexed stream."""
    return _FRAME.pack(stream, len(data)) + data


class Demultiplexer:
    """Takes a multiplexed stream apart, however its bytes are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add `data`; return the whole frames so far, as (stream, payload).

        Raises ValueError for a stream number over 7, padding that is not zero, or a frame over MAX_FRAME bytes.
        """
        self._buffer += data
        frames = []
        while len(self._buffer) >= _FRAME.size:
            stream, size = _FRAME.unpack_from(self._buffer)
            if stream > 7 or any(self._buffer[1:4]) or size > MAX_FRAME:
                raise ValueError(f"unrecognized input header: {bytes(self._buffer[:8])!r}")
            if len(self._buffer) < _FRAME.size + size:
                break
            frames.append((stream, bytes(self._buffer[_FRAME.size : _FRAME.size + size])))
            del self._buffer[: _FRAME.size + size]
        return frames

    @property
    def is_between_frames(self) -> bool:
        """False when the stream was cut in the middle of a frame."""
        return not self._buffer


class Null(trio.abc.SendStream, trio.abc.ReceiveStream):
    """Takes everything and keeps nothing; gives nothing."""

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _Sink(trio.abc.SendStream):
    """What our sending streams have in common."""

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Capture(_Sink):
    """Keeps the last `limit` bytes that were written. `dropped` counts what had to go."""

    def __init__(self, limit: int = 16 << 20) -> None:
        self._data = bytearray()
        self._limit = limit
        self.dropped = 0

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._data += data
        if (excess := len(self._data) - self._limit) > 0:
            del self._data[:excess]
            self.dropped += excess

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")


class Tap(_Sink):
    """Writes to every destination, in order. One that fails is left out from then on; the others go on.

    Raises BrokenResourceError when no destination is left.
    """

    def __init__(self, *destinations: trio.abc.SendStream) -> None:
        self._destinations = list(destinations)

    def add(self, destination: trio.abc.SendStream) -> None:
        self._destinations.append(destination)

    async def send_all(self, data: Any) -> None:
        for destination in list(self._destinations):
            try:
                await destination.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._destinations.remove(destination)
        if not self._destinations:
            raise trio.BrokenResourceError("every destination is gone")


class Multiplexed(_Sink):
    """Writes to `destination` in frames of one stream number; `lock` keeps the frames of several whole."""

    def __init__(self, destination: trio.abc.SendStream, stream: int, lock: trio.Lock) -> None:
        self._destination = destination
        self._stream = stream
        self._lock = lock

    async def send_all(self, data: Any) -> None:
        if data:
            async with self._lock:
                await self._destination.send_all(frame(self._stream, bytes(data)))


class FileSink(_Sink):
    """Writes to a file object of the blocking world, in a thread, and flushes each time.

    Raises BrokenResourceError when the reader of a pipe is gone, ClosedResourceError when the file is closed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    async def send_all(self, data: Any) -> None:
        await trio.to_thread.run_sync(self._write, bytes(data))

    def _write(self, data: bytes) -> None:
        if self._file.closed:
            raise trio.ClosedResourceError("the file is closed")
        try:
            self._file.write(data)
            self._file.flush()
        except BrokenPipeError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc


class FileSource(trio.abc.ReceiveStream):
    """Reads a file object of the blocking world, in a thread that is abandoned on cancellation."""

    def __init__(self, file: IO[bytes]) -> None:
        self._read = getattr(file, "read1", file.read)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data: bytes = await trio.to_thread.run_sync(self._read, max_bytes or CHUNK, abandon_on_cancel=True)
        return data

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _PipeReader(trio.abc.ReceiveStream):
    def __init__(self, channel: trio.MemoryReceiveChannel[bytes]) -> None:
        self._channel = channel
        self._rest = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._rest:
            try:
                self._rest = await self._channel.receive()
            except trio.EndOfChannel:
                return b""
        size = max_bytes or len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def aclose(self) -> None:
        await self._channel.aclose()


class _PipeWriter(_Sink):
    def __init__(self, channel: trio.MemorySendChannel[bytes]) -> None:
        self._channel = channel

    async def send_all(self, data: Any) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            await self._channel.send(bytes(view[start : start + CHUNK]))

    async def aclose(self) -> None:
        await self._channel.aclose()


def pipe(chunks: int = 16) -> tuple[trio.abc.SendStream, trio.abc.ReceiveStream]:
    """A pipe in memory that holds `chunks` writes of at most 64 KiB; then the writer waits for the reader."""
    sender, receiver = trio.open_memory_channel[bytes](chunks)
    return _PipeWriter(sender), _PipeReader(receiver)


def source(data: bytes) -> trio.abc.ReceiveStream:
    """A stream that gives `data` and then its end."""
    sender, receiver = trio.open_memory_channel[bytes](1)
    if data:
        sender.send_nowait(data)
    sender.close()
    return _PipeReader(receiver)


async def copy(reader: trio.abc.ReceiveStream, writer: trio.abc.SendStream) -> None:
    """Copy until the reader's end. Raises what either raises."""
    while data := await reader.receive_some(CHUNK):
        await writer.send_all(data)


@runtime_checkable
class Detachable(Protocol):
    """A client's connection that can be handed to another process."""

    def detach(self) -> tuple[int, bytes]:
        """Give up the connection: its fd, now the caller's, and what the client has sent ahead.

        A connection that only we can read (TLS) gives one end of a socket pair, and copies meanwhile.
        """
        ...


@asynccontextmanager
async def session_socket(job: Job[Any], *, framed: bool) -> AsyncIterator[tuple[int, bytes]]:
    """Lend a socket that stands for the job's stdin, stdout and stderr, and the bytes sent ahead.

    A hijacked HTTP connection is handed out itself, and the daemon is off the data path. For any other job (a
    script's, a remote one) it is one end of a socket pair, whose other end is copied to and from the job's streams;
    with `framed` what comes is taken apart into stdout and stderr. The fd belongs to this function: duplicate it.
    """
    if isinstance(job.stdin, Detachable) and id(job.stdin) == id(job.stdout):
        fd, early = job.stdin.detach()
        handed = socket.socket(fileno=fd)
        try:
            yield handed.fileno(), early
        finally:
            handed.close()
        return
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        nursery.start_soon(_send_stdin, job, stream)
        done = trio.Event()
        nursery.start_soon(_receive_output, job, stream, framed, done)
        try:
            yield theirs.fileno(), b""
        finally:
            theirs.close()
        await done.wait()
        nursery.cancel_scope.cancel()


async def _send_stdin(job: Job[Any], stream: trio.SocketStream) -> None:
    try:
        if job.stdin is not None:
            await copy(job.stdin, stream)
        await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the process, or the client, is gone: its output's end says so


async def _receive_output(job: Job[Any], stream: trio.SocketStream, framed: bool, done: trio.Event) -> None:
    demultiplexer = Demultiplexer()
    outputs = {1: job.stdout, 2: job.stderr}
    async with stream:
        try:
            while data := await stream.receive_some(CHUNK):
                for number, payload in demultiplexer.feed(data) if framed else [(1, data)]:
                    if (output := outputs.get(number)) is not None:
                        await output.send_all(payload)
        except trio.BrokenResourceError:
            pass
        finally:
            done.set()
