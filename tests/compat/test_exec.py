"""`docker exec`: output, input, exit codes, environment, refusals, inspect."""

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire, output

pytestmark = pytest.mark.root


def test_exec_prints_and_ends_as_the_command_does(docker: Docker, running: str) -> None:
    result = docker("exec", running, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, "out\n", "err\n")


def test_exec_i_gives_piped_input_to_the_command(docker: Docker, running: str) -> None:
    assert docker("exec", "-i", running, "wc", "-c", input=b"x" * 100000).out.strip() == "100000"


def test_exec_i_ends_the_command_by_end_of_file(docker: Docker, running: str) -> None:
    assert docker("exec", "-i", running, "sh", "-c", "cat; echo end", input=b"one\n").out == "one\nend\n"


def test_exec_without_i_reads_nothing(docker: Docker, running: str) -> None:
    assert docker("exec", running, "cat", input=b"not for you").out == ""


def test_exec_d_runs_in_the_background(docker: Docker, running: str) -> None:
    assert docker.ok("exec", "-d", running, "sh", "-c", "echo done > /tmp/mark") == ""
    found = docker.ok("exec", running, "sh", "-c", "until [ -s /tmp/mark ]; do sleep 0.05; done; cat /tmp/mark")
    assert found == "done"


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["-e", "GREETING=hello"], "echo $GREETING", "hello"),
        (["-w", "/tmp"], "pwd", "/tmp"),
        (["-u", "nobody"], "id -u", "65534"),
        (["-u", "12:34"], "id -u; id -g", "12\n34"),
        ([], "grep CapEff /proc/self/status | cut -f2", "00000000a80425fb"),
        ([], "grep Seccomp: /proc/self/status | cut -f2", "2"),
        ([], "test $(readlink /proc/self/ns/mnt) = $(readlink /proc/1/ns/mnt) && echo same", "same"),
        (
            [],
            "cut -d: -f3 /proc/self/cgroup | sort -u > /tmp/a; cut -d: -f3 /proc/1/cgroup | sort -u | diff - /tmp/a",
            "",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value) or "default",
)
def test_the_command_sees_what_the_flags_ask_for(
    docker: Docker, running: str, flags: list[str], script: str, expected: str
) -> None:
    result = docker("exec", *flags, running, "sh", "-c", script)
    assert result.out.strip() == expected, result


def test_exec_sees_the_environment_of_the_container(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", "none", "-e", "A=1", "-w", "/tmp", image, "sleep", "60")
    assert docker.ok("exec", name, "sh", "-c", "echo $A; pwd") == "1\n/tmp"


def test_a_missing_command_ends_with_127(docker: Docker, running: str) -> None:
    """20.10 ends with 126 (its own code was overwritten by a default); 28 with 127."""
    result = docker("exec", running, "no-such-command")
    assert result.code == (126 if docker.is_old else 127)
    assert 'exec: "no-such-command": executable file not found in $PATH' in result.out + result.err


def test_a_command_that_is_not_executable_ends_with_126(docker: Docker, running: str) -> None:
    result = docker("exec", running, "/etc/passwd")
    assert result.code == 126
    assert 'exec: "/etc/passwd": permission denied' in result.out + result.err


def test_a_failed_exec_does_not_hurt_the_container(docker: Docker, running: str) -> None:
    docker("exec", running, "no-such-command")
    assert docker.ok("exec", running, "echo", "still here") == "still here"


def test_exec_in_a_stopped_container_is_refused(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "true")
    result = docker("exec", name, "true")
    assert result.code == 1
    assert f"container {docker.inspect(name, '{{.Id}}')} is not running" in result.err.lower()


def test_exec_in_nobody(docker: Docker) -> None:
    result = docker("exec", "nobody-here", "true")
    assert result.code == 1 and "No such container: nobody-here" in result.err


def test_a_container_that_ends_ends_its_execs(docker: Docker, running: str) -> None:
    """The pid namespace dies with its first process; the exec's client gets 137."""
    with docker.start("exec", running, "sh", "-c", "echo up; exec sleep 1000") as command:
        assert command.line() == "up"
        docker.ok("kill", running)
        assert command.finish()[2] == 137


def test_exec_inspect_tells_how_it_went(wire: Wire, running: str) -> None:
    body = {"Cmd": ["sh", "-c", "read line; exit 3"], "AttachStdin": True, "AttachStdout": True, "Env": ["A=1"]}
    made = wire.post(f"/containers/{running}/exec", body)
    assert made.status == 201
    id = made.json["Id"]
    assert wire.get(f"/exec/{id}/json").json["Running"] is False
    with wire.hijack(f"/exec/{id}/start", {"Detach": False, "Tty": False}) as stream:
        assert stream.status == 101
        found = wire.get(f"/exec/{id}/json").json
        assert (found["Running"], found["ExitCode"]) == (True, None)
        assert found["ProcessConfig"]["entrypoint"] == "sh"
        assert found["ProcessConfig"]["arguments"] == ["-c", "read line; exit 3"]
        stream.send(b"\n")
        assert output(stream.frames()) == (b"", b"")
    found = wire.get(f"/exec/{id}/json").json
    assert (found["Running"], found["ExitCode"], found["OpenStdout"]) == (False, 3, True)


def test_an_exec_starts_once(wire: Wire, running: str) -> None:
    id = wire.post(f"/containers/{running}/exec", {"Cmd": ["true"]}).json["Id"]
    assert wire.post(f"/exec/{id}/start", {"Detach": True}).status == 200
    again = wire.post(f"/exec/{id}/start", {"Detach": True})
    assert again.status == 409, again.body


def test_nobodys_exec(wire: Wire) -> None:
    answer = wire.get("/exec/feedfeed/json")
    assert (answer.status, answer.message) == (404, "No such exec instance: feedfeed")


def test_exec_without_a_command_is_refused(wire: Wire, running: str) -> None:
    answer = wire.post(f"/containers/{running}/exec", {"Cmd": []})
    assert (answer.status, answer.message.lower()) == (400, "no exec command specified")
