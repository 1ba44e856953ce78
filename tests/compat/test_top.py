"""`docker top`: the host's ps, with the container's processes alone."""

import contextlib
from typing import Any

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root


@pytest.fixture
def family(docker: Docker, image: str, name: str) -> str:
    """Return the name of a container with three processes, one of them with a blank in its arguments."""
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", "sleep 71 & sleep 72 & wait")
    docker.ok("exec", name, "sh", "-c", "until [ $(ls -d /proc/[0-9]* | wc -l) -ge 3 ]; do :; done")
    return name


def top(wire: Wire, name: str, **query: str) -> dict[str, Any]:
    answer = wire.get(f"/containers/{name}/top", **query)
    assert answer.status == 200, answer.body
    return dict(answer.json)


def commands(found: dict[str, Any]) -> list[str]:
    return sorted(row[-1] for row in found["Processes"])


EXPECTED = ["sh -c sleep 71 & sleep 72 & wait", "sleep 71", "sleep 72"]


def test_the_default_columns_are_those_of_ps_ef(wire: Wire, family: str) -> None:
    found = top(wire, family)
    assert found["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert commands(found) == EXPECTED
    assert all(len(row) == len(found["Titles"]) for row in found["Processes"])


def test_the_pids_are_the_hosts(docker: Docker, wire: Wire, family: str) -> None:
    pids = [row[1] for row in top(wire, family)["Processes"]]
    assert docker.inspect(family, "{{.State.Pid}}") in pids


@pytest.mark.parametrize("args", ["aux", "-o pid,cmd", "-eo user,pid,args", "-C sleep -o pid,cmd", "axf"])
def test_arguments_choose_columns(wire: Wire, family: str, args: str) -> None:
    found = top(wire, family, ps_args=args)
    assert "PID" in found["Titles"]
    assert any("sleep 71" in command for command in commands(found))
    assert len(found["Processes"]) == (2 if "-C" in args else 3)


def test_threads_belong_to_their_process(wire: Wire, family: str) -> None:
    """Option m writes a line for each thread, with a dash for its pid."""
    found = top(wire, family, ps_args="m -e -o pid,lwp,cmd")
    assert [row[0] for row in found["Processes"]].count("-") == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("-o ppid=PID", 'specifying "ppid=PID" is not allowed'),
        ("-o pid,cmd -o args= PIDS", 'specifying "args=PIDS" is not allowed'),
        ("-o cmd", "Couldn't find PID field in ps output"),
        ("--no-such-option", "error: "),
    ],
)
def test_arguments_that_hide_who_is_who_are_refused(wire: Wire, family: str, args: str, message: str) -> None:
    answer = wire.get(f"/containers/{family}/top", ps_args=args)
    assert (answer.status, message in answer.json["message"]) == (400, True), answer.body


def test_a_container_that_does_not_run_has_no_processes(wire: Wire, image: str, name: str) -> None:
    wire.post("/containers/create", {"Image": image}, name=name)
    answer = wire.get(f"/containers/{name}/top")
    assert (answer.status, "is not running" in answer.json["message"]) == (409, True)
    assert wire.get("/containers/nobody/top").status == 404


def test_the_cli_shows_a_table(docker: Docker, family: str) -> None:
    lines = docker.ok("top", family, "-o", "pid,cmd").splitlines()
    assert lines[0].split() == ["PID", "CMD"]
    assert sorted(line.split(maxsplit=1)[1] for line in lines[1:]) == EXPECTED


def test_processes_of_an_exec_are_there(docker: Docker, wire: Wire, family: str) -> None:
    docker.ok("exec", "-d", family, "sleep", "73")
    assert "sleep 73" in commands(top(wire, family))


def test_docker_py_shows_them(engine_host: str, family: str) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        assert commands(client.containers.get(family).top(ps_args="-eo pid,args")) == EXPECTED
