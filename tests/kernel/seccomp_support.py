"""What the seccomp tests share: a machine for classic BPF, a plain reading of profiles, libseccomp."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import Any

from windlass.kernel.seccomp_profile import ACTIONS
from windlass.kernel.seccomp_tables import AARCH64, ARM, X86, X86_64, numbers

X32_BIT = 0x40000000
PRIVATE = 0xF0000
ENOSYS = 0x50000 | 38
EPERM = 0x50000 | 1
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ARCHES = {arch.name: arch for arch in (X86_64, X86, AARCH64, ARM)}
SIX_ZEROS = (0, 0, 0, 0, 0, 0)


def unpack(code: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", code))


def simulate(
    program: Sequence[tuple[int, int, int, int]], audit: int, nr: int, args: Sequence[int]
) -> tuple[int, bool]:
    """Run a filter as the kernel does; return its answer and whether it looked at an argument."""
    data = struct.pack("<IIQ6Q", nr, audit, 0, *args)
    pc = accumulator = 0
    looked = False
    while True:
        code, yes, no, k = program[pc]
        pc += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
            looked = looked or k >= 16
        elif code == 0x15:
            pc += yes if accumulator == k else no
        elif code == 0x35:
            pc += yes if accumulator >= k else no
        elif code == 0x25:
            pc += yes if accumulator > k else no
        elif code == 0x45:
            pc += yes if accumulator & k else no
        elif code == 0x05:
            pc += k
        elif code == 0x54:
            accumulator &= k
        elif code == 0x06:
            return k, looked
        else:
            raise AssertionError(f"instruction {code:#x} at {pc - 1}")


def action(name: str, errno: int | None, default: int = 1) -> int:
    value = ACTIONS[name]
    return value | (default if errno is None else errno) if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else value


COMPARE = {
    "SCMP_CMP_EQ": lambda arg, value, two: arg == value,
    "SCMP_CMP_NE": lambda arg, value, two: arg != value,
    "SCMP_CMP_GT": lambda arg, value, two: arg > value,
    "SCMP_CMP_GE": lambda arg, value, two: arg >= value,
    "SCMP_CMP_LT": lambda arg, value, two: arg < value,
    "SCMP_CMP_LE": lambda arg, value, two: arg <= value,
    "SCMP_CMP_MASKED_EQ": lambda arg, value, two: arg & value == two & value,
}


def interpret(profile: dict[str, Any], arch: str, nr: int, args: Sequence[int]) -> int:
    """Answer a call by reading the profile entry by entry: what every filter is checked against.

    For profiles without includes and excludes, whose names the table knows, and arguments in the kernel's width.
    """
    table = numbers(arch)
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    if arch == "x86_64" and nr >= X32_BIT:
        return ENOSYS
    entries = profile["syscalls"]
    named = [table[n] for entry in entries for n in entry["names"] if table.get(n, PRIVATE) < PRIVATE]
    said = [entry for entry in entries if any(table.get(n) == nr for n in entry["names"])]
    said = [(entry, action(entry["action"], entry.get("errnoRet"))) for entry in said]
    said = [(entry, answer) for entry, answer in said if answer != default]
    for entry, answer in said:
        if not entry.get("args"):
            return answer
    holding = []
    for entry, answer in said:
        holds = [COMPARE[a["op"]](args[a["index"]], a["value"], a.get("valueTwo", 0)) for a in entry["args"]]
        several = len({a["index"] for a in entry["args"]}) < len(entry["args"])
        exact = [a["op"] == "SCMP_CMP_EQ" for a in entry["args"]]
        if several:
            holding += [(not e, answer) for e, h in zip(exact, holds, strict=True) if h]
        elif all(holds):
            holding.append((not all(exact), answer))
    if holding:
        return min(holding, key=lambda h: (h[0], ctypes.c_int32(h[1] & 0xFFFF0000).value))[1]
    lenient = default in (ALLOW, 0x7FFC0000) or default & 0xFFFF0000 == 0x7FF00000
    return ENOSYS if named and nr > max(named) and not lenient and not said else default


class ArgCmp(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


OPERATORS = ("", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE; 2 makes a tree, which is quicker to simulate


def libseccomp() -> ctypes.CDLL:
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    ]
    for name in ("seccomp_arch_add", "seccomp_attr_set", "seccomp_export_bpf"):
        getattr(lib, name).argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32][: 3 if "attr" in name else 2]
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return lib


def compile_with_libseccomp(profile: dict[str, Any], arches: Sequence[str] = ("x86",)) -> bytes:
    """Compile a profile without includes and excludes as runc does (libcontainer/seccomp), less its ENOSYS stub."""
    lib = libseccomp()
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = lib.seccomp_init(default)
    try:
        assert lib.seccomp_attr_set(context, OPTIMIZE, 2) == 0
        for arch in arches:
            assert lib.seccomp_arch_add(context, ARCHES[arch].audit) == 0
        for entry in profile["syscalls"]:
            _add(lib, context, entry, default)
        return _export(lib, context)
    finally:
        lib.seccomp_release(context)


def _add(lib: ctypes.CDLL, context: int, entry: dict[str, Any], default: int) -> None:
    answer = action(entry["action"], entry.get("errnoRet"))
    tests = [
        ArgCmp(a["index"], OPERATORS.index(a["op"].removeprefix("SCMP_CMP_")), a["value"], a.get("valueTwo", 0))
        for a in entry.get("args") or ()
    ]
    several = len({test.arg for test in tests}) < len(tests)
    for name in entry["names"]:
        nr = lib.seccomp_syscall_resolve_name(name.encode())
        if answer == default or nr == -1:
            continue
        for group in [[test] for test in tests] if several else [tests]:
            status = lib.seccomp_rule_add_array(context, answer, nr, len(group), (ArgCmp * len(group))(*group))
            assert status == 0, f"{name}: {os.strerror(-status)}"


def _export(lib: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("libseccomp")
    try:
        assert lib.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
