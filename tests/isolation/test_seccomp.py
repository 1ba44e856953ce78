"""The default seccomp profile as a container feels it, against Docker's (moby v28.5.2 and the hardening of 29.4.2)."""

import errno
import json
import platform
from pathlib import Path

import pytest

from tests.support.cli import Docker
from windlass.kernel.seccomp_tables import numbers

from .conftest import Calls

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe makes x86's two kinds of calls"),
]

PROFILE = json.loads((Path(__file__).parents[1] / "data" / "seccomp-default-v28.5.2.json").read_text())
DEFAULT_CAPS = {"CAP_SYS_CHROOT"}  # of those that the profile asks for, what a default container has

# What the kernel itself refuses without privileges, what it asks no filter about (Linux 6.14), what disturbs the host.
LEFT_OUT = {"landlock_restrict_self", "uprobe", "uretprobe", "sync"}


def allowed_by_docker() -> set[str]:
    """Return the names that Docker's profile allows to a default container on x86-64, under whatever condition."""
    names: set[str] = set()
    for entry in PROFILE["syscalls"]:
        include, exclude = entry.get("includes", {}), entry.get("excludes", {})
        applies = set(include.get("caps", ())) <= DEFAULT_CAPS and "amd64" in include.get("arches", ["amd64"])
        if applies and entry["action"] == "SCMP_ACT_ALLOW" and not set(exclude.get("caps", ())) & DEFAULT_CAPS:
            names |= set(entry["names"])
    return names


def test_every_system_call_is_answered_as_by_docker(calls: Calls) -> None:
    """Each number of the table, with zeros as arguments: refused are exactly those that Docker's profile refuses."""
    allowed = allowed_by_docker() - LEFT_OUT
    names = sorted(set(numbers("x86_64")) - LEFT_OUT)
    answers = dict(zip(names, calls(*names), strict=True))
    refused = {name for name, answer in answers.items() if answer == errno.EPERM}
    newer = {name for name, answer in answers.items() if name not in allowed and answer == errno.ENOSYS}
    assert refused & allowed == set()
    assert set(names) - allowed - refused - newer == set()
    assert newer <= {"clone3"} | {name for name in names if numbers("x86_64")[name] > newest_known()}


def newest_known() -> int:
    """Return the highest number that Docker's profile speaks of: later ones answer ENOSYS, as by runc."""
    named = {name for entry in PROFILE["syscalls"] for name in entry["names"]}
    return max(number for name, number in numbers("x86_64").items() if name in named)


CLONE_NEW = {
    "NEWTIME": 0x80,
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x2000000,
    "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("clone:17", 0),
        *((f"clone:{flag | 17:#x}", errno.EPERM) for name, flag in CLONE_NEW.items() if name != "NEWTIME"),
        ("clone3:0:0", errno.ENOSYS),
        *((f"unshare:{flag:#x}", errno.EPERM) for flag in CLONE_NEW.values()),
        ("setns:-1:0", errno.EPERM),
        *((f"personality:{value:#x}", 0) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
        *((f"personality:{value:#x}", errno.EPERM) for value in (1, 4, 0x40000, 0x0040000, 0x20001)),
        ("personality:0xffffffffffffffff", 0),
        ("personality:0x100000001", errno.EPERM),
        ("socket:2:1:0", 0),
        ("socket:1:1:0", 0),
        ("socket:16:3:0", 0),
        ("socket:17:3:0", 0),
        ("socket:38:5:0", errno.EPERM),
        ("socket:0x100000026:5:0", errno.EPERM),
        ("socket:40:1:0", errno.EPERM),
        ("socket:0x100000028:1:0", errno.EPERM),
        ("socket:39:1:0", errno.EAFNOSUPPORT),
        ("socket:41:1:0", errno.EAFNOSUPPORT),
        ("socket:0x100000002:1:0", 0),
        ("keyctl:0:-3:1", errno.EPERM),
        ("add_key:p:p:0:0:0", errno.EPERM),
        ("request_key:p:p:0:0", errno.EPERM),
        ("userfaultfd:0", errno.EPERM),
        ("io_uring_setup:1:p", errno.EPERM),
        ("bpf:0:p:16", errno.EPERM),
        ("perf_event_open:p:0:-1:-1:0", errno.EPERM),
        ("mount:p:p:p:0:0", errno.EPERM),
        ("fsopen:p:0", errno.EPERM),
        ("open_tree:-100:p:1", errno.EPERM),
        ("move_mount:-1:p:-1:p:0", errno.EPERM),
        ("pivot_root:p:p", errno.EPERM),
        ("umount2:p:0", errno.EPERM),
        ("swapon:p:0", errno.EPERM),
        ("kexec_load:0:0:0:0", errno.EPERM),
        ("open_by_handle_at:-1:p:0", errno.EPERM),
        ("ptrace:0", 0),
        ("process_vm_readv:0:0:0:0:0:0", 0),
        ("name_to_handle_at:-1:p:p:p:0", errno.ENOENT),
        (f"{0x40000000 + 39}", errno.ENOSYS),
        ("4000", errno.ENOSYS),
    ],
)
def test_a_call_that_the_profile_speaks_of(calls: Calls, call: str, expected: int) -> None:
    assert calls(call) == [expected]


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("SYS_ADMIN", "mount:1:1:1:0:0"),
        ("SYS_ADMIN", "unshare:0"),
        ("SYS_ADMIN", "clone3:1:0"),
        ("SYS_ADMIN", "bpf:0:1:16"),
        ("BPF", "bpf:0:1:16"),
        ("PERFMON", "perf_event_open:1:0:-1:-1:0"),
        ("DAC_READ_SEARCH", "open_by_handle_at:-1:1:0"),
        ("SYSLOG", "syslog:-1:0:0"),
        ("SYS_BOOT", "reboot:0:0:0"),
        ("SYS_MODULE", "delete_module:1:0"),
        ("SYS_PACCT", "acct:1"),
        ("SYS_PTRACE", "kcmp:0:0:99:0:0"),
        ("SYS_PTRACE", "pidfd_getfd:-1:0:0"),
        ("SYS_RAWIO", "ioperm:99999:1:1"),
        ("SYS_TIME", "settimeofday:1:0"),
        ("SYS_TIME", "clock_settime:0:1"),
        ("SYS_NICE", "set_mempolicy:99:0:0"),
    ],
)
def test_a_capability_opens_its_gate(calls: Calls, capability: str, call: str) -> None:
    """Without it EPERM (clone3: ENOSYS), with it the kernel finds fault with the arguments."""
    closed = errno.ENOSYS if call.startswith("clone3") else errno.EPERM
    assert calls(call) == [closed]
    (opened,) = calls(call, flags=("--cap-add", capability))
    assert opened not in (closed, -1)


def test_chroot_goes_with_its_capability(calls: Calls) -> None:
    assert calls("chroot:1") == [errno.EFAULT]
    assert calls("chroot:1", flags=("--cap-drop", "SYS_CHROOT")) == [errno.EPERM]


def test_programs_of_32_bits_are_filtered_too(calls: Calls) -> None:
    """`socketcall` would reach the families that `socket` must not (CVE-2026-31431)."""
    if calls("32/getpid") == [errno.ENOSYS]:
        pytest.skip("this kernel runs no 32-bit calls")
    expected = {
        "32/getpid": 0,
        "32/socketcall:1:p": errno.EPERM,
        "32/socket:38:5:0": errno.EPERM,
        "32/socket:40:1:0": errno.EPERM,
        "32/socket:2:1:0": 0,
        "32/keyctl:0:-3:1": errno.EPERM,
        "32/mount:p:p:p:0:0": errno.EPERM,
        "32/unshare:0x10000000": errno.EPERM,
        "32/clone3:0:0": errno.ENOSYS,
    }
    assert dict(zip(expected, calls(*expected), strict=True)) == expected


def test_an_exec_is_filtered_like_the_first_process(docker: Docker, image: str, name: str, probe: Path) -> None:
    mount = ("-v", f"{probe}:/probe:ro")
    docker.ok("run", "-d", "--name", name, "--network", "none", *mount, image, "sleep", "60")
    table = numbers("x86_64")
    wanted = [f"64:{table['unshare']}:0x10000000", f"64:{table['socket']}:38:5:0", f"64:{table['getpid']}"]
    assert docker.ok("exec", name, "/probe", *wanted).split() == ["1", "1", "0"]
