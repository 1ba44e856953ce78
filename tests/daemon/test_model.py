"""Any sequence of jobs on containers, and of the daemon's ends between them, does what a model of six lines says."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.conftest import Roots, Yard
from windlass.engine.errors import JobError
from windlass.jobs.container_config import HostConfig, RestartRule
from windlass.jobs.containers import ContainerRename, Delete, Kill, Pause, Restart, Start, Stop, Unpause

pytestmark = [pytest.mark.root, pytest.mark.slow]

NAMES = ("one", "two")
GONE = "gone"
# job -> (state before -> state after, or the error's code)
MODEL: dict[str, dict[str, str]] = {
    "create": {GONE: "created", "created": "conflict", "running": "conflict", "exited": "conflict",
               "paused": "conflict", "restarting": "conflict"},
    "start": {GONE: "not-found", "created": "running", "running": "not-modified", "exited": "running",
              "paused": "conflict", "restarting": "not-modified"},
    "stop": {GONE: "not-found", "created": "not-modified", "running": "exited", "exited": "not-modified",
             "paused": "exited", "restarting": "exited"},
    "kill": {GONE: "not-found", "created": "conflict", "running": "exited", "exited": "conflict", "paused": "exited",
             "restarting": "exited"},
    "pause": {GONE: "not-found", "created": "conflict", "running": "paused", "exited": "conflict",
              "paused": "conflict", "restarting": "conflict"},
    "unpause": {GONE: "not-found", "created": "conflict", "running": "conflict", "exited": "conflict",
                "paused": "running", "restarting": "conflict"},
    "restart": {GONE: "not-found", "created": "running", "running": "running", "exited": "running",
                "paused": "running", "restarting": "running"},
    "delete": {GONE: "not-found", "created": GONE, "running": "conflict", "exited": GONE, "paused": "conflict",
               "restarting": "conflict"},
    "force": {GONE: "not-found", "created": GONE, "running": GONE, "exited": GONE, "paused": GONE, "restarting": GONE},
}  # fmt: skip
# Started again when it dies, long after the test: so it is seen to wait for that, and to be started by the next daemon.
POLICY = HostConfig(NetworkMode="none", RestartPolicy=RestartRule("unless-stopped"))
DELAYS = {"windlass.restart.delay": "10m", "windlass.restart.delay-max": "10m"}
Step = tuple[str, str]


async def act(yard: Yard, job: str, name: str) -> None:
    calls = {
        "start": Start(name=name),
        "stop": Stop(name=name, t=0),
        "kill": Kill(name=name),
        "pause": Pause(name=name),
        "unpause": Unpause(name=name),
        "restart": Restart(name=name, t=0),
        "delete": Delete(name=name),
        "force": Delete(name=name, force=True),
    }
    if job == "create":
        await yard.create("sleep", "60", name=name, host=POLICY, Labels=DELAYS)
    else:
        await yard.call(calls[job])


async def states(yard: Yard) -> dict[str, str]:
    listed = {summary.Names[0][1:]: summary.State for summary in await yard.job("containers", all=True)}
    return {name: listed.pop(name, GONE) for name in NAMES} | listed


async def step(yard: Yard, model: dict[str, str], job: str, name: str) -> None:
    if job in ("rename", "die"):
        await (swap(yard, model) if job == "rename" else die(yard, model, name))
        return
    expected = MODEL[job][model[name]]
    try:
        await act(yard, job, name)
    except JobError as exc:
        assert exc.code == expected
    else:
        assert expected in ("created", "running", "exited", "paused", GONE)
        model[name] = expected
    assert await states(yard) == model


async def die(yard: Yard, model: dict[str, str], name: str) -> None:
    """Let a running container end by itself."""
    if model[name] == "running":
        os.kill((await yard.job("container_inspect", name)).State.Pid, signal.SIGKILL)
        model[name] = "restarting"
        await until(yard, model)
    assert await states(yard) == model


async def until(yard: Yard, model: dict[str, str]) -> None:
    with trio.fail_after(20):
        while await states(yard) != model:
            await trio.sleep(0.005)


async def swap(yard: Yard, model: dict[str, str]) -> None:
    """Exchange the two names, where both are there."""
    if GONE not in model.values():
        for old, new in (("one", "third"), ("two", "one"), ("third", "two")):
            await yard.call(ContainerRename(name=old, new_name=new))
        model["one"], model["two"] = model["two"], model["one"]
    assert await states(yard) == model


async def live(lives: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory(prefix="windlass-daemon-") as folder:
        roots, model = Roots(Path(folder)), dict.fromkeys(NAMES, GONE)
        try:
            for number, steps in enumerate(lives):
                model = {name: "running" if state == "restarting" else state for name, state in model.items()}
                async with roots.life(remove=number == len(lives) - 1) as yard:
                    await until(yard, model)
                    for job, name in steps:
                        await step(yard, model, job, name)
            assert roots.left() == []
        finally:
            roots.kill_all()


STEPS = st.lists(
    st.tuples(st.sampled_from([*MODEL, "create", "start", "die", "rename"]), st.sampled_from(NAMES)), max_size=10
)


@given(st.lists(STEPS, min_size=1, max_size=3))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_jobs_do_what_the_model_says_over_any_number_of_daemons(lives: list[list[Step]]) -> None:
    trio.run(live, lives)
