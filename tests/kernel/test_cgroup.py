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
from windlass.kernel.cgroup_limits import Limits, v1_settings, v2_settings

HIERARCHIES = Hierarchies.of_host()


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
    with pytest.raises(OSError, match="99999"):
        cgroup.create(Limits(pids=5, cpuset_cpus="99999"), devicecg.DEFAULT)
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
