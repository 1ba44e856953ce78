"""One request and its answer: whole, streamed, or the connection handed over."""

from __future__ import annotations

import time
from collections.abc import Iterable

import trio

from .body import Body
from .errors import REASONS
from .head import Head
from .http import Connection

JSON = "application/json"


class Exchange:
    """A request that is being answered. Nothing is kept back: what is written goes out at once.

    A streamed answer comes in chunks, or, for HTTP/1.0, until the connection's end.
    """

    __slots__ = ("_chunked", "begun", "body", "common", "connection", "has_switched", "head", "keep_alive")

    def __init__(self, connection: Connection, head: Head, body: Body, common: str) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.common = common  # headers of every answer, each with its line end
        self.keep_alive = head.keep_alive
        self.begun = False
        self.has_switched = False  # the connection is no longer HTTP
        self._chunked = False

    async def answer(
        self, status: int, body: bytes = b"", content_type: str = JSON, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Send a whole answer. Raises BrokenResourceError when the client is gone."""
        self.begun = True
        bodiless = status in (204, 304)
        head = self._head(status, "" if bodiless else content_type, headers)
        if not bodiless:
            head += f"Content-Length: {len(body)}\r\n"
        data = (head + "\r\n").encode("latin-1")
        await self.connection.send(data if bodiless or self.head.method == "HEAD" else data + body)

    async def begin(self, status: int, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send the head of a streamed answer; the second call does nothing."""
        if self.begun:
            return
        self.begun = True
        self._chunked = not self.head.http10
        self.keep_alive = self.keep_alive and self._chunked
        head = self._head(status, content_type, headers)
        if self._chunked:
            head += "Transfer-Encoding: chunked\r\n"
        await self.connection.send((head + "\r\n").encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Send a piece of a streamed answer. Raises BrokenResourceError when the client is gone."""
        if data and self.head.method != "HEAD":
            await self.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """Send a streamed answer's end."""
        if self._chunked and self.head.method != "HEAD":
            await self.connection.send(b"0\r\n\r\n")

    def abort(self) -> None:
        """Break a streamed answer off, so that no client takes it for whole."""
        self.keep_alive = False
        self.connection.reset = True

    async def switch(self, protocol: str, content_type: str) -> None:
        """Send the head after which the connection is no longer HTTP: 101 when the client asked for an upgrade."""
        self.begun = self.has_switched = True
        self.keep_alive = False
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        if self.head.upgrade:
            head = f"HTTP/1.1 101 UPGRADED\r\n{kind}Connection: Upgrade\r\nUpgrade: {protocol}\r\n"
        else:
            head = f"HTTP/1.1 200 OK\r\n{kind}"
        await self.connection.send((head + self.common + "\r\n").encode("latin-1"))

    def _head(self, status: int, content_type: str, headers: Iterable[tuple[str, str]]) -> str:
        if self.keep_alive and not self.body.is_drainable:
            self.keep_alive = False
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{self.common}Date: {_date()}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        if not self.keep_alive:
            head += "Connection: close\r\n"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        return head

    async def finish(self) -> bool:
        """Clear the way for the next request; False when there can be none."""
        if self.keep_alive and not self.body.is_complete:
            with trio.move_on_after(self.connection.limits.linger):
                await self.body.drain()
        return self.keep_alive and self.body.is_complete


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_dates: dict[int, str] = {}


def _date() -> str:
    """Now as HTTP writes it, in English whatever the locale (RFC 9110, 5.6.7); kept for its second."""
    now = int(time.time())
    if now not in _dates:
        _dates.clear()
        t = time.gmtime(now)
        clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
        _dates[now] = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock}"
    return _dates[now]
