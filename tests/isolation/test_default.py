"""The default container as it looks from inside: Docker's facts (moby v28.5.2 and later hardening), row by row."""

import os
import re
from pathlib import Path

import pytest

from tests.support.cli import Docker
from windlass.kernel import caps

from .conftest import Run, Sh

pytestmark = pytest.mark.root

IS_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
DEFAULT = "00000000a80425fb"
NOTHING = "0" * 16
QUIET = {"nosuid", "nodev", "noexec"}


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def mounts(text: str) -> dict[str, tuple[str, set[str]]]:
    """Return type and options of each mount in /proc/mounts, by target."""
    return {fields[1]: (fields[2], set(fields[3].split(","))) for fields in map(str.split, text.splitlines())}


# -- capabilities ----------------------------------------------------------------------------------------------------


def test_root_has_dockers_capabilities_and_none_to_pass_on(sh: Sh) -> None:
    found = status(sh("cat /proc/self/status"))
    assert {name: found[name] for name in ("CapPrm", "CapEff", "CapBnd")} == dict.fromkeys(
        ("CapPrm", "CapEff", "CapBnd"), DEFAULT
    )
    assert (found["CapInh"], found["CapAmb"]) == (NOTHING, NOTHING)


def test_a_user_has_none_but_the_bounding_set(sh: Sh) -> None:
    found = status(sh("-u", "1000:1000", "cat /proc/self/status"))
    assert {found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {NOTHING}
    assert found["CapBnd"] == DEFAULT


def test_neither_no_new_privs_nor_an_unfiltered_process(sh: Sh) -> None:
    found = status(sh("cat /proc/self/status"))
    assert (found["NoNewPrivs"], found["Seccomp"], found["Seccomp_filters"]) == ("0", "2", "1")


def test_privileged_is_the_daemons_own_set(sh: Sh) -> None:
    found = status(sh("--privileged", "cat /proc/self/status"))
    assert {found[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {f"{caps.mask(caps.own()):016x}"}
    assert (found["CapInh"], found["CapAmb"], found["Seccomp"]) == (NOTHING, NOTHING, "0")


# -- what is covered -------------------------------------------------------------------------------------------------

MASKED = [
    *(
        f"/proc/{name}"
        for name in "asound acpi interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi".split()
    ),
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    *(str(path) for path in sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"))),
]


@pytest.mark.parametrize("path", MASKED)
def test_a_masked_path_is_empty(sh: Sh, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this host has no {path}")
    script = f"""
        if [ -d {path} ]; then ls -A {path}; touch {path}/x 2>/dev/null && echo made
        else test -c {path} && cat {path}; fi
        chmod 777 {path} 2>/dev/null && echo changed
        umount {path} 2>/dev/null && echo uncovered
        true
    """
    assert sh(script) == ""


@pytest.mark.parametrize("path", ["bus", "fs", "irq", "sys", "sysrq-trigger"])
def test_a_path_of_proc_is_read_only(sh: Sh, path: str) -> None:
    if not Path("/proc", path).exists():
        pytest.skip(f"this host has no /proc/{path}")
    assert "ro" in mounts(sh("cat /proc/mounts"))[f"/proc/{path}"][1]


def test_nothing_of_proc_sys_can_be_written(run: Run) -> None:
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname"):
        if Path(path).exists():
            assert "Read-only file system" in run(f"echo x > {path}").err, path


def test_privileged_has_nothing_covered(sh: Sh) -> None:
    found = mounts(sh("--privileged", "cat /proc/mounts"))
    assert not [target for target in found if target.startswith("/proc/") or target == "/sys/firmware"]
    assert "rw" in found["/sys"][1]


# -- mounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind", "options"),
    [
        ("/proc", "proc", QUIET | {"rw"}),
        ("/dev", "tmpfs", {"rw", "nosuid", "size=65536k", "mode=755"}),
        ("/dev/pts", "devpts", {"rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"}),
        ("/sys", "sysfs", QUIET | {"ro"}),
        ("/sys/fs/cgroup", "cgroup2" if IS_V2 else "tmpfs", QUIET | {"ro"}),
        ("/dev/mqueue", "mqueue", QUIET | {"rw"}),
        ("/dev/shm", "tmpfs", QUIET | {"rw", "size=65536k"}),
    ],
)
def test_a_default_mount_has_its_type_and_options(sh: Sh, target: str, kind: str, options: set[str]) -> None:
    found, has = mounts(sh("cat /proc/mounts"))[target]
    assert (found, options - has) == (kind, set())


def test_dev_keeps_exact_times_and_shm_is_everybodys(sh: Sh) -> None:
    assert "relatime" not in mounts(sh("cat /proc/mounts"))["/dev"][1]
    assert sh("stat -c %a /dev/shm /dev/mqueue").split() == ["1777", "1777"]


def test_every_cgroup_mount_is_read_only(sh: Sh) -> None:
    found = mounts(sh("cat /proc/mounts"))
    groups = {target: options for target, (kind, options) in found.items() if kind in ("cgroup", "cgroup2")}
    assert groups and all(QUIET | {"ro"} <= options for options in groups.values())


def test_the_files_in_etc_are_mounts(sh: Sh) -> None:
    found = mounts(sh("--network", "bridge", "cat /proc/mounts"))
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(found)


def test_no_mount_of_the_hosts_is_to_be_seen_and_none_can_come(sh: Sh) -> None:
    """The root and what is below belong to no group of shared mounts: nothing goes in or out."""
    for line in sh("cat /proc/self/mountinfo").splitlines():
        fields = line.split()
        assert fields[4] == "/" or fields[4].startswith(("/proc", "/dev", "/sys", "/etc/")), line
        assert not fields[6].startswith("shared"), line


def test_a_tmpfs_of_the_user_is_noexec_nosuid_nodev(sh: Sh) -> None:
    assert mounts(sh("--tmpfs", "/scratch", "cat /proc/mounts"))["/scratch"][1] >= QUIET
    assert "noexec" not in mounts(sh("--tmpfs", "/scratch:exec", "cat /proc/mounts"))["/scratch"][1]


# -- devices ---------------------------------------------------------------------------------------------------------

NODES = "full null ptmx random tty urandom zero"
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def test_dev_has_dockers_nodes_and_links(sh: Sh) -> None:
    names = set(sh("ls -A /dev").split())
    core = {"core"} if Path("/proc/kcore").exists() else set()
    assert names == {*NODES.split(), *LINKS, *core, "mqueue", "pts", "shm"}
    assert sh("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done").split() == [
        *LINKS.values(),
        "pts/ptmx",
    ]
    modes = sh("cd /dev; stat -c '%n %a %t:%T' null zero full random urandom tty").splitlines()
    numbers = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    assert modes == [f"{name} 666 {number}" for name, number in numbers.items()]


def test_console_is_there_with_a_terminal_alone(docker: Docker, image: str, run: Run) -> None:
    assert run("test -e /dev/console").code == 1
    with docker.terminal("run", "--rm", "-t", "--network", "none", image, "stat", "-c", "%F", "/dev/console") as shown:
        shown.expect("character special file")


@pytest.mark.parametrize(
    ("node", "opens"),
    [
        *((f"c 1 {minor}", True) for minor in (3, 5, 7, 8, 9)),
        ("c 1 1", False),
        ("c 1 11", False),
        ("c 5 1", None),
        ("c 5 2", None),
        ("c 10 229", False),
        ("c 10 200", None),
        ("b 7 0", False),
        ("b 254 0", False),
    ],
)
def test_any_node_can_be_made_but_few_opened(sh: Sh, node: str, opens: bool | None) -> None:
    """None: the group allows it, and whether there is a device behind is the host's affair: never EPERM."""
    said = sh(f"mknod /tmp/x {node} && (true < /tmp/x && echo opened) 2>&1; true")
    if opens is None:
        assert "peration not permitted" not in said
    else:
        assert said.endswith("opened\n") == opens
        assert opens or "peration not permitted" in said, said


# -- namespaces, limits, descriptors ---------------------------------------------------------------------------------


def test_namespaces_are_its_own_but_user_and_time(sh: Sh) -> None:
    found = dict(
        line.split() for line in sh('for n in /proc/self/ns/*; do echo "${n##*/} $(readlink $n)"; done').splitlines()
    )
    shared = {name for name, link in found.items() if link == os.readlink(f"/proc/self/ns/{name}")}
    assert shared & {"mnt", "net", "uts", "pid", "ipc", "user"} == {"user"}
    assert ("cgroup" in shared) == (not IS_V2)


def test_ipc_is_private_and_not_shareable(docker: Docker, running: str) -> None:
    assert docker.inspect(running, "{{.HostConfig.IpcMode}}") == "private"


def test_limits_are_the_daemons(docker: Docker, sh: Sh) -> None:
    pid = next(path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if _serves(path, docker.host))
    rows = re.compile(r"^(Max .*?)  +(\S+) +(\S+)", re.MULTILINE)
    assert rows.findall(sh("cat /proc/self/limits")) == rows.findall((pid / "limits").read_text())


def _serves(cmdline: Path, host: str) -> bool:
    try:
        words = cmdline.read_bytes().split(b"\0")
    except OSError:
        return False
    return host.encode() in words and b"daemon" in words


def test_only_three_descriptors_are_open(docker: Docker, sh: Sh, running: str) -> None:
    script = "for fd in /proc/self/fd/*; do readlink $fd || true; done"
    assert len(sh(script).splitlines()) == 3
    assert len(docker.ok("exec", running, "sh", "-c", script).splitlines()) == 3


def test_scores_and_masks_are_plain(sh: Sh) -> None:
    assert sh("cat /proc/self/oom_score_adj; umask; cat /proc/self/loginuid 2>/dev/null || true").split()[:2] == [
        "0",
        "0022",
    ]


def test_the_first_process_has_no_parent_and_no_session_of_ours(sh: Sh) -> None:
    assert sh("echo $$ $PPID; cut -d' ' -f6 /proc/self/stat; ls /proc | grep -c '^[0-9]'").split()[:3] == [
        "1",
        "0",
        "1",
    ]


def test_signals_are_as_a_program_expects_them(docker: Docker, image: str) -> None:
    found = status(docker.ok("run", "--rm", "--network", "none", image, "cat", "/proc/self/status"))
    assert (found["SigBlk"], int(found["SigIgn"], 16)) == (NOTHING, 0)


# -- network ---------------------------------------------------------------------------------------------------------


def test_ping_and_low_ports_need_no_capability(sh: Sh) -> None:
    files = "/proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert sh(f"cat {files}").split() == ["0", "2147483647", "0"]


def test_ipv6_advertisements_are_not_believed(sh: Sh) -> None:
    """CVE-2020-13401, and CVE-2024-32473: an interface of a network without IPv6 has it turned off."""
    folder = "/proc/sys/net/ipv6/conf/eth0"
    if not Path("/proc/sys/net/ipv6").exists():
        pytest.skip("this host has no IPv6")
    assert sh("--network", "bridge", f"cat {folder}/accept_ra {folder}/disable_ipv6").split() == ["0", "1"]


def test_a_host_network_keeps_the_hosts_sysctls(sh: Sh) -> None:
    path = "/proc/sys/net/ipv4/ping_group_range"
    assert sh("--network", "host", f"cat {path}").split() == Path(path).read_text().split()
