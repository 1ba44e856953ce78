"""Our own surface, /engine/v1: jobs over HTTP, in frames and in lines."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from windlass.api import remote
from windlass.engine import Job, Progress, Signature, Warning
from windlass.engine.errors import Conflict, NotFound, NotModified
from windlass.engine.streams import frame

from .serving import Client, Served, request, serving

UPGRADE = {"Connection": "Upgrade", "Upgrade": remote.PROTOCOL}


class Shout(Signature[dict[str, int]], frozen=True):
    """Shout what comes in."""

    NAME = "shout"
    name: str
    times: int = 1


async def shout(job: Job[Shout]) -> dict[str, int]:
    assert job.stdin is not None and job.stdout is not None and job.stderr is not None
    count = 0
    await job.ready({"to": job.params.name})
    job.emit(Progress("shouting"))
    while data := await job.stdin.receive_some():
        count += len(data)
        await job.stdout.send_all(data.upper() * job.params.times)
    job.emit(Warning("hoarse"))
    await job.stderr.send_all(b"done")
    return {"count": count}


async def begin(client: Client, name: str, body: Any, **headers: str) -> None:
    await client.send(request("POST", f"/engine/v1/jobs/{name}", body, **UPGRADE, **headers))
    head = await client.head()
    assert (head.status, head.headers["upgrade"]) == (101, remote.PROTOCOL)


def decoded(payload: bytes) -> Any:
    return msgspec.json.decode(payload)


async def test_a_job_in_frames_has_all_its_streams(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served, await served.connect() as client:
        await begin(client, "shout", {"args": ["you"], "env": {"times": 2}})
        kind, payload = await client.frame()
        assert (kind, decoded(payload)) == (remote.EVENT, {"event": "ready", "value": {"to": "you"}})
        kind, payload = await client.frame()
        assert (kind, decoded(payload)) == (remote.EVENT, {"event": "progress", "status": "shouting"})
        await client.send(frame(remote.STDIN, b"hey"))
        assert await client.frame() == (remote.STDOUT, b"HEYHEY")
        await client.send(frame(remote.END_OF_STDIN, b""))
        kind, payload = await client.frame()
        assert (kind, decoded(payload)) == (remote.EVENT, {"event": "warning", "message": "hoarse"})
        assert await client.frame() == (remote.STDERR, b"done")
        kind, payload = await client.frame()
        assert (kind, decoded(payload)) == (remote.RESULT, {"count": 3})
        assert await client.rest() == b""


async def test_frames_sent_ahead_and_cut_anywhere_are_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served, await served.connect() as client:
        ahead = frame(remote.STDIN, b"a" * 1000) + frame(remote.STDIN, b"b") + frame(remote.END_OF_STDIN, b"")
        whole = request("POST", "/engine/v1/jobs/shout", {"env": {"name": "x"}}, **UPGRADE) + ahead
        for start in range(0, len(whole), 97):
            await client.send(whole[start : start + 97])
        await client.head()
        out = b""
        while (got := await client.frame())[0] != remote.RESULT:
            out += got[1] if got[0] == remote.STDOUT else b""
        assert out == b"A" * 1000 + b"B" and decoded(got[1]) == {"count": 1001}


async def test_errors_keep_their_code_and_detail(tmp_path: Path) -> None:
    async def fail(job: Job[Any]) -> None:
        raise Conflict("the name is taken", id="abc")

    async with serving(tmp_path, {"fail": fail}) as served, await served.connect() as client:
        await begin(client, "fail", {})
        kind, payload = await client.frame()
        told = {"code": "conflict", "message": "the name is taken", "detail": {"id": "abc"}}
        assert (kind, decoded(payload)) == (remote.ERROR, told)
        answer = await served.ask("POST", "/engine/v1/jobs/fail", {})
        assert (answer.status, answer.json) == (409, told)


async def test_a_wrong_env_names_the_nearest_key(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served:
        answer = await served.ask("POST", "/engine/v1/jobs/shout", {"env": {"nmae": "x"}})
        assert answer.status == 400
        assert answer.json["code"] == "bad-parameter" and "did you mean 'name'" in answer.message
        assert answer.json["detail"] == {"key": "nmae"}


async def test_text_is_parsed_only_when_the_caller_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served:
        body = {"env": {"name": "x", "times": "2"}}
        assert (await served.ask("POST", "/engine/v1/jobs/shout", body)).status == 400
        async with await served.connect() as client:
            await begin(client, "shout", body | {"lax": True})
            assert (await client.frame())[0] == remote.EVENT


async def cancelled(served: Served, act: Any) -> str:
    """Begin a job that waits for ever, `act` on its client, and tell how the job ended."""
    began, ended = trio.Event(), trio.Event()
    jobs: list[Job[Any]] = []

    async def wait(job: Job[Any]) -> None:
        jobs.append(job)
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    served.engine.register("hang", wait)
    async with await served.connect() as client:
        await begin(client, "hang", {})
        await began.wait()
        await act(client)
        await ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    return jobs[0].state


async def test_a_client_that_leaves_cancels_its_job(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert await cancelled(served, lambda client: client.stream.aclose()) == "cancelled"


async def test_a_client_can_cancel_its_job_and_is_told(tmp_path: Path) -> None:
    async def cancel(client: Client) -> None:
        await client.send(frame(remote.CANCEL, b""))
        kind, payload = await client.frame()
        assert kind == remote.ERROR and decoded(payload)["code"] == "cancelled"

    async with serving(tmp_path) as served:
        assert await cancelled(served, cancel) == "cancelled"


async def test_what_is_no_frame_ends_the_job(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert await cancelled(served, lambda client: client.send(b"\xff" * 64)) == "cancelled"


async def test_a_cancel_gets_past_input_that_nobody_reads(tmp_path: Path) -> None:
    async def flood(client: Client) -> None:
        await client.send(frame(remote.STDIN, b"x" * 1_000_000) + frame(remote.CANCEL, b""))

    async with serving(tmp_path) as served:
        assert await cancelled(served, flood) == "cancelled"


async def test_a_job_can_be_found_and_cancelled_from_elsewhere(tmp_path: Path) -> None:
    async def find_and_cancel(client: Client) -> None:
        found = (await served.ask("GET", "/engine/v1/jobs")).json
        (number,) = [each["id"] for each in found if each["name"] == "hang"]
        assert (await served.ask("DELETE", f"/engine/v1/jobs/{number}")).status == 204

    async with serving(tmp_path) as served:
        assert await cancelled(served, find_and_cancel) == "cancelled"


async def test_a_deadline_is_kept(tmp_path: Path) -> None:
    async def hang(job: Job[Any]) -> None:
        await trio.sleep_forever()

    async with serving(tmp_path, {"hang": hang}) as served:
        answer = await served.ask("POST", "/engine/v1/jobs/hang", {}, X_Windlass_Deadline="0.05")
        assert answer.status == 504 and answer.json["code"] == "deadline"


async def test_without_upgrade_the_answer_is_lines(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served:

        async def say(job: Job[Any]) -> str:
            assert job.stdout is not None and job.stderr is not None
            job.emit(Warning("careful"))
            await job.stdout.send_all(b"\xff\x00")
            await job.stderr.send_all(b"err")
            return "fine"

        served.engine.register("say", say)
        answer = await served.ask("POST", "/engine/v1/jobs/say", {})
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [decoded(line) for line in answer.body.splitlines()] == [
            {"event": {"event": "warning", "message": "careful"}},
            {"stdout": base64.b64encode(b"\xff\x00").decode()},
            {"stderr": base64.b64encode(b"err").decode()},
            {"result": "fine"},
        ]


async def test_an_error_after_lines_is_a_line(tmp_path: Path) -> None:
    async def fail(job: Job[Any]) -> None:
        assert job.stdout is not None
        await job.stdout.send_all(b"so far")
        raise NotFound("gone")

    async with serving(tmp_path, {"fail": fail}) as served:
        answer = await served.ask("POST", "/engine/v1/jobs/fail", {})
        assert answer.status == 200
        assert decoded(answer.body.splitlines()[-1])["error"]["code"] == "not-found"


async def test_nothing_to_do_is_told_with_a_body(tmp_path: Path) -> None:
    """304 has no body, so that its code would be lost."""

    async def start(job: Job[Any]) -> None:
        raise NotModified("runs already")

    async with serving(tmp_path, {"start": start}) as served:
        answer = await served.ask("POST", "/engine/v1/jobs/start", {})
        assert (answer.status, answer.json["code"]) == (409, "not-modified")


async def test_a_result_that_cannot_be_sent_is_our_fault(tmp_path: Path) -> None:
    async def odd(job: Job[Any]) -> object:
        return object()

    async with serving(tmp_path, {"odd": odd}) as served:
        answer = await served.ask("POST", "/engine/v1/jobs/odd", {})
        assert (answer.status, answer.json["code"]) == (500, "internal")


async def test_commands_and_describe_tell_what_there_is(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served:
        assert {"shout", "describe", "serveapi"} <= set((await served.ask("GET", "/engine/v1/commands")).json)
        told = (await served.ask("GET", "/engine/v1/describe/shout")).json
        assert told["doc"] == "Shout what comes in." and told["args"] == ["name", "times"]
        assert (await served.ask("GET", "/engine/v1/describe/nonsense")).status == 404


async def test_the_surface_describes_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, {"shout": shout}) as served:
        document = (await served.ask("GET", "/engine/v1/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    assert {"get"} == set(paths["/engine/v1/jobs"]) and {"delete"} == set(paths["/engine/v1/jobs/{id}"])
    operation = paths["/engine/v1/jobs/shout"]["post"]
    assert operation["summary"] == "Shout what comes in."
    env = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["env"]
    assert "Shout" in str(env)
    assert "/engine/v1/jobs/serveapi" not in paths
    assert references(document) <= pointers(document)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values())) if value else own
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def pointers(document: dict[str, Any]) -> set[str]:
    return {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


async def test_what_the_client_still_sends_does_not_reset_the_result(tmp_path: Path) -> None:
    """Closing a socket with unread bytes resets it: over TCP the result would be lost."""

    async def quick(job: Job[Any]) -> str:
        return "fine"

    env = {"AllowPlainTcp": True}
    async with serving(tmp_path, {"quick": quick}, "tcp://127.0.0.1:0", **env) as served:
        for _ in range(20):
            async with await served.connect_tcp() as client:
                await begin(client, "quick", {})
                await client.send(frame(remote.STDIN, b"x" * 50_000) + frame(remote.END_OF_STDIN, b""))
                assert (await client.frame())[0] == remote.RESULT
                assert client.buffer == b"" and await client.stream.receive_some(1) == b""
