"""Lists: order, limits, filters, texts."""

import pytest

from tests.daemon.conftest import IMAGE_ID, Yard
from windlass.engine.errors import BadParameter, NotFound
from windlass.jobs.container_config import HostConfig, PortBinding
from windlass.jobs.containers import Kill, Start, Wait

pytestmark = pytest.mark.root


@pytest.fixture
async def three(yard: Yard) -> dict[str, str]:
    """A container that was made only, one that has ended with 4, one that runs: in this order."""
    made = await yard.create("true", name="made", Labels={"tier": "a"}, ExposedPorts={"80/tcp": {}})
    ended = await yard.run("sh", "-c", "exit 4", name="ended", Labels={"tier": "b", "x": ""})
    await yard.call(Wait(name=ended))
    bound = HostConfig(NetworkMode="none", PortBindings={"53/udp": [PortBinding(HostPort="5353")]})
    runs = await yard.run("sleep", "60", name="runs", host=bound)
    return {made: "made", ended: "ended", runs: "runs"}


async def names(yard: Yard, **env: object) -> list[str]:
    return [summary.Names[0].removeprefix("/") for summary in await yard.job("containers", **env)]


async def test_running_ones_are_shown_and_all_when_asked(yard: Yard, three: dict[str, str]) -> None:
    assert await names(yard) == ["runs"]
    assert await names(yard, all=True) == ["runs", "ended", "made"]
    assert await names(yard, limit=2) == ["runs", "ended"]
    assert await names(yard, since="made") == ["runs", "ended"]
    assert await names(yard, before="runs") == ["ended", "made"]
    with pytest.raises(NotFound, match="No such container: nobody"):
        await names(yard, since="nobody")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"status": ["exited", "created"]}, ["ended", "made"]),
        ({"status": {"running": True, "exited": False}}, ["runs"]),
        ({"exited": ["4"]}, ["ended"]),
        ({"exited": ["0"]}, []),
        ({"name": ["^/?r"]}, ["runs"]),
        ({"name": ["("]}, []),
        ({"label": ["tier"]}, ["ended", "made"]),
        ({"label": ["tier=b", "x"]}, ["ended"]),
        ({"label": ["of=image"]}, ["runs", "ended", "made"]),
        ({"ancestor": ["busybox"]}, ["runs", "ended", "made"]),
        ({"ancestor": ["nowhere"]}, []),
        ({"network": ["none"]}, ["runs", "ended", "made"]),
        ({"expose": ["80"]}, ["made"]),
        ({"expose": ["1-79/tcp"]}, []),
        ({"publish": ["50-60/udp"]}, ["runs"]),
        ({"health": ["healthy"]}, []),
        ({"is-task": ["false"]}, ["runs", "ended", "made"]),
        ({"since": ["made"], "status": ["running"]}, ["runs"]),
        ({"before": ["ended"]}, ["made"]),
    ],
)
async def test_filters(yard: Yard, three: dict[str, str], filters: dict[str, object], found: list[str]) -> None:
    assert await names(yard, all=True, filters=filters) == found


@pytest.mark.parametrize(
    "filters", [{"nonsense": ["1"]}, {"status": ["happy"]}, {"exited": ["x"]}, {"health": ["x"]}, {"expose": ["x"]}]
)
async def test_unknown_filters_and_values_are_refused(
    yard: Yard, three: dict[str, str], filters: dict[str, object]
) -> None:
    with pytest.raises(BadParameter, match="invalid filter"):
        await names(yard, all=True, filters=filters)


async def test_a_summary_has_dockers_words(yard: Yard, three: dict[str, str]) -> None:
    runs, ended, made = await yard.job("containers", all=True)
    assert (runs.State, runs.Status) == ("running", "Up Less than a second") or runs.Status.startswith("Up ")
    assert ended.Status.startswith("Exited (4) ") and ended.Status.endswith(" ago")
    assert made.Status == "Created"
    assert (ended.Command, ended.Image, ended.ImageID) == ("sh -c 'exit 4'", "busybox", IMAGE_ID)
    assert (ended.HostConfig.NetworkMode, list(ended.NetworkSettings.Networks)) == ("none", ["none"])


async def test_sizes_count_what_was_written(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "head -c 100000 /dev/zero > /big")
    await yard.call(Wait(name=id))
    (summary,) = await yard.job("containers", all=True, size=True)
    assert 100_000 <= summary.SizeRw < 110_000 < summary.SizeRootFs
    info = await yard.job("container_inspect", id, size=True)
    assert (info.SizeRw, info.SizeRootFs) == (summary.SizeRw, summary.SizeRootFs)


async def test_a_restarted_container_keeps_its_place(yard: Yard, three: dict[str, str]) -> None:
    await yard.call(Kill(name="runs"))
    await yard.call(Start(name="made"))
    assert (await names(yard, all=True)) == ["runs", "ended", "made"]
