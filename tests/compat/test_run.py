"""`docker run`: output, input, exit codes, refusals."""

import re
from collections.abc import Callable

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root


def run(*arguments: str) -> list[str]:
    """Return the words of a run that is removed at its end and needs no network."""
    return ["run", "--rm", "--network", "none", *arguments]


def test_run_prints_what_the_command_prints(docker: Docker) -> None:
    """Without --network: an engine that has no bridge yet may warn on standard error."""
    result = docker("run", "--rm", "busybox", "echo", "hi")
    assert (result.code, result.out) == (0, "hi\n")


def test_run_without_network_says_nothing_on_stderr(docker: Docker, image: str) -> None:
    result = docker(*run(image, "echo", "hi"))
    assert (result.code, result.out, result.err) == (0, "hi\n", "")


def test_stdout_and_stderr_stay_apart(docker: Docker, image: str) -> None:
    result = docker(*run(image, "sh", "-c", "echo out; echo err >&2"))
    assert (result.out, result.err) == ("out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_run_ends_with_the_exit_code_of_the_command(docker: Docker, image: str, code: int) -> None:
    assert docker(*run(image, "sh", "-c", f"exit {code}")).code == code


def test_run_ends_with_128_and_the_signal_that_killed_the_command(docker: Docker, image: str) -> None:
    """From inside, the first process of a pid namespace is deaf to SIGKILL: a child dies of it."""
    assert docker(*run(image, "sh", "-c", "sh -c 'kill -KILL $$'; exit $?")).code == 137


def test_rm_removes_the_container_and_frees_its_name(docker: Docker, image: str, name: str) -> None:
    for _ in range(2):
        assert docker(*run("--name", name, image, "true")).code == 0
    assert docker.ok("ps", "-aq", "--filter", f"name={name}") == ""


def test_run_i_gives_piped_input_to_the_command(docker: Docker, image: str) -> None:
    result = docker(*run("-i", image, "wc", "-c"), input=b"x" * 1000)
    assert (result.code, result.out.strip()) == (0, "1000")


def test_run_i_ends_the_command_by_end_of_file(docker: Docker, image: str) -> None:
    """The half-close of standard input reaches the command, whose output still comes."""
    result = docker(*run("-i", image, "sh", "-c", "cat; echo end"), input=b"one\ntwo\n")
    assert (result.code, result.out) == (0, "one\ntwo\nend\n")


def test_run_i_moves_a_megabyte_unchanged(docker: Docker, image: str) -> None:
    data = bytes(n * 7 % 256 for n in range(1 << 20))
    result = docker(*run("-i", image, "cat"), input=data)
    assert (result.code, result.raw == data) == (0, True)


def test_without_i_the_command_reads_nothing(docker: Docker, image: str) -> None:
    result = docker(*run(image, "cat"), input=b"not for you")
    assert (result.code, result.out) == (0, "")


def test_output_without_a_last_newline_is_kept(docker: Docker, image: str) -> None:
    assert docker(*run(image, "printf", "a\\0b")).raw == b"a\0b"


def test_run_d_prints_the_id_and_leaves_it_running(docker: Docker, image: str, name: str) -> None:
    id = docker.ok("run", "-d", "--name", name, "--network", "none", image, "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{64}", id)
    assert docker.inspect(name, "{{.Id}} {{.State.Status}}") == f"{id} running"


def test_cidfile_holds_the_id(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("cid") / "id"
    docker.ok("run", "-d", "--name", name, "--network", "none", "--cidfile", str(path), image, "true")
    assert path.read_text() == docker.inspect(name, "{{.Id}}")


def test_a_missing_image_ends_with_125(docker: Docker) -> None:
    """`--pull never`: the engine's 404 reaches the user in its own words."""
    result = docker("run", "--rm", "--pull", "never", "compat/nowhere:1", "true")
    assert result.code == 125
    assert "No such image: compat/nowhere:1" in result.err


def test_a_missing_image_is_looked_for_before_giving_up(docker: Docker) -> None:
    """The 404 of create makes the CLI pull; a pull that cannot work ends with 125 again."""
    result = docker("run", "--rm", "127.0.0.1:1/compat/nowhere:1", "true")
    assert result.code == 125
    assert "Unable to find image '127.0.0.1:1/compat/nowhere:1' locally" in result.err


def test_a_missing_command_ends_with_127(docker: Docker, image: str) -> None:
    result = docker(*run(image, "no-such-command"))
    assert result.code == 127
    assert 'exec: "no-such-command": executable file not found in $PATH' in result.err


def test_a_missing_path_ends_with_127(docker: Docker, image: str) -> None:
    result = docker(*run(image, "/no/such/command"))
    assert result.code == 127
    assert "/no/such/command" in result.err and "no such file or directory" in result.err


def test_a_command_that_is_not_executable_ends_with_126(docker: Docker, image: str) -> None:
    result = docker(*run(image, "/etc/passwd"))
    assert result.code == 126
    assert 'exec: "/etc/passwd": permission denied' in result.err


def test_a_folder_as_command_ends_with_126(docker: Docker, image: str) -> None:
    result = docker(*run(image, "/etc"))
    assert result.code == 126
    assert "/etc" in result.err


def test_a_container_that_failed_to_start_stays_and_is_created(docker: Docker, image: str, name: str) -> None:
    docker("run", "--name", name, "--network", "none", image, "no-such-command")
    assert docker.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "created 127"
    assert "executable file not found" in docker.inspect(name, "{{.State.Error}}")


def test_a_taken_name_is_a_conflict(docker: Docker, image: str, running: str) -> None:
    id = docker.inspect(running, "{{.Id}}")
    result = docker("run", "--name", running, image, "true")
    assert result.code == 125
    assert (
        f'Conflict. The container name "/{running}" is already in use by container "{id}". '
        "You have to remove (or rename) that container to be able to reuse that name." in result.err
    )


def test_an_unsafe_name_is_refused(docker: Docker, image: str) -> None:
    result = docker("create", "--name", "../x", image)
    assert result.code == 1
    assert "Invalid container name (../x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in result.err


def test_nothing_to_run_is_refused(wire: Wire, image: str) -> None:
    """20.10 writes a capital letter, 28 does not."""
    answer = wire.post("/containers/create", {"Image": image, "Cmd": [], "Entrypoint": [""]})
    assert (answer.status, answer.message.lower()) == (400, "no command specified")


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["-e", "GREETING=hello world"], "echo $GREETING", "hello world"),
        (["-w", "/tmp"], "pwd", "/tmp"),
        (["-w", "/made/on/demand"], "pwd", "/made/on/demand"),
        (["-u", "nobody"], "id -u; id -g", "65534\n65534"),
        (["-u", "1234:4321"], "id -u; id -g", "1234\n4321"),
        (["--group-add", "50"], "id -G", "0 50"),
        (["-h", "ship"], "hostname; cat /etc/hostname", "ship\nship"),
        (["--read-only"], "touch /x 2>&1; echo $?", "touch: /x: Read-only file system\n1"),
        (["--tmpfs", "/scratch:size=64k"], "df -P /scratch | tail -1 | tr -s ' ' | cut -d' ' -f1,2", "tmpfs 64"),
        (["--shm-size", "1m"], "df -P /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024"),
        (["--ulimit", "nofile=64:128"], "ulimit -Sn; ulimit -Hn", "64\n128"),
        (["--pids-limit", "50"], "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null", "50"),
        (["--cap-drop", "ALL"], "grep CapEff /proc/self/status | cut -f2", "0000000000000000"),
        ([], "grep CapEff /proc/self/status | cut -f2", "00000000a80425fb"),
        ([], "grep Seccomp: /proc/self/status | cut -f2", "2"),
        (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
        (["--init"], "cat /proc/1/comm | grep -c sh", "0"),
        ([], "echo $$", "1"),
        ([], "echo /proc/[0-9]*", "/proc/1"),
        ([], "cat /sys/class/net/lo/operstate; ls /sys/class/net", "unknown\nlo"),
        ([], "echo $PATH $HOME", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value) or "default",
)
def test_the_command_sees_what_the_flags_ask_for(
    docker: Docker, image: str, flags: list[str], script: str, expected: str
) -> None:
    result = docker(*run(*flags, image, "sh", "-c", script))
    assert result.out.strip().removesuffix("\n") == expected, result


def test_entrypoint_is_replaced_and_keeps_its_arguments(docker: Docker, image: str) -> None:
    assert docker.ok(*run("--entrypoint", "echo", image, "a", "b c")) == "a b c"


def test_a_memory_limit_kills_and_says_so(docker: Docker, image: str, name: str) -> None:
    """The kernel's OOM killer ends the command; 137 and OOMKilled tell why."""
    grow = "x=a; while :; do x=$x$x; done"
    result = docker(
        "run", "--name", name, "--network", "none", "-m", "16m", "--memory-swap", "16m", image, "sh", "-c", grow
    )
    assert result.code == 137
    assert docker.inspect(name, "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"


def test_containers_do_not_see_each_other(docker: Docker, image: str, new_name: Callable[[], str]) -> None:
    for _ in range(2):
        out = docker.ok("run", "--name", new_name(), "--network", "none", image, "sh", "-c", "ls /tmp; touch /tmp/mine")
        assert out == ""
