"""Which device nodes the processes of a cgroup may make, read and write.

On cgroup v1 that is a list in the kernel: `devices.deny`, `devices.allow`. On v2 it is a BPF program of type
BPF_PROG_TYPE_CGROUP_DEVICE, attached to the group and asked at every mknod and open: its context is
{u32 access << 16 | type, u32 major, u32 minor}, its answer 1 (allowed) or 0 (EPERM). A list of rules means the same on
both: the last rule that matches decides, and nothing is allowed where none does. The program therefore has the rules
in reverse and returns at the first hit.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ._sys import ffi, lib

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2

_ACCESS = {"m": 1, "r": 2, "w": 4}
_TYPE = {"b": 1, "c": 2}

# Opcodes of <linux/bpf.h>, as far as the program needs them.
_LOAD_WORD, _MOVE, _MOVE_32, _MOVE_CONSTANT = 0x61, 0xBF, 0xBC, 0xB7
_AND, _AND_32, _SHIFT_RIGHT = 0x57, 0x54, 0x77
_JUMP_NOT_EQUAL, _JUMP_NOT_EQUAL_REGISTER, _EXIT = 0x55, 0x5D, 0x95


class Rule(NamedTuple):
    """One rule; None stands for any number, kind `a` for both kinds of devices."""

    allow: bool
    kind: Literal["a", "b", "c"]
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"

    @property
    def is_total(self) -> bool:
        """Whether it matches every device, whatever is done to it."""
        return self.kind == "a" and self.major is None and self.minor is None and set(self.access) == set("rwm")


# What Docker and runc give every container: any node may be made, these may be opened (moby v28.5.2 oci/defaults.go;
# runc libcontainer/specconv: full and 5:2, 136:* and tun besides).
DEFAULT = (
    Rule(False, "a"),
    Rule(True, "c", access="m"),
    Rule(True, "b", access="m"),
    *(Rule(True, "c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    Rule(True, "c", 5, 0),
    Rule(True, "c", 5, 1),
    Rule(True, "c", 5, 2),
    Rule(True, "c", 136),
    Rule(True, "c", 10, 200),
)
EVERYTHING = (Rule(True, "a"),)


def apply_v1(cgroup: Path, rules: tuple[Rule, ...]) -> None:
    """Write the rules to a group of the v1 hierarchy `devices`, one a write. Raises OSError."""
    fds: dict[bool, int] = {}
    try:
        for allow, name in ((True, "devices.allow"), (False, "devices.deny")):
            fds[allow] = os.open(cgroup / name, os.O_WRONLY | os.O_CLOEXEC)
        for rule in rules:
            numbers = ":".join("*" if number is None else str(number) for number in (rule.major, rule.minor))
            os.write(fds[rule.allow], f"{rule.kind} {numbers} {rule.access}".encode())
    finally:
        for fd in fds.values():
            os.close(fd)


def apply_v2(cgroup: Path, rules: tuple[Rule, ...]) -> None:
    """Attach the rules to a v2 group as a BPF program, which the group keeps until its end. Raises OSError."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(_BPF_PROG_ATTACH, struct.pack("<IIII", fd, _loaded(rules), _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI))
    finally:
        os.close(fd)


def program(rules: tuple[Rule, ...]) -> bytes:
    """Assemble the BPF program for a list of rules."""
    # r2 = type, r3 = access, r4 = major, r5 = minor; r1 points to the context and is free afterwards.
    code = [
        _instruction(_LOAD_WORD, 2, 1),
        _instruction(_MOVE, 3, 2),
        _instruction(_AND, 2, constant=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, constant=16),
        _instruction(_LOAD_WORD, 4, 1, offset=4),
        _instruction(_LOAD_WORD, 5, 1, offset=8),
    ]
    for rule in reversed(rules):
        code += _compile(rule)
        if rule.is_total:
            break  # the verifier refuses a program with instructions that are never reached
    else:
        code += _answer(False)
    return b"".join(code)


def _compile(rule: Rule) -> list[bytes]:
    answer = _answer(rule.allow)
    tests = list(_tests(rule))
    length = sum(len(before) + 1 for before, _ in tests)
    code: list[bytes] = []
    for before, (opcode, register, source, constant) in tests:
        code += before
        offset = length - len(code) - 1 + len(answer)
        code.append(_instruction(opcode, register, source, offset, constant))
    return code + answer


def _tests(rule: Rule) -> Iterator[tuple[list[bytes], tuple[int, int, int, int]]]:
    """Give, for each condition, the instructions before its jump and the jump out: opcode, registers, constant."""
    if rule.kind != "a":
        yield [], (_JUMP_NOT_EQUAL, 2, 0, _TYPE[rule.kind])
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    if access != 7:  # all that is wanted must be among what the rule speaks of
        wanted = [_instruction(_MOVE_32, 1, 3), _instruction(_AND_32, 1, constant=access)]
        yield wanted, (_JUMP_NOT_EQUAL_REGISTER, 1, 3, 0)
    if rule.major is not None:
        yield [], (_JUMP_NOT_EQUAL, 4, 0, rule.major)
    if rule.minor is not None:
        yield [], (_JUMP_NOT_EQUAL, 5, 0, rule.minor)


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_CONSTANT, 0, constant=int(allow)), _instruction(_EXIT)]


def _instruction(opcode: int, register: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("<BBhi", opcode, register | source << 4, offset, constant)


_KEPT = 32
_programs: OrderedDict[tuple[Rule, ...], int] = OrderedDict()


def _loaded(rules: tuple[Rule, ...]) -> int:
    """Return the descriptor of the loaded program; the latest are kept, since loading costs 2 ms and attaching 0.3."""
    if rules not in _programs:
        _programs[rules] = _load(program(rules))
        if len(_programs) > _KEPT:
            os.close(_programs.popitem(last=False)[1])
    _programs.move_to_end(rules)
    return _programs[rules]


def _load(code: bytes) -> int:
    instructions, license_, log = bytearray(code), b"Apache-2.0\0", bytearray(16384)
    addresses = [int(ffi.cast("uintptr_t", ffi.from_buffer("char[]", part))) for part in (instructions, license_, log)]
    fields = (_BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *addresses[:2], 1, len(log), addresses[2], 0, 0)
    try:
        return _bpf(_BPF_PROG_LOAD, struct.pack("<IIQQIIQII", *fields))
    except OSError as error:
        why = log.rstrip(b"\0").decode(errors="replace").strip()
        raise OSError(error.errno, f"bpf: {os.strerror(error.errno or 0)}: {why[-300:]}") from None


def _bpf(command: int, attributes: bytes) -> int:
    buffer = bytearray(attributes)
    result = lib.sys_bpf(command, ffi.from_buffer("char[]", buffer), len(buffer))
    if result < 0:
        raise OSError(ffi.errno, f"bpf: {os.strerror(ffi.errno)}")
    return result
