"""A connection that has become a job's stdin and stdout, as `attach` and `exec start` take it over.

Handlers write plain bytes to stdout and stderr; without a terminal they go out in Docker's frames. Or they take the
socket itself, with `detach`, and hand it to a process: then the framing is theirs.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import trio

from windlass.engine.errors import JobError
from windlass.engine.streams import copy, frame

from . import wire
from .exchange import Exchange
from .head import Version
from .sockets import SocketStream


class Hijacked(trio.abc.HalfCloseableStream):
    """Both directions of the client's connection, from the job's `ready` on. Half-closing it ends stdin alone."""

    def __init__(self, exchange: Exchange, version: Version) -> None:
        self._exchange = exchange
        self._connection = exchange.connection
        self._version = version
        self._lock = trio.Lock()
        self._is_framed = True
        self.stderr = Stderr(self)

    async def begin(self, ready: Any) -> None:
        """Send the head; what the job said at `ready` tells whether there is a terminal."""
        if self._exchange.begun:
            return
        self._is_framed = not wire.has_tty(ready)
        try:
            await self._exchange.switch("tcp", wire.stream_type(self._version, not self._is_framed))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._connection.at_end = True  # the job finds out when it reads

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        connection = self._connection
        if not connection.buffer:
            await connection.fill()
        else:
            await trio.lowlevel.checkpoint()
        return connection.take(max_bytes or 65536)

    async def send_all(self, data: Any) -> None:
        await self.send(1, data)

    async def send(self, number: int, data: Any) -> None:
        """Write to stdout (1) or stderr (2). Raises BrokenResourceError when the client is gone."""
        await self.begin(None)
        if data:
            async with self._lock:
                await self._connection.send(frame(number, bytes(data)) if self._is_framed else bytes(data))

    async def send_eof(self) -> None:
        stream = self._connection.stream
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()

    async def wait_send_all_might_not_block(self) -> None:
        await self._connection.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Leave the connection to its server, which closes it: an error may still have to be told."""
        await trio.lowlevel.checkpoint()

    async def farewell(self, error: JobError) -> None:
        """Tell the client why the job failed, unless the socket is another's by now."""
        if not self._connection.is_detached:
            await self.send(1, f"{error.message}\r\n".encode())

    def detach(self) -> tuple[int, bytes]:
        """Give up the socket: its fd, non-blocking and the caller's to close, and what the client has sent ahead.

        Only after `ready`, whose answer would else come too late: raises RuntimeError. Over TLS it is one end of a
        socket pair, copied to and from the client for as long as both last.
        """
        connection = self._connection
        if not self._exchange.begun:
            raise RuntimeError("a job says ready before it takes the connection")
        early = connection.take(len(connection.buffer))
        connection.is_detached = True
        if isinstance(connection.stream, SocketStream):
            return connection.stream.detach(), early
        ours, theirs = socket.socketpair()
        connection.spawn(bridge, connection.stream, SocketStream(ours))
        return theirs.detach(), early


class Stderr(trio.abc.SendStream):
    """The job's stderr, in frames of the same connection."""

    def __init__(self, stream: Hijacked) -> None:
        self._stream = stream

    async def send_all(self, data: Any) -> None:
        await self._stream.send(2, data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def bridge(client: trio.abc.Stream, pair: SocketStream) -> None:
    """Copy between a TLS client and a socket pair until both have ended, and close both."""
    async with client, pair, trio.open_nursery() as nursery:

        async def upstream() -> None:
            try:
                await copy(client, pair)
                await pair.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client or the process is gone; what it still writes goes nowhere

        nursery.start_soon(upstream)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await copy(pair, client)
        nursery.cancel_scope.cancel()  # the process has ended: so has the client's session
