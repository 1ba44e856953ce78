"""Restart policies: who is started again, after how long, how often; what calls that off; what the next daemon does."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.daemon.conftest import Roots, Yard
from windlass.daemon.supervise import judge
from windlass.engine import Engine, Handler, Job
from windlass.engine.errors import Conflict, NotModified
from windlass.jobs.container_config import HostConfig, RestartRule
from windlass.jobs.containers import ContainerUpdate, Delete, Kill, Pause, Restart, Start, Stop, Wait
from windlass.jobs.execs import ExecCreate as Exec
from windlass.jobs.supervision import Supervise, Verdict

pytestmark = pytest.mark.root

COUNTING = ("sh", "-c", "echo run >> /runs; [ $(wc -l < /runs) -lt {0} ] && exit {1}; exec sleep 600")
SLOW = {"Labels": {"windlass.restart.delay": "10m", "windlass.restart.delay-max": "10m"}}


def policy(name: str, count: int = 0) -> HostConfig:
    return HostConfig(NetworkMode="none", RestartPolicy=RestartRule(name, count))


def counting(runs: int, code: int) -> tuple[str, ...]:
    """Return a command that ends with `code` until it runs for the `runs`th time."""
    return tuple(word.format(runs, code) for word in COUNTING)


async def info(yard: Yard, id: str) -> Any:
    return await yard.job("container_inspect", id)


async def until(yard: Yard, id: str, is_so: Callable[[Any], bool]) -> Any:
    with trio.fail_after(20):
        while not is_so(found := await info(yard, id)):
            await trio.sleep(0.01)
    return found


async def until_status(yard: Yard, id: str, status: str) -> Any:
    return await until(yard, id, lambda found: found.State.Status == status)


async def until_told(yard: Yard, action: str) -> list[str]:
    with trio.fail_after(20):
        while action not in (told := await yard.told()):
            await trio.sleep(0.01)
    return told


async def restarting(yard: Yard, host: HostConfig, *, code: int = 1, **more: Any) -> str:
    """Run a container that waits for its restart."""
    id = await yard.run("sh", "-c", f"exit {code}", host=host, **{**SLOW, **more})
    await until_status(yard, id, "restarting")
    return id


# -- the rule --------------------------------------------------------------------------------------------------------


def delays(count: int, ran: float = 0.0, **labels: str) -> list[float]:
    found, last = [], 0.0
    for _ in range(count):
        labelled = {f"windlass.restart.{key.replace('_', '-')}": value for key, value in labels.items()}
        case = Supervise("id", "name", "exit", RestartRule("always"), ran=ran, last_delay=last, labels=labelled)
        last = judge(case).delay
        found.append(round(last, 6))
    return found


def test_delays_double_from_a_tenth_of_a_second_to_a_minute() -> None:
    assert delays(12) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]


def test_a_run_of_ten_seconds_lets_the_delay_begin_anew() -> None:
    assert delays(3, ran=9.9) == [0.1, 0.2, 0.4]
    assert delays(3, ran=10) == [0.1, 0.1, 0.1]


def test_labels_set_another_curve() -> None:
    assert delays(4, delay="1s", delay_max="5s", delay_factor="3") == [1, 3, 5, 5]
    assert delays(2, ran=3, delay_reset="2s") == [0.1, 0.1]


def test_labels_that_make_no_sense_leave_the_default() -> None:
    assert delays(3, delay="soon", delay_max="", delay_factor="nan", delay_reset="-1s") == [0.1, 0.2, 0.4]
    assert delays(2, delay="1ms", delay_factor="0.5") == [0.1, 0.2]


@pytest.mark.parametrize(
    ("rule", "case", "action"),
    [
        (("no", 0), {"exit_code": 1}, "nothing"),
        (("", 0), {"exit_code": 1}, "nothing"),
        (("always", 0), {"exit_code": 0}, "restart"),
        (("always", 0), {"stopped": True, "why": "daemon-start"}, "restart"),
        (("unless-stopped", 0), {"exit_code": 0}, "restart"),
        (("unless-stopped", 0), {"stopped": True, "why": "daemon-start"}, "nothing"),
        (("on-failure", 0), {"exit_code": 0}, "nothing"),
        (("on-failure", 0), {"exit_code": 1, "restarts": 1000}, "restart"),
        (("on-failure", 0), {"exit_code": 137, "stopped": True, "why": "daemon-start"}, "nothing"),
        (("on-failure", 3), {"exit_code": 1, "restarts": 2}, "restart"),
        (("on-failure", 3), {"exit_code": 1, "restarts": 3}, "nothing"),
        (("always", 0), {"why": "unhealthy"}, "nothing"),
        (("no", 0), {"why": "unhealthy", "labels": {"windlass.health.on-failure": "restart"}}, "restart"),
        (("no", 0), {"why": "unhealthy", "labels": {"windlass.health.on-failure": "explode"}}, "nothing"),
    ],
)  # fmt: skip
def test_the_rule(rule: tuple[str, int], case: dict[str, Any], action: str) -> None:
    params = Supervise(**{"id": "i", "name": "n", "why": "exit", "policy": RestartRule(*rule)} | case)
    assert judge(params).action == action


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("always", 0), ("unless-stopped", 0), ("on-failure", 3)])
async def test_what_ends_is_started_again(yard: Yard, name: str, code: int) -> None:
    id = await yard.run(*counting(3, code), host=policy(name))
    found = await until(yard, id, lambda found: found.RestartCount == 2 and found.State.Status == "running")
    assert (found.State.Status, found.State.ExitCode, found.State.Restarting) == ("running", 0, False)
    assert await yard.told() == ["create", "start", "die", "start", "die", "start"]


@pytest.mark.parametrize(("name", "code"), [("no", 1), ("on-failure", 0)])
async def test_what_ends_otherwise_is_not(yard: Yard, name: str, code: int) -> None:
    id = await yard.run("sh", "-c", f"exit {code}", host=policy(name))
    await yard.call(Wait(name=id))
    found = await info(yard, id)
    assert (found.State.Status, found.State.ExitCode, found.RestartCount) == ("exited", code, 0)


async def test_on_failure_gives_up_after_its_count(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "exit 7", host=policy("on-failure", 2))
    found = await until(yard, id, lambda found: found.State.Status == "exited" and found.RestartCount == 2)
    assert found.State.ExitCode == 7
    assert (await until_told(yard, "give_up"))[-3:] == ["start", "die", "give_up"]


async def test_a_restarting_container_shows_it(yard: Yard) -> None:
    id = await restarting(yard, policy("always"), code=3)
    state = (await info(yard, id)).State
    assert (state.Running, state.Restarting, state.Paused, state.Pid, state.ExitCode) == (True, True, False, 0, 3)
    (line,) = await yard.job("containers")
    assert (line.State, line.Status.startswith("Restarting (3) "), line.Status.endswith(" ago")) == ("restarting",) + (
        True,
    ) * 2
    assert [one.Id for one in await yard.job("containers", filters={"status": ["restarting"]})] == [id]
    assert await yard.job("containers", filters={"status": ["running"]}) == []


async def test_what_a_restarting_container_refuses(yard: Yard) -> None:
    id = await restarting(yard, policy("always"))
    wait = f"Container {id} is restarting, wait until the container is running"
    for params in (Exec(name=id, Cmd=["true"]), Pause(name=id)):
        with pytest.raises(Conflict, match=wait):
            await yard.call(params)
    with pytest.raises(Conflict, match=wait):
        await yard.job("top", id)
    with pytest.raises(Conflict, match="is restarting, wait until"):
        await yard.job("attach", id, stream=True)
    with pytest.raises(Conflict, match="container is restarting: stop the container before removing or force remove"):
        await yard.call(Delete(name=id))
    with pytest.raises(NotModified):
        await yard.call(Start(name=id))


@pytest.mark.parametrize(
    ("params", "events"), [(Stop, ["stop"]), (Kill, []), (lambda name: Kill(name=name, signal="TERM"), [])]
)
async def test_it_can_be_called_off(yard: Yard, params: Any, events: list[str]) -> None:
    id = await restarting(yard, policy("always"), code=5)
    before = await yard.told()
    await yard.call(params(name=id))
    state = (await info(yard, id)).State
    assert (state.Status, state.Running, state.ExitCode) == ("exited", False, 5)
    assert (await yard.told()) == before + events
    with pytest.raises(NotModified):
        await yard.call(Stop(name=id))


async def test_other_signals_do_not_call_it_off(yard: Yard) -> None:
    id = await restarting(yard, policy("always"))
    await yard.call(Kill(name=id, signal="USR1"))
    assert (await info(yard, id)).State.Status == "restarting"


async def test_it_can_be_removed_by_force(yard: Yard) -> None:
    id = await restarting(yard, policy("always"))
    await yard.call(Delete(name=id, force=True))
    assert await yard.job("containers", all=True) == []


async def test_restart_starts_it_at_once(yard: Yard) -> None:
    id = await yard.run(*counting(2, 1), host=policy("always"), **SLOW)
    await until_status(yard, id, "restarting")
    await yard.call(Restart(name=id))
    found = await info(yard, id)
    assert (found.State.Status, found.RestartCount) == ("running", 0)


@pytest.mark.parametrize("end", [Stop, Kill])
async def test_what_a_client_ends_is_not_started_again(yard: Yard, end: Any) -> None:
    id = await yard.run("sleep", "600", host=policy("always"))
    await yard.call(end(name=id, **({"t": 0} if end is Stop else {})))
    await trio.sleep(0.3)
    found = await info(yard, id)
    assert (found.State.Status, found.RestartCount) == ("exited", 0)


async def test_a_signal_that_a_program_takes_leaves_it_supervised(yard: Yard) -> None:
    script = "[ -e /ran ] && exec sleep 600; touch /ran; trap 'exit 1' HUP; echo ready; while :; do sleep 0.01; done"
    id = await yard.run("sh", "-c", script, host=policy("unless-stopped"))
    with trio.fail_after(10):
        while (await yard.outputs(id))[0] != "ready\n":
            await trio.sleep(0.01)
    await yard.call(Kill(name=id, signal="HUP"))
    await until(yard, id, lambda found: found.RestartCount == 1 and found.State.Status == "running")


async def test_wait_answers_at_every_end(yard: Yard) -> None:
    id = await yard.create("sh", "-c", "exit 4", host=policy("always"), **SLOW)
    codes: list[int] = []

    async def wait(condition: str) -> None:
        codes.append((await yard.call(Wait(name=id, condition=condition))).StatusCode)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "next-exit")
        await trio.testing.wait_all_tasks_blocked()
        await yard.call(Start(name=id))
    await until_status(yard, id, "restarting")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "not-running")
        await trio.testing.wait_all_tasks_blocked()
        assert codes == [4]
        await yard.call(Stop(name=id))
    assert codes == [4, 4]


async def test_a_new_policy_counts_from_the_next_end(yard: Yard) -> None:
    id = await yard.run("sleep", "600", host=policy("no"))
    await yard.call(ContainerUpdate(name=id, RestartPolicy=RestartRule("on-failure", 1)))
    os.kill((await info(yard, id)).State.Pid, signal.SIGKILL)
    await until(yard, id, lambda found: found.RestartCount == 1 and found.State.Status == "running")
    await yard.call(ContainerUpdate(name=id, RestartPolicy=RestartRule("no")))
    os.kill((await info(yard, id)).State.Pid, signal.SIGKILL)
    assert (await until_status(yard, id, "exited")).State.ExitCode == 137


async def test_a_restart_that_fails_is_the_end(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "rm /bin/sh; exit 1", host=policy("always"))
    found = await until_status(yard, id, "exited")
    assert (found.State.ExitCode, "executable file not found" in found.State.Error) == (127, True)
    await until_told(yard, "give_up")
    await yard.call(Delete(name=id))


async def test_labels_that_make_no_sense_are_told(yard: Yard) -> None:
    labels = {"windlass.restart.delay": "soon", "windlass.restart.delay-factor": "0", "windlass.health.on-failure": "x"}
    made = await yard.job("create", Image="busybox", Cmd=["true"], Labels=labels)
    yard.ids.add(made.Id)
    assert [warning.split("=")[0] for warning in made.Warnings] == [f"The label {key}" for key in labels]


# -- plugins ---------------------------------------------------------------------------------------------------------


def replace(verdict: Callable[[Supervise], Any]) -> Callable[[Engine], None]:
    def install(engine: Engine) -> None:
        async def handler(job: Job[Supervise]) -> Any:
            return verdict(job.params)

        engine.unregister("supervise")
        engine.register("supervise", handler)

    return install


async def test_a_plugin_replaces_the_rule(roots: Roots) -> None:
    asked: list[Supervise] = []

    def verdict(case: Supervise) -> Verdict:
        asked.append(case)
        return Verdict("restart") if case.restarts < 2 else Verdict(gives_up=True)

    async with roots.life(after=replace(verdict)) as yard:
        id = await yard.run("sh", "-c", "exit 9", host=policy("no"), Labels={"a": "b"})
        await until(yard, id, lambda found: found.State.Status == "exited" and found.RestartCount == 2)
        assert [(case.id, case.why, case.exit_code, case.restarts) for case in asked] == [
            (id, "exit", 9, count) for count in range(3)
        ]
        assert asked[0].labels["a"] == "b"
        await until_told(yard, "give_up")


@pytest.mark.parametrize("answer", ["nonsense", None, Verdict("restart", float("nan")), ZeroDivisionError()])
async def test_the_policy_holds_while_a_plugin_makes_no_sense(roots: Roots, answer: Any) -> None:
    def verdict(case: Supervise) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with roots.life(after=replace(verdict)) as yard:
        id = await yard.run(*counting(2, 1), host=policy("always"))
        await until(yard, id, lambda found: found.RestartCount == 1 and found.State.Status == "running")


async def test_the_policy_holds_while_a_plugin_does_not_answer(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.daemon.supervise.PATIENCE", 0.05)

    def install(engine: Engine) -> None:
        async def hang(job: Job[Any], call: Handler) -> Any:
            await trio.sleep_forever()

        engine.around("supervise", hang)

    async with roots.life(after=install) as yard:
        id = await yard.run(*counting(2, 1), host=policy("always"))
        await until(yard, id, lambda found: found.RestartCount == 1 and found.State.Status == "running")


async def test_a_kill_that_is_refused_is_no_stop(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sh", "-c", "rm /bin/sh; exit 1", host=policy("unless-stopped"))
        await until_told(yard, "give_up")  # its first restart has failed
        with pytest.raises(Conflict):
            await yard.call(Kill(name=id))
    async with roots.life() as yard:
        await until_told(yard, "give_up")  # and so has that of the next daemon, which has tried


# -- the next daemon -------------------------------------------------------------------------------------------------


async def test_a_loop_goes_on_under_the_next_daemon(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run(*counting(3, 1), host=policy("on-failure", 5), **SLOW)
        await until_status(yard, id, "restarting")
        await trio.sleep(0.2)
    async with roots.life() as yard:
        # The restart that was due is no further one; it ends once more, and waits for the next, as long as before.
        await until(yard, id, lambda found: found.State.Status == "restarting" and found.RestartCount == 2)
        await yard.call(Restart(name=id))
        assert (await info(yard, id)).State.Status == "running"


async def test_what_ended_between_two_daemons_is_started_again(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sleep", "600", host=policy("always"))
        pid = (await info(yard, id)).State.Pid
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    async with roots.life() as yard:
        found = await until(yard, id, lambda found: found.State.Status == "running")
        assert (found.State.Pid != pid, found.RestartCount) == (True, 1)
        assert (await yard.told()) == ["die", "start"]


async def until_gone(pid: int) -> None:
    with trio.fail_after(10):
        while (
            Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        ):
            await trio.sleep(0.01)
    await trio.sleep(0.2)  # its supervisor writes down how it ended


@pytest.mark.parametrize(
    ("rule", "stopped", "status"),
    [
        (("always", 0), True, "running"),
        (("always", 0), False, "running"),
        (("unless-stopped", 0), True, "exited"),
        (("unless-stopped", 0), False, "running"),
        (("on-failure", 1), True, "exited"),
        (("on-failure", 1), False, "running"),
        (("no", 0), False, "exited"),
    ],
)
async def test_after_a_reboot(roots: Roots, rule: tuple[str, int], stopped: bool, status: str) -> None:
    async with roots.life(remove=False) as yard:
        id = await yard.run("sleep", "600", host=policy(*rule))
        never = await yard.create("sleep", "600", host=policy(*rule))
        if stopped:
            await yard.call(Stop(name=id, t=0))
            await trio.sleep(0.2)
    reboot(roots)
    async with roots.life() as yard:
        found = await until_status(yard, id, status)
        assert found.RestartCount == 0
        assert (await info(yard, never)).State.Status == "created"


def reboot(roots: Roots) -> None:
    """End everything, and wipe the exec root, which lies on tmpfs."""
    for folder in (roots.root / "exec" / "containers").glob("*"):
        roots.ids.add(folder.name)
    shims = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for group in roots.cgroups()
             for pid in (group / "cgroup.procs").read_text().split()}  # fmt: skip
    for pid in shims - {1, os.getpid()}:
        os.kill(pid, signal.SIGKILL)
    roots.kill_all()
    shutil.rmtree(roots.root / "exec")
    (roots.root / "exec").mkdir()


async def test_a_stop_and_a_start_are_remembered_over_a_crash(roots: Roots) -> None:
    """Without the time to settle: what a client wants is durable before it is done."""
    async with roots.life(remove=False) as yard:
        stopped = await yard.run("sleep", "600", host=policy("unless-stopped"))
        again = await yard.run("sleep", "600", host=policy("unless-stopped"))
        await yard.call(Stop(name=again, t=0))
        await yard.call(Start(name=again))
        await yard.call(Stop(name=stopped, t=0))
    reboot(roots)
    async with roots.life() as yard:
        await until_status(yard, again, "running")
        assert (await info(yard, stopped)).State.Status == "exited"


async def test_a_start_of_the_daemon_can_be_called_off(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        needed = await yard.run("sleep", "600", host=policy("no"), name="needed")
        id = await yard.run("sleep", "600", host=policy("always"), Labels={"windlass.requires": "needed"})
        for each in (id, needed):
            await yard.call(Kill(name=each))
        await trio.sleep(0.2)
    async with roots.life() as yard:
        assert (await info(yard, id)).State.Status == "restarting"
        await yard.call(Stop(name=id))
        assert (await info(yard, id)).State.Status == "exited"
        await yard.call(Start(name=needed))
        await trio.sleep(0.1)
        assert (await info(yard, id)).State.Status == "exited"


async def test_the_daemon_starts_in_the_order_of_the_conditions(roots: Roots) -> None:
    """Twelve containers in three layers, made in the wrong order; a chain of names of namespaces besides."""
    async with roots.life(remove=False) as yard:
        names = [f"{layer}{number}" for layer in "cba" for number in range(4)]
        for name in names:
            below = {"c": "b", "b": "a"}.get(name[0])
            needs = ",".join(f"{below}{number}" for number in range(4)) if below else ""
            await yard.run("sleep", "600", host=policy("always"), name=name, Labels={"windlass.requires": needs})
        joined = HostConfig(NetworkMode="container:c0", RestartPolicy=RestartRule("always"))
        await yard.run("sleep", "600", host=joined, name="joined")
    reboot(roots)
    async with roots.life() as yard:
        started = {}
        for name in [*names, "joined"]:
            found = await until_status(yard, name, "running")
            started[name] = found.State.StartedAt
        for high, low in (("c", "b"), ("b", "a")):
            assert min(started[f"{high}{n}"] for n in range(4)) > max(started[f"{low}{n}"] for n in range(4))
        assert started["joined"] > started["c0"]


async def test_a_circle_of_conditions_is_told_and_broken(roots: Roots, caplog: pytest.LogCaptureFixture) -> None:
    async with roots.life(remove=False) as yard:
        for name, needs in (("one", "two"), ("two", "one"), ("lost", "nobody,one:shiny")):
            await yard.run("sleep", "600", host=policy("always"), name=name, Labels={"windlass.requires": needs})
    reboot(roots)
    async with roots.life() as yard:
        for name in ("one", "two", "lost"):
            await until_status(yard, name, "running")
    assert "one -> two -> one" in caplog.text
    assert "'nobody'" in caplog.text and "'one:shiny'" in caplog.text
