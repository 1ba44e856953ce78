"""Health checks: when probes run, what they say, what becomes of that, and what the next daemon knows."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from tests.daemon.conftest import NONE, Roots, Yard
from windlass.daemon.config import merge
from windlass.daemon.health import after, interval, probe_command
from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import Config, HealthConfig, HostConfig, RestartRule
from windlass.jobs.container_views import Health, Probe
from windlass.jobs.containers import Kill, Pause, Restart, Stop, Unpause
from windlass.lib import duration

pytestmark = pytest.mark.root

MS, SECOND = 10**6, 10**9
ON_FILE = ["CMD-SHELL", "echo looked; [ -e /well ]"]


def probing(*test: str, **more: Any) -> dict[str, Any]:
    """Return what a container with a quick health check is created with."""
    return {"Healthcheck": HealthConfig(list(test or ON_FILE), **{"Interval": 20 * MS, "Retries": 2} | more)}


async def health(yard: Yard, id: str) -> Any:
    return (await yard.job("container_inspect", id)).State.Health


async def until(yard: Yard, id: str, is_so: Callable[[Any], bool]) -> Any:
    with trio.fail_after(20):
        while not is_so(found := await health(yard, id)):
            await trio.sleep(0.01)
    return found


async def until_status(yard: Yard, id: str, status: str) -> Any:
    return await until(yard, id, lambda found: found.Status == status)


async def execute(yard: Yard, id: str, *command: str) -> None:
    exec = await yard.job("execCreate", id, Cmd=list(command))
    await yard.job("execStart", exec.Id, Detach=True)


# -- the rule --------------------------------------------------------------------------------------------------------


def probe(code: int) -> Probe:
    return Probe("", "", code)


@pytest.mark.parametrize(
    ("before", "code", "age", "status", "streak"),
    [
        (Health(), 0, 0, "healthy", 0),
        (Health(), 1, 0, "starting", 0),
        (Health(), 1, 10 * SECOND, "starting", 1),
        (Health("starting", 1), 1, 10 * SECOND, "unhealthy", 2),
        (Health("healthy"), 1, 0, "healthy", 1),
        (Health("healthy", 1), 2, 0, "unhealthy", 2),
        (Health("unhealthy", 5), -1, 0, "unhealthy", 6),
        (Health("unhealthy", 5), 0, 0, "healthy", 0),
    ],
)
def test_what_a_probe_makes_of_the_health(before: Health, code: int, age: int, status: str, streak: int) -> None:
    config = HealthConfig(["CMD", "x"], Retries=2, StartPeriod=5 * SECOND)
    found = after(before, probe(code), config, age)
    assert (found.Status, found.FailingStreak, found.Log) == (status, streak, [probe(code)])


def test_the_last_five_probes_are_kept() -> None:
    found = Health()
    for code in range(7):
        found = after(found, probe(code), HealthConfig(), 0)
    assert [each.ExitCode for each in found.Log] == [2, 3, 4, 5, 6]


def test_three_failures_by_default_and_whatever_an_image_says() -> None:
    for retries in (0, -1):
        config, found = HealthConfig(Retries=retries), Health("healthy")
        statuses = [(found := after(found, probe(1), config, 0)).Status for _ in range(3)]
        assert statuses == ["healthy", "healthy", "unhealthy"]


@pytest.mark.parametrize(
    ("config", "status", "age", "expected"),
    [
        (HealthConfig(), "starting", 0, 30 * SECOND),
        (HealthConfig(Interval=SECOND), "healthy", 0, SECOND),
        (HealthConfig(StartPeriod=SECOND), "starting", 0, 5 * SECOND),
        (HealthConfig(StartPeriod=SECOND, StartInterval=MS), "starting", 0, MS),
        (HealthConfig(StartPeriod=SECOND, StartInterval=MS, Interval=SECOND), "healthy", 0, SECOND),
        (HealthConfig(StartPeriod=SECOND, StartInterval=MS, Interval=SECOND), "starting", SECOND, SECOND),
        (HealthConfig(Interval=-1), "healthy", 0, MS),
    ],
)
def test_when_the_next_probe_is_due(config: HealthConfig, status: str, age: int, expected: int) -> None:
    assert interval(config, Health(status), age) == expected


@pytest.mark.parametrize(
    ("test", "shell", "words"),
    [
        (["CMD", "a", "b c"], None, ("a", "b c")),
        (["CMD-SHELL", "a | b"], None, ("/bin/sh", "-c", "a | b")),
        (["CMD-SHELL", "a | b"], ["ash", "-ec"], ("ash", "-ec", "a | b")),
        (["NONE"], None, ()),
        (["ALIEN", "x"], None, ()),
        ([], None, ()),
    ],
)
def test_what_a_probe_runs(test: list[str], shell: list[str] | None, words: tuple[str, ...]) -> None:
    assert probe_command(Config(Healthcheck=HealthConfig(test), Shell=shell)) == words


def test_a_request_changes_parts_of_the_images_check() -> None:
    image = {"Cmd": ["x"], "Healthcheck": {"Test": ["CMD", "a"], "Interval": 5 * SECOND, "Retries": 7}}
    for asked, expected in (
        (None, HealthConfig(["CMD", "a"], 5 * SECOND, Retries=7)),
        (HealthConfig(Retries=1), HealthConfig(["CMD", "a"], 5 * SECOND, Retries=1)),
        (HealthConfig(["NONE"]), HealthConfig(["NONE"], 5 * SECOND, Retries=7)),
    ):
        assert merge(Config(Healthcheck=asked), image).Healthcheck == expected


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (MS, "1ms"), (1500 * MS, "1.5s"), (60 * SECOND, "1m0s"),
     (5430 * SECOND + 50 * MS, "1h30m30.05s")],
)  # fmt: skip
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert duration.text(nanoseconds) == text
    assert not nanoseconds or duration.parse(text) == nanoseconds


# -- probes ----------------------------------------------------------------------------------------------------------


async def test_a_container_becomes_healthy_unhealthy_and_healthy(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing())
    assert (await health(yard, id)).Status == "starting"
    found = await until_status(yard, id, "unhealthy")
    assert found.FailingStreak >= 2 and {each.ExitCode for each in found.Log} == {1}
    await execute(yard, id, "touch", "/well")
    found = await until_status(yard, id, "healthy")
    assert (found.FailingStreak, found.Log[-1].ExitCode, found.Log[-1].Output) == (0, 0, "looked\n")
    assert found.Log[-1].Start < found.Log[-1].End
    await execute(yard, id, "rm", "/well")
    await until_status(yard, id, "unhealthy")
    told = [action for action in await yard.told() if action.startswith("health_status")]
    assert told == ["health_status: unhealthy", "health_status: healthy", "health_status: unhealthy"]


async def test_lists_and_filters_show_it(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD", "true"))
    plain = await yard.run("sleep", "600")
    later = await yard.run("sleep", "600", **probing("CMD", "true", Interval=600 * SECOND))
    await until_status(yard, id, "healthy")
    status = {each.Id: each.Status for each in await yard.job("containers")}
    assert status[id].endswith(" (healthy)") and status[later].endswith(" (health: starting)")
    assert "(" not in status[plain]
    for word, expected in (("healthy", id), ("none", plain), ("starting", later)):
        assert [each.Id for each in await yard.job("containers", filters={"health": [word]})] == [expected]


async def test_without_a_check_there_is_no_health(yard: Yard) -> None:
    for more in ({}, probing("NONE"), probing("ALIEN", "x")):
        id = await yard.run("sleep", "600", **more)
        assert not await health(yard, id)


async def test_what_a_probe_writes_is_bounded(yard: Yard) -> None:
    script = "yes | head -c 3000; yes n | head -c 3000000 >&2; exit 1"
    id = await yard.run("sleep", "600", **probing("CMD-SHELL", script))
    output = (await until(yard, id, lambda found: found.Log)).Log[0].Output
    assert len(output) == 4096 + len("...") and output.endswith("...")
    assert output.count("y") == 1500


async def test_a_probe_that_takes_too_long_is_killed(yard: Yard) -> None:
    test = ("CMD-SHELL", "echo begun; exec sleep 12345")
    id = await yard.run("sleep", "600", **probing(*test, Timeout=100 * MS, Interval=10 * MS))
    found = await until_status(yard, id, "unhealthy")
    assert (found.Log[0].ExitCode, found.Log[0].Output) == (-1, "Health check exceeded timeout (100ms): begun\n")
    await yard.call(Pause(name=id))  # so that no further one begins
    await yard.call(Unpause(name=id))
    rows = (await yard.job("top", id)).Processes
    assert sum("12345" in row[-1] for row in rows) <= 1


async def test_a_probe_that_cannot_run_says_why(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD", "nothing-like-that"))
    found = await until_status(yard, id, "unhealthy")
    assert found.Log[0].ExitCode == -1
    assert 'exec: "nothing-like-that": executable file not found in $PATH' in found.Log[0].Output


async def test_a_probe_has_the_containers_user_folder_and_environment(yard: Yard) -> None:
    more = {"User": "10:20", "WorkingDir": "/tmp", "Env": ["A=b"]}
    id = await yard.run("sleep", "600", **probing("CMD-SHELL", "echo $(id -u):$(id -g) $PWD $A"), **more)
    assert (await until(yard, id, lambda found: found.Log)).Log[0].Output == "10:20 /tmp b\n"


async def test_events_tell_probes_from_what_users_run(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD", "true"))
    await until_status(yard, id, "healthy")
    await execute(yard, id, "true")
    with trio.fail_after(10):
        while len(marks(yard).get("user", ())) < 3:
            await trio.sleep(0.01)
    assert marks(yard)["user"] == ["exec_create: true", "exec_start: true", "exec_die"]
    assert marks(yard)["probe"][:3] == ["exec_create: true", "exec_start: true", "exec_die"]


def marks(yard: Yard) -> dict[str, list[str]]:

    found: dict[str, list[str]] = {}
    for message in map(json.loads, yard.events.text.splitlines()):
        if message["Action"].startswith("exec_"):
            kind = "probe" if message["Actor"]["Attributes"].get("healthcheck") == "true" else "user"
            found.setdefault(kind, []).append(message["Action"])
    return found


async def test_probes_leave_nothing_behind(yard: Yard) -> None:
    before = sockets()
    id = await yard.run("sleep", "600", **probing("CMD", "true", Interval=MS))
    await until(yard, id, lambda found: len(found.Log) == 5)
    with trio.fail_after(20):
        while len(marks(yard)["probe"]) < 150:
            await trio.sleep(0.01)
    assert len((await yard.job("container_inspect", id)).ExecIDs or ()) <= 1
    await yard.call(Stop(name=id, t=0))
    with trio.fail_after(10):
        while sockets() != before:
            await trio.sleep(0.01)


def sockets() -> int:
    """Count the sockets of this process."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


# -- the container's life --------------------------------------------------------------------------------------------


async def test_a_paused_container_is_not_probed(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD-SHELL", "echo x >> /probes"))
    await until_status(yard, id, "healthy")
    await yard.call(Pause(name=id))
    found = await until_status(yard, id, "unhealthy")
    await trio.sleep(0.1)
    assert (await health(yard, id)).Log == found.Log
    await yard.call(Unpause(name=id))
    await until_status(yard, id, "healthy")
    assert [action for action in await yard.told() if action.startswith("health")] == ["health_status: healthy"] * 2


async def test_a_container_that_has_ended_is_not_healthy(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD", "true"))
    found = await until_status(yard, id, "healthy")
    await yard.call(Kill(name=id))
    found = await until_status(yard, id, "unhealthy")
    assert len(found.Log) > 0
    await yard.call(Restart(name=id))
    await until_status(yard, id, "healthy")


async def test_a_probe_under_way_does_not_delay_the_end(yard: Yard) -> None:
    id = await yard.run("sleep", "600", **probing("CMD", "sleep", "600", Timeout=600 * SECOND))
    with trio.fail_after(10):
        while not (await yard.job("container_inspect", id)).ExecIDs:
            await trio.sleep(0.01)
    await yard.call(Stop(name=id, t=0))
    await until_status(yard, id, "unhealthy")
    assert not (await yard.job("container_inspect", id)).ExecIDs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Interval", 1),
        ("Timeout", 999_999),
        ("StartPeriod", -1),
        ("StartInterval", 10),
        ("Retries", -1),
        ("Test", "\0"),
    ],
)
async def test_a_check_that_makes_no_sense_is_refused(yard: Yard, key: str, value: Any) -> None:
    with pytest.raises(BadParameter, match="cannot be|Healthcheck"):
        await yard.create("true", **(probing("CMD", value) if key == "Test" else probing(**{key: value})))


# -- what is done about it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "events"), [("stop", ["kill", "die", "stop"]), ("kill", ["kill", "die"])])
async def test_a_label_lets_an_unhealthy_container_be_ended(yard: Yard, action: str, events: list[str]) -> None:
    host = HostConfig(NetworkMode="none", RestartPolicy=RestartRule("always"))
    script = "trap exit TERM; while :; do sleep 0.01; done"
    more = probing("CMD", "false") | {"Labels": {"windlass.health.on-failure": action}}
    id = await yard.run("sh", "-c", script, host=host, **more)
    with trio.fail_after(20):
        while (await yard.job("container_inspect", id)).State.Status != "exited":
            await trio.sleep(0.01)
    told = [each for each in await yard.told() if not each.startswith("exec_")]
    assert told == ["create", "start", "health_status: unhealthy", *events]


async def test_a_label_lets_an_unhealthy_container_be_started_again(yard: Yard) -> None:
    """Once for every time that it becomes unhealthy; the second run is well."""
    more = probing() | {"Labels": {"windlass.health.on-failure": "restart"}, "StopTimeout": 0}
    id = await yard.run("sh", "-c", "[ -e /ran ] && touch /well; touch /ran; exec sleep 600", host=NONE, **more)
    await until(yard, id, lambda found: found.Status == "healthy")
    found = await yard.job("container_inspect", id)
    assert (found.RestartCount, found.State.Status) == (1, "running")
    told = [each for each in await yard.told() if not each.startswith("exec_")]
    assert told[2:] == ["health_status: unhealthy", "kill", "kill", "die", "stop", "start", "health_status: healthy"]
    await yard.call(Stop(name=id, t=0))
    assert (await yard.job("container_inspect", id)).State.Status == "exited"


async def test_a_stop_by_hand_wins_over_the_restart_of_an_unhealthy_container(yard: Yard) -> None:

    labels = {"windlass.health.on-failure": "restart"}
    script = "trap '' TERM; while :; do sleep 0.01; done"
    id = await yard.run("sh", "-c", script, **probing("CMD", "false"), Labels=labels, StopTimeout=600)
    with trio.fail_after(20):
        while "kill" not in await yard.told():
            await trio.sleep(0.01)
    await yard.call(Stop(name=id, t=0))
    await trio.sleep(0.2)
    found = await yard.job("container_inspect", id)
    assert (found.State.Status, found.RestartCount) == ("exited", 0)


# -- the next daemon -------------------------------------------------------------------------------------------------


async def test_health_goes_on_under_the_next_daemon(roots: Roots) -> None:
    async with roots.life(remove=False) as yard:
        well = await yard.run("sleep", "600", **probing("CMD-SHELL", "echo x; sleep 0.1"))
        ill = await yard.run("sleep", "600", **probing("CMD", "false", Interval=SECOND, StartPeriod=0, Retries=2))
        await until_status(yard, well, "healthy")
        before = await until(yard, ill, lambda found: found.FailingStreak == 1)
    async with roots.life() as yard:
        assert (await health(yard, well)).Status == "healthy"
        assert await health(yard, ill) == before
        found = await until_status(yard, ill, "unhealthy")
        assert [each.ExitCode for each in found.Log] == [1, 1]
        assert [action for action in await yard.told() if action.startswith("health")] == ["health_status: unhealthy"]
