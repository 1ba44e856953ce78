"""Heads and chunked bodies by h11: for every request that the fast parser does not take.

h11 only reads here. It knows HTTP's grammar; what it tolerates and we do not, `head.framed` refuses.
"""

from __future__ import annotations

import re

import h11

from .errors import Refused
from .head import Head, framed

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")


def parse(head: bytes, fields: int, limit: int) -> tuple[Head, h11.Connection]:
    """Parse a whole head. The h11 connection that comes back reads the body, if that is chunked.

    Raises Refused for a head that is not HTTP, or whose framing can be read in two ways.
    """
    _refuse_ambiguous(head)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise _refused(exc) from None
    if not isinstance(event, h11.Request):
        raise Refused(400, "this is no HTTP request")
    http10 = event.http_version == b"1.0"
    if event.http_version not in (b"1.0", b"1.1"):
        raise Refused(505, f"HTTP/{event.http_version.decode('ascii')} is not spoken here")
    pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
    method, target = event.method.decode("ascii"), event.target.decode("latin-1")
    if not target.isascii():
        raise Refused(400, "the request's target is not ASCII")
    return framed(method, target, pairs, http10, fields), connection


def _refuse_ambiguous(head: bytes) -> None:
    """Refuse what h11 mends in silence: bare line ends, folded headers, a Content-Length given twice or as a list."""
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise Refused(400, "a line that does not end in CR LF")
    if _CONTROL.search(head):
        raise Refused(400, "control characters in the headers")
    lengths = []
    for line in head.split(b"\r\n")[1:]:
        if line[:1] in (b" ", b"\t"):
            raise Refused(400, "a header that is folded over two lines")
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            lengths.append(value.strip(b" \t"))
    if len(lengths) > 1 or any(not _DIGITS.match(value) for value in lengths):
        raise Refused(400, "Content-Length is not one decimal number")


def _refused(exc: h11.RemoteProtocolError) -> Refused:
    status = exc.error_status_hint
    return Refused(status if 400 <= status < 600 else 400, f"bad request: {exc}")


class Chunks:
    """Takes a chunked body apart. `rest` holds what came after its end."""

    def __init__(self, connection: h11.Connection) -> None:
        self._connection = connection
        self.at_end = False
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """Add what the client sent; b"" is its end. Raises Refused when that comes too early."""
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError as exc:
            raise _refused(exc) from None

    def next(self) -> bytes | None:
        """The next piece of the body; None when more is needed, or at the end. Raises Refused for a broken one."""
        try:
            event = self._connection.next_event()
        except h11.RemoteProtocolError as exc:
            raise _refused(exc) from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self.at_end = True
            self.rest = self._connection.trailing_data[0]
        return None
