"""Quirks of Docker 1.3's engine, each of which must stay fixed; docs/quirks.md has the whole list.

The quirks that other tests hold are named there. `Q5` and so on are that list's numbers.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import pytest
import trio

from tests.api.serving import Client, serving
from windlass.api.serve import install as install_api
from windlass.daemon.names import Registry
from windlass.engine import Engine, Job, Signature, streams
from windlass.engine.errors import BadParameter, Denied, JobError, NotFound, Unavailable


class Make(Signature[None], frozen=True):
    NAME: ClassVar[str] = "make"
    name: str = ""
    Tag: str = ""
    Memory: int = 0
    Cmd: list[str] = []
    Nested: dict[str, Any] = {}


async def nothing(job: Job[Any]) -> None:
    await trio.lowlevel.checkpoint()


async def test_q1_jobs_run_while_others_are_registered() -> None:
    engine = Engine()

    async def register(job: Job[Any]) -> None:
        for number in range(50):
            engine.register(f"new{number}", nothing)
            await trio.lowlevel.checkpoint()

    engine.register("register", register)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.job("register").run)
        for _ in range(50):
            assert "commands" in await engine.job("commands").run()
    assert len(engine.names()) == 55


async def test_q5_no_job_slips_in_once_a_shutdown_has_begun() -> None:
    engine = Engine()
    engine.register("nothing", nothing)
    ran: list[str] = []

    async def try_one() -> None:
        try:
            await engine.job("nothing").run()
            ran.append("late" if engine.is_closing else "early")
        except Unavailable:
            ran.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.shutdown)
        for _ in range(50):
            nursery.start_soon(try_one)
    assert len(ran) == 50 and set(ran) <= {"refused", "late"}
    assert not engine.running


@pytest.mark.parametrize("message", ["one\ntwo", "ends in newlines\n\n", ""])
async def test_q7_an_error_is_its_whole_message(message: str) -> None:
    async def fail(job: Job[Any]) -> None:
        if job.stderr is not None:
            await job.stderr.send_all(b"noise\nlast line of stderr\n")
        raise Denied(message)

    engine = Engine()
    engine.register("fail", fail)
    job = engine.job("fail")
    job.stderr = streams.Capture()
    with pytest.raises(Denied) as caught:
        await job.run()
    assert caught.value.message == message


async def test_q9_a_bare_word_is_a_list_of_one_only_where_text_is_parsed() -> None:
    engine = Engine()

    async def make(job: Job[Make]) -> None:
        assert job.params.Cmd == ["ls -l"]

    engine.register("make", make)
    await Job(engine, "make", (), {"Cmd": "ls -l"}, lax=True).run()
    for wrong in ("ls -l", [1, 2], {}):
        with pytest.raises(BadParameter, match="Cmd"):
            await engine.job("make", Cmd=wrong).run()


async def test_q10_a_word_without_equals_sign_is_an_argument() -> None:
    job = Engine().parse_job("make web A=")
    assert (job.args, job.env) == (("web",), {"A": ""})


async def test_q11_q12_nothing_guesses_types() -> None:
    """1.3 sent the tag 1.0 as the number 1, and lost integers of a million and more inside objects."""

    async def make(job: Job[Make]) -> None:
        seen.append(msgspec.json.decode(msgspec.json.encode(job.params)))

    seen: list[dict[str, Any]] = []
    engine = Engine()
    engine.register("make", make)
    env = {"name": "123", "Tag": "1.0", "Memory": 2**53 + 1, "Nested": {"a": 16777216, "b": [1.5, "1e5", "true"]}}
    await engine.job("make", **env).run()
    await Job(engine, "make", (), env | {"Memory": str(2**53 + 1)}, lax=True).run()
    assert seen == [env | {"Cmd": []}] * 2


async def test_q13_output_that_is_no_json_blocks_nobody() -> None:
    async def chatter(job: Job[Any]) -> dict[str, int]:
        for _ in range(100):
            await job.stdout.send_all(b"{ no json")
        return {"answer": 42}

    engine = Engine()
    engine.register("chatter", chatter)
    job = engine.job("chatter")
    job.stdout = streams.Capture()
    with trio.fail_after(5):
        assert await job.run() == {"answer": 42}


async def test_q14_what_is_closed_takes_nothing_more() -> None:
    writer, reader = streams.pipe()
    await writer.send_all(b"before")
    await writer.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await writer.send_all(b"after")
    assert [await reader.receive_some(), await reader.receive_some()] == [b"before", b""]


async def test_q15_acceptconnections_may_come_first_and_twice(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with Engine() as engine:
            install_api(engine)
            await engine.job("acceptconnections").run()
            await engine.job("acceptconnections").run()
            await engine.job("serveapi", f"unix://{tmp_path}/s", BufferRequests=True).start()
            async with Client(await trio.open_unix_socket(f"{tmp_path}/s")) as client:
                assert (await client.ask("GET", "/_ping")).body == b"OK"


async def test_q15_a_start_that_failed_is_told_to_those_who_wait(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with Engine() as engine:
            install_api(engine)
            await engine.job("serveapi", f"unix://{tmp_path}/s", BufferRequests=True).start()
            async with Client(await trio.open_unix_socket(f"{tmp_path}/s")) as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.send, b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await trio.testing.wait_all_tasks_blocked(0.05)
                await engine.job("acceptconnections", error="the disk is full").run()
                answer = await client.answer()
    assert (answer.status, answer.message) == (503, "the disk is full")


@pytest.mark.parametrize(
    ("message", "status"), [("forbidden", 403), ("No such container: x", 403), ("Wrong login, please register", 403)]
)
async def test_q16_q20_the_status_follows_the_class_and_never_the_words(
    tmp_path: Path, message: str, status: int
) -> None:
    async def create(job: Job[Any]) -> None:
        raise Denied(message)

    async with serving(tmp_path, {"create": create}) as served:
        answer = await served.ask("POST", "/containers/create", {"Image": "x"})
    assert (answer.status, answer.message) == (status, message)


def test_q19_an_id_never_hides_a_name() -> None:
    registry = Registry()
    hidden: Any = SimpleNamespace(id="abcd" + "0" * 60, name="first")
    named: Any = SimpleNamespace(id="1" * 64, name="abcd")
    for container in (hidden, named):
        registry.add(container)
    assert registry.get("abcd") is named
    assert registry.get("abcd0") is hidden
    with pytest.raises(NotFound):
        registry.get("abce")


@pytest.mark.parametrize("name", ["version", "info"])
async def test_q29_a_failure_of_version_or_info_is_no_200(tmp_path: Path, name: str) -> None:
    async def fail(job: Job[Any]) -> None:
        raise NotFound("the disk is gone")

    async with serving(tmp_path, {name: fail}) as served:
        answer = await served.ask("GET", f"/{name}")
    assert (answer.status, answer.message) == (404, "the disk is gone")


async def test_q30_a_late_error_is_never_appended_to_a_stream_of_bytes(tmp_path: Path) -> None:
    async def events(job: Job[Any]) -> None:
        await job.ready()
        await job.stdout.send_all(b"{}\n")
        raise JobError("too late")

    async with serving(tmp_path, {"events": events}) as served, await served.connect() as client:
        await client.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.head()).status == 200
        rest = await client.rest()
    assert b"too late" not in rest and not rest.endswith(b"0\r\n\r\n"), "the stream is broken off, not ended"
