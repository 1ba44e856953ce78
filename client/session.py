"""One job in a daemon, as frames on a connection; standard library only.

`POST /engine/v1/jobs/NAME` with `Upgrade: windlass-job/1` and the body `{"args": […], "env": {…}, "lax": false}`.
After the 101 both ends send frames, with the header of Docker's multiplexed streams: one byte for the kind, three
zero bytes, the payload's length as 32 bits big-endian.

    0 1 2   stdin, stdout, stderr: bytes          5   error: {"code", "message", "detail"}
    3       event: JSON with its kind in "event"  6   the end of stdin
    4       result: JSON                          7   cancel

The job ends with one result or one error; the daemon closes after it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading

from .http import HTTPError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from .http import Client

PROTOCOL = "windlass-job/1"
STDIN, STDOUT, STDERR, EVENT, RESULT, ERROR, END_OF_STDIN, CANCEL = range(8)
CHUNK = 64 * 1024
# What a refusal before the first frame means: no job has begun, so that 404 speaks of the job itself.
CODES = {400: "bad-parameter", 401: "unauthorized", 403: "denied", 404: "no-such-job", 409: "conflict"}
CODES |= {413: "bad-parameter", 501: "unsupported", 503: "unavailable"}
_HEADER = struct.Struct(">BxxxI")
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


class Session:
    """A job under way. Whoever opens it closes it, which cancels a job that has not ended."""

    def __init__(self, client: Client, name: str, request: bytes) -> None:
        """Ask for job `name`; `request` is the body. Raises HTTPError when it is refused, OSError without a daemon."""
        path = f"/engine/v1/jobs/{quoted(name)}"
        try:
            self._sock, self._early = client.upgrade(path, PROTOCOL, request, {"Content-Type": "application/json"})
        except HTTPError as exc:
            exc.code = exc.code or CODES.get(exc.status, "internal")
            raise
        self._sending = threading.Lock()  # keeps the frames of stdin's thread and a cancel whole

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (kind, payload) until the connection ends. Raises OSError when it is cut in a frame."""
        buffer = bytearray(self._early)
        while True:
            while len(buffer) >= _HEADER.size:
                kind, size = _HEADER.unpack_from(buffer)
                if len(buffer) < _HEADER.size + size:
                    break
                yield kind, bytes(buffer[_HEADER.size : _HEADER.size + size])
                del buffer[: _HEADER.size + size]
            data = self._sock.recv(CHUNK)
            if not data:
                if buffer:
                    raise OSError("the daemon's answer was cut short")
                return
            buffer += data

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame; from any thread. Raises OSError when the job has ended."""
        with self._sending:
            self._sock.sendall(_HEADER.pack(kind, len(payload)) + payload)

    def pump(self, source: IO[bytes] | None) -> None:
        """Send `source` to the job's stdin and then its end, in a thread that nobody waits for."""
        threading.Thread(target=self._pump, args=(source,), daemon=True).start()

    def _pump(self, source: IO[bytes] | None) -> None:
        with contextlib.suppress(OSError, ValueError):  # the job has ended, or the script has closed its file
            if source is not None:
                read: Callable[[int], bytes] = getattr(source, "read1", source.read)
                while data := read(CHUNK):
                    self.send(STDIN, data)
            self.send(END_OF_STDIN)

    def close(self) -> None:
        """End the connection; wakes the thread that may be sending."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def request(args: tuple[Any, ...], env: dict[str, Any], *, lax: bool) -> bytes:
    """The body that asks for a job. With `lax` text is parsed as the job's signature says."""
    return json.dumps({"args": args, "env": env, "lax": lax}).encode()


def quoted(text: str) -> str:
    """`text` as one segment of a path (RFC 3986)."""
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in text.encode())
