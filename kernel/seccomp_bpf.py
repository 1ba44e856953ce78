"""Classic BPF for seccomp: a search tree over system call numbers.

A filter runs before every system call, and loading it costs by its length (0.15 ms for 300 instructions, 1 ms for the
1,001 that libseccomp makes of the same profile). So runs of numbers with one answer become one leaf, a balanced tree
of comparisons leads to them, and equal leaves are shared. Only instructions that the kernel can evaluate at load time
are used before the arguments (kernel/seccomp.c `seccomp_is_const_allow`): for numbers that are always allowed it then
skips the filter altogether.

Jumps go forward only, at most 255 instructions for the conditional ones. The program is therefore emitted backwards:
what a jump leads to is already there when the jump is made. A position is a distance from the program's end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from .seccomp_profile import ACTION_FULL, ALLOW, ENOSYS, ERRNO, KILL_PROCESS, LOG, TRACE, Policy, Rule, Test
from .seccomp_tables import PRIVATE_NUMBERS, U32, X32_BIT, X86_64, Arch, numbers

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# <linux/filter.h>: BPF_LD|BPF_W|BPF_ABS, BPF_RET|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|…|BPF_K
LOAD, RETURN, AND = 0x20, 0x06, 0x54
JUMP, JUMP_EQ, JUMP_GT, JUMP_GE = 0x05, 0x15, 0x25, 0x35

# There are no instructions for the opposites: their branches change places.
COMPARE = {
    "EQ": JUMP_EQ,
    "NE": JUMP_EQ,
    "MASKED_EQ": JUMP_EQ,
    "GT": JUMP_GT,
    "LE": JUMP_GT,
    "GE": JUMP_GE,
    "LT": JUMP_GE,
}

# struct seccomp_data: nr, arch, instruction_pointer, args[6], little endian
NR, ARCH, ARGS = 0, 4, 16

_FAR = 250  # of 255: a trampoline or two may come between


class Program:
    """Instructions in reverse order of execution."""

    def __init__(self) -> None:
        self._reversed: list[tuple[int, int, int, int]] = []
        self._leaves: dict[tuple[Rule, ...] | int, int] = {}

    def ret(self, value: int) -> int:
        """Return a position that answers `value`, a near one if there is one."""
        return self._leaf(value, lambda: self._emit(RETURN, 0, 0, value))

    def load(self, offset: int, then: int) -> int:
        self._fall_to(then)
        return self._emit(LOAD, 0, 0, offset)

    def mask(self, bits: int, then: int) -> int:
        if bits == U32:
            return then
        self._fall_to(then)
        return self._emit(AND, 0, 0, bits)

    def branch(self, code: int, value: int, yes: int, no: int) -> int:
        if yes == no:
            return yes
        if self._distance(no) > _FAR:
            no = self._emit(JUMP, 0, 0, self._distance(no))
        if self._distance(yes) > _FAR:
            yes = self._emit(JUMP, 0, 0, self._distance(yes))
        return self._emit(code, self._distance(yes), self._distance(no), value)

    def rules(self, rules: tuple[Rule, ...], default: int) -> int:
        """Return a position that tries each rule in turn, and answers `default` when none holds."""
        return self._leaf(rules, lambda: self._rules(rules, default))

    def bytes(self) -> bytes:
        """Return the array of `struct sock_filter`, little endian; raises ValueError when the kernel would refuse."""
        if len(self._reversed) > MAX_INSTRUCTIONS:
            raise ValueError(
                f"seccomp profile: the filter has {len(self._reversed)} instructions, more than {MAX_INSTRUCTIONS}"
            )
        return b"".join(struct.pack("<HBBI", *instruction) for instruction in reversed(self._reversed))

    def _leaf(self, key: tuple[Rule, ...] | int, make: Callable[[], int]) -> int:
        at = self._leaves.get(key)
        # One made again nearby is shorter than a trampoline from every jump.
        if at is None or self._distance(at) > _FAR - 50:
            at = self._leaves[key] = make()
        return at

    def _rules(self, rules: tuple[Rule, ...], default: int) -> int:
        miss = self.ret(default)
        for tests, action in reversed(rules):
            hit = self.ret(action)
            for test in reversed(tests):
                hit = self._test(test, hit, miss)
            miss = hit
        return miss

    def _test(self, test: Test, yes: int, no: int) -> int:
        if test.mask == 0:  # always holds: what it compares with is wider than the argument
            return yes
        if test.op in ("NE", "LT", "LE"):
            yes, no = no, yes
        compare = COMPARE[test.op]
        low, high = ARGS + 8 * test.index, ARGS + 8 * test.index + 4
        at = yes
        if compare != JUMP_EQ or test.mask & U32:
            at = self._word(low, test.mask & U32, compare, test.value & U32, yes, no)
        if test.mask >> 32 == 0:
            return at
        at = self.branch(JUMP_EQ, test.value >> 32, at, no)
        if compare != JUMP_EQ:
            at = self.branch(JUMP_GT, test.value >> 32, yes, at)
        return self.load(high, self.mask(test.mask >> 32, at))

    def _word(self, offset: int, mask: int, compare: int, value: int, yes: int, no: int) -> int:
        if mask == U32:  # the accumulator keeps the word: no need to load it again for the next test
            yes, no = self._past_load(offset, yes), self._past_load(offset, no)
        return self.load(offset, self.mask(mask, self.branch(compare, value, yes, no)))

    def _past_load(self, offset: int, position: int) -> int:
        return position - 1 if self._reversed[position - 1] == (LOAD, 0, 0, offset) else position

    def _distance(self, position: int) -> int:
        return len(self._reversed) - position

    def _fall_to(self, position: int) -> None:
        if self._distance(position):
            self._emit(JUMP, 0, 0, self._distance(position))

    def _emit(self, code: int, yes: int, no: int, value: int) -> int:
        self._reversed.append((code, yes, no, value))
        return len(self._reversed)


def assemble(policy: Policy) -> bytes:
    """Return the filter of a policy; raises ValueError when it is too long for the kernel."""
    program = Program()
    entry = program.ret(KILL_PROCESS)  # a table that the profile does not ask for: libseccomp's "bad architecture"
    for arch in reversed(policy.arches):
        tree = program.load(NR, _tree(program, _ranges(policy, arch), policy.default))
        entry = program.branch(JUMP_EQ, arch.audit, tree, entry)
    program.load(ARCH, entry)
    return program.bytes()


Range = tuple[int, tuple[Rule, ...]]
"""The first number of a run of system calls, and what decides them."""


def _ranges(policy: Policy, arch: Arch) -> list[Range]:
    """Return the runs of numbers with one answer, from 0 up; the last one has no end."""
    table = numbers(arch.name)
    points = {table[name]: rules for name, rules in policy.rules(arch).items() if name in table}
    default: tuple[Rule, ...] = (((), policy.default),)
    enosys: tuple[Rule, ...] = (((), ERRNO | ENOSYS),)
    common = [table[name] for name in policy.names() if table.get(name, PRIVATE_NUMBERS) < PRIVATE_NUMBERS]
    beyond = enosys if common and answers_enosys(policy.default) else default
    starts = {0: default, max(common, default=0) + 1: beyond}
    if arch is X86_64:
        # The x32 ABI would need a table of its own, and nobody has programs for it.
        starts[X32_BIT] = enosys
    ranges: list[Range] = []
    for number in sorted({*starts, *points, *(n + 1 for n in points)}):
        fallback = starts[max(start for start in starts if start <= number)]
        rules = points.get(number, fallback)
        if not ranges or ranges[-1][1] != rules:
            ranges.append((number, rules))
    return ranges


def answers_enosys(default: int) -> bool:
    """Say whether numbers newer than the profile get ENOSYS, which tells libc to try an older call.

    As runc (libcontainer/seccomp/patchbpf): not where the default lets calls through or asks a tracer.
    """
    return default not in (ALLOW, LOG) and default & ACTION_FULL != TRACE


def _tree(program: Program, ranges: list[Range], default: int) -> int:
    if len(ranges) == 1:
        return program.rules(ranges[0][1], default)
    middle = len(ranges) // 2
    upper = _tree(program, ranges[middle:], default)
    lower = _tree(program, ranges[:middle], default)
    return program.branch(JUMP_GE, ranges[middle][0], upper, lower)
