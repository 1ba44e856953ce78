"""Our filters against libseccomp's, and our profile against Docker's (moby v28.5.2), each difference explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from windlass.kernel.seccomp import builtin, compile_profile
from windlass.kernel.seccomp_tables import argument_mask, numbers

from .seccomp_support import ARCHES, ENOSYS, SIX_ZEROS, compile_with_libseccomp, libseccomp, simulate, unpack

DEFAULT = frozenset(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
    )
)
GATES = frozenset(cap for rule in builtin()["syscalls"] for cap in rule.get("includes", {}).get("caps", ()))
UNGATED = DEFAULT | GATES
EPERM = 0x50000 | 1
ALLOW = 0x7FFF0000
NUMBERS = range(480)

ARGUMENTS = (
    *((value, 0, 0, 0, 0, 0) for value in (0, 1, 2, 8, 16, 37, 38, 39, 40, 41, 0x11, 0x20000, 0x20008, 0x7E020000)),
    *((value, 0, 0, 0, 0, 0) for value in (0x10000000, 0x40000011, 0xFFFFFFFF, 0x80000000, 1 << 32, (1 << 32) + 38)),
    (1, 1, 1, 1, 1, 1),
    ((1 << 64) - 1,) * 6,
)

DOCKER = json.loads(Path(__file__, "../../data/seccomp-default-v28.5.2.json").resolve().read_text())


def chosen(profile: dict[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    """Apply includes and excludes for x86-64 and a new kernel, as the daemon does before runc sees the profile."""

    def holds(entry: dict[str, Any]) -> bool:
        need, refuse = entry.get("includes", {}), entry.get("excludes", {})
        return (
            "amd64" in need.get("arches", ["amd64"])
            and "amd64" not in refuse.get("arches", [])
            and set(need.get("caps", [])) <= capabilities
            and not set(refuse.get("caps", [])) & capabilities
        )

    plain = [{k: v for k, v in e.items() if k not in ("includes", "excludes")} for e in profile["syscalls"] if holds(e)]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": 1, "syscalls": plain}


def differences(ours: bytes, theirs: bytes) -> list[tuple[str, int, tuple[int, ...], int, int]]:
    """Compare two filters over 480 numbers, two tables and 22 sets of arguments."""
    one, two = unpack(ours), unpack(theirs)
    found = []
    for name in ("x86_64", "x86"):
        audit = ARCHES[name].audit
        for nr in NUMBERS:
            looked = any(simulate(program, audit, nr, SIX_ZEROS)[1] for program in (one, two))
            # A filter that does not look at the arguments answers them all alike.
            for args in ARGUMENTS if looked else (SIX_ZEROS,):
                answers = [simulate(program, audit, nr, args)[0] for program in (one, two)]
                if answers[0] != answers[1]:
                    found.append((name, nr, args, *answers))
    return found


def explain(profile: dict[str, Any], arch: str, nr: int, args: tuple[int, ...], ours: int, theirs: int) -> str:
    """Name the reason for a difference from libseccomp 2.5.4, or return an empty string."""
    table = numbers(arch)
    name = next((name for name, number in table.items() if number == nr), "")
    named = {n for entry in profile["syscalls"] for n in entry["names"]}
    if ours == ENOSYS and nr > max(table[n] for n in named if n in table):
        return "newer than the profile: runc puts this in front of libseccomp's filter"
    if name and libseccomp().seccomp_syscall_resolve_name_arch(ARCHES[arch].audit, name.encode()) == -1:
        return "a call that libseccomp has no number for"
    if any(value > argument_mask(ARCHES[arch], name, index) for index, value in enumerate(args)):
        return "bits above the kernel's type of the argument, which we leave out"
    if arch == "x86" and name in ("socketcall", "ipc") and theirs == ALLOW and ours == EPERM:
        return "libseccomp lets the multiplexer through for each of its calls"
    return ""


@pytest.mark.parametrize("capabilities", [frozenset(), DEFAULT, DEFAULT | {"CAP_SYS_ADMIN"}, UNGATED])
@pytest.mark.parametrize("profile", [builtin(), DOCKER], ids=["ours", "docker's"])
def test_our_compiler_answers_as_libseccomp_does(profile: dict[str, Any], capabilities: frozenset[str]) -> None:
    plain = chosen(profile, capabilities)
    ours = compile_profile(profile, capabilities, kernel=(6, 18), machine="x86_64")
    found = differences(ours, compile_with_libseccomp(plain))
    unexplained = [difference for difference in found if not explain(plain, *difference)]
    assert unexplained == []


def test_the_oracle_sees_a_wrong_filter() -> None:
    """Without one call of the profile the comparison must find that call, in both tables."""
    profile, plain = builtin(), chosen(builtin(), DEFAULT)
    profile["syscalls"][0]["names"].remove("getpid")
    found = differences(compile_profile(profile, DEFAULT, machine="x86_64"), compile_with_libseccomp(plain))
    wrong = {(arch, nr) for arch, nr, *rest in found if not explain(plain, arch, nr, *rest)}
    assert wrong == {("x86_64", numbers("x86_64")["getpid"]), ("x86", numbers("x86")["getpid"])}


@pytest.mark.parametrize("capabilities", [frozenset(), DEFAULT, *(DEFAULT | {cap} for cap in sorted(GATES)), UNGATED])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_our_profile_decides_as_docker_28_does(machine: str, capabilities: frozenset[str]) -> None:
    """But for what 29.4.2 changed: AF_ALG, and socketcall, which would reach it on 32-bit x86 and ARM."""
    native, compat = ("x86_64", "x86") if machine == "x86_64" else ("aarch64", "arm")
    ours, dockers = (
        unpack(compile_profile(p, capabilities, kernel=(6, 18), machine=machine)) for p in (builtin(), DOCKER)
    )
    found = set()
    for arch in (native, compat):
        names = {number: name for name, number in numbers(arch).items()}
        for nr in sorted({*NUMBERS, *names}):
            for args in ARGUMENTS:
                answers = [simulate(program, ARCHES[arch].audit, nr, args) for program in (ours, dockers)]
                if answers[0][0] != answers[1][0]:
                    found.add((names[nr], args[0] & 0xFFFFFFFF if names[nr] == "socket" else -1, answers[0][0]))
                if not (answers[0][1] or answers[1][1]):
                    break
    expected = {("socket", 38, EPERM)}
    if machine == "x86_64":
        expected |= {("socketcall", -1, EPERM)}
    assert found == expected
