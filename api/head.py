"""A request's head: what the fast parser and the h11 parser both make, and what both must refuse.

Framing decides where one request ends and the next begins. A proxy in front of us that reads it otherwise lets one
client speak for another ("request smuggling"), so everything with two readings is refused, and the connection closed:
RFC 9112, sections 2.2, 3.2, 6.1 and 6.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote_to_bytes

from .errors import Refused

_LENGTH = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_VERSIONED = re.compile(r"/v([0-9]{1,4})\.([0-9]{1,4})(/.*)\Z", re.ASCII | re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
ONCE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "origin", "upgrade", "expect"})

Version = tuple[int, int]


class Head:
    """The request line and the headers, names in lower case; where a name comes twice, values are joined by commas.

    `length` is the body's, in bytes, None when it comes in chunks.
    """

    __slots__ = ("headers", "http10", "keep_alive", "length", "method", "target", "upgrade")

    def __init__(self, method: str, target: str, headers: dict[str, str], length: int | None, http10: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.length = length
        self.http10 = http10
        options = _list(headers["connection"].lower()) if "connection" in headers else ()
        self.keep_alive = not http10 and "close" not in options
        self.upgrade = headers.get("upgrade", "") if "upgrade" in options and not http10 else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and all(getattr(self, key) == getattr(other, key) for key in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.target} length={self.length}>"

    @property
    def has_body(self) -> bool:
        return self.length != 0

    @property
    def expects_continue(self) -> bool:
        return "expect" in self.headers


def _list(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def framed(method: str, target: str, pairs: Iterable[tuple[str, str]], http10: bool, limit: int) -> Head:
    """Check how a request is framed, and make its Head. Raises Refused, after which the connection must close."""
    headers: dict[str, str] = {}
    count = 0
    for name, value in pairs:
        count += 1
        if name in headers:
            if name in ONCE:
                raise Refused(400, f"the header {name} is given twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if count > limit:
        raise Refused(431, f"more than {limit} headers")
    if "host" not in headers and not http10:
        raise Refused(400, "the Host header is missing")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise Refused(417, "the only expectation that is understood is 100-continue")
    return Head(method, target, headers, _length(headers, http10), http10)


def _length(headers: dict[str, str], http10: bool) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding are given")
        if http10:
            raise Refused(400, "Transfer-Encoding does not exist in HTTP/1.0")
        if coding.lower() != "chunked":
            raise Refused(400, f"the only transfer coding that is understood is chunked, not {coding!r:.40}")
        return None
    if length is None:
        return 0
    if not _LENGTH.match(length):
        raise Refused(400, f"Content-Length is no decimal number: {length!r:.40}")
    return int(length)


def split_target(target: str) -> tuple[Version | None, str, str]:
    """Split a request's target into the API version in its path, the decoded path without it, and the raw query.

    Escapes are decoded once. Raises Refused for what is no path: bad escapes, bad UTF-8, control characters.
    """
    if match := _ABSOLUTE.match(target):
        target = target[match.end() :]
    path, _, query = target.partition("?")
    if "#" in target or not path.startswith("/"):
        raise Refused(400, "the request's target is no path")
    if "%" in path:
        path = _decoded(path)
    if _CONTROL.search(path):
        raise Refused(400, "control characters in the path")
    if versioned := _VERSIONED.match(path):
        return (int(versioned[1]), int(versioned[2])), versioned[3], query
    return None, path, query


def _decoded(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        raise Refused(400, "a broken escape in the path")
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise Refused(400, "the path is not valid UTF-8") from None


def parse_query(query: str, limit: int) -> dict[str, list[str]]:
    """Decode a query: all values by key, empty ones too. Raises Refused for broken escapes and too many fields."""
    if not query:
        return {}
    if _BAD_ESCAPE.search(query):
        raise Refused(400, "a broken escape in the query")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=limit)
    except UnicodeDecodeError:
        raise Refused(400, "the query is not valid UTF-8") from None
    except ValueError:
        raise Refused(400, f"more than {limit} fields in the query") from None
    fields: dict[str, list[str]] = {}
    for key, value in pairs:
        if "\0" in key or "\0" in value:
            raise Refused(400, "a zero byte in the query")
        fields.setdefault(key, []).append(value)
    return fields
