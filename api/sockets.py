"""A socket as a trio stream, with half the overhead of trio's own.

Between a request and the next one a connection passes the scheduler once: when it waits for bytes. trio's SocketStream
passes it at every send and receive, succeed or not, which doubles the cost of a small answer. Reading always waits
here, so a client that never pauses cannot starve the others.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable

import trio

CHUNK = 64 << 10
_TRY_AGAIN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO})


class SocketStream(trio.abc.HalfCloseableStream):
    """A connected stream socket, owned by its instance."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read what is there. Raises BrokenResourceError after a reset, ClosedResourceError after `close`."""
        while True:
            await self._wait(trio.lowlevel.wait_readable)
            try:
                return self.sock.recv(max_bytes or CHUNK)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as exc:
                raise trio.BrokenResourceError(f"socket: {exc.strerror}") from exc

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; not a checkpoint when the socket takes it at once. Raises as `receive_some` does."""
        if (sent := self.send_now(data)) == len(data):
            return
        with memoryview(data) as view:
            while sent < len(view):
                await self._wait(trio.lowlevel.wait_writable)
                sent += self.send_now(view[sent:])

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send what the socket takes at once; return how many bytes that is."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            if self.sock.fileno() < 0:
                raise trio.ClosedResourceError("this socket is closed") from None
            raise trio.BrokenResourceError(f"socket: {exc.strerror}") from exc

    async def _wait(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        if self.sock.fileno() < 0:
            raise trio.ClosedResourceError("this socket is closed")
        await wait(self.sock)

    async def wait_send_all_might_not_block(self) -> None:
        await self._wait(trio.lowlevel.wait_writable)

    async def send_eof(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise trio.BrokenResourceError(f"socket: {exc.strerror}") from exc

    def detach(self) -> int:
        """Give the file descriptor away."""
        trio.lowlevel.notify_closing(self.sock)
        return self.sock.detach()

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


async def accept(listener: socket.socket) -> list[socket.socket]:
    """Wait for clients, and take all that are there. Raises OSError when the listener itself is broken."""
    await trio.lowlevel.wait_readable(listener)
    taken: list[socket.socket] = []
    while True:
        try:
            taken.append(listener.accept()[0])
        except (BlockingIOError, InterruptedError):
            return taken
        except OSError as exc:
            if exc.errno not in _TRY_AGAIN:
                raise
            if not taken:
                await trio.sleep(0.1)  # out of descriptors or memory: others must end first
            return taken
