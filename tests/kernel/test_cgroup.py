"""Cgroups, on whatever this host has."""

import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from windlass.kernel import devicecg
from windlass.kernel.cgroup import Cgroup, Hierarchies
from windlass.kernel.cgroup_freeze import Freezer, freezer_of
from windlass.kernel.cgroup_limits import Limits, v1_settings, v2_settings
from windlass.kernel.cgroup_support import support_of

HIERARCHIES = Hierarchies.of_host()
TOO_MANY = 1 << 40  # processes: the kernel refuses the number


@pytest.fixture
async def cgroup() -> AsyncIterator[Cgroup]:
    cgroup = Cgroup(HIERARCHIES, f"windlass/test-{secrets.token_hex(4)}")
    yield cgroup
    cgroup.kill()
    await cgroup.remove()


def _folders(cgroup: Cgroup) -> list[Path]:
    tops = [hierarchy.mount for hierarchy in HIERARCHIES.v1] + ([HIERARCHIES.v2] if HIERARCHIES.v2 else [])
    return [path for top in tops if (path := top / cgroup.name).exists()]


def _enter(cgroup: Cgroup, *command: str) -> subprocess.Popen[bytes]:
    """Start a program that goes into the groups itself, as the shim's child does."""
    files = [*cgroup.tasks(), *([str(cgroup.unified / "cgroup.procs")] if cgroup.unified else [])]
    script = "".join(f"echo 0 > {file}\n" for file in files) + 'echo in; exec "$@"'
    process = subprocess.Popen(["sh", "-ec", script, "sh", *command], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"in\n"
    return process


@pytest.mark.root
@pytest.mark.parametrize("name", ["", "/", "..", "windlass/..", "windlass//x", "./x"])
def test_a_name_that_could_be_somebody_elses_is_none(name: str) -> None:
    """An empty one is the root of the hierarchy: `kill` would end every process of the host."""
    with pytest.raises(ValueError, match="not the name of a container's cgroup"):
        Cgroup(HIERARCHIES, name)


async def test_groups_are_made_everywhere_and_removed(cgroup: Cgroup) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    assert len(_folders(cgroup)) == len(HIERARCHIES.v1) + (HIERARCHIES.v2 is not None)
    assert cgroup.name.split("/")[1] in HIERARCHIES.names("windlass")
    await cgroup.remove()
    assert _folders(cgroup) == []
    await cgroup.remove()


@pytest.mark.root
async def test_a_limit_that_the_kernel_refuses_leaves_nothing(cgroup: Cgroup) -> None:
    with pytest.raises(OSError, match=str(TOO_MANY)):
        cgroup.create(Limits(cpu_shares=5, pids=TOO_MANY), devicecg.DEFAULT)
    assert _folders(cgroup) == []


@pytest.mark.root
async def test_an_old_group_of_the_same_name_is_made_anew(cgroup: Cgroup) -> None:
    cgroup.create(Limits(pids=5), devicecg.DEFAULT)
    cgroup.create(Limits(), devicecg.DEFAULT)
    values = [path.read_text().strip() for folder in _folders(cgroup) for path in folder.glob("pids.max")]
    assert values == ["max"]


@pytest.mark.root
async def test_kill_ends_all_and_remove_waits_for_it(cgroup: Cgroup) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    with _enter(cgroup, "sh", "-c", "sleep 100 & sleep 100") as process:
        assert process.pid in cgroup.processes()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cgroup.remove)
            await trio.testing.wait_all_tasks_blocked()
            assert _folders(cgroup)
            cgroup.kill()
        assert process.wait() == -signal.SIGKILL
    assert _folders(cgroup) == []


@pytest.mark.root
async def test_killing_one_by_one_works_where_v2_is_not(cgroup: Cgroup) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    v1 = Cgroup(Hierarchies(HIERARCHIES.v1, None), cgroup.name)
    if not v1.tasks():
        pytest.skip("this host has no v1 hierarchies")
    with _enter(cgroup, "sleep", "100") as process:
        v1.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.root
async def test_remove_gives_up_and_tells_who_is_in_the_way(cgroup: Cgroup) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    with _enter(cgroup, "sleep", "100") as process:
        with pytest.raises(OSError, match=str(process.pid)):
            await cgroup.remove(timeout=0.05)
        process.kill()


@pytest.mark.root
@pytest.mark.parametrize("apply", ["own", "v2"])
async def test_devices_are_guarded(cgroup: Cgroup, apply: str) -> None:
    """The v2 program also works in the v2 tree of a hybrid host, whose controllers are on v1."""
    if apply == "own":
        cgroup.create(Limits(), devicecg.DEFAULT)
    elif cgroup.unified:
        cgroup.create(Limits(), devicecg.EVERYTHING)
        devicecg.apply_v2(cgroup.unified, devicecg.DEFAULT)
    script = "for f in null zero urandom; do (: < /dev/$f) && echo $f; done; (: < /dev/loop-control) || echo refused"
    with _enter(cgroup, "sh", "-c", script) as process:
        assert process.stdout and process.stdout.read() == b"null\nzero\nurandom\nrefused\n"


def _freezers(cgroup: Cgroup) -> dict[str, Freezer]:
    """Every freezer that this host has for a group, by its version."""
    v1 = HIERARCHIES.mount_of("freezer")
    found = {}
    if cgroup.unified:
        found["v2"] = freezer_of(cgroup.unified, None)
    if v1:
        found["v1"] = freezer_of(None, v1 / cgroup.name)
    return found


def _is_pending(pid: int, number: int) -> bool:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["ShdPnd"], 16) >> (number - 1) & 1)


@pytest.mark.root
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_frozen_processes_stand_still_and_run_on(cgroup: Cgroup, version: str) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    if version not in (freezers := _freezers(cgroup)):
        pytest.skip(f"not run: this host has no freezer of cgroup {version}")
    freezer = freezers[version]
    script = "trap 'exit 7' TERM; echo trapped; while :; do sleep 0.001; done"
    with _enter(cgroup, "sh", "-c", script) as process:
        assert process.stdout and process.stdout.readline() == b"trapped\n"
        await freezer.freeze()
        assert freezer.is_frozen()
        os.kill(process.pid, signal.SIGTERM)
        await trio.sleep(0.05)
        assert _is_pending(process.pid, signal.SIGTERM)
        freezer.thaw()
        assert not freezer.is_frozen()
        assert process.wait() == 7
    freezer.thaw()


@pytest.mark.root
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_kill_ends_frozen_processes(cgroup: Cgroup, version: str) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    if version not in (freezers := _freezers(cgroup)):
        pytest.skip(f"not run: this host has no freezer of cgroup {version}")
    with _enter(cgroup, "sleep", "100") as process:
        await freezers[version].freeze()
        cgroup.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.root
async def test_an_empty_group_can_be_frozen(cgroup: Cgroup) -> None:
    cgroup.create(Limits(), devicecg.DEFAULT)
    for freezer in _freezers(cgroup).values():
        await freezer.freeze()
        assert freezer.is_frozen()
        freezer.thaw()


def test_a_host_without_freezer_says_so() -> None:
    with pytest.raises(OSError, match="no freezer cgroup"):
        freezer_of(None, None)


def _value(cgroup: Cgroup, v1: str, v2: str) -> str:
    mount = HIERARCHIES.v2 if HIERARCHIES.is_v2 else HIERARCHIES.mount_of(v1.split(".")[0])
    assert mount is not None
    return (mount / cgroup.name / (v2 if HIERARCHIES.is_v2 else v1)).read_text().strip()


@pytest.mark.root
async def test_an_update_writes_what_differs(cgroup: Cgroup) -> None:
    old = Limits(memory=64 << 20, memory_swap=128 << 20, pids=5)
    cgroup.create(old, devicecg.DEFAULT)
    new = Limits(memory=256 << 20, memory_swap=512 << 20, pids=-1, cpu_quota=-1)
    cgroup.update(old, new)
    assert _value(cgroup, "memory.limit_in_bytes", "memory.max") == str(256 << 20)
    assert _value(cgroup, "pids.max", "pids.max") == "max"
    cgroup.update(new, old)
    assert _value(cgroup, "memory.limit_in_bytes", "memory.max") == str(64 << 20)


@pytest.mark.root
async def test_an_update_that_the_kernel_refuses_changes_nothing(cgroup: Cgroup) -> None:
    old = Limits(pids=5, cpu_shares=100)
    cgroup.create(old, devicecg.DEFAULT)
    before = [_value(cgroup, "pids.max", "pids.max"), _value(cgroup, "cpu.shares", "cpu.weight")]
    with pytest.raises(OSError, match=str(TOO_MANY)):
        cgroup.update(old, Limits(cpu_shares=200, pids=TOO_MANY))
    assert [_value(cgroup, "pids.max", "pids.max"), _value(cgroup, "cpu.shares", "cpu.weight")] == before


def test_swap_rises_before_memory_and_falls_after_it() -> None:
    low, high = Limits(memory=10, memory_swap=20), Limits(memory=100, memory_swap=200)
    assert [s.value for s in v1_settings(high, low)] == ["200", "100"]
    assert [s.value for s in v1_settings(low, high)] == ["10", "20"]
    assert [s.value for s in v1_settings(Limits(memory=100, memory_swap=-1), low)] == ["-1", "100"]


def test_block_io_has_names_of_its_own_in_both_versions() -> None:
    limits = Limits(blkio_weight=500, read_bps=((8, 0, 5),), write_iops=((8, 16, 7),))
    assert [(s.file, s.value) for s in v1_settings(limits)] == [
        ("blkio.weight", "500"),
        ("blkio.throttle.read_bps_device", "8:0 5"),
        ("blkio.throttle.write_iops_device", "8:16 7"),
    ]
    v2 = list(v2_settings(limits))
    assert [(s.file, s.value) for s in v2] == [
        ("io.bfq.weight", "500"),
        ("io.max", "8:0 rbps=5"),
        ("io.max", "8:16 wiops=7"),
    ]
    assert v2[0].instead == ("io.weight", "4950")


def test_what_v2_has_not_is_not_written() -> None:
    limits = Limits(memory_swappiness=5, oom_kill_disable=True, cpu_rt_runtime=5, kernel_memory_tcp=5)
    assert [(s.file, s.value) for s in v1_settings(limits)] == [
        ("memory.kmem.tcp.limit_in_bytes", "5"),
        ("cpu.rt_runtime_us", "5"),
        ("memory.swappiness", "5"),
        ("memory.oom_control", "1"),
    ]
    assert list(v2_settings(limits)) == []


@pytest.mark.root
def test_the_host_is_known_by_its_files() -> None:
    can = support_of(HIERARCHIES)
    assert can.memory == ("memory" in HIERARCHIES.controllers)
    assert can.pids == ("pids" in HIERARCHIES.controllers)
    assert can.cpuset == ("cpuset" in HIERARCHIES.controllers) == bool(can.cpus and can.mems)
    assert not (HIERARCHIES.is_v2 and (can.swappiness or can.oom_kill_disable or can.cpu_realtime))


def test_the_last_rule_that_matches_decides() -> None:
    """The program answers at the first hit: the rules stand in it in reverse, up to one that matches everything."""
    total = devicecg.Rule(False, "a")
    one = devicecg.Rule(True, "c", 1, 3)
    head, answer = 6, 2
    assert len(devicecg.program((total,))) // 8 == head + answer
    assert len(devicecg.program((total, one))) // 8 == head + (3 + answer) + answer
    assert devicecg.program((one, total)) == devicecg.program((total,))


def test_swap_follows_memory_on_v1_and_is_counted_alone_on_v2() -> None:
    limits = Limits(memory=100, memory_swap=150)
    assert [(s.file, s.value) for s in v1_settings(limits)] == [
        ("memory.limit_in_bytes", "100"),
        ("memory.memsw.limit_in_bytes", "150"),
    ]
    assert [(s.file, s.value) for s in v2_settings(limits)] == [("memory.max", "100"), ("memory.swap.max", "50")]
    assert [s.value for s in v2_settings(Limits(memory_swap=-1))] == ["max"]


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (1024, "39"), (262_144, "10000")])
def test_shares_become_weights_as_in_runc(shares: int, weight: str) -> None:
    assert [s.value for s in v2_settings(Limits(cpu_shares=shares))] == [weight]


def test_a_quota_keeps_its_period_on_v2() -> None:
    assert [s.value for s in v2_settings(Limits(cpu_quota=50_000))] == ["50000 100000"]
    assert [s.value for s in v2_settings(Limits(cpu_quota=-1, cpu_period=1000))] == ["max 1000"]


def test_hosts_are_told_apart() -> None:
    assert Hierarchies((), Path("/x")).is_v2
    assert Hierarchies.of_host().controllers >= {"memory", "pids"} or os.geteuid() != 0
