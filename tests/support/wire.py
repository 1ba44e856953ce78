"""Speak the Engine API over a Unix socket with nothing but the standard library.

Tests that are about the wire itself (order of answers, raw bodies, hijacked streams) use this
instead of a client library, which would hide what they look at.
"""

import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

TIMEOUT = 30.0  # seconds without a byte after which a test has failed


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer:
    """A status, headers and a whole body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def message(self) -> str:
        """Return the error's text, which every refusal carries under this key."""
        return str(self.json["message"])


class Wire:
    """Requests to one engine, each on a connection of its own."""

    def __init__(self, host: str, version: str = "") -> None:
        self.path = host.removeprefix("unix://")
        self._prefix = f"/v{version}" if version else ""

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> tuple[UnixConnection, http.client.HTTPResponse]:
        """Send a request and read the answer's head; the caller reads the body and closes."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = UnixConnection(self.path)
        target = self._prefix + path + (f"?{urlencode(query)}" if query else "")
        try:
            connection.request(method, target, body=body, headers=headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """Send a request and read the whole answer."""
        connection, response = self.open(method, path, body, **more)
        with contextlib.closing(connection):
            return Answer(response)

    def get(self, path: str, **query: Any) -> Answer:
        return self.request("GET", path, **query)

    def post(self, path: str, body: Any = None, **query: Any) -> Answer:
        return self.request("POST", path, body, **query)

    def delete(self, path: str, **query: Any) -> Answer:
        return self.request("DELETE", path, **query)

    def hijack(self, path: str, body: Any = None, upgrade: bool = True) -> "Hijacked":
        """POST and take the connection over, with or without `Upgrade: tcp`."""
        return Hijacked(self.path, self._prefix + path, body, upgrade)


class Hijacked:
    """A connection that has become a byte stream, after its head was read."""

    def __init__(self, path: str, target: str, body: Any, upgrade: bool) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        data = b"" if body is None else json.dumps(body).encode()
        extra = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
        kind = "Content-Type: application/json\r\n" if data else ""
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{extra}{kind}Content-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)
        self._buffer = b""
        self.head = self._until(b"\r\n\r\n").decode()
        self.status = int(self.head.split()[1])

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the stream ended after {self._buffer!r}")
        self._buffer += data

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end_input(self) -> None:
        """Half-close: the process reads end of file, its output still comes."""
        self.socket.shutdown(socket.SHUT_WR)

    def read_raw(self) -> bytes:
        """Read until the engine closes: a terminal's stream, which has no frames."""
        found, self._buffer = bytearray(self._buffer), b""
        while data := self.socket.recv(1 << 20):
            found += data
        return bytes(found)

    def read_until(self, mark: bytes) -> bytes:
        """Read raw bytes up to and with `mark`."""
        return self._until(mark) + mark

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, data) until the end; stream is 1 for stdout, 2 for stderr."""
        return frames(self.read_raw())

    def read_frame(self) -> tuple[int, bytes]:
        """Read one frame: its stream and its data."""
        while len(self._buffer) < 8:
            self._fill()
        stream, size = struct.unpack(">BxxxL", self._buffer[:8])
        while len(self._buffer) < 8 + size:
            self._fill()
        data, self._buffer = self._buffer[8 : 8 + size], self._buffer[8 + size :]
        return stream, data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Hijacked":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a multiplexed stream: 1 byte stream, 3 zeros, 4 bytes big-endian length, data."""
    at = 0
    while at < len(data):
        stream, zeros, size = struct.unpack_from(">B3sL", data, at)
        assert zeros == b"\0\0\0" and at + 8 + size <= len(data), f"broken frame at {at}: {data[at : at + 40]!r}"
        yield stream, data[at + 8 : at + 8 + size]
        at += 8 + size


def output(parts: Iterator[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """Join frames into (stdout, stderr)."""
    out = {1: bytearray(), 2: bytearray()}
    for stream, data in parts:
        out[stream] += data
    return bytes(out[1]), bytes(out[2])
