"""HTTP/1.1 towards a daemon, over a Unix socket, TCP or TLS; one request a connection.

Standard library only, and of that little: the command line pays for every import at each start. `ssl` is imported
for those who use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket

TYPE_CHECKING = False  # typing costs 12 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Literal, Self

    Body = bytes | Iterable[bytes] | None

DEFAULT_HOST = "unix:///var/run/windlass.sock"
MAX_HEAD = 64 * 1024
CHUNK = 64 * 1024
PORT, TLS_PORT = 2375, 2376


class HTTPError(Exception):
    """The daemon refused: `status` is HTTP's, `code` the engine's where the daemon told one."""

    def __init__(self, status: int, message: str, code: str = "", detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.detail = detail or {}


class BadHost(ValueError):
    """An address that is none of unix://PATH, tcp://HOST[:PORT], http(s)://HOST[:PORT]."""


class TLS:
    """Which certificates to show and to trust; `verify` checks the server's, as `--tlsverify` says."""

    def __init__(self, ca: str = "", cert: str = "", key: str = "", verify: bool = True) -> None:
        self.ca, self.cert, self.key, self.verify = ca, cert, key, verify

    def wrap(self, sock: socket.socket, name: str) -> socket.socket:
        """Shake hands on `sock`. Raises OSError (ssl.SSLError is one)."""
        import ssl

        context = ssl.create_default_context(cafile=self.ca if self.verify and self.ca else None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert and self.key:
            context.load_cert_chain(self.cert, self.key)
        return context.wrap_socket(sock, server_hostname=name)


def parse_host(host: str) -> tuple[Literal["unix"], str] | tuple[Literal["tcp"], tuple[str, int | None]]:
    """Take `host` apart: ("unix", path) or ("tcp", (name, port or None)). Raises BadHost."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        return "unix", rest or DEFAULT_HOST.removeprefix("unix://")
    if scheme not in ("tcp", "http", "https"):
        raise BadHost(f"unable to parse host: {host}")
    name, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or "]" in port:
        name, port = rest.rstrip("/"), ""
    if not (port.isdigit() or not port) or "/" in name:
        raise BadHost(f"unable to parse host: {host}")
    return "tcp", (name.strip("[]") or "127.0.0.1", int(port) if port else None)


class Client:
    """Knows where a daemon is. Raises OSError with the host's name when nobody answers there."""

    def __init__(self, host: str = "", tls: TLS | None = None, timeout: float | None = None) -> None:
        self.host = host or DEFAULT_HOST
        self.tls = tls if tls is not None or not self.host.startswith("https://") else TLS()
        self.timeout = timeout  # seconds without any byte
        self._where = parse_host(self.host)

    def connect(self) -> socket.socket:
        """Open a connection."""
        if self._where[0] == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self.timeout)
            try:
                sock.connect(self._where[1])
            except OSError as exc:
                sock.close()
                raise OSError(exc.errno, f"{os.strerror(exc.errno or 0)}: {self.host}") from None
            return sock
        name, port = self._where[1]
        sock = socket.create_connection((name, port or (TLS_PORT if self.tls else PORT)), self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap(sock, name) if self.tls else sock

    def request(self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None) -> Response:
        """Send one request and return its Response, whatever the status. `body` is bytes, or chunks of bytes."""
        return self._exchange(method, path, body, {"Connection": "close", **(headers or {})})

    def upgrade(
        self, path: str, protocol: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[socket.socket, bytes]:
        """POST with an Upgrade; return (socket, bytes already received). Raises HTTPError when it is refused."""
        asked = {"Connection": "Upgrade", "Upgrade": protocol, **(headers or {})}
        response = self._exchange("POST", path, body, asked)
        if response.status != 101:
            response.check()
            response.close()
            raise HTTPError(response.status, f"{self.host} does not speak {protocol}")
        return response.detach()

    def json(self, method: str, path: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send `value` and return the answer, both JSON. Raises HTTPError."""
        body = None if value is None else json.dumps(value).encode()
        with self.request(method, path, body, {"Content-Type": "application/json", **(headers or {})}) as response:
            response.check()
            data = response.read()
        return json.loads(data) if data else None

    def _exchange(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> Response:
        sock = self.connect()
        try:
            # A daemon may refuse before it has everything: its answer is there to be read all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._send(sock, method, path, body, headers)
            return Response(sock)
        except BaseException:
            sock.close()
            raise

    def _send(self, sock: socket.socket, method: str, path: str, body: Body, headers: Mapping[str, str]) -> None:
        name = self._where[1][0] if self._where[0] == "tcp" else "localhost"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {f'[{name}]' if ':' in name else name}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        whole = body or b"" if body is None or isinstance(body, bytes) else None
        if whole is None:
            lines.append("Transfer-Encoding: chunked")
        elif whole or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(whole)}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line break in a request's head")
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + (whole or b""))
        if body is not None and not isinstance(body, bytes):
            for chunk in body:
                if chunk:
                    sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            sock.sendall(b"0\r\n\r\n")


class Response:
    """A response whose head has come. Read it, or close it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        while self._read_head() < 200 and self.status != 101:
            pass
        self._is_chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        self._left = 0 if self.status in (204, 304) else int(length) if length is not None else None

    def _read_head(self) -> int:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD or not self._receive():
                raise OSError("the daemon answered with something that is not HTTP")
        head = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = head[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise OSError("the daemon answered with something that is not HTTP")
        self.status = int(rest[:3])
        self.reason = rest[4:]
        pairs = (line.partition(":") for line in head[1:])
        self.headers = {key.strip().lower(): value.strip() for key, _, value in pairs}
        return self.status

    def _receive(self) -> int:
        data = self._sock.recv(CHUNK)
        self._buffer += data
        return len(data)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises OSError when it ends too early."""
        if self._is_chunked:
            yield from self._chunked()
            return
        while self._left is None or self._left > 0:
            if not self._buffer and not self._receive():
                if self._left is not None:
                    raise OSError("the daemon's answer was cut short")
                return
            data = bytes(self._buffer if self._left is None else self._buffer[: self._left])
            del self._buffer[: len(data)]
            self._left = None if self._left is None else self._left - len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            while size:
                if not self._buffer and not self._receive():
                    raise OSError("the daemon's answer was cut short")
                data = bytes(self._buffer[:size])
                del self._buffer[: len(data)]
                size -= len(data)
                yield data
            self._line()
        while self._line():
            pass  # trailers

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._receive():
                raise OSError("the daemon's answer was cut short")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def lines(self) -> Iterator[bytes]:
        """Yield the body by lines, as they come, without their ends."""
        rest = b""
        for data in self.chunks():
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def check(self) -> None:
        """Raise HTTPError, with the daemon's own words, when the status is 400 or more."""
        if self.status >= 400:
            with self:
                raise _error(self.status, self.reason, self.read())

    def detach(self) -> tuple[socket.socket, bytes]:
        """Give up the connection: its socket, and what came after the head."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return self._sock, rest

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _error(status: int, reason: str, body: bytes) -> HTTPError:
    try:
        answer = json.loads(body)
        return HTTPError(status, str(answer["message"]), str(answer.get("code", "")), answer.get("detail"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return HTTPError(status, body.decode(errors="replace").strip() or f"{status} {reason}")
