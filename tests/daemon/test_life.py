"""Containers from create to remove, with real processes."""

import pytest
import trio

from tests.daemon.conftest import NONE, Yard
from windlass.jobs.containers import Delete, Start, Wait

pytestmark = pytest.mark.root


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
    await trio.sleep(0.01)
    assert yard.told() == ["create", "start", "die", "destroy"]
