"""Connections that become a job's streams: `attach`, `exec start`."""

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio

from windlass.engine import Job
from windlass.engine.errors import Conflict
from windlass.engine.streams import Detachable, session_socket
from windlass.jobs.containers import Streaming

from .serving import Client, request, serving

CERTIFICATES = Path(__file__).parent / "tls"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
ATTACH = "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1"


async def echo(job: Job[Any]) -> None:
    assert job.stdin is not None and job.stdout is not None and job.stderr is not None
    await job.ready(Streaming(Tty=job.env["name"] == "tty"))
    while data := await job.stdin.receive_some():
        await job.stdout.send_all(data.upper())
    await job.stderr.send_all(b"bye")


async def echo_socket(job: Job[Any]) -> None:
    """As the daemon does it: the socket itself is handed on."""
    await job.ready(Streaming(Tty=True))
    async with session_socket(job, framed=False) as (fd, early):
        other = socket.socket(fileno=os.dup(fd))
        other.setblocking(True)
        await trio.to_thread.run_sync(serve_blocking, other, early)


def serve_blocking(other: socket.socket, early: bytes) -> None:
    with other:
        data = early or other.recv(65536)
        while data:
            other.sendall(data.upper())
            data = other.recv(65536)
        other.sendall(b"bye")
        other.shutdown(socket.SHUT_RDWR)


async def test_with_upgrade_the_answer_is_101(tmp_path: Path) -> None:
    async with serving(tmp_path, {"attach": echo}) as served, await served.connect() as client:
        await client.send(request("POST", ATTACH, **UPGRADE))
        head = await client.head()
        assert (head.status, head.reason) == (101, "UPGRADED")
        assert head.headers["connection"] == "Upgrade" and head.headers["upgrade"] == "tcp"
        assert head.headers["content-type"] == "application/vnd.docker.multiplexed-stream"


async def test_without_upgrade_the_answer_is_200(tmp_path: Path) -> None:
    async with serving(tmp_path, {"attach": echo}) as served, await served.connect() as client:
        await client.send(request("POST", "/v1.41/containers/tty/attach?stream=1"))
        head = await client.head()
        assert head.status == 200
        assert head.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert "transfer-encoding" not in head.headers and "content-length" not in head.headers


async def test_half_closing_ends_stdin_and_not_the_output(tmp_path: Path) -> None:
    async with serving(tmp_path, {"attach": echo}) as served, await served.connect() as client:
        await client.send(request("POST", ATTACH, **UPGRADE))
        await client.head()
        await client.send(b"hello")
        assert await client.frame() == (1, b"HELLO")
        await client.stream.send_eof()
        assert await client.frame() == (2, b"bye")
        assert await client.rest() == b""


async def test_what_is_sent_ahead_is_stdin(tmp_path: Path) -> None:
    async with serving(tmp_path, {"attach": echo}) as served, await served.connect() as client:
        await client.send(request("POST", "/containers/tty/attach", **UPGRADE) + b"early")
        await client.stream.send_eof()
        await client.head()
        assert await client.rest() == b"EARLYbye"


async def test_what_is_sent_after_a_json_body_is_stdin(tmp_path: Path) -> None:
    async with serving(tmp_path, {"execStart": echo}) as served, await served.connect() as client:
        for framing in (b"Content-Length: 14", b"Transfer-Encoding: chunked"):
            client = await served.connect()
            body = b'{"Tty": false}' if b"Length" in framing else b'e\r\n{"Tty": false}\r\n0\r\n\r\n'
            head = b"POST /exec/tty/start HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + framing
            await client.send(head + b"\r\n\r\n" + body + b"early")
            await client.stream.send_eof()
            assert (await client.head()).status == 200
            assert await client.rest() == b"EARLYbye"
            await trio.aclose_forcefully(client.stream)


async def test_a_client_that_dies_does_not_hold_the_job(tmp_path: Path) -> None:
    ended = trio.Event()

    async def attach(job: Job[Any]) -> None:
        try:
            await echo(job)
        finally:
            ended.set()

    async with serving(tmp_path, {"attach": attach}) as served:
        client = await served.connect()
        await client.send(request("POST", ATTACH, **UPGRADE))
        await client.head()
        await trio.aclose_forcefully(client.stream)
        await ended.wait()
        assert (await served.ask("GET", "/_ping")).status == 200


async def test_an_error_after_the_head_reaches_the_client(tmp_path: Path) -> None:
    async def fail(job: Job[Any]) -> None:
        await job.ready(Streaming(Tty=False))
        raise Conflict("the container has ended")

    async with serving(tmp_path, {"attach": fail}) as served, await served.connect() as client:
        await client.send(request("POST", ATTACH, **UPGRADE))
        await client.head()
        assert await client.frame() == (1, b"the container has ended\r\n")
        assert await client.rest() == b""


async def test_a_detached_exec_is_a_plain_request(tmp_path: Path) -> None:
    async def start(job: Job[Any]) -> None:
        assert job.stdin is None

    async with serving(tmp_path, {"execStart": start}) as served, await served.connect() as client:
        answer = await client.ask("POST", "/exec/x/start", {"Detach": True})
        assert (answer.status, answer.body) == (200, b"")
        assert (await client.ask("GET", "/_ping")).status == 200


@pytest.mark.parametrize("early", [b"", b"early"])
async def test_the_socket_itself_can_be_taken(tmp_path: Path, early: bytes) -> None:
    async with serving(tmp_path, {"attach": echo_socket}) as served, await served.connect() as client:
        await client.send(request("POST", "/containers/tty/attach", **UPGRADE) + early)
        await client.head()
        assert await client.exactly(len(early)) == early.upper()
        await client.send(b"hello")
        assert await client.exactly(5) == b"HELLO"
        await client.stream.send_eof()
        assert await client.rest() == b"bye"


async def test_the_socket_is_taken_after_ready_only(tmp_path: Path) -> None:
    seen: list[str] = []

    async def attach(job: Job[Any]) -> None:
        assert isinstance(job.stdin, Detachable)
        with pytest.raises(RuntimeError) as caught:
            job.stdin.detach()
        seen.append(str(caught.value))

    async with serving(tmp_path, {"attach": attach}) as served:
        await served.ask("POST", "/containers/tty/attach")
    assert "ready" in seen[0]


@pytest.mark.parametrize("handler", [echo, echo_socket])
async def test_over_tls_a_copy_is_taken(tmp_path: Path, handler: Any) -> None:
    tls = {f"Tls{k}": str(CERTIFICATES / f"server.{v}") for k, v in (("Cert", "pem"), ("Key", "key"))}
    async with serving(tmp_path, {"attach": handler}, "tcp://127.0.0.1:0", Tls=True, **tls) as served:
        context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
        stream = await trio.open_ssl_over_tcp_stream("localhost", served.port, ssl_context=context)
        async with Client(stream) as client:  # type: ignore[arg-type]
            await client.send(request("POST", "/containers/tty/attach", **UPGRADE) + b"early")
            await client.head()
            assert await client.exactly(5) == b"EARLY"
            await client.send(b"x" * 1_000_000)
            assert await client.exactly(1_000_000) == b"X" * 1_000_000


async def test_stopping_the_server_ends_a_session_over_tls(tmp_path: Path) -> None:
    held: list[socket.socket] = []

    async def hold(job: Job[Any]) -> None:
        await job.ready(Streaming(Tty=True))
        async with session_socket(job, framed=False) as (fd, _):
            held.append(socket.socket(fileno=os.dup(fd)))  # as a shim does, which outlives us
            await trio.sleep_forever()

    tls = {f"Tls{k}": str(CERTIFICATES / f"server.{v}") for k, v in (("Cert", "pem"), ("Key", "key"))}
    async with serving(tmp_path, {"attach": hold}, "tcp://127.0.0.1:0", Tls=True, **tls) as served:
        context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
        stream = await trio.open_ssl_over_tcp_stream("localhost", served.port, ssl_context=context)
        client = Client(stream)  # type: ignore[arg-type]
        await client.send(request("POST", "/containers/tty/attach", **UPGRADE))
        await client.head()
        report = await served.engine.shutdown(5)
        assert report.is_clean
        held[0].close()
        await trio.aclose_forcefully(stream)
