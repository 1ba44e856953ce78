"""One client's HTTP connection, over any trio stream.

The buffer is ours: a head is cut out of it and given to the strict parser, or, when that declines, to h11. What
comes after a request stays in the buffer, for the next request of a pipelining client or for whoever takes the
connection over. The deadline moves with the phase; the server looks at all of them now and then, which is cheaper
than a timer for each:

    idle ──first byte──▶ head ──▶ request runs (none) ──▶ answer is sent ──▶ idle
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from math import inf
from time import monotonic

import trio

from windlass.engine import Peer

from . import fast
from .body import Body
from .errors import Refused
from .head import Head
from .limits import Limits
from .sockets import CHUNK, SocketStream

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class Connection:
    """A stream, what has been read ahead of it, and whether it may carry another request."""

    __slots__ = (
        "at_end", "buffer", "deadline", "head_time", "idle", "is_detached", "is_local", "is_tls", "limits", "peer",
        "reads_head", "reset", "scope", "spawn", "stream",
    )  # fmt: skip

    def __init__(
        self,
        stream: trio.abc.Stream,
        limits: Limits,
        peer: Peer,
        spawn: Callable[..., None],
        *,
        is_local: bool = True,
        is_tls: bool = False,
    ) -> None:
        self.stream = stream
        self.spawn = spawn  # starts a task that outlives the request: copying, for who takes a TLS connection
        self.limits = limits
        self.peer = peer
        self.is_local = is_local  # a unix socket: no browser reaches it
        self.is_tls = is_tls
        self.buffer = bytearray()
        self.scope = trio.CancelScope()
        self.deadline = inf
        self.head_time = limits.head_time_unix if is_local else limits.head_time_tcp
        self.idle = True  # between two requests
        self.reads_head = True
        self.at_end = False  # the client sends no more
        self.is_detached = False  # somebody else owns the socket now
        self.reset = False  # the client is not to take what it got for a whole answer

    # -- bytes ---------------------------------------------------------------------------------------------------

    async def fill(self) -> bool:
        """Read once into the buffer; False at the client's end, a reset included."""
        if not self.at_end:
            try:
                data = await self.stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if data:
                self.buffer += data
                return True
            self.at_end = True
        return False

    def take(self, size: int) -> bytes:
        """Take at most `size` bytes out of the buffer."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises BrokenResourceError when the client is gone; one that does not read for too long
        ends the connection.
        """
        stream = self.stream
        if isinstance(stream, SocketStream) and (sent := stream.send_now(data)):
            if sent == len(data):
                return
            data = data[sent:]
        previous = self.deadline
        self.due(self.limits.stall)
        await stream.send_all(data)
        self.deadline = previous

    def due(self, seconds: float) -> None:
        """Move the deadline, after which the server's watch ends the connection."""
        self.deadline = monotonic() + seconds

    def expire(self) -> None:
        """End the connection: its time is up."""
        self.reset = True
        self.scope.cancel()

    # -- requests ------------------------------------------------------------------------------------------------

    async def next_request(self) -> tuple[Head, Body] | None:
        """Read the next head; None when the client has ended the connection.

        Raises Refused for what is no HTTP, or too long; nothing after that can be trusted.
        """
        buffer, scanned = self.buffer, 0
        self.reads_head = True
        self.due(self.limits.idle if not buffer else self.head_time)
        while (end := buffer.find(b"\r\n\r\n", max(0, scanned - 3))) < 0:
            self._refuse_early(scanned)
            scanned = len(buffer)
            if not await self.fill():
                return None
            if not scanned:
                self.idle = False
                self.due(self.head_time)
        self.idle = False
        head = self.take(end + 4)
        self.deadline = inf
        self.reads_head = False
        return self._parse(head)

    def _parse(self, head: bytes) -> tuple[Head, Body]:
        limits = self.limits
        if len(head) > limits.head:
            raise Refused(431, f"the headers are longer than {limits.head} bytes")
        if len(head) > limits.line:
            _refuse_long_lines(head, limits.line)
        parsed = fast.parse_again(head, limits.fields)
        if parsed is not None:
            return parsed, Body(self, parsed)
        from . import slow  # h11: 5 ms, which no start has to wait for

        parsed, connection = slow.parse(head, limits.fields, limits.head)
        return parsed, Body(self, parsed, slow.Chunks(connection) if parsed.length is None else None)

    def _refuse_early(self, scanned: int) -> None:
        """Refuse a head that cannot become a good one, without waiting for its end."""
        buffer, limits = self.buffer, self.limits
        if not buffer:
            return
        if scanned == 0 and buffer[0] not in _TOKEN:
            raise Refused(400, "this is no HTTP request")
        start = buffer.find(b"\n", max(0, scanned - 1))
        while start >= 0:
            if start == 0 or buffer[start - 1] != 13:
                raise Refused(400, "a line that does not end in CR LF")
            start = buffer.find(b"\n", start + 1)
        if len(buffer) > limits.line:
            _refuse_long_lines(bytes(buffer), limits.line)
        if len(buffer) > limits.head:
            raise Refused(431, f"the headers are longer than {limits.head} bytes")

    async def watch(self, body: Body) -> None:
        """Return when the client is gone, once it has sent its body. What it sends ahead is kept, up to a limit."""
        await body.wait_complete()
        while len(self.buffer) < CHUNK:
            if not await self.fill():
                return
        await trio.sleep_forever()

    # -- the end -------------------------------------------------------------------------------------------------

    async def linger(self) -> None:
        """End our side and let the client read: closing with unread bytes would reset what we just sent."""
        self.idle = True  # a server that stops need not wait
        with trio.move_on_after(self.limits.linger):
            try:
                if isinstance(self.stream, trio.abc.HalfCloseableStream):
                    await self.stream.send_eof()
                for _ in range(self.limits.drain // 1024):
                    self.buffer.clear()
                    if not await self.fill():
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def aclose(self) -> None:
        """Close the stream, unless it was handed on. Never raises, and takes a second at most."""
        if self.is_detached:
            return
        if isinstance(self.stream, SocketStream) and not self.reset:
            self.stream.close()
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + (1.0 if self.is_tls else inf)):
            if self.is_tls and not self.reset:
                await self.stream.aclose()
                return
            if self.reset and isinstance(self.stream, SocketStream):
                self.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(self.stream)


def _refuse_long_lines(head: bytes, limit: int) -> None:
    first, *rest = head.split(b"\r\n")
    if len(first) > limit:
        raise Refused(414, f"the request line is longer than {limit} bytes")
    if any(len(line) > limit for line in rest):
        raise Refused(431, f"a header is longer than {limit} bytes")
