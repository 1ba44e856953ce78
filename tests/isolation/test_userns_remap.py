"""`--userns-remap`: root in a container is nobody special on the host, and all else is as without."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from windlass.daemon.remap import load_remap
from windlass.engine.errors import BadParameter

pytestmark = pytest.mark.root

FIRST, COUNT = 300_000, 65_536
NEEDED = (6, 15)
is_new_enough = tuple(map(int, os.uname().release.split(".")[:2])) >= NEEDED
needs_kernel = pytest.mark.skipif(not is_new_enough, reason="needs Linux 6.15: not run")


class RemappedDaemon(Daemon):
    """A daemon that finds ranges in /etc, which is the host's below a layer of the test's own."""

    ranges = f"somebody:1:2\nnobody:{FIRST}:{COUNT}\n"

    def command(self) -> list[str]:
        layer = self.base / "etc"
        layer.mkdir(exist_ok=True)
        for name in ("subuid", "subgid"):
            (layer / name).write_text(self.ranges)
        script = f'mount -t overlay etc -o lowerdir={layer}:/etc /etc && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *super().command()]


@pytest.fixture(scope="module")
def remapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    daemon = RemappedDaemon("--userns-remap", "nobody").start()
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", changes='CMD ["sh"]')
    assert answer.status == 200, answer.body
    try:
        yield Docker(daemon.host, tmp_path_factory.mktemp("config"))
    finally:
        daemon.close()


@pytest.fixture
def name(remapped: Docker) -> Iterator[str]:
    name = f"mapped-{os.urandom(3).hex()}"
    yield name
    remapped("rm", "-f", "-v", name)


def pid_of(docker: Docker, name: str) -> int:
    return int(docker.inspect(name, "{{.State.Pid}}"))


def owner_of(pid: int) -> tuple[int, int]:
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return int(lines["Uid"].split()[0]), int(lines["Gid"].split()[0])


@needs_kernel
def test_info_tells_of_it(remapped: Docker) -> None:
    assert "name=userns" in remapped.ok("info", "-f", "{{json .SecurityOptions}}")


@needs_kernel
@pytest.mark.parametrize("network", ["none", "bridge"])
def test_root_inside_is_another_outside(remapped: Docker, name: str, network: str) -> None:
    remapped.ok("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "100")
    assert owner_of(pid_of(remapped, name)) == (FIRST, FIRST)
    assert remapped.ok("exec", name, "sh", "-c", "id -u; cat /proc/self/uid_map").split() == [
        "0",
        "0",
        f"{FIRST}",
        f"{COUNT}",
    ]
    assert remapped.ok("exec", "-u", "nobody", name, "id", "-u") == "65534"


@needs_kernel
def test_a_network_is_reached_and_names_are_found(remapped: Docker, name: str) -> None:
    remapped.ok("run", "-d", "--name", name, "busybox", "nc", "-l", "-p", "80", "-e", "echo", "hello")
    address = remapped.inspect(name, "{{.NetworkSettings.IPAddress}}")
    assert (
        remapped.ok("run", "--rm", "busybox", "sh", "-c", f"ping -c 1 {address} > /dev/null && nc {address} 80")
        == "hello"
    )
    assert remapped.ok("run", "--rm", "busybox", "cat", "/sys/class/net/eth0/mtu") != ""


@needs_kernel
def test_the_files_of_the_engine_are_roots_inside(remapped: Docker) -> None:
    script = "stat -c %u:%g / /bin/busybox /etc/hosts /etc/resolv.conf /tmp && echo x >> /etc/hosts"
    assert remapped.ok("run", "--rm", "busybox", "sh", "-ec", script).split() == ["0:0"] * 5


@needs_kernel
def test_a_volume_is_written_by_root_inside_and_kept_unmapped(remapped: Docker, name: str) -> None:
    """A container of the host's users reads the same volume with the same owners."""
    remapped.ok("volume", "create", name)
    mount = ("-v", f"{name}:/data")
    remapped.ok("run", "--rm", "--network", "none", *mount, "busybox", "sh", "-c", "touch /data/x; chown 5:6 /data/x")
    for flags in ((), ("--userns", "host")):
        script = ("stat", "-c", "%u:%g", "/data/x")
        assert remapped.ok("run", "--rm", "--network", "none", *flags, *mount, "busybox", *script) == "5:6"
    remapped.ok("volume", "rm", name)


@needs_kernel
def test_a_bind_of_the_hosts_is_the_hosts(remapped: Docker, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = "stat -c %u /data; touch /data/x 2>/dev/null || echo refused"
    out = remapped.ok("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script)
    assert out.split() == ["65534", "refused"]


@needs_kernel
def test_userns_host_opts_out(remapped: Docker, name: str) -> None:
    remapped.ok("run", "-d", "--name", name, "--network", "none", "--userns", "host", "busybox", "sleep", "100")
    assert owner_of(pid_of(remapped, name)) == (0, 0)
    assert os.readlink(f"/proc/{pid_of(remapped, name)}/ns/user") == os.readlink("/proc/self/ns/user")
    flags = ("--privileged", "--userns", "host", "--network", "host", "--pid", "host")
    assert remapped.ok("run", "--rm", *flags, "busybox", "echo", "fine") == "fine"


@needs_kernel
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--privileged"], "privileged mode is incompatible with user namespaces"),
        (["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (["--ipc", "host"], "cannot share the host IPC namespace when user namespaces are enabled"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_go_together_is_refused(remapped: Docker, flags: list[str], expected: str) -> None:
    result = remapped("run", "--rm", *flags, "busybox", "true")
    assert (result.code, expected in result.err) == (125, True)


@needs_kernel
def test_containers_share_namespaces_with_their_users(remapped: Docker, name: str) -> None:
    remapped.ok("run", "-d", "--name", name, "--network", "none", "--ipc", "shareable", "busybox", "sleep", "100")
    user = os.readlink(f"/proc/{pid_of(remapped, name)}/ns/user")
    for flags in (
        ("--pid", f"container:{name}", "--network", "none"),
        ("--ipc", f"container:{name}"),
        ("--network", f"container:{name}"),
    ):
        assert remapped.ok("run", "--rm", *flags, "busybox", "readlink", "/proc/self/ns/user") == user


@needs_kernel
def test_containers_of_other_users_do_not_share(remapped: Docker, name: str) -> None:
    flags = ("--network", "none", "--userns", "host")
    remapped.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "100")
    result = remapped("run", "--rm", "--network", "none", "--pid", f"container:{name}", "busybox", "true")
    assert result.code == 125
    assert "cannot share a namespace with a container that is in another user namespace" in result.err


@needs_kernel
def test_options_hold_with_it(remapped: Docker) -> None:
    flags = [
        "--init",
        "--read-only",
        "--tmpfs",
        "/scratch",
        "--sysctl",
        "net.ipv4.ip_forward=0",
        "--device",
        "/dev/null:/dev/x",
    ]
    flags += [
        "--shm-size",
        "1m",
        "--oom-score-adj",
        "300",
        "-m",
        "64m",
        "--pids-limit",
        "50",
        "--security-opt",
        "no-new-privileges",
    ]
    script = """
        cat /proc/sys/net/ipv4/ip_forward /proc/1/oom_score_adj
        touch /x 2>/dev/null || touch /scratch/x && echo > /dev/x
        grep -h ^CapEff /proc/self/status | cut -f2
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true
    """
    out = remapped.ok("run", "--rm", *flags, "busybox", "sh", "-c", script).split()
    assert out == ["0", "300", "00000000a80425fb", "50"]


@needs_kernel
def test_a_terminal_and_a_second_start_work(remapped: Docker, name: str) -> None:
    with remapped.terminal("run", "-it", "--name", name, "--network", "none", "busybox", "sh") as shell:
        shell.type("echo $((40 + 2)) > /kept; stat -c %U $(tty); exit\n")
        shell.expect("root")
        assert shell.finish() == 0
    remapped.ok("start", name)
    assert remapped.ok("exec", name, "cat", "/kept") == "42"


@needs_kernel
def test_cve_2021_21284_root_inside_cannot_reach_the_daemons_files(remapped: Docker) -> None:
    """Nothing of the data root or the exec root belongs to a user of containers, or lets one in."""
    root = Path(remapped.ok("info", "-f", "{{.DockerRootDir}}"))
    remapped.ok("run", "--rm", "busybox", "touch", "/x")
    # What is being removed meanwhile is no error.
    words = ["-ignore_readdir_race", "(", "-uid", f"+{FIRST - 1}", "-o", "-gid", f"+{FIRST - 1}", ")"]
    assert subprocess.check_output(["find", root, *words]) == b""
    for folder in (root, root / "overlay2", root / "containers"):
        look = subprocess.run(["ls", folder], user=FIRST, group=FIRST, extra_groups=[], capture_output=True)
        assert look.returncode != 0


# -- who -------------------------------------------------------------------------------------------------------------

Files = Callable[[str, str], tuple[Path, Path]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def write(uids: str, gids: str) -> tuple[Path, Path]:
        (tmp_path / "subuid").write_text(uids)
        (tmp_path / "subgid").write_text(gids)
        return tmp_path / "subuid", tmp_path / "subgid"

    return write


@needs_kernel
@pytest.mark.parametrize("text", ["nobody", "65534", "nobody:nogroup", "65534:65534"])
def test_a_user_is_found_by_name_and_number(files: Files, text: str) -> None:
    paths = files("nobody:100:10\n# x\nbroken\n65534:500:5\nother:1:1\n", "nobody:7:1\nnogroup:7:1\n")
    found = load_remap(text, *paths)
    assert found.uids == ((0, 100, 10), (10, 500, 5))
    assert found.gids == ((0, 7, 1),)


@needs_kernel
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("whoever", "there is no user 'whoever'"),
        ("nobody:whoever", "there is no group 'whoever'"),
        ("99999999999999999999", "there is no user '99999999999999999999'"),
        ("nobody", "has no range for nobody; a line such as nobody:100000:65536 gives one"),
        ("", "there is no user ''"),
    ],
)
def test_who_has_no_range_is_told(files: Files, text: str, expected: str) -> None:
    with pytest.raises(BadParameter, match=expected.replace("(", "\\(")):
        load_remap(text, *files("other:1:1\n", "other:1:1\n"))


@needs_kernel
@pytest.mark.parametrize("state", ["running", "exited"])
def test_owners_of_files_that_are_copied_are_those_inside(
    remapped: Docker, name: str, tmp_path: Path, state: str
) -> None:
    remapped.ok("run", "-d", "--name", name, "--network", "none", "-v", "/volume", "busybox", "sh", "-c",
                "echo x > /root/own; chown 5:6 /root/own; sleep 1000")  # fmt: skip
    while remapped("exec", name, "stat", "/root/own").code:
        pass
    if state == "exited":
        remapped.ok("stop", "-t", "0", name)
    (tmp_path / "file").write_text("in")
    for place in ("/volume", "/root"):
        remapped.ok("cp", str(tmp_path / "file"), f"{name}:{place}")
    with tarfile.open(fileobj=io.BytesIO(remapped("cp", f"{name}:/root/own", "-").raw)) as tar:
        assert [(each.uid, each.gid) for each in tar] == [(5, 6)]
    with tarfile.open(fileobj=io.BytesIO(remapped("export", name).raw)) as tar:
        assert tar.getmember("root/own").uid == 5
        assert tar.getmember("bin/busybox").uid == 0
    remapped("start", name)
    script = "stat -c %u:%g /volume/file /root/file"
    assert remapped.ok("exec", name, "sh", "-c", script).split() == ["0:0", "0:0"]


@needs_kernel
def test_an_image_of_a_mapped_container_has_the_owners_inside(remapped: Docker, name: str) -> None:
    remapped.ok("run", "--name", name, "--network", "none", "busybox", "sh", "-c", "echo > /file; chown 5:6 /file")
    remapped.ok("commit", name, "mapped-commit")
    seen = remapped.ok("run", "--rm", "--network", "none", "mapped-commit", "stat", "-c", "%u:%g", "/file", "/bin")
    assert seen.split() == ["5:6", "0:0"]
    remapped.ok("rmi", "mapped-commit")
