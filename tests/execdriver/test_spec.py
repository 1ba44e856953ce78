"""From a Command to ops: what is decided without a kernel."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from windlass.execdriver.driver import Command, Device, Mount, Program, User
from windlass.execdriver.native import spec
from windlass.execdriver.native.message import NONE, Op, OpList
from windlass.execdriver.native.spec import compile_exec, compile_start
from windlass.kernel import caps, seccomp
from windlass.kernel.cgroup import Cgroup, Hierarchies, Hierarchy
from windlass.lib.rootfs import Directory, Overlay

HYBRID = Hierarchies(
    (
        Hierarchy(Path("/cg/cpu,cpuacct"), frozenset(("cpu", "cpuacct"))),
        Hierarchy(Path("/cg/memory"), frozenset(("memory",))),
    ),
    Path("/cg/unified"),
)
V1 = Hierarchies(HYBRID.v1, None)
V2 = Hierarchies((), Path("/cg"))

Decoded = list[tuple[Op, list[str], int, int, int]]


def decode(ops: OpList) -> Decoded:
    encoded = ops.encode()
    at, out = 16, []
    while at < len(encoded):
        code, nstr, size, a, b, c = struct.unpack_from("<HHIQQQ", encoded, at)
        payload = encoded[at + 32 : at + 32 + size]
        out.append((Op(code), [s.decode() for s in payload.split(b"\0")[:nstr]], a, b, c))
        at += 32 + size
    return out


def compiled(host: Hierarchies = HYBRID, **fields: Any) -> Decoded:
    own = {name: fields.pop(name) for name in ("user", "tty", "no_new_privileges", "cwd") if name in fields}
    own.setdefault("cwd", "/")
    program = Program(("sh",), ("PATH=/bin",), capabilities=caps.DEFAULT & caps.own(), **own)
    fields.setdefault("rootfs", Overlay(("/l1", "/l2"), "/u", "/w"))
    command = Command(id="abc", program=program, **fields)
    is_v2 = not host.v1
    return decode(compile_start(command, Cgroup(host, "windlass/abc"), "/run/abc", "/run/root", is_v2=is_v2))


def codes(ops: Decoded) -> list[Op]:
    return [op[0] for op in ops]


def strings(ops: Decoded, code: Op) -> list[list[str]]:
    return [op[1] for op in ops if op[0] is code]


@pytest.fixture(autouse=True)
def memory_on_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the made-up v2 host are not there to be read."""
    V2.__dict__["controllers"] = frozenset(("memory",))


def test_the_order_is_the_one_that_the_kernel_forces() -> None:
    order = codes(compiled(tty=True))
    steps = [Op.RUNDIR, Op.OVERLAY, Op.OPEN_CGROUP, Op.CLONE, Op.WRITE, Op.PRIVATE, Op.ROOT, Op.MOUNT, Op.SYSCTL]
    steps += [Op.MASK, Op.PIVOT, Op.CONSOLE, Op.LOOPBACK, Op.BOUNDING, Op.GROUPS, Op.IDS, Op.SECCOMP, Op.CAPS]
    steps += [Op.CHDIR, Op.EXEC]
    assert [order.index(step) for step in steps] == sorted(order.index(step) for step in steps)
    assert order[-1] is Op.EXEC


def test_without_new_privileges_the_filter_is_last() -> None:
    assert codes(compiled(no_new_privileges=True))[-4:] == [Op.CHDIR, Op.NO_NEW_PRIVS, Op.SECCOMP, Op.EXEC]


def test_the_cgroup_is_joined_before_its_namespace_is_made() -> None:
    ops = codes(compiled(cgroupns="private"))
    assert ops.index(Op.CLONE) < ops.index(Op.WRITE) < ops.index(Op.UNSHARE) < ops.index(Op.ROOT)


@pytest.mark.parametrize(("host", "is_made"), [(HYBRID, False), (V1, False), (V2, True)])
def test_the_cgroup_namespace_is_private_on_v2_alone(host: Hierarchies, is_made: bool) -> None:
    assert (Op.UNSHARE in codes(compiled(host))) == is_made


def test_v1_groups_are_joined_by_tasks_and_v2_by_the_clone() -> None:
    hybrid, v1, v2 = compiled(HYBRID), compiled(V1), compiled(V2)
    files = [["/cg/cpu,cpuacct/windlass/abc/tasks", "0"], ["/cg/memory/windlass/abc/tasks", "0"]]
    assert strings(hybrid, Op.WRITE) == strings(v1, Op.WRITE) == files
    assert strings(v2, Op.WRITE) == []
    assert strings(hybrid, Op.OPEN_CGROUP) == [["/cg/unified/windlass/abc"]]
    assert next(op for op in v1 if op[0] is Op.CLONE)[3] == NONE
    assert next(op for op in v2 if op[0] is Op.CLONE)[3] != NONE
    assert strings(hybrid, Op.OOM_V1) == [["/cg/memory/windlass/abc"]]
    assert strings(v2, Op.OOM_V2) == [["/cg/windlass/abc"]]


def test_controllers_that_share_a_hierarchy_are_linked() -> None:
    links = strings(compiled(), Op.SYMLINK)
    assert ["cpu,cpuacct", "/sys/fs/cgroup/cpu"] in links
    assert ["cpu,cpuacct", "/sys/fs/cgroup/cpuacct"] in links


def test_a_users_mount_takes_the_place_of_ours() -> None:
    targets = [op[0] for op in strings(compiled(mounts=(Mount("/dev", source="/dev"),)), Op.MOUNT)]
    assert not any(target.startswith("/dev") for target in targets)
    assert Op.MKNOD not in codes(compiled(mounts=(Mount("/dev/", source="/dev"),)))
    targets = [op[0] for op in strings(compiled(mounts=(Mount("/dev/shm", "tmpfs"),)), Op.MOUNT)]
    assert targets.count("/dev/shm") == 1


def test_a_mount_comes_after_the_one_that_it_lies_in() -> None:
    mounts = (Mount("/a/b/c", source="/"), Mount("/a", source="/"), Mount("/a/b", source="/"))
    targets = [s[0] for s in strings(compiled(mounts=mounts), Op.BIND) if s[0].startswith("/a")]
    assert targets == ["/a", "/a/b", "/a/b/c"]


@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "//proc/../proc/self", "/"])
def test_a_mount_over_what_keeps_the_container_in_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="mounted"):
        compiled(mounts=(Mount(target, source="/"),))
    compiled(mounts=(Mount("/proc/meminfo", source="/etc/hostname"),))


def test_more_mounts_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 128"):
        compiled(mounts=tuple(Mount(f"/m{n}", source="/") for n in range(130)))


def test_a_privileged_container_has_no_masks_and_the_hosts_devices() -> None:
    ops = codes(compiled(privileged=True))
    assert Op.MASK not in ops
    assert Op.READONLY not in ops
    assert ops.count(Op.MKNOD) > 6


def test_masks_can_be_chosen() -> None:
    assert strings(compiled(masked_paths=("/x",)), Op.MASK) == [["/x"]]
    assert strings(compiled(privileged=True, masked_paths=("/x",)), Op.MASK) == [["/x"]]
    assert strings(compiled(readonly_paths=()), Op.READONLY) == []


def test_a_device_of_the_users_replaces_ours() -> None:
    nodes = [op for op in compiled(devices=(Device("/dev/null", "c", 1, 7),)) if op[0] is Op.MKNOD]
    assert [op[3] for op in nodes if op[1] == ["/dev/null"]] == [1 << 8 | 7]


def test_a_user_holds_no_capabilities_but_keeps_the_bounding_set() -> None:
    ops = {op[0]: op for op in compiled(user=User(1000, 1001, (5, 1001)))}
    assert ops[Op.CAPS][2:4] == (0, 0)
    assert ops[Op.BOUNDING][2] == caps.mask(caps.DEFAULT & caps.own())
    assert ops[Op.GROUPS][2] == 2
    assert ops[Op.IDS][2:4] == (1000, 1001)


def test_sysctls_of_the_network_come_with_an_own_network_only() -> None:
    names = [s[0] for s in strings(compiled(sysctls={"net.ipv4.conf.eth0/1.x": "1", "net/a.b": "2"}), Op.SYSCTL)]
    ours = ["net/ipv4/ping_group_range", "net/ipv4/ip_unprivileged_port_start"]
    assert names == [*ours, "net/ipv4/conf/eth0.1/x", "net/a.b"]
    assert strings(compiled(network="host"), Op.SYSCTL) == []
    with pytest.raises(ValueError, match="is not a name"):
        compiled(sysctls={"../sysrq-trigger": "c"})


def test_a_shared_pid_namespace_is_joined_before_the_clone() -> None:
    ops = codes(compiled(pid="/proc/1/ns/pid"))
    assert ops.index(Op.SETNS) < ops.index(Op.CLONE)


def test_a_plain_folder_is_cloned() -> None:
    assert ["/plain"] in strings(compiled(rootfs=Directory("/plain")), Op.OPEN_TREE)


def test_a_nul_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        compiled(hostname="a\0b")


def test_an_exec_joins_the_cgroup_before_the_namespaces() -> None:
    ops = codes(decode(compile_exec(Program(("sh",), tty=True), "abc", Cgroup(HYBRID, "windlass/abc"))))
    assert ops[:5] == [Op.OPEN_CGROUP, Op.WRITE, Op.WRITE, Op.JOIN, Op.CONSOLE]
    assert ops[-1] is Op.EXEC


def test_a_profile_of_a_users_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal profiles are one, however they were read; other capabilities are another program."""
    compiled: list[frozenset[str]] = []

    def count(profile: dict[str, object], capabilities: frozenset[str]) -> bytes:
        compiled.append(capabilities)
        return seccomp.compile_profile(profile, capabilities)

    monkeypatch.setattr(spec, "_compile", count)
    few, more = frozenset[str](), frozenset(("CAP_CHOWN",))
    for capabilities in (few, few, more, few):
        text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [], "comment": "once"})
        program = Program(("true",), seccomp=json.loads(text), capabilities=capabilities)
        spec._filter(OpList(), program)
    assert compiled == [few, more]


def test_with_a_user_namespace_the_hosts_part_comes_before_it() -> None:
    """The cgroups are joined, and everything that only the host's root may look up is opened, before CLONE."""
    ops = compiled(userns="/proc/1/ns/user", network="/run/net")
    order = codes(ops)
    clone = order.index(Op.CLONE)
    assert order.index(Op.USERNS) < order.index(Op.OVERLAY) < clone
    before = [op for op in ops[:clone] if op[0] is Op.WRITE]
    assert [op[1] for op in before][-1] == ["/proc/self/oom_score_adj", "0"] and len(before) == 3
    assert Op.WRITE not in order[clone:] and Op.MKNOD not in order
    assert [(op[1], op[3]) for op in ops if op[0] is Op.SETNS] == [(["/run/net"], slot_of(ops, "/run/net") + 1)]
    assert {op[1][0] for op in ops if op[0] is Op.OPEN_TREE} >= {"/dev/null", "/dev/tty"}
    assert strings(ops, Op.ROOT) == [["/dev"]]


def slot_of(ops: Decoded, path: str) -> int:
    return next(op[2] for op in ops if op[0] is Op.OPEN_NS and op[1] == [path])


def test_the_layers_of_a_user_namespace_are_below_one_folder() -> None:
    rootfs = Overlay(("/data/layers/a", "/data/layers/b"), "/data/containers/x/upper", "/data/containers/x/work")
    ops = compiled(userns="/proc/1/ns/user", rootfs=rootfs)
    assert [op[4] for op in ops if op[0] is Op.OVERLAY] == [len("/data")]
