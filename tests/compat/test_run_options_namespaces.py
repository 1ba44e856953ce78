"""`docker run`: whose namespaces a container is in, its sysctls and names, and what does not go together."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker, Result
from tests.support.wire import Wire

pytestmark = pytest.mark.root

IS_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
Run = Callable[..., Result]


@pytest.fixture
def run(docker: Docker, image: str) -> Run:
    """Return a runner: flags first, then the shell script that the container runs."""

    def run(*words: str) -> Result:
        *flags, script = words
        network = () if "--network" in flags else ("--network", "none")
        return docker("run", "--rm", *network, *flags, image, "sh", "-c", script)

    return run


@pytest.fixture
def donor(docker: Docker, image: str, new_name: Callable[[], str]) -> Callable[..., str]:
    """Return a starter of containers whose namespaces others join."""

    def start(*flags: str) -> str:
        name = new_name()
        docker.ok("run", "-d", "--init", "--name", name, "--network", "none", *flags, image, "sleep", "100")
        return name

    return start


def namespace(docker: Docker, name: str, kind: str) -> str:
    return os.readlink(f"/proc/{docker.inspect(name, '{{.State.Pid}}')}/ns/{kind}")


def refusal(wire: Wire, image: str, config: dict[str, Any] | None = None, **host: Any) -> tuple[int, str]:
    """Return what the API answers to a create that must fail; nothing may be left of it."""
    before = len(wire.get("/containers/json", all=1).json)
    answer = wire.post("/containers/create", {"Image": image, "Cmd": ["true"], "HostConfig": host, **(config or {})})
    assert len(wire.get("/containers/json", all=1).json) == before
    return answer.status, answer.message


# -- the host's ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_a_namespace_of_the_hosts(run: Run, kind: str) -> None:
    link = os.readlink(f"/proc/self/ns/{kind}")
    assert run(f"--{kind}", "host", f"readlink /proc/self/ns/{kind}").out.strip() == link
    assert run(f"readlink /proc/self/ns/{kind}").out.strip() != link


def test_the_hosts_processes_are_seen_with_pid_host(run: Run) -> None:
    assert str(os.getpid()) in run("--pid", "host", "ls /proc").out.split()


def test_the_hosts_name_comes_with_uts_host(run: Run) -> None:
    assert run("--uts", "host", "hostname").out.strip() == platform.node()


def test_the_hosts_shared_memory_comes_with_ipc_host(run: Run) -> None:
    path = Path(f"/dev/shm/windlass-test-{os.getpid()}")
    path.write_text("hello")
    try:
        assert run("--ipc", "host", f"cat {path}").out == "hello"
        assert run(f"cat {path}").code != 0
    finally:
        path.unlink()


@pytest.mark.parametrize(("mode", "is_host"), [("host", True), ("private", False)])
def test_the_cgroup_namespace(run: Run, mode: str, is_host: bool) -> None:
    link = os.readlink("/proc/self/ns/cgroup")
    assert (run("--cgroupns", mode, "readlink /proc/self/ns/cgroup").out.strip() == link) == is_host


def test_a_private_cgroup_namespace_begins_at_the_containers_group(run: Run) -> None:
    paths = {line.rpartition(":")[2] for line in run("--cgroupns", "private", "cat /proc/self/cgroup").out.split()}
    assert paths == {"/"}


# -- another container's ---------------------------------------------------------------------------------------------


def test_pid_of_a_container_shows_its_processes(docker: Docker, run: Run, donor: Callable[..., str]) -> None:
    name = donor()
    result = run("--pid", f"container:{name}", "readlink /proc/self/ns/pid; cat /proc/1/cmdline; echo $$")
    assert namespace(docker, name, "pid") in result.out
    assert "sleep" in result.out and result.out.splitlines()[-1] != "1"


def test_pid_of_a_container_ends_with_it(docker: Docker, image: str, donor: Callable[..., str], name: str) -> None:
    other = donor()
    docker.ok("run", "-d", "--name", name, "--network", "none", "--pid", f"container:{other}", image, "sleep", "100")
    docker.ok("kill", other)
    assert docker.ok("wait", name) == "137"


def test_an_exec_is_in_the_joined_namespaces(docker: Docker, image: str, donor: Callable[..., str], name: str) -> None:
    other = donor("--ipc", "shareable")
    shared = (f"--pid=container:{other}", f"--ipc=container:{other}")
    docker.ok("run", "-d", "--name", name, "--network", "none", *shared, image, "sleep", "100")
    for kind in ("pid", "ipc"):
        assert docker.ok("exec", name, "readlink", f"/proc/self/ns/{kind}") == namespace(docker, other, kind)


def test_ipc_of_a_container_comes_with_its_shared_memory(docker: Docker, run: Run, donor: Callable[..., str]) -> None:
    name = donor("--ipc", "shareable", "--shm-size", "1m")
    docker.ok("exec", name, "sh", "-c", "echo hello > /dev/shm/note")
    script = "readlink /proc/self/ns/ipc; cat /dev/shm/note; echo back > /dev/shm/answer; df -P /dev/shm | tail -1"
    out = run("--ipc", f"container:{name}", script).out.split()
    assert out[:2] == [namespace(docker, name, "ipc"), "hello"] and "1024" in out
    assert docker.ok("exec", name, "cat", "/dev/shm/answer") == "back"


def test_ipc_can_be_passed_on(docker: Docker, run: Run, donor: Callable[..., str]) -> None:
    first = donor("--ipc", "shareable")
    second = donor("--ipc", f"container:{first}")
    out = run("--ipc", f"container:{second}", "readlink /proc/self/ns/ipc").out.strip()
    assert out == namespace(docker, first, "ipc")


def test_shared_memory_of_a_container_is_no_way_to_its_files(docker: Docker, image: str, name: str, run: Run) -> None:
    """A donor that has put something else on /dev/shm gives a refusal, not what it has put there."""
    script = "umount /dev/shm && rmdir /dev/shm && ln -s /proc /dev/shm && sleep 100"
    flags = ("--init", "--network", "none", "--ipc", "shareable", "--cap-add", "SYS_ADMIN")
    docker.ok("run", "-d", "--name", name, *flags, image, "sh", "-c", script)
    docker("exec", name, "sh", "-c", "until test -L /dev/shm; do sleep 0.01; done")
    result = run("--ipc", f"container:{name}", "ls /dev/shm")
    assert result.code == 125 and "/dev/shm" in result.err


@pytest.mark.parametrize("mode", ["private", "none"])
def test_ipc_that_is_not_shareable_is_refused(docker: Docker, run: Run, donor: Callable[..., str], mode: str) -> None:
    name = donor("--ipc", mode)
    id = docker.inspect(name, "{{.Id}}")
    result = run("--ipc", f"container:{name}", "true")
    assert result.code == 125
    assert f"container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in result.err


def test_ipc_none_has_no_shared_memory(run: Run) -> None:
    result = run("--ipc", "none", "test -e /dev/shm && grep /dev/shm /proc/mounts; readlink /proc/self/ns/ipc")
    assert "/dev/shm" not in result.out and result.out.strip() != os.readlink("/proc/self/ns/ipc")


@pytest.mark.parametrize(("flag", "kind"), [("--pid", "PID"), ("--ipc", "IPC")])
def test_a_container_to_join_has_to_be_there_and_run(
    docker: Docker, image: str, run: Run, name: str, flag: str, kind: str
) -> None:
    result = run(flag, "container:nowhere", "true")
    assert (result.code, "No such container: nowhere" in result.err) == (125, True)
    docker.ok("create", "--name", name, image, "true")
    id = docker.inspect(name, "{{.Id}}")
    result = run(flag, f"container:{name}", "true")
    assert result.code == 125
    assert f"failed to join {kind} namespace: container {id} is not running" in result.err


def test_a_joined_container_is_kept_by_its_id(docker: Docker, image: str, donor: Callable[..., str], name: str) -> None:
    other = donor("--ipc", "shareable")
    flags = (f"--pid=container:{other}", f"--ipc=container:{other}")
    docker.ok("create", "--name", name, *flags, image, "true")
    id = docker.inspect(other, "{{.Id}}")
    expected = f"container:{id} container:{id}"
    assert docker.inspect(name, "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}") == expected


def test_joining_leaves_no_descriptor_in_the_daemon(
    docker: Docker, wire: Wire, run: Run, donor: Callable[..., str]
) -> None:
    """Neither when it works nor when it does not."""
    shares, keeps = donor("--ipc", "shareable"), donor()
    run("--ipc", f"container:{shares}", "--pid", f"container:{shares}", "true")
    before = wire.get("/info").json["NFd"]
    for _ in range(10):
        assert run("--ipc", f"container:{shares}", "--pid", f"container:{shares}", "true").code == 0
        assert run("--pid", f"container:{shares}", "--ipc", f"container:{keeps}", "true").code == 125
    assert wire.get("/info").json["NFd"] <= before


# -- what does not go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"IpcMode": "nonsense"}, "invalid IPC mode: nonsense"),
        ({"IpcMode": "container:"}, "invalid IPC mode: container:"),
        ({"IpcMode": "host:x"}, "invalid IPC mode: host:x"),
        ({"PidMode": "private"}, "invalid PID mode: private"),
        ({"PidMode": "container:"}, "invalid PID mode: container:"),
        ({"UTSMode": "container:x"}, "invalid UTS mode: container:x"),
        ({"UsernsMode": "container:x"}, "invalid userns mode: container:x"),
        ({"CgroupnsMode": "shared"}, "invalid cgroup namespace mode: shared"),
        ({"Isolation": "hyperv"}, "invalid isolation 'hyperv' on linux"),
        ({"Runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"Annotations": {"": "x"}}, "invalid Annotations: the empty string is not permitted as an annotation key"),
    ],
    ids=str,
)
def test_a_mode_that_is_none_is_refused(wire: Wire, image: str, host: dict[str, Any], expected: str) -> None:
    assert refusal(wire, image, **host) == (400, expected)


def test_a_name_of_its_own_does_not_go_with_the_hosts(wire: Wire, image: str) -> None:
    expected = (400, "conflicting options: hostname and the UTS mode")
    assert refusal(wire, image, {"Hostname": "ship"}, UTSMode="host") == expected


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"Hostname": "x" * 64}, "Hostname"),
        ({"Domainname": "x" * 64}, "Domainname"),
        ({"WorkingDir": "relative"}, "the working directory 'relative' is invalid"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"StopSignal": "NONSENSE"}, "invalid signal: NONSENSE"),
        ({"StopSignal": "65"}, "invalid signal: 65"),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(wire: Wire, image: str, config: dict[str, Any], key: str) -> None:
    status, message = refusal(wire, image, config)
    assert (status, key in message) == (400, True), message


# -- sysctls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sysctl", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.core.somaxconn", "1024"),
        ("net.ipv4.ping_group_range", "1\t0"),
        ("kernel.msgmax", "65536"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "20"),
    ],
)
def test_a_sysctl_of_a_namespace_is_set(run: Run, sysctl: str, value: str) -> None:
    path = sysctl.replace(".", "/")
    assert run("--sysctl", f"{sysctl}={value}", f"cat /proc/sys/{path}").out.strip() == value


@pytest.mark.parametrize(("sysctl", "value"), [("net/ipv4/ip_forward", "1"), ("kernel.domainname", "port")])
def test_a_sysctl_that_the_cli_does_not_know_can_be_set(
    wire: Wire, docker: Docker, image: str, name: str, sysctl: str, value: str
) -> None:
    host = {"NetworkMode": "none", "Sysctls": {sysctl: value}}
    command = ["cat", f"/proc/sys/{sysctl.replace('.', '/')}"]
    assert (
        wire.post("/containers/create", {"Image": image, "Cmd": command, "HostConfig": host}, name=name).status == 201
    )
    assert docker.ok("start", "-a", name) == value


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"Sysctls": {"kernel.panic": "1"}}, 'sysctl "kernel.panic" is not in a separate kernel namespace'),
        ({"Sysctls": {"vm.swappiness": "1"}}, 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        (
            {"Sysctls": {"kernel.core_pattern": "|/x"}},
            'sysctl "kernel.core_pattern" is not in a separate kernel namespace',
        ),
        ({"Sysctls": {"net/../kernel/core_pattern": "|/x"}}, 'sysctl "net/../kernel/core_pattern" is not a name'),
        ({"Sysctls": {"net.//.kernel": "1"}}, 'sysctl "net.//.kernel" is not a name'),
        ({"Sysctls": {"": "1"}}, 'sysctl "" is not a name'),
        (
            {"Sysctls": {"kernel.hostname": "x"}},
            'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
        ),
        (
            {"Sysctls": {"net.ipv4.ip_forward": "1"}, "NetworkMode": "host"},
            'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
        ),
        (
            {"Sysctls": {"kernel.shmmax": "1"}, "IpcMode": "host"},
            'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
        ),
        (
            {"Sysctls": {"kernel.domainname": "x"}, "UTSMode": "host"},
            'sysctl "kernel.domainname" is not in a separate kernel namespace',
        ),
    ],
    ids=str,
)
def test_a_sysctl_of_the_hosts_is_refused(wire: Wire, image: str, host: dict[str, Any], expected: str) -> None:
    assert refusal(wire, image, **host) == (400, expected)


def test_a_sysctl_that_is_missing_is_told_at_the_start(run: Run) -> None:
    """127 is what the CLI makes of "no such file or directory"."""
    result = run("--sysctl", "net.ipv4.nonsense=1", "true")
    assert (result.code, "net.ipv4.nonsense" in result.err) == (127, True)


# -- what is only kept -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("modern_cli")
def test_what_only_describes_is_kept(docker: Docker, image: str, name: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("from=file\n")
    variables = tmp_path / "variables"
    variables.write_text("FROM=file\n")
    flags = ["--label", "a=b", "--label-file", str(labels), "--annotation", "c=d", "--env-file", str(variables)]
    flags += [
        "-e",
        "E=f",
        "--stop-signal",
        "SIGINT",
        "--stop-timeout",
        "7",
        "--runtime",
        "runc",
        "--domainname",
        "port",
    ]
    docker.ok(
        "create", "--name", name, "-h", "ship", *flags, image, "sh", "-c", "hostname; dnsdomainname; echo $FROM $E"
    )
    template = "{{.Config.Labels}} {{.HostConfig.Annotations}} {{.Config.StopSignal}} {{.Config.StopTimeout}}"
    assert docker.inspect(name, template) == "map[a:b from:file] map[c:d] SIGINT 7"
    assert (
        docker.inspect(name, "{{.HostConfig.Runtime}} {{.Config.Hostname}} {{.Config.Domainname}}") == "runc ship port"
    )
    assert docker.ok("start", "-a", name).splitlines()[-1] == "file f"


def test_the_stop_signal_and_timeout_are_used(docker: Docker, image: str, name: str) -> None:
    script = "trap 'exit 42' INT; trap '' TERM; while :; do sleep 0.05; done"
    flags = ["--stop-signal", "INT", "--stop-timeout", "20", "--network", "none"]
    docker.ok("run", "-d", "--name", name, *flags, image, "sh", "-c", script)
    docker.ok("exec", name, "sh", "-c", "until grep -q 'SigCgt:.*2$' /proc/1/status; do sleep 0.01; done")
    docker.ok("stop", name)
    assert docker.inspect(name, "{{.State.ExitCode}}") == "42"


def test_init_reaps_orphans_and_passes_signals_on(docker: Docker, image: str, name: str) -> None:
    script = "(sleep 0.01 &) ; trap 'exit 9' TERM; while :; do sleep 0.05; done"
    docker.ok("run", "-d", "--init", "--name", name, "--network", "none", image, "sh", "-c", script)
    docker.ok("exec", name, "sh", "-c", "until grep -q 'SigCgt:.*4...$' /proc/[2-9]/status; do sleep 0.01; done")
    docker.ok("stop", name)
    assert docker.inspect(name, "{{.State.ExitCode}}") == "9"
