"""Talk to an engine over its Unix socket with as little client work as possible."""

import contextlib
import http.client
import json
import socket
from typing import Any

API = "/v1.41"  # the newest version that Debian's dockerd knows
STREAMS = ("/images/create", "/images/load")  # of JSON lines, not one value
TIMEOUT = 120.0


class Refused(Exception):
    """An engine answered with an unexpected status; the message holds its words."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Wire:
    """One keep-alive connection to one engine."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = UnixConnection(path)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Send a request, return the decoded answer; raise Refused unless its status is 2xx or 304."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            types = {"Content-Type": kind} if data else {}
            self._connection.request(method, API + path, data, {**types, **(headers or {})})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status >= 300 and answer.status != 304:
            raise Refused(f"{method} {path}: {answer.status} {text[:300]!r}")
        is_json = "json" in (answer.headers["Content-Type"] or "") and not path.startswith(STREAMS)
        return json.loads(text) if is_json and text and not path.split("?")[0].endswith("/push") else text

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self.request("POST", path, body)

    def delete(self, path: str) -> Any:
        return self.request("DELETE", path)

    def drain(self, path: str, body: Any) -> int:
        """POST with `Upgrade: tcp` and read the stream to its end; return its length with the head."""
        data = json.dumps(body).encode()
        head = (
            f"POST {API}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(TIMEOUT)
            stream.connect(self.path)
            stream.sendall(head.encode() + data)
            seen = b""
            while part := stream.recv(65536):
                seen += part
        if seen[9:12] not in (b"101", b"200"):
            raise Refused(f"POST {path}: {seen[:300]!r}")
        return len(seen)


def ping(path: str) -> bool:
    """Tell whether `_ping` answers 200 on a new connection, without waiting for a server that is not there."""
    connection = UnixConnection(path)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    return False
