"""How a job's outcome becomes an answer: streams, progress, errors that come late."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from windlass.engine import Aux, Job, Output, Progress, Warning
from windlass.engine.errors import NotFound
from windlass.jobs.containers import Streaming

from .serving import Served, request, serving


async def say_logs(job: Job[Any]) -> None:
    assert job.stdout is not None
    await job.ready(Streaming(Tty=job.env["name"] == "tty"))
    await job.stdout.send_all(b"one")
    await job.stdout.send_all(b"two")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/containers/tty/logs", "raw"),
        ("/containers/web/logs", "multiplexed"),
        ("/v1.42/containers/web/logs", "multiplexed"),
        ("/v1.41/containers/web/logs", "raw"),
    ],
)
async def test_the_content_type_tells_of_frames_since_1_42(tmp_path: Path, target: str, kind: str) -> None:
    async with serving(tmp_path, {"logs": say_logs}) as served:
        answer = await served.ask("GET", target + "?stdout=1")
        assert answer.headers["content-type"] == f"application/vnd.docker.{kind}-stream"
        assert answer.body == b"onetwo"


async def test_bytes_go_out_as_they_are_written(tmp_path: Path) -> None:
    go_on = trio.Event()

    async def events(job: Job[Any]) -> None:
        assert job.stdout is not None
        await job.ready()
        await job.stdout.send_all(b"first\n")
        await go_on.wait()
        await job.stdout.send_all(b"second\n")

    async with serving(tmp_path, {"events": events}) as served, await served.connect() as client:
        await client.send(request("GET", "/events"))
        assert (await client.head()).headers["content-type"] == "application/json"
        assert await client.chunk() == b"first\n"
        go_on.set()
        assert await client.chunk() == b"second\n"
        assert await client.chunk() == b""


async def test_a_waiter_has_its_head_before_the_exit(tmp_path: Path) -> None:
    """The docker CLI dead-locks otherwise: it starts the container when `wait` has answered."""
    exited = trio.Event()

    async def wait(job: Job[Any]) -> dict[str, int]:
        await job.ready()
        await exited.wait()
        return {"StatusCode": 3}

    async with serving(tmp_path, {"wait": wait}) as served, await served.connect() as client:
        await client.send(request("POST", "/containers/web/wait?condition=next-exit"))
        assert (await client.head()).status == 200
        exited.set()
        assert msgspec.json.decode(await client.chunk()) == {"StatusCode": 3}


async def test_http_1_0_gets_a_stream_until_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path, {"logs": say_logs}) as served, await served.connect() as client:
        await client.send(b"GET /containers/web/logs HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert answer.body == b"onetwo" and "transfer-encoding" not in answer.headers


async def test_an_error_before_ready_is_a_status(tmp_path: Path) -> None:
    async def fail(job: Job[Any]) -> None:
        raise NotFound("No such container: web")

    handlers = dict.fromkeys(("logs", "wait", "import", "attach", "events"), fail)
    async with serving(tmp_path, handlers) as served, await served.connect() as client:
        for method, target in (
            ("GET", "/containers/web/logs"), ("POST", "/containers/web/wait"), ("GET", "/events"),
            ("POST", "/images/create?fromSrc=-"), ("POST", "/containers/web/attach"),
        ):  # fmt: skip
            answer = await client.ask(method, target)
            assert (answer.status, answer.message) == (404, "No such container: web")


async def test_an_error_after_ready_breaks_the_stream_off(tmp_path: Path) -> None:
    async def fail(job: Job[Any]) -> None:
        assert job.stdout is not None
        await job.ready()
        await job.stdout.send_all(b"part")
        raise NotFound("gone")

    async with serving(tmp_path, {"logs": fail}) as served, await served.connect() as client:
        await client.send(request("GET", "/containers/web/logs"))
        await client.head()
        assert await client.chunk() == b"part"
        assert await client.rest() == b""  # no last chunk: nobody takes it for the whole


# -- progress ----------------------------------------------------------------------------------------------------


async def load(served: Served) -> tuple[int, list[dict[str, Any]]]:
    answer = await served.ask("POST", "/images/load", b"tar", Content_Type="application/x-tar")
    return answer.status, [msgspec.json.decode(line) for line in answer.body.split(b"\r\n") if line]


async def test_events_are_lines_of_progress(tmp_path: Path) -> None:
    async def handler(job: Job[Any]) -> None:
        job.emit(Progress("Loading layer", id="abc", current=512, total=1024))
        job.emit(Warning("old format"))
        job.emit(Aux({"ID": "sha256:1"}))
        job.emit(Output("Loaded image: busybox\n"))

    async with serving(tmp_path, {"load": handler}) as served:
        status, lines = await load(served)
    assert status == 200
    assert lines[0]["progressDetail"] == {"current": 512, "total": 1024}
    assert lines[0]["id"] == "abc" and lines[0]["progress"].endswith("512B/1.024kB")
    assert lines[1:] == [
        {"status": "WARNING: old format"}, {"aux": {"ID": "sha256:1"}}, {"stream": "Loaded image: busybox\n"},
    ]  # fmt: skip


async def test_a_late_error_is_the_last_line(tmp_path: Path) -> None:
    async def handler(job: Job[Any]) -> None:
        job.emit(Output("so far\n"))
        await trio.sleep(0.01)
        raise NotFound("the tar ends too early")

    async with serving(tmp_path, {"load": handler}) as served:
        status, lines = await load(served)
    assert status == 200
    assert lines[-1] == {"errorDetail": {"message": "the tar ends too early"}, "error": "the tar ends too early"}


async def test_an_error_before_any_progress_is_a_status(tmp_path: Path) -> None:
    async def handler(job: Job[Any]) -> None:
        raise NotFound("no manifest")

    async with serving(tmp_path, {"load": handler}) as served:
        status, lines = await load(served)
    assert (status, lines) == (404, [{"message": "no manifest"}])


async def test_an_import_ends_with_its_id(tmp_path: Path) -> None:
    async def handler(job: Job[Any]) -> str:
        assert job.stdin is not None
        assert await job.stdin.receive_some() == b"tar"
        return "sha256:abc"

    async with serving(tmp_path, {"import": handler}) as served:
        answer = await served.ask("POST", "/images/create?fromSrc=-&repo=x", b"tar")
    assert msgspec.json.decode(answer.body) == {"status": "sha256:abc"}


async def test_a_slow_reader_loses_progress_and_nothing_else(tmp_path: Path) -> None:
    async def handler(job: Job[Any]) -> None:
        for i in range(5000):
            job.emit(Progress("p", id="x", current=i, total=5000))
            if i % 100 == 0:
                job.emit(Output(f"{i}\n"))
                job.emit(Progress("Pull complete", id="y"))

    async with serving(tmp_path, {"load": handler}) as served:
        _, lines = await load(served)
    assert len([line for line in lines if line.get("id") == "y"]) == 50
    assert [line["stream"] for line in lines if "stream" in line] == [f"{i}\n" for i in range(0, 5000, 100)]
    assert lines[-1]["progressDetail"]["current"] == 4999
    assert len(lines) < 1000


async def test_a_body_is_streamed_to_the_job_in_both_framings(tmp_path: Path) -> None:
    sizes: list[int] = []

    async def handler(job: Job[Any]) -> None:
        assert job.stdin is not None
        size = 0
        while data := await job.stdin.receive_some():
            size += len(data)
        sizes.append(size)

    async with serving(tmp_path, {"load": handler}) as served, await served.connect() as client:
        await client.ask("POST", "/images/load", b"x" * 3_000_000)
        await client.send(request("POST", "/images/load", Transfer_Encoding="chunked"))
        for _ in range(30):
            await client.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        await client.send(b"0\r\n\r\n")
        assert (await client.answer()).status == 200
    assert sizes == [3_000_000, 3_000_000]
