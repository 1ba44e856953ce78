"""Containers from create to remove, with real processes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.daemon.conftest import NONE, Yard
from windlass.engine.errors import BadParameter, Conflict, JobError, NotFound, NotModified
from windlass.jobs.container_config import HostConfig, RestartRule
from windlass.jobs.containers import ContainerRename, Create, Delete, Kill, Restart, Start, Stop, Wait

pytestmark = pytest.mark.root

DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
POLITE = ("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")


async def until_ready(yard: Yard, id: str) -> None:
    """Wait until the script has set its trap and says so."""
    with trio.fail_after(10):
        while "ready" not in (await yard.outputs(id))[0]:
            await trio.sleep(0.01)


async def test_a_container_runs_ends_and_is_removed(yard: Yard) -> None:
    id = await yard.create("sh", "-c", "exit 3", name="web")
    info = await yard.job("container_inspect", "web")
    assert (info.Id, info.State.Status) == (id, "created")
    await yard.call(Start(name="web"))
    assert (await yard.call(Wait(name="web"))).StatusCode == 3
    info = await yard.job("container_inspect", "web")
    assert (info.State.Status, info.State.ExitCode) == ("exited", 3)
    await yard.call(Delete(name="web"))
    assert await yard.job("containers", all=True) == []
    assert (await yard.told()) == ["create", "start", "die", "destroy"]


async def test_what_it_prints_is_kept_by_stream(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "echo out; echo err >&2")
    await yard.call(Wait(name=id))
    assert await yard.outputs(id) == ("out\n", "err\n")


async def test_a_second_run_finds_the_files_of_the_first(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "echo run >> /mark; cat /mark")
    await yard.call(Wait(name=id))
    await yard.call(Start(name=id))
    await yard.call(Wait(name=id))
    assert (await yard.outputs(id))[0] == "run\nrun\nrun\n"


async def test_start_and_stop_without_effect_are_not_modified(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    with pytest.raises(NotModified):
        await yard.call(Start(name=id))
    await yard.call(Kill(name=id))
    with pytest.raises(NotModified):
        await yard.call(Stop(name=id))


async def test_stop_asks_first(yard: Yard) -> None:
    id = await yard.run(*POLITE)
    await until_ready(yard, id)
    await yard.call(Stop(name=id, t=10))
    assert (await yard.job("container_inspect", id)).State.ExitCode == 5
    assert (await yard.told())[-3:] == ["kill", "die", "stop"]


async def test_stop_kills_what_does_not_listen(yard: Yard) -> None:
    id = await yard.run(*DEAF)
    await until_ready(yard, id)
    await yard.call(Stop(name=id, t=0))
    assert (await yard.job("container_inspect", id)).State.ExitCode == 137
    assert (await yard.told())[-4:] == ["kill", "kill", "die", "stop"]


async def test_kill_waits_for_the_end_and_tells_once(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    await yard.call(Kill(name=id))
    assert (await yard.job("container_inspect", id)).State.Status == "exited"
    assert (await yard.told()) == ["create", "start", "kill", "die"]


async def test_kill_of_what_does_not_run_is_a_conflict(yard: Yard) -> None:
    id = await yard.create("true", name="web")
    with pytest.raises(Conflict, match=f"cannot kill container: web: container {id} is not running"):
        await yard.call(Kill(name="web"))


async def test_restart_makes_a_new_process(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    before = (await yard.job("container_inspect", id)).State
    await yard.call(Restart(name=id, t=0))
    after = (await yard.job("container_inspect", id)).State
    assert (after.Status, after.Pid != before.Pid, after.StartedAt > before.StartedAt) == ("running", True, True)
    assert (await yard.told())[-6:] == ["kill", "kill", "die", "stop", "start", "restart"]


async def test_a_container_of_rm_survives_its_restart(yard: Yard) -> None:
    id = await yard.run("sleep", "60", host=HostConfig(NetworkMode="none", AutoRemove=True))
    await yard.call(Restart(name=id, t=0))
    assert (await yard.job("container_inspect", id)).State.Running
    await yard.call(Kill(name=id))
    with trio.fail_after(5):
        while id in await ids(yard):
            await trio.sleep(0.01)


async def ids(yard: Yard) -> list[str]:
    return [summary.Id for summary in await yard.job("containers", all=True)]


# -- wait ------------------------------------------------------------------------------------------------------------


async def waiter(yard: Yard, nursery: trio.Nursery, name: str, condition: str) -> list[int]:
    """Start a wait; return the list that its code will come into. The job is ready when this returns."""
    job, codes = yard.engine.job("wait", name, condition), []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        async def on_ready(value: object) -> None:
            task_status.started()

        job.on_ready = on_ready
        codes.append((await job.run()).StatusCode)

    await nursery.start(run)
    return codes


async def test_wait_is_ready_before_the_container_has_started(yard: Yard) -> None:
    id = await yard.create("sh", "-c", "exit 7", host=HostConfig(NetworkMode="none", AutoRemove=True))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            next_exit = await waiter(yard, nursery, id, "next-exit")
            removed = await waiter(yard, nursery, id, "removed")
            assert next_exit == []
            await yard.call(Start(name=id))
    assert (next_exit, removed) == ([7], [7])
    assert (await yard.told())[-2:] == ["die", "destroy"]


async def test_wait_for_what_does_not_run_answers_with_its_last_code(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "exit 4")
    await yard.call(Wait(name=id))
    assert (await yard.call(Wait(name=id))).StatusCode == 4


async def test_an_unknown_condition_is_refused(yard: Yard) -> None:
    id = await yard.create("true")
    with pytest.raises(BadParameter, match='invalid condition: "later"'):
        await yard.call(Wait(name=id, condition="later"))


# -- starts that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("no-such-command", 127, 'exec: "no-such-command": executable file not found in $PATH: unknown'),
        ("/no/such/path", 127, 'exec: "/no/such/path": stat /no/such/path: no such file or directory: unknown'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied: unknown'),
    ],
)
async def test_a_start_that_fails_tells_why_and_changes_nothing_else(
    yard: Yard, command: str, code: int, message: str
) -> None:
    id = await yard.create(command)
    with pytest.raises(BadParameter) as refusal:
        await yard.call(Start(name=id))
    assert refusal.value.message.endswith(f"unable to start container process: {message}")
    state = (await yard.job("container_inspect", id)).State
    assert (state.Status, state.ExitCode, state.Error) == ("created", code, refusal.value.message)
    assert (await yard.told()) == ["create"]


async def test_a_failed_start_removes_a_container_of_rm_and_ends_its_waits(yard: Yard) -> None:
    id = await yard.create("no-such-command", host=HostConfig(NetworkMode="none", AutoRemove=True))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            removed = await waiter(yard, nursery, id, "removed")
            with pytest.raises(BadParameter):
                await yard.call(Start(name=id))
    assert removed == [127]
    assert await ids(yard) == []


async def test_an_unknown_user_is_refused_at_the_start(yard: Yard) -> None:
    id = await yard.create("true", User="nobody-here")
    with pytest.raises(BadParameter, match="unable to find user nobody-here: no matching entries in passwd file"):
        await yard.call(Start(name=id))


# -- names and removal -----------------------------------------------------------------------------------------------


async def test_a_taken_name_is_a_conflict(yard: Yard) -> None:
    id = await yard.create("true", name="web")
    with pytest.raises(Conflict) as refusal:
        await yard.create("true", name="web")
    assert refusal.value.message == (
        f'Conflict. The container name "/web" is already in use by container "{id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


async def test_of_many_that_want_a_name_one_gets_it(yard: Yard) -> None:
    results: list[str] = []

    async def make() -> None:
        try:
            await yard.create("true", name="web")
            results.append("made")
        except Conflict:
            results.append("refused")

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(make)
    assert sorted(results) == ["made"] + ["refused"] * 7


async def test_a_create_that_fails_frees_its_name_and_leaves_nothing(yard: Yard) -> None:
    with pytest.raises(NotFound, match="No such image: nowhere:latest"):
        await yard.create("true", name="web", Image="nowhere")
    (yard.root / "data" / "overlay2" / "layers").rename(yard.root / "data" / "overlay2" / "elsewhere")
    with pytest.raises(JobError):
        await yard.create("true", name="web")
    (yard.root / "data" / "overlay2" / "elsewhere").rename(yard.root / "data" / "overlay2" / "layers")
    assert os.listdir(yard.root / "data" / "containers") == []
    await yard.create("true", name="web")


async def test_a_rename_moves_the_name_and_frees_the_old_one(yard: Yard) -> None:
    id = await yard.create("true", name="old")
    await yard.call(ContainerRename(name="old", new_name="new"))
    assert (await yard.job("container_inspect", "new")).Id == id
    await yard.create("true", name="old")
    with pytest.raises(Conflict, match='The container name "/old" is already in use'):
        await yard.call(ContainerRename(name="new", new_name="old"))


async def test_a_running_container_is_removed_by_force_only(yard: Yard) -> None:
    id = await yard.run("sleep", "60", name="web")
    with pytest.raises(Conflict, match='cannot remove container "/web": container is running: stop the container'):
        await yard.call(Delete(name=id))
    await yard.call(Delete(name=id, force=True))
    assert await ids(yard) == []
    assert (await yard.told())[-3:] == ["kill", "die", "destroy"]


async def test_remove_and_start_at_once_leave_it_removed_or_refuse(yard: Yard) -> None:
    for _ in range(5):
        id = await yard.create("sleep", "60")

        async def attempt(call: Callable[[], object], id: str = id) -> None:
            try:
                await yard.call(call())
            except JobError as exc:
                assert exc.code in ("not-found", "conflict")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, lambda id=id: Start(name=id))
            nursery.start_soon(attempt, lambda id=id: Delete(name=id, force=True))
        assert id not in await ids(yard)


async def test_fifty_runs_at_once_all_end_and_go(yard: Yard) -> None:
    codes = []

    async def one(code: int) -> None:
        id = await yard.run("sh", "-c", f"exit {code}")
        codes.append((await yard.call(Wait(name=id))).StatusCode)
        await yard.call(Delete(name=id))

    async with trio.open_nursery() as nursery:
        for code in range(50):
            nursery.start_soon(one, code)
    assert sorted(codes) == list(range(50))


# -- what create says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["no", "always"])
async def test_create_with_no_network_warns_of_nothing(yard: Yard, rule: str) -> None:
    host = HostConfig(NetworkMode="none", RestartPolicy=RestartRule(rule))
    assert (await yard.call(Create(Image="busybox", HostConfig=host))).Warnings == []


@pytest.mark.parametrize(
    ("host", "error", "words"),
    [
        ({"Links": ["a:b"]}, BadParameter, "could not get container for a: No such container: a"),
        ({"VolumesFrom": ["a"]}, BadParameter, "No such container: a"),
        ({"Binds": ["data:/data"]}, NotFound, "no such job: volume_hold"),
        ({"Binds": ["/a:relative"]}, BadParameter, "must be absolute"),
        ({"Binds": ["/a:/"]}, BadParameter, "destination can't be '/'"),
        ({"NetworkMode": "container:"}, BadParameter, "invalid container format container:<name|id>"),
        ({"Memory": 1000}, BadParameter, "Minimum memory limit allowed is 6MB"),
        ({"NanoCpus": 10**12}, BadParameter, "range of CPUs"),
        ({"CapAdd": ["NOPE"]}, BadParameter, 'unknown capability: "CAP_NOPE"'),
        ({"SecurityOpt": ["what"]}, BadParameter, "invalid --security-opt"),
        ({"SecurityOpt": ["seccomp={"]}, BadParameter, "seccomp profile"),
        ({"OomScoreAdj": 5000}, BadParameter, "oom score adj"),
    ],
)
async def test_a_host_config_that_cannot_be_is_refused_and_leaves_nothing(
    yard: Yard, host: dict[str, object], error: type[JobError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await yard.create("true", host=HostConfig(**host))  # type: ignore[arg-type]
    assert os.listdir(yard.root / "data" / "containers") == []


async def test_nothing_to_run_is_refused(yard: Yard) -> None:
    with pytest.raises(BadParameter, match="no command specified"):
        await yard.call(Create(Image="busybox", Entrypoint=[""], HostConfig=NONE))


# -- what the process sees -------------------------------------------------------------------------------------------


async def ran(yard: Yard, script: str, host: HostConfig = NONE, **more: object) -> str:
    id = await yard.run("sh", "-c", script, host=host, **more)
    await yard.call(Wait(name=id))
    out, err = await yard.outputs(id)
    return (out + err).strip()


async def test_the_files_in_etc_are_its_own(yard: Yard) -> None:
    script = "hostname; cat /etc/hostname; grep -c localhost /etc/hosts; test -s /etc/resolv.conf || echo empty"
    out = await ran(yard, script, Hostname="ship")
    assert out.splitlines()[:2] == ["ship", "ship"]


async def test_the_user_comes_from_the_image(yard: Yard) -> None:
    assert (await ran(yard, "id -u; id -g", User="1234:4321")) == "1234\n4321"
    assert (await ran(yard, "id -u; id -g; id -G", User="nobody")) == "65534\n65534\n65534 50"
    assert (await ran(yard, "echo $HOME")) == "/root"


async def test_a_bind_is_read_only_when_it_says_so(yard: Yard) -> None:
    (yard.root / "shared").mkdir()
    host = HostConfig(NetworkMode="none", Binds=[f"{yard.root}/shared:/a", f"{yard.root}/shared:/b:ro"])
    assert "Read-only" in await ran(yard, "echo here > /a/file; cat /b/file; touch /b/file", host)
    assert (yard.root / "shared" / "file").read_text() == "here\n"


async def test_limits_reach_the_cgroup(yard: Yard) -> None:
    host = HostConfig(NetworkMode="none", PidsLimit=50, Memory=64 << 20)
    id = await yard.run("sleep", "60", host=host)
    pid = (await yard.job("container_inspect", id)).State.Pid
    lines = (await trio.Path(f"/proc/{pid}/cgroup").read_text()).splitlines()
    group = next(line.split(":")[2] for line in lines if "pids" in line.split(":")[1] or line.startswith("0::"))
    found = [Path(f"/sys/fs/cgroup/{name}{group}/pids.max") for name in ("pids", "")]
    assert next(path for path in found if path.exists()).read_text().strip() == "50"


INIT = HostConfig(NetworkMode="none", Init=True)


async def test_init_runs_before_the_program_and_reaps_orphans(yard: Yard) -> None:
    script = "cat /proc/1/comm; (sleep 0.05 &) ; sleep 0.3; grep -l 'State:.Z' /proc/[0-9]*/status; exit 7"
    id = await yard.run("sh", "-c", script, host=INIT)
    assert (await yard.call(Wait(name=id))).StatusCode == 7
    assert await yard.outputs(id) == ("docker-init\n", "")
    info = await yard.job("container_inspect", id)
    assert (info.Path, info.HostConfig.Init) == ("sh", True)


async def test_init_passes_signals_on_and_says_what_is_missing(yard: Yard) -> None:
    id = await yard.run(*POLITE, host=INIT)
    await until_ready(yard, id)
    await yard.call(Stop(name=id, t=10))
    assert (await yard.job("container_inspect", id)).State.ExitCode == 5
    id = await yard.run("no-such-command", host=INIT)
    assert (await yard.call(Wait(name=id))).StatusCode == 127
    assert "no-such-command" in (await yard.outputs(id))[1]
