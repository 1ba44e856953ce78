"""An engine with handlers made for the test, served on real sockets, and a client that says exactly what it is told."""

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from windlass.api.limits import Limits
from windlass.api.serve import install
from windlass.engine import Engine, Job

TIMEOUT = 10.0  # seconds after which a test has failed
QUICK = Limits(
    head_time_unix=0.3, head_time_tcp=0.3, idle=0.5, stall=0.4, linger=0.3, gate=0.4, tick=0.05, tls_handshake=0.5
)

Handler = Callable[[Job[Any]], Any]


@dataclass
class Served:
    """A running server: its engine, its addresses, and the jobs that the recording handlers saw."""

    engine: Engine
    addresses: list[str]
    jobs: list[Job[Any]] = field(default_factory=list)
    service: Job[Any] | None = None

    @property
    def path(self) -> str:
        return next(a for a in self.addresses if a.startswith("unix://")).removeprefix("unix://")

    @property
    def port(self) -> int:
        return int(next(a for a in self.addresses if a.startswith("tcp://")).rpartition(":")[2])

    async def connect(self) -> "Client":
        return Client(await trio.open_unix_socket(self.path))

    async def connect_tcp(self) -> "Client":
        return Client(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> "Answer":
        """One request on a connection of its own."""
        async with await self.connect() as client:
            return await client.ask(method, target, body, **headers)


@asynccontextmanager
async def serving(
    tmp_path: Path, handlers: dict[str, Handler] | None = None, *hosts: str, limits: Limits = Limits(), **env: Any
) -> AsyncIterator[Served]:
    """Serve `handlers`; a job without one is recorded and answers null if it is named with None."""
    with trio.fail_after(TIMEOUT):
        async with Engine() as engine:
            install(engine, limits)
            served = Served(engine, [])
            for name, handler in (handlers or {}).items():
                engine.register(name, handler or recorder(served))
            await engine.job("acceptconnections").run()
            service = engine.job("serveapi", *(hosts or (f"unix://{tmp_path}/api.sock",)), BufferRequests=True, **env)
            served.addresses = await service.start()
            served.service = service
            yield served


def recorder(served: Served, result: Any = None) -> Handler:
    async def record(job: Job[Any]) -> Any:
        served.jobs.append(job)
        return result

    return record


@dataclass
class Answer:
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Client:
    """Bytes out, answers in."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def fill(self) -> bool:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self.buffer += data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not await self.fill():
                raise EOFError(f"the server closed after {self.buffer!r}")
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not await self.fill():
                raise EOFError(f"the server closed after {self.buffer!r}")
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    async def rest(self) -> bytes:
        """All until the server closes."""
        while await self.fill():
            pass
        found, self.buffer = self.buffer, b""
        return found

    async def head(self) -> Answer:
        first, *lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(status), reason, headers, b"")

    async def chunk(self) -> bytes:
        """The next chunk of a chunked answer; b"" at its end."""
        size = int(await self.until(b"\r\n"), 16)
        data = await self.exactly(size)
        assert await self.exactly(2) == b"\r\n"
        return data

    async def answer(self, method: str = "GET") -> Answer:
        answer = await self.head()
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while data := await self.chunk():
                answer.body += data
        elif "content-length" in answer.headers:
            answer.body = await self.exactly(int(answer.headers["content-length"]))
        else:
            answer.body = await self.rest()
        return answer

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        await self.send(request(method, target, body, **headers))
        return await self.answer(method)

    async def frame(self) -> tuple[int, bytes]:
        kind, size = struct.unpack(">BxxxI", await self.exactly(8))
        return kind, await self.exactly(size)


def request(method: str, target: str, body: Any = None, **headers: str) -> bytes:
    data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    given = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        given = {"Content-Type": "application/json", "Content-Length": str(len(data))} | given
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + data


def reset(client: Client) -> None:
    """Close with a reset (TCP) rather than an end."""
    stream = client.stream
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


__all__ = ["QUICK", "Answer", "Client", "Served", "recorder", "request", "reset", "serving"]
