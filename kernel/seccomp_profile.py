"""A seccomp profile in Docker's JSON form, read as Docker and runc read it.

An entry of `syscalls` counts when all of `includes` holds and nothing of `excludes`: `caps` against the bounding set
(includes: all held; excludes: any held), `arches` in Go's spelling against the machine's, `minKernel` against the
running kernel (daemon: profiles/seccomp `setupSeccomp`). Entries that name one system call are alternatives, the
conditions of one entry must all hold; but where an entry has several conditions on one argument, each of them is an
alternative of its own (runc: `matchCall`). Names that no table knows are skipped; an entry whose action is the default
one says nothing. Where alternatives disagree, the first one without a condition decides alone, as in libseccomp; else
those that name exact values go before the others, as there, and among these the severest answer wins, as in the kernel
between filters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from .seccomp_tables import GO_NAMES, MACHINES, SCMP_ARCHES, U32, U64, Arch, argument_mask

EPERM = 1
ENOSYS = 38
MAX_ERRNO = 4095

# <linux/seccomp.h>: the low 16 bits carry the errno, or what the tracer is told.
ALLOW = 0x7FFF_0000
LOG = 0x7FFC_0000
TRACE = 0x7FF0_0000
ERRNO = 0x0005_0000
TRAP = 0x0003_0000
KILL_THREAD = 0x0000_0000
KILL_PROCESS = 0x8000_0000
ACTION_FULL = 0xFFFF_0000

ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
}
OPERATORS = {f"SCMP_CMP_{op}" for op in ("EQ", "NE", "GT", "GE", "LT", "LE", "MASKED_EQ")}


class _Arg(msgspec.Struct):
    index: int
    op: str
    value: int
    valueTwo: int = 0


class _Filter(msgspec.Struct):
    caps: list[str] | None = None
    arches: list[str] | None = None
    minKernel: str | None = None


class _Entry(msgspec.Struct):
    action: str
    name: str = ""
    names: list[str] | None = None
    args: list[_Arg] | None = None
    errnoRet: int | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None


class _ArchMap(msgspec.Struct):
    architecture: str
    subArchitectures: list[str] | None = None


class _Profile(msgspec.Struct):
    defaultAction: str
    defaultErrnoRet: int | None = None
    architectures: list[str] | None = None
    archMap: list[_ArchMap] | None = None
    syscalls: list[_Entry] | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """One condition: `args[index] & mask`, compared with `value` by EQ, NE, GT, GE, LT, LE or MASKED_EQ, unsigned."""

    index: int
    mask: int
    op: str
    value: int


Rule = tuple[tuple[Test, ...], int]
"""What must hold, all of it, and the SECCOMP_RET_* value that then is the answer."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A profile as it stands for one container on one machine."""

    default: int
    arches: tuple[Arch, ...]
    entries: tuple[tuple[str, tuple[_Arg, ...], int], ...]

    def names(self) -> set[str]:
        """Return every system call that the profile speaks of, be it only to repeat the default."""
        return {name for name, _, _ in self.entries}

    def rules(self, arch: Arch) -> dict[str, tuple[Rule, ...]]:
        """Return what decides each system call of an architecture: alternatives, to be tried in this order.

        Calls that the default decides are left out.
        """
        plain: dict[str, Rule] = {}
        rules: dict[str, list[Rule]] = {}
        for name, args, action in self.entries:
            if action == self.default:
                continue
            if args:
                rules.setdefault(name, []).extend(_alternatives(arch, name, args, action))
            else:
                plain.setdefault(name, ((), action))
        sorted_rules = {name: tuple(sorted(some, key=_precedence)) for name, some in rules.items() if some}
        return sorted_rules | {name: (rule,) for name, rule in plain.items()}


def read(profile: object, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> Policy:
    """Choose what holds for a container with these capabilities; raises ValueError naming what is wrong."""
    try:
        given = msgspec.convert(profile, _Profile)
    except msgspec.ValidationError as error:
        raise ValueError(f"seccomp profile: {error}") from None
    default_errno = EPERM if given.defaultErrnoRet is None else given.defaultErrnoRet
    entries: list[tuple[str, tuple[_Arg, ...], int]] = []
    for entry in given.syscalls or ():
        names = _names(entry)
        # A broken entry is refused even where it does not apply: the next machine would meet it.
        action = _action(entry.action, EPERM if entry.errnoRet is None else entry.errnoRet)
        args = tuple(_checked(arg, names) for arg in entry.args or ())
        if _applies(entry, capabilities, GO_NAMES[machine], kernel):
            entries += [(name, args, action) for name in names]
    return Policy(_action(given.defaultAction, default_errno), _arches(given, machine), tuple(entries))


def _names(entry: _Entry) -> list[str]:
    if entry.name and entry.names:
        raise ValueError(f"seccomp profile: both 'name' ({entry.name}) and 'names' in one entry, use either")
    return [entry.name] if entry.name else entry.names or []


def _action(name: str, errno: int) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise ValueError("seccomp profile: action SCMP_ACT_NOTIFY is not supported: nobody would answer")
    if name not in ACTIONS:
        raise ValueError(f"seccomp profile: unknown action {name!r}")
    if not 0 <= errno <= MAX_ERRNO:
        raise ValueError(f"seccomp profile: errnoRet {errno} is not in 0..{MAX_ERRNO}")
    return ACTIONS[name] | (errno if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0)


def _checked(arg: _Arg, names: list[str]) -> _Arg:
    where = f"seccomp profile: {', '.join(names[:3])}"
    if arg.op not in OPERATORS:
        raise ValueError(f"{where}: unknown operator {arg.op!r}")
    if not 0 <= arg.index <= 5:
        raise ValueError(f"{where}: argument index {arg.index} is not in 0..5")
    for value in (arg.value, arg.valueTwo):
        if not 0 <= value <= U64:
            raise ValueError(f"{where}: value {value} does not fit 64 bits")
    return arg


def _applies(entry: _Entry, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    need, refuse = entry.includes or _Filter(), entry.excludes or _Filter()
    return not (
        (need.arches and arch not in need.arches)
        or arch in (refuse.arches or ())
        or not capabilities.issuperset(need.caps or ())
        or not capabilities.isdisjoint(refuse.caps or ())
        or (need.minKernel and kernel < _version(need.minKernel))
        or (refuse.minKernel and kernel >= _version(refuse.minKernel))
    )


def _version(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"(\d{1,5})\.(\d{1,5})", text, re.ASCII)):
        raise ValueError(f"seccomp profile: minKernel {text!r} is not of the form 4.8")
    return int(match[1]), int(match[2])


def _arches(profile: _Profile, machine: str) -> tuple[Arch, ...]:
    """Choose the tables: the machine's own always, as in libseccomp, and the others that are asked for."""
    if profile.architectures and profile.archMap:
        raise ValueError("seccomp profile: both 'architectures' and 'archMap', use either")
    native, *others = MACHINES[machine]
    asked = set(profile.architectures or ())
    for entry in profile.archMap or ():
        names = {entry.architecture, *(entry.subArchitectures or ())}
        if unknown := names - SCMP_ARCHES:
            raise ValueError(f"seccomp profile: unknown architecture {min(unknown)!r}")
        if entry.architecture == native.scmp:
            asked |= names
    if unknown := asked - SCMP_ARCHES:
        raise ValueError(f"seccomp profile: unknown architecture {min(unknown)!r}")
    return (native, *(arch for arch in others if arch.scmp in asked))


def _alternatives(arch: Arch, name: str, args: tuple[_Arg, ...], action: int) -> list[Rule]:
    """Turn an entry with conditions into rules, leaving out those that can never hold."""
    several = len({arg.index for arg in args}) < len(args)
    groups = [(arg,) for arg in args] if several else [args]
    narrowed = [[_test(arch, name, arg) for arg in group] for group in groups]
    return [(tuple(test for test in tests if test), action) for tests in narrowed if None not in tests]


def _test(arch: Arch, name: str, arg: _Arg) -> Test | None:
    """Narrow a condition to the bits that the kernel looks at; None when it then can never hold."""
    width = argument_mask(arch, name, arg.index)
    op, value, mask = arg.op.removeprefix("SCMP_CMP_"), arg.value, width
    if op == "MASKED_EQ":
        value, mask = arg.valueTwo & arg.value, arg.value & width
    if width != U64 and value >> 31 == U64 >> 31:
        value &= U32  # a negative int, written with 64 bits
    if value <= width and (mask or not value):
        return Test(arg.index, mask, op, value)
    return Test(arg.index, 0, "MASKED_EQ", 0) if op in ("NE", "LT", "LE") else None


def _precedence(rule: Rule) -> tuple[bool, int]:
    tests, action = rule
    full = action & ACTION_FULL
    severity = full - (1 << 32) if full & KILL_PROCESS else full  # signed: KILL_PROCESS is the lowest
    return any(test.op != "EQ" for test in tests), severity
