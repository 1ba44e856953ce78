"""What the next daemon finds: running containers, ended ones, lost ones, half a removal, strangers."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.daemon.conftest import Roots
from windlass.jobs.container_config import HostConfig
from windlass.jobs.containers import Kill, Start, Wait

pytestmark = pytest.mark.root

COUNT = ("sh", "-c", "trap 's=1' USR1; n=0; while [ -z $s ]; do n=$((n+1)); echo $n; sleep 0.001; done; exit 42")


async def until_ended(pid: int) -> None:
    with trio.fail_after(10), suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            await trio.sleep(0.01)


async def test_a_running_container_runs_on_under_the_next_daemon(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run(*COUNT, name="web")
        before = await yard.job("container_inspect", id)
        await trio.sleep(0.1)
    async with roots.life() as yard:
        after = await yard.job("container_inspect", "web")
        assert after.State == before.State
        assert after.Config == before.Config and after.HostConfig == before.HostConfig
        await yard.call(Kill(name=id, signal="USR1"))
        assert (await yard.call(Wait(name=id))).StatusCode == 42
        numbers = (await yard.outputs(id))[0].splitlines()
        assert numbers == [str(n + 1) for n in range(len(numbers))] and len(numbers) > 20
    assert roots.left() == []


async def test_what_ended_meanwhile_has_its_own_code_and_time(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run(*COUNT)
        pid = (await yard.job("container_inspect", id)).State.Pid
        await trio.sleep(0.1)
    os.kill(pid, signal.SIGUSR1)
    await until_ended(pid)
    await trio.sleep(0.2)
    async with roots.life() as yard:
        state = (await yard.job("container_inspect", id)).State
        assert (state.Status, state.ExitCode) == ("exited", 42)
        assert state.StartedAt < state.FinishedAt
        assert (await yard.call(Wait(name=id))).StatusCode == 42
        assert await yard.told() == ["die"]
        await yard.call(Start(name=id))


async def test_a_container_of_rm_that_ended_meanwhile_is_removed(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sleep", "0.3", host=HostConfig(NetworkMode="none", AutoRemove=True))
        pid = (await yard.job("container_inspect", id)).State.Pid
    await until_ended(pid)
    await trio.sleep(0.2)
    async with roots.life() as yard:
        assert await yard.job("containers", all=True) == []
        assert await yard.told() == ["die", "destroy"]
    assert roots.left() == []


async def test_a_container_whose_supervisor_is_gone_has_ended(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sleep", "60")
        pid = (await yard.job("container_inspect", id)).State.Pid
        shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    await until_ended(shim)
    async with roots.life() as yard:
        state = (await yard.job("container_inspect", id)).State
        assert (state.Status, state.ExitCode) == ("exited", 137)
        await until_ended(pid)
    assert roots.left() == []


async def test_a_reboot_ends_what_ran(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        ran = await yard.run("sleep", "60")
        made = await yard.create("true")
        ended = await yard.run("sh", "-c", "exit 3")
        await yard.call(Wait(name=ended))
        await trio.sleep(0.2)  # its result becomes durable
        pid = (await yard.job("container_inspect", ran)).State.Pid
        shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for victim in (shim, pid):
        os.kill(victim, signal.SIGKILL)
    await until_ended(pid)
    roots.kill_all()
    shutil.rmtree(roots.root / "exec")  # it lies on tmpfs
    (roots.root / "exec").mkdir()
    async with roots.life() as yard:
        states = {s.Id: s.Status.split(" ")[:2] for s in await yard.job("containers", all=True)}
        assert states == {ran: ["Exited", "(255)"], made: ["Created"], ended: ["Exited", "(3)"]}


async def test_half_a_removal_and_half_a_creation_are_cleared_away(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        kept = await yard.create("true")
        dropped = await yard.create("true")
    with sqlite3.connect(roots.root / "data" / "db") as db:
        db.execute("DELETE FROM containers WHERE id = ?", (dropped,))
    (roots.root / "data" / "containers" / ("0" * 64)).mkdir()
    async with roots.life() as yard:
        with trio.fail_after(5):
            while [path.rpartition("/")[2] for path in roots.left()] != [kept, kept]:
                await trio.sleep(0.01)
        await yard.call(Start(name=kept))
        await yard.call(Wait(name=kept))


async def test_a_process_of_nobody_is_ended(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sleep", "60")
        pid = (await yard.job("container_inspect", id)).State.Pid
    with sqlite3.connect(roots.root / "data" / "db") as db:
        db.execute("DELETE FROM containers")
    async with roots.life() as yard:
        assert await yard.job("containers", all=True) == []
        await until_ended(pid)
    assert roots.left() == []


async def test_a_damaged_row_is_named_and_the_rest_served(roots: Roots, caplog: pytest.LogCaptureFixture) -> None:
    async with roots.life(remove=False) as yard:
        broken, whole = await yard.create("true", name="broken"), await yard.create("true")
    with sqlite3.connect(roots.root / "data" / "db") as db:
        db.execute("UPDATE containers SET definition = x'7b22ff' WHERE id = ?", (broken,))
    async with roots.life() as yard:
        assert [summary.Id for summary in await yard.job("containers", all=True)] == [whole]
        assert f"container {broken} (broken) cannot be read" in caplog.text
    assert broken in " ".join(roots.left())


KILLED = """
import os, sys, trio
from pathlib import Path
from tests.daemon.conftest import Roots
from windlass.jobs.containers import Create, Start

async def main():
    async with Roots(Path(sys.argv[1])).life(remove=False) as yard:
        id = await yard.run(*sys.argv[2:], name="web")
        print(id, (await yard.job("container_inspect", id)).State.Pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_kill_9_of_the_daemon_loses_nothing(roots: Roots) -> None:
    """The container writes on under the same pid; no line is lost or doubled; wait and the exit code work."""
    project = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{project}/src:{project}"}
    words = [sys.executable, "-P", "-c", KILLED, str(roots.root), *COUNT]
    async with trio.open_nursery() as nursery:
        daemon = await nursery.start(
            partial(
                trio.run_process,
                words,
                capture_stdout=False,
                stdout=subprocess.PIPE,
                check=False,
                env=environment,
                cwd=project,
            )
        )
        line = b""
        while not line.endswith(b"\n"):
            line += await daemon.stdout.receive_some()
        id, pid = line.decode().split()
        await trio.sleep(0.2)
        daemon.kill()
    roots.ids.add(id)
    await trio.sleep(0.2)
    async with roots.life() as yard:
        assert (await yard.job("container_inspect", "web")).State.Pid == int(pid)
        await yard.call(Kill(name=id, signal="USR1"))
        assert (await yard.call(Wait(name=id))).StatusCode == 42
        numbers = (await yard.outputs(id))[0].splitlines()
        assert numbers == [str(n + 1) for n in range(len(numbers))] and len(numbers) > 50
    assert roots.left() == []
