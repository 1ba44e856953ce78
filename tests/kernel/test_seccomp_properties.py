"""Any profile, compiled and run by a simulator, answers as a plain reading of it does."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.kernel.seccomp import compile_profile
from windlass.kernel.seccomp_bpf import Program
from windlass.kernel.seccomp_tables import argument_mask, numbers

from .seccomp_support import ARCHES, COMPARE, interpret, simulate, unpack

ACTIONS = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP")
NAMES = sorted(set(numbers("x86_64")) | set(numbers("x86")))
EDGES = (0, 1, 2, 38, 40, 0xFFFF, 0x7E020000, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 63), (1 << 64) - 1)

values = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1)
small = st.sampled_from([value for value in EDGES if value < 1 << 32 and value != 0xFFFFFFFF])
actions = st.fixed_dictionaries(
    {"action": st.sampled_from((*ACTIONS, "SCMP_ACT_LOG", "SCMP_ACT_TRACE"))},
    optional={"errnoRet": st.integers(0, 4095)},
)


def entries(value: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    args = st.fixed_dictionaries(
        {"index": st.integers(0, 5), "op": st.sampled_from(sorted(COMPARE)), "value": value},
        optional={"valueTwo": value},
    )
    names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=40)
    return st.builds(lambda a, n, c: {**a, "names": n, "args": c}, actions, names, st.lists(args, max_size=3))


def profiles(value: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "defaultAction": st.sampled_from(ACTIONS),
            "defaultErrnoRet": st.integers(1, 4095),
            "architectures": st.just(["SCMP_ARCH_X86"]),
            "syscalls": st.lists(entries(value), max_size=8),
        }
    )


@settings(max_examples=50, deadline=None)
@given(profiles(small), st.integers(0, 1 << 32))
def test_a_compiled_profile_answers_as_a_plain_reading_of_it(profile: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    program = unpack(compile_profile(profile, frozenset(), kernel=(6, 1), machine="x86_64"))
    for _ in range(30):
        arch = ARCHES[random.choice(("x86_64", "x86"))]
        named = [numbers(arch.name).get(name, 0) for entry in profile["syscalls"] for name in entry["names"]]
        nr = random.choice((random.choice(named or [0]), random.randrange(480), 0x3FFFFFFF, 0x40000000, 0xFFFFFFFF))
        name = next((name for name, number in numbers(arch.name).items() if number == nr), "")
        masks = [argument_mask(arch, name, index) for index in range(6)]
        args = [random.choice(EDGES) & mask for mask in masks]
        expected = interpret(profile, arch.name, nr, args)
        assert simulate(program, arch.audit, nr, args)[0] == expected, (arch, nr, args)
        if arch.bits == 64:  # the filter may not mind the bits that the kernel drops
            noise = [value | ~mask & (1 << 64) - 1 for value, mask in zip(args, masks, strict=True)]
            assert simulate(program, arch.audit, nr, noise)[0] == expected, (arch, nr, noise)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(COMPARE)), values, values, st.lists(values, min_size=1, max_size=8))
def test_a_64_bit_condition_holds_exactly_when_the_numbers_say_so(
    op: str, value: int, two: int, args: list[int]
) -> None:
    """clone's flags stay 64 bits wide."""
    arg = {"index": 0, "op": op, "value": value, "valueTwo": two}
    rule = {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [arg]}
    profile = {"defaultAction": "SCMP_ACT_KILL", "syscalls": [rule]}
    program = unpack(compile_profile(profile, frozenset(), machine="x86_64"))
    for given_value in (*args, value, (value + 1) % (1 << 64), two):
        holds = COMPARE[op](given_value, value, two)
        answer, _ = simulate(program, ARCHES["x86_64"].audit, 56, (given_value, 0, 0, 0, 0, 0))
        assert answer == (0x7FFF0000 if holds else 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(300, 1500))
def test_a_jump_over_any_distance_arrives(length: int) -> None:
    """Conditional jumps reach 255 instructions: beyond it there is a trampoline, for either side."""
    program = Program()
    yes, no = program.ret(1), program.ret(2)
    at = no
    for offset in range(length):
        at = program.load(16 + 4 * (offset % 2), at)
    program.load(0, program.branch(0x15, 7, yes, no))
    code = unpack(program.bytes())
    assert [simulate(code, 0, nr, (0,) * 6)[0] for nr in (7, 8)] == [1, 2]
