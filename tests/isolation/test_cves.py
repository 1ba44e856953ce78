"""Public bugs of container engines, each tried on ours. README.md says which test covers which.

The images come from a stranger. A *canary* is a folder of the host's that links of theirs point to: whatever the
outcome, nothing in it may change, and none of it may be seen from inside.
"""

import errno
import hashlib
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker, Result
from tests.support.images import Tar, busybox_rootfs, docker_archive
from tests.support.wire import Wire
from windlass.execdriver import native

from .conftest import SECRET, Calls, Run, Sh

pytestmark = pytest.mark.root

SHIM = Path(native.__file__).with_name("windlass-shim")
NOTHING = "0" * 16


Spoil = Callable[[Tar], None]
Load = Callable[..., str]


@pytest.fixture
def load(wire: Wire, new_tag: Callable[[], str]) -> Load:
    """Return a loader of images: busybox, and a layer over it that `spoil` writes; `config` is the image's."""

    def load(spoil: Spoil = lambda tar: None, **config: Any) -> str:
        tag, tar = new_tag(), Tar()
        spoil(tar)
        archive = docker_archive([busybox_rootfs(), tar.finish()], tag, **config)
        answer = wire.post("/images/load", archive, headers={"Content-Type": "application/x-tar"})
        assert answer.status == 200 and b"errorDetail" not in answer.body, answer.body
        return tag

    return load


def links(**where: str) -> Spoil:
    """Replace folders of the image by links; `__` stands for a slash."""

    def spoil(tar: Tar) -> None:
        for name, target in where.items():
            tar.link(name.replace("__", "/"), target)

    return spoil


def start(docker: Docker, tag: str, *words: str, flags: tuple[str, ...] = ()) -> Result:
    return docker("run", "--rm", "--network", "none", *flags, tag, *words)


def assert_covered(result: Result) -> None:
    """Either it did not start, or `cat /proc/mounts /proc/interrupts` shows the real procfs with its masks."""
    if result.code == 0:
        assert re.search(r"^proc /proc proc ", result.out, re.MULTILINE), result
        assert re.search(r" /proc/sys proc ro,", result.out), result
        assert "CPU0" not in result.out
    else:
        assert result.code >= 125, result


# -- the engine's own program ----------------------------------------------------------------------------------------


def digest() -> str:
    return hashlib.sha256(SHIM.read_bytes()).hexdigest()


OVERWRITE = "for p in /proc/[0-9]*/exe; do (: > $p) 2>/dev/null && echo $p; done"


@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/3", "/proc/self/fd/5"])
def test_cve_2019_5736_an_image_whose_program_is_the_engines(docker: Docker, load: Load, program: str) -> None:
    before = digest()
    tag = load(Entrypoint=[program], Cmd=["run"])
    assert start(docker, tag).code in range(1, 128)
    assert digest() == before
    assert start(docker, load(), "echo", "fine").out == "fine\n"


def test_cve_2019_5736_the_engines_program_cannot_be_written(docker: Docker, image: str, name: str) -> None:
    """While execs come in, somebody inside tries to open every program that runs for writing."""
    before = digest()
    script = f"while :; do {OVERWRITE} >> /tmp/written; done"
    docker.ok("run", "-d", "--name", name, "--network", "none", "--cap-add", "SYS_PTRACE", image, "sh", "-c", script)
    for _ in range(10):
        docker.ok("exec", name, "true")
    docker("exec", name, "/proc/self/exe")
    assert docker.ok("exec", name, "cat", "/tmp/written") == ""
    assert digest() == before


# -- /proc, /dev, /sys of the image ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["canary", "/tmp", "sys", "../../../../../../tmp", "/proc/../etc"])
def test_cve_2019_19921_proc_is_a_link(docker: Docker, load: Load, canary: Path, target: str) -> None:
    tag = load(links(proc=str(canary) if target == "canary" else target))
    assert_covered(start(docker, tag, "cat", "/proc/mounts", "/proc/interrupts"))


def test_cve_2019_16884_proc_is_a_volume_of_the_image(docker: Docker, load: Load) -> None:
    def fake(tar: Tar) -> None:
        tar.folder("proc/self/attr")
        tar.file("proc/self/attr/exec", "")

    assert_covered(start(docker, load(fake, Volumes={"/proc": {}}), "cat", "/proc/mounts", "/proc/interrupts"))


@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/proc/self/attr", "/proc/../proc/1", "//proc/"])
def test_cve_2015_3630_nothing_is_mounted_over_proc(docker: Docker, image: str, tmp_path: Path, target: str) -> None:
    """CVE-2015-3630, CVE-2019-16884: a bind or a tmpfs on /proc would hide what confines."""
    for flags in (("-v", f"{tmp_path}:{target}"), ("--tmpfs", target)):
        result = start(docker, image, "true", flags=flags)
        assert result.code == 125 and "inside /proc" in result.err, result


@pytest.mark.parametrize("target", ["canary", "canary/made", "tmp", "../../../../../../tmp", "/etc/passwd", "nowhere"])
def test_cve_2026_41579_dev_is_a_link(docker: Docker, load: Load, canary: Path, target: str) -> None:
    tag = load(links(dev=target.replace("canary", str(canary))))
    result = start(docker, tag, "sh", "-c", "test -c /dev/null && echo fine")
    assert result.out == "fine\n" or result.code >= 125


@pytest.mark.parametrize("name", ["sys", "dev__shm", "dev__mqueue", "etc", "sys__fs", "proc__sys"])
def test_cve_2026_41579_another_place_is_a_link(docker: Docker, load: Load, canary: Path, name: str) -> None:
    result = start(docker, load(links(**{name: str(canary)})), "/bin/busybox", "true")
    assert result.code == 0 or result.code >= 125


@pytest.mark.parametrize("shape", ["link", "file", "fifo", "folder"])
def test_cve_2025_31133_masks_do_not_come_from_the_image(docker: Docker, load: Load, canary: Path, shape: str) -> None:
    """/dev/null of the image is not what covers procfs."""

    def spoil(tar: Tar) -> None:
        match shape:
            case "link":
                tar.link("dev/null", "/proc/sys/kernel/core_pattern")
            case "file":
                tar.file("dev/null", "not null")
            case "fifo":
                tar.special("dev/null", tarfile.FIFOTYPE)
            case "folder":
                tar.folder("dev/null")

    script = "cat /proc/interrupts; stat -c %t:%T /proc/interrupts /dev/null"
    assert start(docker, load(spoil), "sh", "-c", script).out.split() == ["1:3", "1:3"]


@pytest.mark.parametrize("name", ["dev__console", "dev__pts", "dev__ptmx", "dev__pts__ptmx", "dev__pts__0"])
def test_cve_2025_52565_the_terminal_does_not_come_from_the_image(
    docker: Docker, load: Load, canary: Path, name: str
) -> None:
    tag = load(links(**{name: str(canary / "secret")}))
    with docker.terminal("run", "--rm", "-t", "--network", "none", tag, "sh", "-c", "tty; cat /dev/console") as shown:
        shown.type("\x03")
        shown.finish()
        assert SECRET not in shown.seen.decode()


@pytest.mark.parametrize("name", ["proc", "proc__sys", "proc__sys__kernel"])
def test_cve_2025_52881_sysctls_are_written_to_the_kernel_alone(
    docker: Docker, load: Load, canary: Path, name: str
) -> None:
    """A link in place of /proc leads the write of a sysctl nowhere: not to the host, not to another sysctl."""
    result = start(
        docker, load(links(**{name: str(canary)})), "cat", "/proc/sys/kernel/msgmax",
        flags=("--sysctl", "kernel.msgmax=12345"),
    )  # fmt: skip
    assert result.out == "12345\n" or result.code >= 125
    assert Path("/proc/sys/kernel/msgmax").read_text() != "12345\n"


# -- descriptors and working directories -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3, 21))
@pytest.mark.parametrize("way", ["image", "flag", "exec"])
def test_cve_2024_21626_no_descriptor_is_a_way_out(
    docker: Docker, load: Load, image: str, running: str, canary: Path, way: str, number: int
) -> None:
    folder = f"/proc/self/fd/{number}"
    command = ("cat", f"../../../../../../{canary}/secret")
    if way == "image":
        result = start(docker, load(WorkingDir=folder), *command)
    elif way == "flag":
        result = start(docker, image, *command, flags=("-w", folder))
    else:
        result = docker("exec", "-w", folder, running, *command)
    assert result.code != 0 and SECRET not in result.out


@pytest.mark.parametrize("path", ["/way/made", "/way/../way/made", "/way"])
def test_cve_2024_9676_a_working_directory_is_made_inside(docker: Docker, load: Load, canary: Path, path: str) -> None:
    """A link of the image does not lead the engine's mkdir to the host (also CVE-2024-45310)."""
    tag = load(links(way=str(canary)), WorkingDir=path)
    result = start(docker, tag, "pwd", "-P")
    assert result.code >= 125 or result.out.startswith(str(canary)), result  # that path, inside the root


def test_cve_2015_3627_only_the_three_streams_are_open(sh: Sh) -> None:
    assert len(sh("for fd in /proc/self/fd/*; do readlink $fd || true; done").splitlines()) == 3


# -- capabilities, groups, users -------------------------------------------------------------------------------------


def capability_lines(text: str) -> dict[str, str]:
    return dict(re.findall(r"(Cap\w+):\t(\w+)", text))


@pytest.mark.parametrize("flags", [(), ("-u", "1000"), ("--privileged",), ("--cap-add", "ALL")], ids=" ".join)
def test_cve_2022_24769_nothing_is_inheritable(docker: Docker, image: str, name: str, flags: tuple[str, ...]) -> None:
    """And CVE-2022-29162, which is the same for exec."""
    docker.ok("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "100")
    for text in (
        docker.ok("exec", name, "cat", "/proc/1/status"),
        docker.ok("exec", name, "cat", "/proc/self/status"),
        docker.ok("exec", "--privileged", name, "cat", "/proc/self/status"),
    ):
        found = capability_lines(text)
        assert (found["CapInh"], found["CapAmb"]) == (NOTHING, NOTHING)


@pytest.mark.parametrize("user", ["nobody", "nobody:50", "7:8"])
def test_cve_2022_36109_the_primary_group_is_among_the_groups(docker: Docker, image: str, name: str, user: str) -> None:
    """And CVE-2023-25173: groups of an exec are looked up as those of the first process."""
    docker.ok("run", "-d", "--name", name, "--network", "none", "-u", user, image, "sleep", "100")
    first = docker.ok("exec", name, "grep", "^Groups", "/proc/1/status").split()[1:]
    second = docker.ok("exec", name, "grep", "^Groups", "/proc/self/status").split()[1:]
    assert docker.ok("exec", name, "id", "-g") in first
    assert first == second


PASSWD_TRAP = "1000:x:0:0::/:\n0777:x:0:0::/:\n99999999999999999999:x:0:0::/:\nroot:x:0:0::/root:\n"


@pytest.mark.parametrize(
    ("user", "expected"), [("1000", "1000"), ("0777", "777"), ("99999999999999999999", None), ("4294967295", None)]
)
def test_cve_2016_3697_a_number_is_never_a_name(docker: Docker, load: Load, user: str, expected: str | None) -> None:
    """And CVE-2024-40635, CVE-2026-46680: a number that does not fit is an error, not root."""
    tag = load(lambda tar: tar.file("etc/passwd", PASSWD_TRAP), User=user)
    for flags in ((), ("-u", user)):
        result = start(docker, tag, "id", "-u", flags=flags)
        assert result.out.strip() == (expected or ""), result
        assert expected or (result.code == 125 and "uids and gids must be in range" in result.err)


@pytest.mark.parametrize("name", ["etc__passwd", "etc__group", "etc"])
@pytest.mark.parametrize("shape", ["host", "fifo", "device", "loop", "folder"])
def test_cve_2024_9676_passwd_is_a_trap(
    docker: Docker, load: Load, canary: Path, name: str, shape: str, tmp_path: Path
) -> None:
    """Links lead nowhere, pipes and endless files do not hang the engine: a name is simply not found."""
    (tmp_path / "stranger").write_text("stranger:x:0:0::/:\n")

    def spoil(tar: Tar) -> None:
        path = name.replace("__", "/")
        match shape:
            case "host":
                tar.link(path, str(tmp_path / "stranger"))
            case "fifo":
                tar.special(path, tarfile.FIFOTYPE, mode=0o644)
            case "device":
                tar.link(path, "/dev/zero")
            case "loop":
                tar.link(path, path.rpartition("/")[2])
            case "folder":
                tar.folder(path)

    tag = load(spoil)
    result = start(docker, tag, "id", flags=("-u", "stranger:stranger"))
    assert result.code == 125 and "unable to find user stranger" in result.err or result.code == 126, result


def test_cve_2023_25153_a_huge_group_file_costs_nothing(docker: Docker, load: Load) -> None:
    """And CVE-2022-31030, CVE-2026-47262: only the beginning is read, line by line."""
    tag = load(lambda tar: tar.file("etc/group", "a:x:1:nobody\n" * (48 << 20 >> 4)))
    pid = daemon_pid(docker)
    before = peak(pid)
    assert start(docker, tag, "id", "-u", flags=("-u", "nobody")).out == "65534\n"
    assert peak(pid) - before < 24 << 10


def daemon_pid(docker: Docker) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if docker.host.encode() in words and b"daemon" in words:
            return int(path.parent.name)
    raise AssertionError("the daemon does not run here")


def peak(pid: int) -> int:
    """Kilobytes of memory that a process has had at most."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


def test_cve_2016_9962_an_exec_brings_nothing_of_the_engine(docker: Docker, image: str, name: str) -> None:
    """No variable, no descriptor, and nobody inside can look into it while it is on its way."""
    watch = (
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || "
        "{ ls -l $p/fd 2>/dev/null; tr '\\0' '\\n' < $p/environ 2>/dev/null; }; done >> /tmp/seen; done"
    )
    docker.ok("run", "-d", "--name", name, "--network", "none", "--cap-add", "SYS_PTRACE", image, "sh", "-c", watch)
    for _ in range(20):
        environment = docker.ok("exec", "-e", "GIVEN=1", name, "env").splitlines()
        assert {line.partition("=")[0] for line in environment} == {"PATH", "HOSTNAME", "GIVEN", "HOME"}
    seen = docker.ok("exec", name, "cat", "/tmp/seen")
    assert "memfd" not in seen and "PYTHON" not in seen and ".sock" not in seen


# -- what an image may not say ---------------------------------------------------------------------------------------


def test_cve_2014_6408_an_image_has_no_say_in_its_confinement(docker: Docker, load: Load) -> None:
    wishes = {"Privileged": True, "SecurityOpt": ["seccomp=unconfined"], "CapAdd": ["ALL"], "PidMode": "host"}
    tag = load(HostConfig=wishes, **wishes)
    status = start(docker, tag, "cat", "/proc/self/status").out
    assert capability_lines(status)["CapEff"] == "00000000a80425fb"
    assert "Seccomp:\t2" in status and re.search(r"^Pid:\t1$", status, re.MULTILINE)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"])
def test_cve_2025_23266_variables_of_an_image_reach_its_program_alone(
    docker: Docker, load: Load, name: str, tmp_path: Path
) -> None:
    """There are no hooks, and the engine's own programs get no environment (also CVE-2024-0132)."""
    tag = load(Env=[f"{name}=/evil.so", "PATH=/bin"])
    id = docker.ok("run", "-d", "--network", "none", tag, "sleep", "100")
    try:
        pids = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if _runs(path, id)]
        assert pids and all((pid / "environ").read_bytes() == b"" for pid in pids)
    finally:
        docker.ok("rm", "-f", id)


def _runs(cmdline: Path, id: str) -> bool:
    try:
        return cmdline.read_bytes().split(b"\0")[:3] == [b"windlass-shim", b"run", id.encode()]
    except OSError:
        return False


# -- kernel interfaces -----------------------------------------------------------------------------------------------


def test_cve_2022_0185_a_user_namespace_and_fsconfig_are_refused(calls: Calls) -> None:
    answers = calls("unshare:0x10000000", "clone:0x10000011", "fsopen:p:0", "fsconfig:-1:1:p:p:0")
    assert answers == [errno.EPERM] * 4


@pytest.mark.parametrize("flags", [(), ("--cap-add", "SYS_ADMIN"), ("-u", "1000")], ids=" ".join)
def test_cve_2022_0492_no_release_agent(run: Run, flags: tuple[str, ...]) -> None:
    """And CVE-2023-25809: every hierarchy is read-only, and no release_agent is to be seen, even to be remounted."""
    script = "find /sys/fs/cgroup -name release_agent; mkdir /sys/fs/cgroup/*/x /sys/fs/cgroup/x && echo made"
    assert run(*flags, script).out == ""


@pytest.mark.parametrize("call", ["socket:38:5:0", "socket:0x100000026:5:0", "32/socketcall:1:p", "32/socket:38:5:0"])
def test_cve_2026_31431_no_sockets_of_the_kernels_ciphers(calls: Calls, call: str) -> None:
    if call.startswith("32") and calls("32/getpid") == [errno.ENOSYS]:
        pytest.skip("this kernel runs no 32-bit calls")
    assert calls(call) == [errno.EPERM]


def test_cve_2020_13401_router_advertisements_are_not_believed(sh: Sh) -> None:
    """And CVE-2024-32473: no IPv6 on a network without."""
    if not Path("/proc/sys/net/ipv6").exists():
        pytest.skip("this host has no IPv6")
    folder = "/proc/sys/net/ipv6/conf/eth0"
    assert sh("--network", "bridge", f"cat {folder}/accept_ra {folder}/disable_ipv6").split() == ["0", "1"]


# -- the host's side -------------------------------------------------------------------------------------------------


def test_cve_2021_41091_the_data_root_is_closed_to_users(docker: Docker) -> None:
    """A user of the host must not reach the setuid programs of images."""
    root = Path(docker.ok("info", "-f", "{{.DockerRootDir}}"))
    found = subprocess.run(["find", root, "-perm", "-4000", "-o", "-name", "busybox"], user=65534, capture_output=True)
    assert found.stdout == b""
    for folder in (root / docker.ok("info", "-f", "{{.Driver}}"), root / "containers"):
        assert not stat.S_IMODE(folder.stat().st_mode) & 0o007


def test_cve_2020_15257_no_socket_of_ours_is_abstract(docker: Docker, running: str) -> None:
    """A container of the host's network would reach it."""
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [name for name in names if name.startswith("@") and re.search("windlass|shim|ctl.sock", name)] == []
    assert os.path.exists(f"/proc/{docker.inspect(running, '{{.State.Pid}}')}")
