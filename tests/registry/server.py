"""A registry of the tests' own, which does what it is told to: lies, stalls, cuts, redirects, wants tokens.

    server = Server().start()
    name = server.image("a/b", [layer(a="a")])          # 127.0.0.1:PORT/a/b:latest
    server.answers["/v2/a/b/blobs/sha256:…"] = Answer(500)

What was asked is in `asked`, with headers; `sent` counts the bytes of bodies that were written.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.images import compress, config_blob, digest

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
PIECE = 64 << 10


@dataclass
class Answer:
    """What is sent: `cut` ends the connection after so many bytes of the body, `stall` waits for `go` there."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    ranges: bool = True  # honour Range


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


Rule = Answer | Callable[[Asked], Answer | None]


class Server:
    """The registry. `answers` by path, or by a pattern in `rules`, come before what `image` has put there."""

    def __init__(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = lambda self: outer._handle(self)

            def log_message(self, *_: Any) -> None: ...

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None: ...

        self._http = Http((host, 0), Handler)
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self.host = f"{host}:{self.port}"
        self.url = f"{'https' if context else 'http'}://{self.host}"
        self.answers: dict[str, Rule] = {}
        self.rules: list[tuple[str, Rule]] = []
        self.asked: list[Asked] = []
        self.sent = 0
        self.go = threading.Event()
        self.now, self.most = 0, 0  # bodies of blobs that are being sent at the same time
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> Server:
        self._thread.start()
        return self

    def close(self) -> None:
        self.go.set()
        self._http.shutdown()
        self._http.server_close()

    # -- what is there -------------------------------------------------------------------------------------------

    def image(
        self, path: str, tars: list[bytes], *, tag: str = "latest", how: str = "gzip", media: str = LAYER, **more: Any
    ) -> dict[str, Any]:
        """Put an image here; return its manifest. Keys of `more` replace those of the manifest."""
        config = config_blob(tars)
        blobs = [compress(data, how) for data in tars]
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER,
            "config": self.blob(path, config, CONFIG),
            "layers": [self.blob(path, data, media) for data in blobs],
            **more,
        }
        self.manifest(path, tag, json.dumps(manifest).encode(), DOCKER)
        return manifest

    def blob(self, path: str, data: bytes, media: str) -> dict[str, Any]:
        """Put a blob here; return its descriptor."""
        self.answers[f"/v2/{path}/blobs/{digest(data)}"] = Answer(body=data)
        return {"mediaType": media, "size": len(data), "digest": digest(data)}

    def manifest(self, path: str, tag: str, content: bytes, media: str) -> dict[str, Any]:
        """Put a manifest here, by tag and by digest; return its descriptor."""
        for where in (tag, digest(content)):
            self.answers[f"/v2/{path}/manifests/{where}"] = Answer(body=content, headers={"Content-Type": media})
        return {"mediaType": media, "size": len(content), "digest": digest(content)}

    def paths(self, pattern: str = "") -> list[str]:
        return [asked.path for asked in self.asked if re.search(pattern, asked.path)]

    def headers(self, name: str) -> set[str]:
        """The values of a header that came, over all requests."""
        return {asked.headers[name] for asked in self.asked if name in asked.headers}

    # -- answering -----------------------------------------------------------------------------------------------

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in handler.headers.items()}
        asked = Asked(handler.command, handler.path, headers, body)
        self.asked.append(asked)
        answer = self._find(asked)
        is_blob = "/blobs/" in asked.path and asked.method == "GET"
        with self._lock:
            self.now += is_blob
            self.most = max(self.most, self.now)
        try:
            self._send(handler, asked, answer)
        except OSError:
            handler.close_connection = True
        finally:
            with self._lock:
                self.now -= is_blob

    def _find(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        for rule in [rule for pattern, rule in self.rules if re.search(pattern, asked.path)] + [self.answers.get(path)]:
            found = rule(asked) if callable(rule) else rule
            if found is not None:
                return found
        code = "MANIFEST_UNKNOWN" if "/manifests/" in path else "NAME_UNKNOWN"
        words = code.lower().replace("_", " ")
        return Answer(404, json.dumps({"errors": [{"code": code, "message": words}]}).encode())

    def _send(self, handler: BaseHTTPRequestHandler, asked: Asked, answer: Answer) -> None:
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        start = re.fullmatch(r"bytes=([0-9]+)-", asked.headers.get("range", ""))
        if start and answer.ranges and status == 200:
            at = int(start[1])
            headers["Content-Range"] = f"bytes {at}-{len(body) - 1}/{len(body)}"
            body, status = body[at:], 206
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if asked.method == "HEAD":
            return
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        self._body(handler, body, answer)

    def _body(self, handler: BaseHTTPRequestHandler, body: bytes, answer: Answer) -> None:
        at, end = 0, len(body) if answer.cut is None else min(answer.cut, len(body))
        while at < end:
            if answer.stall is not None and at >= answer.stall:
                self.go.wait(60)
            piece = body[at : min(at + PIECE, end)]
            handler.wfile.write(piece)
            self.sent += len(piece)
            at += len(piece)
        if end < len(body):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)


def times(count: int, answer: Answer) -> Callable[[Asked], Answer | None]:
    """A rule that holds for the first `count` requests."""
    left = [count]

    def rule(_: Asked) -> Answer | None:
        left[0] -= 1
        return answer if left[0] >= 0 else None

    return rule


def until(condition: Callable[[], bool], limit: float = 30.0) -> None:
    """Wait until something is so; fail when it never is."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)
