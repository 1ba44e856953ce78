"""What profiles may say, what is refused, and what is kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass.kernel.seccomp import builtin, compile_profile
from windlass.kernel.seccomp_tables import numbers

from .seccomp_support import ALLOW, ARCHES, ENOSYS, EPERM, KILL_PROCESS, SIX_ZEROS, X32_BIT, simulate, unpack

ROOT = Path(__file__).resolve().parent.parent.parent


def ask(
    profile: dict[str, Any], name: str, *args: int, arch: str = "x86_64", caps: tuple[str, ...] = (), **more: Any
) -> int:
    machine = "aarch64" if arch in ("aarch64", "arm") else "x86_64"
    program = unpack(compile_profile(profile, frozenset(caps), **{"machine": machine, "kernel": (6, 18)} | more))
    nr = numbers(arch)[name] if name else args[0]
    return simulate(program, ARCHES[arch].audit, nr, (*args, *SIX_ZEROS)[:6])[0]


def profile(*entries: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(entries), **more}


def allow(name: str, /, **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", **more}


@pytest.mark.parametrize(
    ("name", "first", "caps", "answer"),
    [
        ("read", 0, (), ALLOW),
        ("mount", 0, (), EPERM),
        ("mount", 0, ("CAP_SYS_ADMIN",), ALLOW),
        ("clone", 0x11, (), ALLOW),
        ("clone", 0x10000000, (), EPERM),
        ("clone", 0x10000000, ("CAP_SYS_ADMIN",), ALLOW),
        ("clone3", 0, (), ENOSYS),
        ("clone3", 0, ("CAP_SYS_ADMIN",), ALLOW),
        ("chroot", 0, (), EPERM),
        ("chroot", 0, ("CAP_SYS_CHROOT",), ALLOW),
        ("bpf", 0, ("CAP_BPF",), ALLOW),
        ("keyctl", 0, ("CAP_SYS_ADMIN",), EPERM),
        ("io_uring_setup", 0, ("CAP_SYS_ADMIN",), EPERM),
        ("ptrace", 0, (), ALLOW),
        ("open_tree_attr", 0, (), ENOSYS),
        *(("socket", family, (), ALLOW) for family in (1, 2, 10, 16, 17, 37, 39, 41)),
        *(("socket", family, (), EPERM) for family in (38, 40, 1 << 32 | 38, 1 << 32 | 40)),
        *(("personality", value, (), ALLOW) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)),
        *(("personality", value, (), EPERM) for value in (1, 0x40000, 0x20009)),
    ],
)
def test_the_builtin_profile_decides(name: str, first: int, caps: tuple[str, ...], answer: int) -> None:
    assert ask(builtin(), name, first, caps=caps) == answer


def test_tracing_waits_for_the_kernel_that_filters_after_the_tracer() -> None:
    assert ask(builtin(), "ptrace", kernel=(4, 7)) == EPERM
    assert ask(builtin(), "ptrace", kernel=(4, 8)) == ALLOW


@pytest.mark.parametrize(("arch", "answer"), [("x86_64", EPERM), ("arm", ALLOW)])
def test_entries_for_another_machine_do_not_count(arch: str, answer: int) -> None:
    given = profile(allow("cacheflush", includes={"arches": ["arm64"]}), allow("mseal"), archMap=builtin()["archMap"])
    given["syscalls"][0]["names"].append("getpid")
    assert ask(given, "getpid", arch=arch) == answer


def test_arms_private_calls_do_not_stretch_what_is_known() -> None:
    """cacheflush is number 0xf0002: numbers between the last common one and it are still new to the profile."""
    assert ask(builtin(), "cacheflush", arch="arm") == ALLOW
    assert ask(builtin(), "file_getattr", arch="arm") == ENOSYS


def test_the_x32_abi_is_not_there_even_if_asked_for() -> None:
    given = profile(default="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"])
    assert ask(given, "", X32_BIT + 1) == ENOSYS
    assert ask(given, "read") == ALLOW


def test_a_machine_that_the_profile_does_not_name_is_killed() -> None:
    assert ask(builtin(), "read", arch="x86") == ALLOW
    assert ask(profile(allow("read")), "read", arch="x86") == KILL_PROCESS


def test_two_entries_for_a_call_are_alternatives_and_conditions_of_one_must_all_hold() -> None:
    both = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]
    given = profile(allow("read", args=both), allow("read", args=[{"index": 2, "value": 3, "op": "SCMP_CMP_GT"}]))
    assert [ask(given, "read", *args) for args in ((1, 2, 0), (1, 0, 0), (0, 2, 3), (0, 0, 4))] == [
        ALLOW,
        EPERM,
        EPERM,
        ALLOW,
    ]


def test_two_conditions_on_one_argument_are_alternatives_as_in_runc() -> None:
    args = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (5, 7)]
    given = profile(allow("read", args=args))
    assert [ask(given, "read", value) for value in (5, 6, 7)] == [ALLOW, EPERM, ALLOW]


def test_unknown_calls_are_skipped() -> None:
    assert ask(profile(allow("no_such_call"), allow("read")), "read") == ALLOW


def test_an_entry_that_repeats_the_default_still_makes_its_call_known() -> None:
    given = profile(allow("read"), {"names": ["statx"], "action": "SCMP_ACT_ERRNO"})
    assert ask(given, "statx") == EPERM
    assert ask(given, "io_uring_setup") == ENOSYS


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_a_lenient_default_has_no_newest_call(default: str) -> None:
    assert ask(profile(allow("read"), default=default), "mseal") == ask(profile(default=default), "read") != ENOSYS


def test_an_errno_of_its_own_is_answered() -> None:
    given = profile({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}, defaultErrnoRet=11)
    assert [ask(given, "read"), ask(given, "", 0xFFFF)] == [0x50005, ENOSYS]
    assert ask(profile(allow("mseal"), defaultErrnoRet=11), "read") == 0x5000B


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (profile(default="SCMP_ACT_MAYBE"), "unknown action 'SCMP_ACT_MAYBE'"),
        (profile({"names": ["read"], "action": "allow"}), "unknown action 'allow'"),
        (profile({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY is not supported"),
        (profile(allow("read", args=[{"index": 0, "value": 1, "op": "=="}])), "read: unknown operator '=='"),
        (profile(allow("read", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])), "index 6 is not in 0..5"),
        (profile(allow("read", args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])), "value -1 does not fit"),
        (profile(allow("read", args=[{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}])), "does not fit 64 bits"),
        (profile(allow("read", errnoRet=4096)), "errnoRet 4096 is not in 0..4095"),
        (profile(allow("read", name="write")), "both 'name' (write) and 'names'"),
        (profile(allow("read", includes={"minKernel": "4.x"})), "minKernel '4.x'"),
        (profile(architectures=["SCMP_ARCH_Z80"]), "unknown architecture 'SCMP_ARCH_Z80'"),
        (builtin() | {"architectures": ["SCMP_ARCH_X86"]}, "both 'architectures' and 'archMap'"),
        ({"syscalls": []}, "defaultAction"),
        (profile({"names": "read", "action": "SCMP_ACT_ALLOW"}), "$.syscalls[0].names"),
    ],
)
def test_a_broken_profile_is_refused_by_name(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="^seccomp profile: ") as refused:
        compile_profile(broken, frozenset())
    assert said in str(refused.value)


def test_a_filter_too_long_for_the_kernel_is_refused() -> None:
    entries = [allow("read", args=[{"index": i % 6, "value": 1 << 40 | i, "op": "SCMP_CMP_EQ"}]) for i in range(1100)]
    with pytest.raises(ValueError, match=r"instructions, more than 4096"):
        compile_profile(profile(*entries), frozenset(), machine="x86_64")


def test_a_machine_without_numbers_is_named() -> None:
    with pytest.raises(ValueError, match="no system call numbers for pdp11"):
        compile_profile(builtin(), frozenset(), machine="pdp11")


def test_nulls_empty_lists_and_unknown_keys_are_taken_as_docker_takes_them() -> None:
    entry = {
        "names": ["read"],
        "action": "SCMP_ACT_ALLOW",
        "args": None,
        "comment": "",
        "includes": {},
        "excludes": None,
    }
    assert ask(profile(entry, architectures=None, archMap=[], somethingElse=1), "read") == ALLOW


def test_the_default_filter_is_short() -> None:
    """Loading costs by length: libseccomp makes about 900 instructions of the same profile."""
    assert len(compile_profile(builtin(), frozenset({"CAP_SYS_CHROOT"}), machine="x86_64")) // 8 <= 300


def test_a_filter_is_kept_by_what_it_depends_on() -> None:
    one = compile_profile(builtin(), frozenset(), machine="x86_64", kernel=(6, 1))
    assert compile_profile(builtin(), frozenset(), machine="x86_64", kernel=(6, 1)) is one
    for other in ({"capabilities": frozenset({"CAP_SYSLOG"})}, {"machine": "aarch64"}, {"kernel": (4, 1)}):
        arguments = {"capabilities": frozenset(), "machine": "x86_64", "kernel": (6, 1)} | other
        assert compile_profile(builtin(), **arguments) != one
    assert compile_profile(profile(allow("read")), frozenset(), machine="x86_64", kernel=(6, 1)) != one


@pytest.mark.parametrize(("arch", "header"), [("x86_64", "unistd_64.h"), ("x86", "unistd_32.h")])
def test_our_numbers_are_the_kernels(arch: str, header: str) -> None:
    """Our table may know more than this machine's headers, and nothing else than they."""
    try:
        text = Path("/usr/include/x86_64-linux-gnu/asm", header).read_text()
    except FileNotFoundError:
        pytest.skip("no kernel headers of x86 here")
    theirs = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
    assert theirs.items() <= numbers(arch).items()


def test_nobody_can_change_the_builtin_profile() -> None:
    builtin()["syscalls"].clear()
    assert builtin()["syscalls"]


def test_the_shipped_profile_is_what_its_facts_make() -> None:
    """An edit belongs into scripts/seccomp-data, where the reasons stand."""
    code = (
        f"import json, runpy; made = runpy.run_path({str(ROOT / 'scripts/seccomp-data')!r});"
        "numbers = json.loads((made['DATA'] / 'syscalls.json').read_text());"
        "print(json.dumps(made['profile'](numbers)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == builtin()
