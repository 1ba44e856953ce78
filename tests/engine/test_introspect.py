"""The jobs `commands`, `jobs`, `describe`, `cancel`."""

import functools
from typing import Annotated, Any, ClassVar

import pytest
import trio
from msgspec import Meta

from windlass.engine import Cancel, Commands, Describe, Engine, Job, Jobs, Signature
from windlass.engine.errors import Cancelled, NoSuchJob, NotFound


class Hold(Signature[dict[str, int]], frozen=True):
    """Hold something."""

    NAME: ClassVar[str] = "hold"
    LOCAL: ClassVar[bool] = True
    SECRET: ClassVar[frozenset[str]] = frozenset({"secret"})
    what: Annotated[str, Meta(description="The thing.")]
    secret: str = ""


async def hold(job: Job[Hold]) -> dict[str, int]:
    """Hold it until told otherwise."""
    await trio.sleep_forever()
    return {}


@pytest.fixture
async def engine():
    async with Engine() as engine:
        engine.register("hold", hold)
        yield engine


async def test_commands_are_listed_in_order(engine: Engine) -> None:
    engine.register("a", hold)
    assert await engine.call(Commands()) == ["a", "cancel", "commands", "describe", "hold", "jobs"]


async def test_a_description_says_what_a_job_takes_and_gives(engine: Engine) -> None:
    told = await engine.call(Describe(name="hold"))
    assert (told.name, told.doc, told.args) == ("hold", "Hold it until told otherwise.", ["what", "secret"])
    assert (told.local, told.readonly) == (True, False)
    schema = told.params["$defs"]["Hold"]
    assert schema["properties"]["what"] == {"type": "string", "description": "The thing."}
    assert schema["required"] == ["what"]
    assert told.result == {"type": "object", "additionalProperties": {"type": "integer"}}


async def test_a_partial_is_described_by_its_function(engine: Engine) -> None:
    async def bare(prefix: str, job: Job[Hold]) -> dict[str, int]:
        return {}

    async def documented(prefix: str, job: Job[Hold]) -> dict[str, int]:
        """Say more."""
        return {}

    engine.register("bare", functools.partial(bare, "x"))
    engine.register("documented", functools.partial(documented, "x"))
    assert (await engine.call(Describe(name="bare"))).doc == "Hold something."
    assert (await engine.call(Describe(name="documented"))).doc == "Say more."


async def test_a_job_without_signature_takes_anything(engine: Engine) -> None:
    async def any_(job: Job[Any]) -> None:
        return None

    engine.register("any", any_)
    told = await engine.call(Describe(name="any"))
    assert (told.doc, told.args) == ("", [])


async def test_describing_an_unknown_job_says_so(engine: Engine) -> None:
    with pytest.raises(NoSuchJob):
        await engine.job("describe", "nope").run()


async def test_running_jobs_are_listed_without_their_secrets(engine: Engine) -> None:
    async def swallow(job: Job[Any]) -> None:
        with pytest.raises(Cancelled):
            await job.run()

    job = Job(engine, "hold", ["it"], {"secret": "key"}, deadline=60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swallow, job)
        await trio.testing.wait_all_tasks_blocked()
        first, second = await engine.call(Jobs())
        assert (first.id, first.name, first.state, first.parent, first.deadline) == (
            job.id,
            "hold",
            "running",
            None,
            60,
        )
        assert first.env == {"what": "it", "secret": "***"} and first.age >= 0
        assert (second.name, second.deadline) == ("jobs", None)
        await engine.call(Cancel(id=job.id))
    assert job.state == "cancelled"


async def test_objects_in_an_env_are_shown_by_their_repr(engine: Engine) -> None:
    seen: list[Any] = []

    async def spy(job: Job[Any]) -> None:
        seen.extend(await job.engine.call(Jobs()))

    engine.register("spy", spy)
    await engine.job("spy", thing=trio.Event).run()
    assert seen[0].env == {"thing": repr(trio.Event)}
    assert seen[1].parent == seen[0].id


async def test_cancelling_what_does_not_run_says_so(engine: Engine) -> None:
    with pytest.raises(NotFound, match="no such job running: 99"):
        await engine.call(Cancel(id=99))
