"""HTTP on the wire: connections that live on, bodies, methods, clients that are slow, gone or sly."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from windlass.api.errors import status_of
from windlass.api.limits import Limits
from windlass.engine import Job
from windlass.engine.errors import (
    BadParameter,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Denied,
    JobError,
    NotFound,
    NotModified,
    Unauthorized,
    Unavailable,
    Unsupported,
)

from .serving import QUICK, Served, request, reset, serving

PING = request("GET", "/_ping")


async def echo(job: Job[Any]) -> dict[str, Any]:
    return dict(job.env)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, {"create": echo, "container_inspect": echo}, limits=QUICK) as served:
        yield served


async def test_the_ping_carries_what_clients_look_for(served: Served) -> None:
    answer = await served.ask("GET", "/v1.41/_ping")
    assert (answer.status, answer.body) == (200, b"OK")
    wanted = {"api-version": "1.51", "ostype": "linux", "docker-experimental": "false", "builder-version": "1"}
    assert wanted.items() <= answer.headers.items()
    assert answer.headers["swarm"] == "inactive" and "no-cache" in answer.headers["cache-control"]


async def test_head_has_the_headers_and_no_body(served: Served) -> None:
    async with await served.connect() as client:
        whole = await client.ask("GET", "/containers/web/json")
        bare = await client.ask("HEAD", "/containers/web/json")
        assert bare.status == 200 and bare.body == b""
        assert bare.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


async def test_a_head_ping_says_that_it_is_empty_as_dockerds_does(served: Served) -> None:
    async with await served.connect() as client:
        answer = await client.ask("HEAD", "/_ping")
        assert answer.headers["content-length"] == "0" and answer.headers["api-version"] == "1.51"
        assert (await client.ask("GET", "/_ping")).body == b"OK"


async def test_a_wrong_method_is_told_the_right_ones(served: Served) -> None:
    answer = await served.ask("PATCH", "/containers/web/json")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


async def test_a_connection_lives_on(served: Served) -> None:
    async with await served.connect() as client:
        for name in ("a", "b", "c"):
            answer = await client.ask("POST", f"/containers/create?name={name}", {"Image": "x"})
            assert answer.json == {"name": name, "Image": "x"}
        assert "connection" not in answer.headers


async def test_a_client_that_wants_to_close_is_closed(served: Served) -> None:
    async with await served.connect() as client:
        answer = await client.ask("GET", "/_ping", Connection="close")
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""


async def test_http_1_0_is_answered_and_closed(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(b"GET /_ping HTTP/1.0\r\n\r\n")
        data = await client.rest()
    assert data.startswith(b"HTTP/1.1 200 OK\r\n") and data.endswith(b"\r\n\r\nOK")


async def test_fifty_pipelined_requests_are_answered_in_order(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(b"".join(request("GET", f"/containers/n{i}/json") for i in range(50)))
        assert [(await client.answer()).json["name"] for _ in range(50)] == [f"n{i}" for i in range(50)]


async def test_what_is_pipelined_after_a_chunked_body_is_the_next_request(served: Served) -> None:
    head = (
        b"POST /containers/create HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    async with await served.connect() as client:
        await client.send(head + b'8\r\n{"Image"\r\n5\r\n:"a"}\r\n0\r\n\r\n' + PING)
        assert (await client.answer()).json == {"Image": "a"}
        assert (await client.answer()).body == b"OK"


async def test_a_request_cut_into_bytes_is_the_same_request(served: Served) -> None:
    async with await served.connect() as client:
        for byte in request("POST", "/containers/create", {"Image": "a"}):
            await client.send(bytes([byte]))
        assert (await client.answer()).json == {"Image": "a"}


async def test_a_client_that_expects_100_continue_gets_it_when_its_body_is_wanted(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(request("POST", "/containers/create", b"{}", Expect="100-continue")[:-2])
        assert (await client.head()).status == 100
        await client.send(b"{}")
        assert (await client.answer()).status == 201


async def test_a_body_that_nobody_wants_is_not_asked_for(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(request("POST", "/nothing", b"{}", Expect="100-continue")[:-2])
        answer = await client.answer()
        assert answer.status == 404 and answer.headers["connection"] == "close"


async def test_a_small_body_that_nobody_read_does_not_end_the_connection(served: Served) -> None:
    async with await served.connect() as client:
        assert (await client.ask("POST", "/nothing", b" " * 100_000)).status == 404
        assert (await client.ask("GET", "/_ping")).status == 200


async def test_a_large_body_that_nobody_reads_ends_the_connection_after_the_answer(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(request("POST", "/nothing", b"", Content_Length="99999999") + b" " * 300_000)
        answer = await client.answer()
        assert answer.status == 404 and answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadParameter, 400), (Unauthorized, 401), (Denied, 403), (NotFound, 404), (Conflict, 409), (JobError, 500),
        (Cancelled, 500), (Unsupported, 501), (Unavailable, 503), (DeadlineExceeded, 504), (ValueError, 500),
    ],
)  # fmt: skip
async def test_every_error_has_its_status(tmp_path: Path, error: type[Exception], status: int) -> None:
    async def fail(job: Job[Any]) -> None:
        raise error("the secret is /etc/shadow") if error is ValueError else error("no such thing: web")

    async with serving(tmp_path, {"container_inspect": fail}) as served:
        answer = await served.ask("GET", "/containers/web/json")
        assert answer.status == status
        assert list(answer.json) == ["message"]
        assert "secret" not in answer.message
        assert error is ValueError or answer.message == "no such thing: web"


def test_a_plugins_error_has_the_status_of_what_it_is_a_kind_of() -> None:
    class MyConflict(Conflict): ...

    assert status_of(MyConflict("x")) == 409
    del MyConflict
    gc.collect()  # other tests look at what subclasses there are


async def test_not_modified_has_no_body(tmp_path: Path) -> None:
    async def start(job: Job[Any]) -> None:
        raise NotModified("runs already")

    async with serving(tmp_path, {"start": start}) as served, await served.connect() as client:
        await client.send(request("POST", "/containers/web/start") + PING)
        answer = await client.answer()
        assert (answer.status, answer.headers.get("content-length")) == (304, None)
        assert (await client.answer()).body == b"OK"


# -- slow clients ------------------------------------------------------------------------------------------------


async def test_half_requests_end_in_time(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=QUICK) as served, trio.open_nursery() as nursery:

        async def half() -> None:
            async with await served.connect() as client:
                await client.send(PING[:-2])
                assert (await client.answer()).status == 408

        for _ in range(300):
            nursery.start_soon(half)
        await trio.sleep(0.05)
        assert (await served.ask("GET", "/_ping")).status == 200


async def test_a_head_that_drips_does_not_get_more_time(served: Served) -> None:
    began = trio.current_time()
    async with await served.connect() as client, trio.open_nursery() as nursery:

        async def drip() -> None:
            try:
                for i in range(1000):
                    await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " if not i else b"x")
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                return

        nursery.start_soon(drip)
        assert (await client.answer()).status == 408
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 3


async def test_an_idle_connection_is_closed_without_a_word(served: Served) -> None:
    async with await served.connect() as client:
        assert (await client.ask("GET", "/_ping")).status == 200
        assert await client.rest() == b""


async def test_a_body_that_stalls_is_given_up(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(request("POST", "/containers/create", b"{", Content_Length="10"))
        answer = await client.answer()
        assert answer.status == 400 and "nothing of the body came" in answer.message


async def test_a_body_that_ends_too_early_is_refused(served: Served) -> None:
    async with await served.connect() as client:
        await client.send(request("POST", "/containers/create", b"{", Content_Length="10"))
        await client.stream.send_eof()
        assert "ended too early" in (await client.answer()).message


async def test_a_client_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    ended = trio.Event()

    async def flood(job: Job[Any]) -> None:
        assert job.stdout is not None
        try:
            while True:
                await job.stdout.send_all(b"x" * 65536)
        finally:
            ended.set()

    async with serving(tmp_path, {"logs": flood}, limits=QUICK) as served, await served.connect() as client:
        await client.send(request("GET", "/containers/web/logs?stdout=1"))
        await ended.wait()


async def test_connections_have_a_limit_and_root_a_reserve(tmp_path: Path) -> None:
    limits = Limits(connections=4, reserve=2, linger=0.1)
    hosts = (f"unix://{tmp_path}/a.sock", "tcp://127.0.0.1:0")
    async with serving(tmp_path, {}, *hosts, limits=limits, AllowPlainTcp=True) as served:
        clients = [await served.connect_tcp() for _ in range(2)]
        for client in clients:
            assert (await client.ask("GET", "/_ping")).status == 200
        async with await served.connect_tcp() as client:
            assert (await client.answer()).status == 503
        assert (await served.ask("GET", "/_ping")).status == 200  # root, on the unix socket
        for client in clients:
            await trio.aclose_forcefully(client.stream)


# -- clients that leave ------------------------------------------------------------------------------------------


async def test_resets_leave_the_server_up(tmp_path: Path) -> None:
    hosts = (f"unix://{tmp_path}/a.sock", "tcp://127.0.0.1:0")
    async with serving(tmp_path, {"create": echo}, *hosts, AllowPlainTcp=True) as served:
        whole = request("POST", "/containers/create", {"Image": "a"})
        for i in range(400):
            client = await served.connect_tcp()
            await client.send(whole[: i % (len(whole) + 1)])
            reset(client)
        assert (await served.ask("GET", "/_ping")).status == 200


@pytest.mark.parametrize(
    ("target", "job", "is_cancelled"),
    [
        ("POST /containers/web/wait", "wait", True),
        ("GET /containers/web/logs", "logs", True),
        ("GET /events", "events", True),
        ("POST /images/load", "load", True),
        ("POST /images/create?fromSrc=-", "import", True),
        ("POST /engine/v1/jobs/create", "create", True),
        ("POST /containers/create", "create", False),
        ("POST /containers/web/start", "start", False),
        ("POST /containers/web/stop", "stop", False),
        ("DELETE /containers/web", "delete", False),
    ],
)
async def test_a_client_that_leaves_cancels_what_is_only_for_it(
    tmp_path: Path, target: str, job: str, is_cancelled: bool
) -> None:
    began, ended = trio.Event(), trio.Event()
    seen: list[bool] = []

    async def work(job: Job[Any]) -> None:
        began.set()
        try:
            await trio.sleep(0.3)
            seen.append(False)
        except trio.Cancelled:
            seen.append(True)
            raise
        finally:
            ended.set()

    async with serving(tmp_path, {job: work}) as served:
        client = await served.connect()
        await client.send(request(*target.split()))
        await began.wait()
        await client.stream.aclose()
        await ended.wait()
    assert seen == [is_cancelled]


async def test_what_a_client_pipelines_while_its_job_runs_is_kept(tmp_path: Path) -> None:
    async def wait(job: Job[Any]) -> dict[str, int]:
        await job.ready()
        await trio.sleep(0.1)
        return {"StatusCode": 0}

    async with serving(tmp_path, {"wait": wait}) as served, await served.connect() as client:
        await client.send(request("POST", "/containers/web/wait"))
        assert (await client.head()).status == 200
        await client.send(PING)
        assert await client.chunk() == b'{"StatusCode":0}\n' and await client.chunk() == b""
        assert (await client.answer()).body == b"OK"


# -- smuggling ---------------------------------------------------------------------------------------------------

MARKER = b"GET /containers/smuggled/json HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(b"0\r\n\r\n" + MARKER),
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 0",
        b"Transfer-Encoding : chunked\r\nContent-Length: 0",
        b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 0",
        b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0",
        b"Content-Length: 0\r\nContent-Length: 60",
        b"Content-Length: 0, 60",
        b"Content-Length: 0\r\n Transfer-Encoding: chunked",
    ],
)
async def test_no_request_is_smuggled(tmp_path: Path, lines: bytes) -> None:
    seen = []

    async def inspect(job: Job[Any]) -> None:
        seen.append(job.env)

    async with serving(tmp_path, {"container_inspect": inspect, "create": echo}, limits=QUICK) as served:
        async with await served.connect() as client:
            await client.send(
                b"POST /containers/create HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n\r\n0\r\n\r\n" + MARKER
            )
            answers = (await client.rest()).count(b"HTTP/1.1 ")
        assert answers == 1
    assert seen == []
