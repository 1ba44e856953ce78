"""What clients rely on below their commands: the CLI's raw bodies, order of answers, hijacked streams."""

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.wire import Hijacked, Wire, output

pytestmark = pytest.mark.root

BODIES = sorted((Path(__file__).parents[1] / "data" / "create-bodies").glob("*.json"))
STREAM = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}


def create(wire: Wire, name: str, image: str, *command: str, **config: Any) -> str:
    host = {"NetworkMode": "none", **config.pop("HostConfig", {})}
    body = {"Image": image, "Cmd": list(command), "HostConfig": host, **config}
    answer = wire.post("/containers/create", body, name=name)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def attach(wire: Wire, id: str, upgrade: bool = True, **query: int) -> Hijacked:
    words = "&".join(f"{key}={value}" for key, value in (query or STREAM).items())
    return wire.hijack(f"/containers/{id}/attach?{words}", upgrade=upgrade)


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_a_create_body_of_the_cli_is_taken_as_it_is(wire: Wire, image: str, name: str, path: Path) -> None:
    """Recorded from CLI 28.2, byte for byte, with its nulls and the keys that only Windows reads."""
    answer = wire.post("/containers/create", path.read_bytes(), name=name)
    assert answer.status == 201, answer.body
    assert set(answer.json) == {"Id", "Warnings"}
    found = wire.get(f"/containers/{name}/json").json
    sent = json.loads(path.read_bytes())
    for key in ("Cmd", "Tty", "OpenStdin", "AttachStdin", "AttachStdout", "WorkingDir", "User"):
        if sent[key] is not None:
            assert found["Config"][key] == sent[key], key
    for key in ("Memory", "NanoCpus", "CpuShares", "ReadonlyRootfs", "AutoRemove", "CapAdd", "CapDrop", "GroupAdd"):
        assert found["HostConfig"][key] == sent["HostConfig"][key], key
    assert found["HostConfig"]["RestartPolicy"] == sent["HostConfig"]["RestartPolicy"]


def test_a_recorded_body_runs(wire: Wire, image: str, name: str, data: Path) -> None:
    """The body of `docker run echo hi`, without --rm so that its log can be read."""
    body = json.loads((data / "create-bodies" / "plain.json").read_bytes())
    body["HostConfig"] |= {"AutoRemove": False, "NetworkMode": "none"}
    del body["NetworkingConfig"]
    assert wire.post("/containers/create", body, name=name).status == 201
    assert wire.post(f"/containers/{name}/start").status == 204
    assert wire.post(f"/containers/{name}/wait").json["StatusCode"] == 0
    with contextlib.closing(attach(wire, name, logs=1, stdout=1, stderr=1)) as stream:
        assert output(stream.frames()) == (b"hi\n", b"")


def test_keys_in_another_case_are_understood(wire: Wire, image: str, name: str) -> None:
    """Go reads JSON keys without regard to case, and clients have come to rely on it."""
    answer = wire.post("/containers/create", {"image": image, "cmd": ["true"], "hostconfig": {}}, name=name)
    assert answer.status == 201, answer.body
    assert wire.get(f"/containers/{name}/json").json["Config"]["Cmd"] == ["true"]


def test_unknown_keys_and_nulls_are_ignored(wire: Wire, image: str, name: str) -> None:
    body = {"Image": image, "Cmd": "true", "Labels": None, "HostConfig": None, "Nonsense": {"a": 1}}
    answer = wire.post("/containers/create", body, name=name)
    assert answer.status == 201, answer.body
    found = wire.get(f"/containers/{name}/json").json["Config"]
    assert found["Cmd"] == ["true"] and not found["Labels"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b'{"Image": 1}', b'{"Cmd": {"a": 1}}', b'{"HostConfig": {"Memory": "much"}}', b"\xff"]
)
def test_a_broken_body_is_the_clients_fault(wire: Wire, docker: Docker, name: str, body: bytes) -> None:
    """20.10 took the blame (500)."""
    answer = wire.post("/containers/create", body, name=name)
    assert answer.status == (500 if docker.is_old else 400), answer.body
    assert answer.message
    assert wire.get(f"/containers/{name}/json").status == 404


def test_a_body_of_another_type_is_refused(wire: Wire) -> None:
    answer = wire.post("/containers/create", b"Image=busybox", headers={"Content-Type": "text/plain"})
    assert answer.status in (400, 415), answer.body


def test_create_of_a_missing_image_is_a_404_that_names_it(wire: Wire) -> None:
    answer = wire.post("/containers/create", {"Image": "compat/nowhere", "Cmd": ["true"]})
    assert (answer.status, answer.message) == (404, "No such image: compat/nowhere:latest")


def test_a_taken_name_is_a_409_that_names_its_holder(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "true")
    answer = wire.post("/containers/create", {"Image": image, "Cmd": ["true"]}, name=name)
    assert (answer.status, answer.message) == (
        409,
        f'Conflict. The container name "/{name}" is already in use by container "{id}". '
        "You have to remove (or rename) that container to be able to reuse that name.",
    )


def test_attach_and_wait_answer_before_start(wire: Wire, image: str, name: str) -> None:
    """The order of `docker run`: create, attach, wait for the next exit, start; no output may be lost."""
    id = create(wire, name, image, "sh", "-c", "echo first; exit 5")
    with attach(wire, id) as stream:
        assert stream.status == 101 and "upgrade: tcp" in stream.head.lower()
        connection, response = wire.open("POST", f"/containers/{id}/wait", condition="next-exit")
        with contextlib.closing(connection):
            assert response.status == 200
            assert wire.post(f"/containers/{id}/start").status == 204
            assert output(stream.frames()) == (b"first\n", b"")
            assert json.loads(response.read())["StatusCode"] == 5


def test_wait_for_removal_ends_after_rm(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "exit 4", HostConfig={"AutoRemove": True})
    connection, response = wire.open("POST", f"/containers/{id}/wait", condition="removed")
    with contextlib.closing(connection):
        wire.post(f"/containers/{id}/start")
        assert json.loads(response.read())["StatusCode"] == 4
        assert wire.get(f"/containers/{id}/json").status == 404


def test_wait_on_an_ended_container_answers_at_once(wire: Wire, image: str, name: str) -> None:
    create(wire, name, image, "sh", "-c", "exit 3")
    wire.post(f"/containers/{name}/start")
    for _ in range(2):
        assert wire.post(f"/containers/{name}/wait").json["StatusCode"] == 3


def test_wait_on_a_created_container_answers_at_once(wire: Wire, image: str, name: str) -> None:
    """Not running is what the default condition asks for."""
    create(wire, name, image, "true")
    assert wire.post(f"/containers/{name}/wait").json["StatusCode"] == 0


@pytest.mark.parametrize("condition", ["never", "REMOVED"])
def test_an_unknown_wait_condition_is_refused(
    wire: Wire, docker: Docker, image: str, name: str, condition: str
) -> None:
    if docker.is_old:
        pytest.skip("20.10 takes any condition for the default")
    create(wire, name, image, "true")
    answer = wire.post(f"/containers/{name}/wait", condition=condition)
    assert answer.status == 400, answer.body


def test_attach_without_upgrade_answers_200_and_streams(wire: Wire, image: str, name: str) -> None:
    """docker-py and old clients hijack without asking for it."""
    id = create(wire, name, image, "cat", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    with attach(wire, id, upgrade=False) as stream:
        assert stream.status == 200
        wire.post(f"/containers/{id}/start")
        stream.send(b"through\n")
        assert stream.read_frame() == (1, b"through\n")
        stream.end_input()
        assert output(stream.frames()) == (b"", b"")
    assert wire.post(f"/containers/{id}/wait").json["StatusCode"] == 0


def test_input_sent_with_the_request_reaches_the_command(wire: Wire, image: str, name: str) -> None:
    """Bytes behind the head belong to the stream, even in the same segment."""
    id = create(wire, name, image, "head", "-n1", OpenStdin=True, StdinOnce=True)
    with attach(wire, id) as stream:
        stream.send(b"early\n")
        wire.post(f"/containers/{id}/start")
        assert output(stream.frames()) == (b"early\n", b"")


def test_a_terminal_has_no_frames(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "echo out; echo err >&2", Tty=True)
    with attach(wire, id) as stream:
        wire.post(f"/containers/{id}/start")
        assert stream.read_raw() == b"out\r\nerr\r\n"


@pytest.mark.parametrize(("tty", "kind"), [(True, "raw-stream"), (False, "multiplexed-stream")])
def test_the_content_type_tells_of_frames_since_142(
    docker: Docker, engine_host: str, image: str, name: str, tty: bool, kind: str
) -> None:
    """Before API 1.42 every stream was called raw."""
    if docker.is_old:
        pytest.skip("multiplexed-stream came with API 1.42")
    wire = Wire(engine_host, "1.42")
    id = create(wire, name, image, "true", Tty=tty)
    with attach(wire, id) as stream:
        assert f"application/vnd.docker.{kind}" in stream.head
    with attach(Wire(engine_host, "1.41"), id) as stream:
        assert "application/vnd.docker.raw-stream" in stream.head


def test_a_client_that_leaves_does_not_end_the_container(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "echo one; read x; echo two", OpenStdin=True)
    with attach(wire, id) as stream:
        wire.post(f"/containers/{id}/start")
        assert stream.read_frame() == (1, b"one\n")
    with attach(wire, id, stream=1, stdin=1, stdout=1) as stream:
        stream.send(b"\n")
        assert stream.read_frame() == (1, b"two\n")


def test_attach_with_logs_replays_what_was_before(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "echo one; read x; echo two", OpenStdin=True, StdinOnce=False)
    with attach(wire, id) as stream:
        wire.post(f"/containers/{id}/start")
        assert stream.read_frame() == (1, b"one\n")
    with attach(wire, id, logs=1, stream=1, stdin=1, stdout=1, stderr=1) as stream:
        assert stream.read_frame() == (1, b"one\n")
        stream.send(b"\n")
        assert stream.read_frame() == (1, b"two\n")


def test_only_the_streams_that_were_asked_for_come(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "echo out; echo err >&2")
    with attach(wire, id, stream=1, stderr=1) as stream:
        wire.post(f"/containers/{id}/start")
        assert output(stream.frames()) == (b"", b"err\n")


def test_a_slow_reader_does_not_lose_output(wire: Wire, image: str, name: str) -> None:
    """Twenty megabytes wait for a reader that comes late; the container waits with them."""
    id = create(wire, name, image, "sh", "-c", "head -c 20000000 /dev/zero", HostConfig={"LogConfig": {"Type": "none"}})
    with attach(wire, id) as stream:
        wire.post(f"/containers/{id}/start")
        threading.Event().wait(0.3)
        out, err = output(stream.frames())
    assert (len(out), out.count(b"\0"), err) == (20000000, 20000000, b"")


def test_resize_sets_the_terminals_size(wire: Wire, image: str, name: str) -> None:
    id = create(wire, name, image, "sh", "-c", "read x; stty size", Tty=True, OpenStdin=True)
    with attach(wire, id) as stream:
        wire.post(f"/containers/{id}/start")
        assert wire.post(f"/containers/{id}/resize", h=21, w=43).status == 200
        stream.send(b"\n")
        assert b"21 43\r\n" in stream.read_raw()


def test_resize_of_a_container_that_does_not_run_is_a_conflict(wire: Wire, image: str, name: str) -> None:
    create(wire, name, image, "true", Tty=True)
    assert wire.post(f"/containers/{name}/resize", h=21, w=43).status == 409


def test_kill_of_nothing_running_is_a_409(wire: Wire, image: str, name: str) -> None:
    create(wire, name, image, "true")
    assert wire.post(f"/containers/{name}/kill").status == 409


def test_start_of_a_missing_command_is_a_400(wire: Wire, image: str, name: str) -> None:
    create(wire, name, image, "no-such-command")
    answer = wire.post(f"/containers/{name}/start")
    assert answer.status == 400
    assert 'exec: "no-such-command": executable file not found in $PATH' in answer.message


def test_rm_of_a_running_container_is_a_409(wire: Wire, image: str, name: str) -> None:
    create(wire, name, image, "sleep", "60")
    wire.post(f"/containers/{name}/start")
    assert wire.delete(f"/containers/{name}").status == 409
    assert wire.delete(f"/containers/{name}", force=1).status == 204


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/containers/NAME/json"), ("POST", "/containers/NAME/start"), ("DELETE", "/containers/NAME")],
)
def test_nobody_is_a_404(wire: Wire, method: str, path: str) -> None:
    answer = wire.request(method, path.replace("NAME", "nobody-here"))
    assert (answer.status, answer.message) == (404, "No such container: nobody-here")


def test_twenty_at_once_all_run(wire: Wire, image: str, new_name: Callable[[], str]) -> None:
    names = [new_name() for _ in range(20)]
    codes: dict[str, int] = {}

    def one(n: int, name: str) -> None:
        create(wire, name, image, "sh", "-c", f"exit {n}")
        assert wire.post(f"/containers/{name}/start").status == 204
        codes[name] = wire.post(f"/containers/{name}/wait").json["StatusCode"]

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {name: n for n, name in enumerate(names)}


def test_of_many_creators_of_one_name_one_wins(wire: Wire, image: str, name: str) -> None:
    answers: list[int] = []

    def one() -> None:
        answers.append(wire.post("/containers/create", {"Image": image, "Cmd": ["true"]}, name=name).status)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201] + [409] * 7
