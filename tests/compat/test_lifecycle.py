"""create, start, stop, kill, wait, restart, rename, rm, ps and inspect."""

import re
import time
from collections.abc import Callable

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root

STATE = "{{.State.Status}} {{.State.ExitCode}}"


def test_create_start_wait_rm(docker: Docker, image: str, name: str) -> None:
    id = docker.ok("create", "--name", name, "--network", "none", image, "sh", "-c", "exit 3")
    assert docker.inspect(name, STATE) == "created 0"
    assert docker.ok("start", name) == name
    assert docker.ok("wait", name) == "3"
    assert docker.inspect(id, STATE) == "exited 3"
    assert docker.ok("rm", id[:12]) == id[:12]
    assert docker("inspect", id).code == 1


def test_start_a_prints_and_ends_with_the_exit_code(docker: Docker, image: str, name: str) -> None:
    docker.ok("create", "--name", name, "--network", "none", image, "sh", "-c", "echo hi; exit 6")
    result = docker("start", "-a", name)
    assert (result.code, result.out) == (6, "hi\n")


def test_files_survive_a_stop_and_a_start(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "sh", "-c", "echo run >> /mark; cat /mark")
    assert docker.ok("start", "-a", name) == "run\nrun"


def test_start_of_a_running_container_changes_nothing(docker: Docker, wire: Wire, running: str) -> None:
    pid = docker.inspect(running, "{{.State.Pid}}")
    assert wire.post(f"/containers/{running}/start").status == 304
    assert docker.ok("start", running) == running
    assert docker.inspect(running, "{{.State.Pid}}") == pid


def test_stop_asks_with_sigterm(docker: Docker, running: str) -> None:
    assert docker.ok("stop", running) == running
    assert docker.inspect(running, STATE) == "exited 0"


def test_stop_kills_after_its_timeout(docker: Docker, image: str, name: str) -> None:
    """The first process of a pid namespace ignores SIGTERM unless it handles it."""
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sleep", "1000")
    began = time.monotonic()
    docker.ok("stop", "-t", "1", name)
    assert time.monotonic() - began >= 1
    assert docker.inspect(name, STATE) == "exited 137"


def test_stop_uses_the_containers_own_signal(docker: Docker, image: str, name: str) -> None:
    script = "trap 'exit 42' USR1; while :; do sleep 1 & wait $!; done"
    flags = ["--stop-signal", "USR1", "--stop-timeout", "60"]
    docker.ok("run", "-d", "--name", name, "--network", "none", *flags, image, "sh", "-c", script)
    docker.ok("exec", name, "sh", "-c", "until grep -q 'SigCgt:.*[2367abef]..$' /proc/1/status; do sleep 0.02; done")
    docker.ok("stop", name)
    assert docker.inspect(name, STATE) == "exited 42"


def test_stop_of_a_stopped_container_changes_nothing(docker: Docker, wire: Wire, image: str, name: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "true")
    assert wire.post(f"/containers/{name}/stop").status == 304
    assert docker.ok("stop", name) == name


def test_kill_ends_it_at_once(docker: Docker, running: str) -> None:
    assert docker.ok("kill", running) == running
    assert docker.ok("wait", running) == "137"
    assert docker.inspect(running, STATE) == "exited 137"


@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "sigusr1", "10"])
def test_kill_s_sends_any_signal(docker: Docker, image: str, name: str, signal: str) -> None:
    script = "trap 'echo got it' USR1; echo ready; while :; do sleep 1 & wait $!; done"
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", script)
    with docker.start("logs", "-f", name) as log:
        assert log.line() == "ready"
        docker.ok("kill", "-s", signal, name)
        assert log.line() == "got it"
    assert docker.inspect(name, STATE) == "running 0"


def test_kill_of_a_stopped_container_is_refused(docker: Docker, image: str, name: str) -> None:
    id = docker.ok("create", "--name", name, "--network", "none", image)
    result = docker("kill", name)
    assert result.code == 1
    assert f"cannot kill container: {name}: container {id} is not running" in result.err.lower()


def test_an_unknown_signal_is_refused(docker: Docker, running: str) -> None:
    result = docker("kill", "-s", "NOPE", running)
    assert result.code == 1 and "invalid signal: nope" in result.err.lower()
    assert docker.inspect(running, STATE) == "running 0"


def test_wait_answers_for_several(docker: Docker, image: str, new_name: Callable[[], str]) -> None:
    names = [new_name(), new_name()]
    for code, name in enumerate(names):
        docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", f"sleep 0.2; exit {code}")
    assert docker.ok("wait", *names).splitlines() == ["0", "1"]


def test_wait_for_a_running_container_answers_at_its_end(docker: Docker, running: str) -> None:
    with docker.start("wait", running) as waiter:
        docker.ok("exec", running, "true")
        docker.ok("kill", "-s", "KILL", running)
        assert waiter.finish() == ("137\n", "", 0)


def test_restart_makes_a_new_process(docker: Docker, running: str) -> None:
    before = docker.inspect(running, "{{.State.Pid}} {{.State.StartedAt}}").split()
    assert docker.ok("restart", "-t", "5", running) == running
    after = docker.inspect(running, "{{.State.Pid}} {{.State.StartedAt}}").split()
    assert docker.inspect(running, STATE) == "running 0"
    assert before[0] != after[0] and before[1] < after[1]


def test_restart_starts_a_stopped_container(docker: Docker, image: str, name: str) -> None:
    docker.ok("create", "--name", name, "--network", "none", image, "sleep", "60")
    docker.ok("restart", name)
    assert docker.inspect(name, STATE) == "running 0"


def test_rename_moves_the_name(docker: Docker, new_name: Callable[[], str], running: str) -> None:
    new = new_name()
    assert docker.ok("rename", running, new) == ""
    assert docker.inspect(new, "{{.Name}} {{.State.Status}}") == f"/{new} running"
    assert docker("inspect", running).code == 1
    docker.ok("rename", new, running)


def test_rename_to_a_taken_name_is_a_conflict(
    docker: Docker, wire: Wire, image: str, running: str, new_name: Callable[[], str]
) -> None:
    other = new_name()
    docker.ok("create", "--name", other, "--network", "none", image)
    assert wire.post(f"/containers/{other}/rename", name=running).status == 409
    assert f'The container name "/{running}" is already in use' in docker("rename", other, running).err
    assert docker.inspect(other, "{{.Name}}") == f"/{other}"


def test_rm_of_a_running_container_is_refused(docker: Docker, running: str) -> None:
    """28 says it shorter than 20.10, and with the name."""
    result = docker("rm", running)
    assert result.code == 1
    if docker.is_old:
        assert "You cannot remove a running container" in result.err
    else:
        assert (
            f'cannot remove container "/{running}": container is running: '
            "stop the container before removing or force remove" in result.err
        )
    assert docker.inspect(running, STATE) == "running 0"


def test_rm_f_removes_a_running_container(docker: Docker, running: str) -> None:
    assert docker.ok("rm", "-f", running) == running
    assert docker("inspect", running).code == 1


def test_rm_of_nobody(docker: Docker) -> None:
    """`rm -f` forgives what is not there, and says so."""
    result, forced = docker("rm", "nobody-here"), docker("rm", "-f", "nobody-here")
    assert result.code == 1 and "No such container: nobody-here" in result.err
    assert forced.code == 0 and "No such container: nobody-here" in forced.err


def test_ps_shows_running_ones_and_ps_a_all(
    docker: Docker, image: str, running: str, new_name: Callable[[], str]
) -> None:
    ended = new_name()
    docker("run", "--name", ended, "--network", "none", image, "sh", "-c", "exit 4")
    row = "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Status}}|{{.Ports}}"
    here = docker.ok("ps", "--no-trunc", "--format", row).splitlines()
    everything = docker.ok("ps", "-a", "--no-trunc", "--format", row).splitlines()
    assert any(re.fullmatch(rf'{running}\|{image}\|"sh -c .*"\|running\|Up .*second.*\|', line) for line in here)
    assert not any(line.startswith(ended) for line in here)
    pattern = rf'{ended}\|{image}\|"sh -c \'exit 4\'"\|exited\|Exited \(4\) .*\|'
    assert any(re.fullmatch(pattern, line) for line in everything), everything


def test_ps_table_has_dockers_columns(docker: Docker, running: str) -> None:
    head, *rows = docker.ok("ps", "-a", "--filter", f"name={running}").splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert re.split(r"\s{2,}", head) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert len(rows) == 1 and rows[0].endswith(running)


def test_ps_filters(docker: Docker, image: str, name: str) -> None:
    docker("run", "--name", name, "--network", "none", "-l", f"mark={name}", image, "sh", "-c", "exit 4")
    id = docker.inspect(name, "{{.Id}}")
    for filters in (
        [f"name={name}"],
        [f"id={id[:16]}"],
        [f"label=mark={name}"],
        [f"name={name}", "status=exited"],
        [f"name={name}", "exited=4"],
        [f"name={name}", f"ancestor={image}"],
    ):
        flags = [word for text in filters for word in ("--filter", text)]
        assert docker.ok("ps", "-aq", "--no-trunc", *flags) == id, filters
    assert docker.ok("ps", "-aq", "--filter", f"name={name}", "--filter", "exited=0") == ""
    assert docker.ok("ps", "-q", "--filter", f"name={name}") == ""


def test_an_unknown_filter_is_refused(docker: Docker) -> None:
    result = docker("ps", "--filter", "nonsense=1")
    assert result.code == 1 and "invalid filter 'nonsense" in result.err.lower()


def test_an_id_prefix_names_the_container(docker: Docker, running: str) -> None:
    id = docker.inspect(running, "{{.Id}}")
    assert docker.inspect(id[:10], "{{.Name}}") == f"/{running}"


def test_inspect_tells_what_was_asked_for(docker: Docker, image: str, name: str) -> None:
    flags = ["-e", "A=1", "-l", "b=2", "-w", "/tmp", "-u", "nobody", "-m", "64m", "--cpus", "0.5", "-h", "ship"]
    docker.ok("create", "--name", name, "--network", "none", *flags, image, "echo", "x y")
    assert docker.inspect(name, "{{json .Config.Cmd}} {{.Path}} {{json .Args}}") == '["echo","x y"] echo ["x y"]'
    assert "A=1" in docker.inspect(name, "{{json .Config.Env}}")
    template = "{{.Config.Labels.b}} {{.Config.WorkingDir}} {{.Config.User}} {{.Config.Hostname}} {{.Config.Image}}"
    assert docker.inspect(name, template) == f"2 /tmp nobody ship {image}"
    template = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.NetworkMode}} {{.RestartCount}}"
    assert docker.inspect(name, template) == f"{64 << 20} 500000000 none 0"
    assert docker.inspect(name, "{{.Image}}") == docker.inspect(image, "{{.Id}}")


def test_inspect_times_are_in_order(docker: Docker, image: str, name: str) -> None:
    """Not `true`: 20.10 notes the start of a container after it has begun, sometimes after it has ended."""
    docker.ok("run", "--name", name, "--network", "none", image, "sleep", "0.2")
    times = docker.inspect(name, "{{.Created}} {{.State.StartedAt}} {{.State.FinishedAt}}").split()
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", text) for text in times)


def test_inspect_s_tells_sizes(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "sh", "-c", "head -c 100000 /dev/zero > /big")
    upper, whole = docker.ok("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", name).split()
    assert 100000 <= int(upper) < int(whole)


def test_inspect_of_nobody(docker: Docker) -> None:
    result = docker("inspect", "nobody-here")
    assert (result.code, result.out.strip()) == (1, "[]")
    assert "no such object: nobody-here" in result.err.lower()
