"""A request's body: of a known length, or in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from windlass.engine.errors import BadParameter

from .errors import Refused
from .head import Head

if TYPE_CHECKING:
    from .http import Connection
    from .slow import Chunks

CHUNK = 64 << 10


class Body(trio.abc.ReceiveStream):
    """What the client sends after the head. It need not be read: the connection drains it, or is closed.

    Reading raises BadParameter when the client leaves, stalls or breaks the chunks: the request is at fault, whoever
    reads it.
    """

    def __init__(self, connection: Connection, head: Head, chunks: Chunks | None = None) -> None:
        self._connection = connection
        self._chunks = chunks
        self._left = head.length or 0
        self._complete: trio.Event | None = None
        self._must_continue = head.expects_continue and head.has_body
        self.is_broken = False

    @property
    def is_complete(self) -> bool:
        return self._chunks.at_end if self._chunks is not None else self._left == 0

    @property
    def is_drainable(self) -> bool:
        """True when what is left is little enough to read it rather than to close the connection."""
        known = self._chunks is None and self._left <= self._connection.limits.drain
        return self.is_complete or (known and not self._must_continue and not self.is_broken)

    async def wait_complete(self) -> None:
        """Wait until the whole body has been read."""
        while not self.is_complete:
            self._complete = self._complete or trio.Event()
            await self._complete.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self.is_complete:
            await trio.lowlevel.checkpoint()
            return b""
        if self._must_continue:
            self._must_continue = False
            await self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = min(max_bytes or CHUNK, CHUNK)
        data = await (self._counted(size) if self._chunks is None else self._chunked(self._chunks))
        if self._complete is not None and self.is_complete:
            self._complete.set()
        return data

    async def _counted(self, size: int) -> bytes:
        connection = self._connection
        if not connection.buffer:
            await self._fill()
        data = connection.take(min(size, self._left))
        self._left -= len(data)
        return data

    async def _chunked(self, chunks: Chunks) -> bytes:
        connection = self._connection
        try:
            while True:
                if connection.buffer:
                    chunks.feed(connection.take(CHUNK))
                data = chunks.next()
                if chunks.at_end:
                    connection.buffer[:0] = chunks.rest
                    return b""
                if data:
                    return data
                if not connection.buffer:
                    await self._fill()
        except Refused as exc:
            self.is_broken = True
            raise BadParameter(exc.message) from None

    async def _fill(self) -> None:
        stall = self._connection.limits.stall
        with trio.move_on_after(stall) as scope:
            if await self._connection.fill():
                return
        self.is_broken = True
        if scope.cancelled_caught:
            raise BadParameter(f"nothing of the body came for {stall:g} s")
        raise BadParameter("the body ended too early")

    async def read_all(self, limit: int) -> bytes:
        """Read the whole body. Raises Refused when it is longer than `limit` bytes."""
        if self._left > limit:
            raise Refused(413, f"the body is longer than {limit} bytes")
        parts, size = [], 0
        while data := await self.receive_some():
            parts.append(data)
            size += len(data)
            if size > limit:
                self.is_broken = True
                raise Refused(413, f"the body is longer than {limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drain(self) -> None:
        """Read what is left, so that the next request can be found. Raises BadParameter."""
        while not self.is_complete:
            await self.receive_some()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
