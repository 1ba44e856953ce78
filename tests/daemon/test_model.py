"""Any sequence of jobs on containers, and of the daemon's ends between them, does what a model of six lines says."""

import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.conftest import Roots, Yard
from windlass.engine.errors import JobError
from windlass.jobs.containers import ContainerRename, Delete, Kill, Pause, Restart, Start, Stop, Unpause

pytestmark = [pytest.mark.root, pytest.mark.slow]

NAMES = ("one", "two")
GONE = "gone"
# job -> (state before -> state after, or the error's code)
MODEL: dict[str, dict[str, str]] = {
    "create": {GONE: "created", "created": "conflict", "running": "conflict", "exited": "conflict",
               "paused": "conflict"},
    "start": {GONE: "not-found", "created": "running", "running": "not-modified", "exited": "running",
              "paused": "conflict"},
    "stop": {GONE: "not-found", "created": "not-modified", "running": "exited", "exited": "not-modified",
             "paused": "exited"},
    "kill": {GONE: "not-found", "created": "conflict", "running": "exited", "exited": "conflict", "paused": "exited"},
    "pause": {GONE: "not-found", "created": "conflict", "running": "paused", "exited": "conflict",
               "paused": "conflict"},
    "unpause": {GONE: "not-found", "created": "conflict", "running": "conflict", "exited": "conflict",
                "paused": "running"},
    "restart": {GONE: "not-found", "created": "running", "running": "running", "exited": "running",
                "paused": "running"},
    "delete": {GONE: "not-found", "created": GONE, "running": "conflict", "exited": GONE, "paused": "conflict"},
    "force": {GONE: "not-found", "created": GONE, "running": GONE, "exited": GONE, "paused": GONE},
}  # fmt: skip
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
        await yard.create("sleep", "60", name=name)
    else:
        await yard.call(calls[job])


async def states(yard: Yard) -> dict[str, str]:
    listed = {summary.Names[0][1:]: summary.State for summary in await yard.job("containers", all=True)}
    return {name: listed.pop(name, GONE) for name in NAMES} | listed


async def step(yard: Yard, model: dict[str, str], job: str, name: str) -> None:
    if job == "rename":
        await swap(yard, model)
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
                async with roots.life(remove=number == len(lives) - 1) as yard:
                    assert await states(yard) == model
                    for job, name in steps:
                        await step(yard, model, job, name)
            assert roots.left() == []
        finally:
            roots.kill_all()


STEPS = st.lists(st.tuples(st.sampled_from([*MODEL, "create", "start", "rename"]), st.sampled_from(NAMES)), max_size=10)


@given(st.lists(STEPS, min_size=1, max_size=3))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_jobs_do_what_the_model_says_over_any_number_of_daemons(lives: list[list[Step]]) -> None:
    trio.run(live, lives)
