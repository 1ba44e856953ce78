"""Compiles a Command to the op list that makes it true: here is the order, and why it is that one.

    the shim   run folder, log, terminal; root file system, binds and cgroups opened; a shared pid namespace joined
    CLONE      with all private namespaces, into the v2 cgroup
    the child  1. v1 cgroups joined, before the cgroup namespace is made: its root is where the process is then
               2. namespaces of others joined, before anything is mounted: sysfs and mqueue show the current ones
               3. propagation cut, the root put in place, mounts, devices, masks, read-only root, pivot
                  (sysctls before the masks, after all namespaces are there)
               4. terminal, host name, loopback
               5. limits and keyring, while we are still root
               6. bounding set, groups, ids (capabilities are kept across these)
               7. seccomp while CAP_SYS_ADMIN is still effective: the kernel wants that, or no_new_privs
               8. the final capabilities, working directory as the user, program

With no_new_privileges seccomp comes last but for the program: then it needs no capability, and the filter does not get
to judge our own calls. Without, the profile must allow capset, prctl, chdir, getcwd, close_range and execve.

With a user namespace (USERNS) a middle process joins the v1 cgroups and then the namespace, and all the others are made
from within, so that they belong to it. What the host's root alone may look up is opened by the shim before. The root is
mounted over the host's /dev, which everybody may pass; device nodes are binds of the host's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from windlass.execdriver.driver import Command, Program, User
from windlass.kernel import caps
from windlass.kernel.cgroup import Cgroup
from windlass.kernel.ns import Namespace

from .filesystem import FileSystem, is_mapped
from .message import NONE, Log, Op, OpList, Stdio

_UNLIMITED = (1 << 64) - 1
_RLIMITS = {  # numbers of <asm-generic/resource.h>
    name: number
    for number, name in enumerate(
        ("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending")
        + ("msgqueue", "nice", "rtprio", "rttime")
    )
}
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
_ALL_JOINED = (
    *(Namespace.NEWNS, Namespace.NEWUTS, Namespace.NEWIPC, Namespace.NEWPID, Namespace.NEWNET),
    Namespace.NEWCGROUP,
)
_OPEN_PLACE = "/dev"
# What a network namespace of the container's own gets (moby: withSysctls): ping and low ports without privileges.
NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}


def compile_start(command: Command, cgroup: Cgroup, rundir: str, place: str, *, is_v2: bool) -> OpList:
    """Compile the start of a container. `place` is a folder of the host that its root may cover in its namespace.

    Raises ValueError for what can be seen to be wrong without the kernel.
    """
    private_cgroupns = command.cgroupns == "private" or (command.cgroupns == "default" and is_v2)
    ops = OpList()
    files = FileSystem(ops, command, cgroup, is_v2, private_cgroupns)
    _supervise(ops, command, rundir)
    if is_mapped(command):
        ops.add(Op.USERNS, command.userns, what="user namespace")
        place = _OPEN_PLACE
    files.open()
    shared = _open_shared(ops, command, files.slot)
    _clone(ops, command, cgroup, files.slot)
    _join(ops, command, cgroup, shared, private_cgroupns)
    ops.add(Op.PRIVATE)
    files.build(place)
    _set_sysctls(ops, command)
    files.cover()
    ops.add(Op.PIVOT)
    _name(ops, command)
    _limit(ops, command.program, command.id)
    _become(ops, command.program)
    return ops


def compile_exec(program: Program, id: str, cgroup: Cgroup) -> OpList:
    """Compile a further process in a running container."""
    ops = OpList()
    slot = _open_cgroup(ops, cgroup, lambda: 0)
    for path in cgroup.tasks():
        ops.add(Op.WRITE, path, "0", what=f"cgroup {path}")
    ops.add(Op.JOIN, a=_union(*_ALL_JOINED), b=slot, what="namespaces of the container")
    if program.tty:
        ops.add(Op.CONSOLE, what="terminal")
    _limit(ops, program, id)
    _become(ops, program)
    return ops


def stdio_flags(program: Program, stdin_once: bool = False) -> Stdio:
    """Say what STDIO, or EXEC's `a`, has to know of a program's streams."""
    flags = Stdio(0)
    for flag, is_set in ((Stdio.TTY, program.tty), (Stdio.STDIN, program.stdin), (Stdio.STDIN_ONCE, stdin_once)):
        flags |= flag if is_set else Stdio(0)
    return flags


def _supervise(ops: OpList, command: Command, rundir: str) -> None:
    program, log = command.program, command.log
    ops.add(Op.RUNDIR, rundir)
    mode = Log.JSON if log.driver == "json-file" else Log.NONE
    ops.add(Op.LOG, log.path if mode else "", a=mode, b=log.max_size, c=log.max_files, what=f"log {log.path}")
    size = program.rows << 16 | program.columns
    ops.add(Op.STDIO, a=stdio_flags(program, command.stdin_once), b=size, c=program.user.uid)


def _clone(ops: OpList, command: Command, cgroup: Cgroup, slot: Callable[[], int]) -> None:
    if oom := cgroup.oom_path():
        code = Op.OOM_V2 if oom == str(cgroup.unified) else Op.OOM_V1
        ops.add(code, oom, what="watch for being out of memory")
    into = _open_cgroup(ops, cgroup, slot)
    kinds = {
        Namespace.NEWUTS: command.uts,
        Namespace.NEWIPC: command.ipc,
        Namespace.NEWPID: command.pid,
        Namespace.NEWNET: command.network,
    }
    if command.pid not in ("private", "host"):
        ops.add(Op.SETNS, command.pid, a=Namespace.NEWPID, what=f"pid namespace {command.pid}")
    private = [kind for kind, mode in kinds.items() if mode == "private"]
    if is_mapped(command):  # what the host's root alone can do is done before
        for path in cgroup.tasks():
            ops.add(Op.WRITE, path, "0", what=f"cgroup {path}")
        ops.add(Op.WRITE, "/proc/self/oom_score_adj", str(command.program.oom_score_adj), a=1)
    ops.add(Op.CLONE, a=_union(Namespace.NEWNS, *private), b=into, what="namespaces")


def _open_cgroup(ops: OpList, cgroup: Cgroup, slot: Callable[[], int]) -> int:
    if not cgroup.unified:
        return NONE
    number = slot()
    ops.add(Op.OPEN_CGROUP, str(cgroup.unified), a=number, what=f"cgroup {cgroup.unified}")
    return number


def _open_shared(ops: OpList, command: Command, slot: Callable[[], int]) -> list[tuple[str, Namespace, int]]:
    """List the namespaces to join, with the slot + 1 of those that the child could not open itself."""
    kinds = ((command.network, Namespace.NEWNET), (command.ipc, Namespace.NEWIPC), (command.uts, Namespace.NEWUTS))
    shared = []
    for path, kind in kinds:
        if path in ("private", "host"):
            continue
        number = slot() if is_mapped(command) else -1
        if number >= 0:
            ops.add(Op.OPEN_NS, path, a=number, what=f"namespace {path}")
        shared.append((path, kind, number + 1))
    return shared


def _join(
    ops: OpList, command: Command, cgroup: Cgroup, shared: list[tuple[str, Namespace, int]], private_cgroupns: bool
) -> None:
    for path in () if is_mapped(command) else cgroup.tasks():
        ops.add(Op.WRITE, path, "0", what=f"cgroup {path}")
    for path, kind, opened in shared:
        ops.add(Op.SETNS, path, a=kind, b=opened, what=f"namespace {path}")
    if private_cgroupns:
        ops.add(Op.UNSHARE, a=Namespace.NEWCGROUP, what="cgroup namespace")


def _set_sysctls(ops: OpList, command: Command) -> None:
    """Set them before anything of /proc is covered: from then on a user namespace gets no procfs of its own."""
    sysctls = dict(command.sysctls)
    if command.network == "private" and not is_mapped(command):  # with a map Docker leaves them
        sysctls = NETWORK_SYSCTLS | sysctls
    for name, value in sysctls.items():
        ops.add(Op.SYSCTL, _sysctl_path(name), value, what=f"sysctl {name}")


def _name(ops: OpList, command: Command) -> None:
    if command.program.tty:
        ops.add(Op.CONSOLE, what="terminal")
    if command.uts == "private":
        if command.hostname:
            ops.add(Op.HOSTNAME, command.hostname)
        if command.domainname:
            ops.add(Op.DOMAINNAME, command.domainname)
    if command.network == "private":
        ops.add(Op.LOOPBACK)


def _sysctl_path(name: str) -> str:
    """Turn a name into a path below /proc/sys: of `.` and `/` the first one parts it, the other stands for a dot."""
    first = next((letter for letter in name if letter in "./"), ".")
    path = name if first == "/" else name.translate(str.maketrans("./", "/."))
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"sysctl {name!r} is not a name")
    return path


def _limit(ops: OpList, program: Program, id: str) -> None:
    for limit in program.rlimits:
        if limit.name not in _RLIMITS:
            raise ValueError(f"unknown rlimit {limit.name!r}")
        soft, hard = (_UNLIMITED if value < 0 else value for value in (limit.soft, limit.hard))
        ops.add(Op.RLIMIT, a=_RLIMITS[limit.name], b=soft, c=hard, what=f"error setting rlimit {limit.name}")
    ops.add(Op.KEYRING, f"_ses.{id}")
    ops.add(Op.UMASK, a=0o022)
    ops.add(Op.OOM_SCORE, str(program.oom_score_adj))


def _become(ops: OpList, program: Program) -> None:
    """Give up what the program may not have, and become the program."""
    if foreign := program.capabilities - caps.own():
        raise ValueError(f"the daemon does not have {', '.join(sorted(foreign))} itself, and cannot give it")
    bounding = caps.mask(program.capabilities)
    held = 0 if program.user.uid else bounding
    groups = _groups(program.user)
    ops.add(Op.BOUNDING, a=bounding)
    ops.add_raw(Op.GROUPS, struct.pack(f"<{len(groups)}I", *groups), a=len(groups))
    ops.add(Op.IDS, a=program.user.uid, b=program.user.gid)
    if not program.no_new_privileges:
        _filter(ops, program)
    # Nothing is inheritable or ambient (CVE-2022-24769).
    ops.add(Op.CAPS, a=held, b=0)
    ops.add(Op.CHDIR, program.cwd, what="chdir")
    if program.no_new_privileges:
        ops.add(Op.NO_NEW_PRIVS)
        _filter(ops, program)
    ops.add(Op.EXEC, *program.args, *program.env, a=len(program.args), what="exec")


def _groups(user: User) -> list[int]:
    """The primary group is always among the supplementary ones (CVE-2022-36109)."""
    return list(dict.fromkeys((user.gid, *user.groups)))


def _filter(ops: OpList, program: Program) -> None:
    if program.seccomp == "unconfined":
        return
    if isinstance(program.seccomp, str):
        filter_ = _builtin_filter(program.capabilities)
    else:
        filter_ = _custom_filter(json.dumps(program.seccomp, sort_keys=True), program.capabilities)
    ops.add_raw(Op.SECCOMP, filter_, a=_SECCOMP_FILTER_FLAG_SPEC_ALLOW, b=len(filter_) // 8)


@cache
def _builtin_filter(capabilities: frozenset[str]) -> bytes:
    from windlass.kernel import seccomp

    return _compile(seccomp.builtin(), capabilities)


@lru_cache(maxsize=64)  # profiles of users: 7 ms to compile, some ten KiB to keep
def _custom_filter(profile: str, capabilities: frozenset[str]) -> bytes:
    return _compile(json.loads(profile), capabilities)


def _compile(profile: dict[str, Any], capabilities: frozenset[str]) -> bytes:
    # Late: reading the tables of system calls takes time that a daemon's start-up does not have.
    from windlass.kernel import seccomp

    return seccomp.compile_profile(profile, capabilities)


def _union(*kinds: Namespace) -> int:
    return sum(kinds)
