"""Registering, wrapping, calling, and what becomes of errors."""

import functools
import logging
from typing import Any, ClassVar

import msgspec
import pytest
import trio

from windlass.engine import Engine, Job, Signature
from windlass.engine.engine import install_all
from windlass.engine.errors import BadParameter, Cancelled, Conflict, Denied, Internal, NoSuchJob, NotFound


class Add(Signature[int], frozen=True):
    """Add two numbers."""

    NAME: ClassVar[str] = "add"
    a: int
    b: int = 1


class Strange(Signature[int], frozen=True):
    NAME: ClassVar[str] = "strange"


async def add(job: Job[Add]) -> int:
    return job.params.a + job.params.b


async def nothing(job: Job[Any]) -> None:
    return None


async def test_a_registered_job_runs() -> None:
    engine = Engine()
    engine.register("add", add)
    assert await engine.job("add", 1, 2).run() == 3
    assert await engine.job("add", a=1).run() == 2
    assert await engine.call(Add(a=5, b=6)) == 11


async def test_a_name_is_taken_once() -> None:
    engine = Engine()
    engine.register("add", add)
    with pytest.raises(Conflict, match="add is already registered"):
        engine.register("add", nothing)
    assert engine.handler("add") is add


@pytest.mark.parametrize("name", ["", " add", "add\n"])
def test_an_empty_or_padded_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Engine().register(name, nothing)


def test_a_handler_must_be_a_coroutine_function() -> None:
    with pytest.raises(TypeError, match="no coroutine function"):
        Engine().register("add", lambda job: None)  # type: ignore[arg-type,return-value]


def test_a_handler_keeps_its_signatures_promise() -> None:
    async def wrong(job: Job[Add]) -> str:
        return ""

    with pytest.raises(TypeError, match="promises"):
        Engine().register("add", wrong)


async def test_partials_and_objects_are_handlers_too() -> None:
    async def scaled(factor: int, job: Job[Add]) -> int:
        return factor * (job.params.a + job.params.b)

    class Adder:
        async def __call__(self, job: Job[Add]) -> int:
            return job.params.a

    engine = Engine()
    engine.register("scaled", functools.partial(scaled, 10))
    engine.register("object", Adder())
    assert await engine.job("scaled", 1).run() == 20
    assert await engine.job("object", 7).run() == 7


async def test_an_unknown_job_says_so() -> None:
    job = Engine().job("nope")
    with pytest.raises(NoSuchJob, match="no such job: nope"):
        await job.run()
    assert job.exit_status == 127


async def test_the_catchall_gets_what_has_no_handler_but_never_the_empty_name() -> None:
    async def anything(job: Job[Any]) -> str:
        return f"{job.name} {job.params.args} {job.params.env}"

    engine = Engine()
    engine.catchall = anything
    engine.register("add", add)
    assert await engine.job("hello", "x", k=1).run() == "hello ['x'] {'k': 1}"
    assert await engine.job("add", 1).run() == 2
    with pytest.raises(NoSuchJob):
        await engine.job("").run()


async def test_unregister_gives_the_name_back() -> None:
    engine = Engine()
    engine.register("add", add)
    assert await engine.job("add", 1).run() == 2
    assert engine.unregister("add") is add
    with pytest.raises(NoSuchJob):
        await engine.job("add", 1).run()
    with pytest.raises(NoSuchJob):
        engine.unregister("add")
    engine.register("add", nothing)


async def test_a_job_that_runs_goes_on_when_its_name_is_taken_away() -> None:
    engine = Engine()

    async def slow(job: Job[Any]) -> str:
        engine.unregister("slow")
        await trio.lowlevel.checkpoint()
        return "done"

    engine.register("slow", slow)
    assert await engine.job("slow").run() == "done"


async def test_wrappers_see_every_attempt_outermost_last() -> None:
    seen: list[str] = []

    def wrapper(name: str) -> Any:
        async def wrap(job: Job[Any], call: Any) -> Any:
            seen.append(f"{name}({job.name}")
            try:
                return await call(job)
            finally:
                seen.append(f"{name})")

        return wrap

    engine = Engine()
    engine.register("add", add)
    engine.around("*", wrapper("inner"))
    engine.around("add", wrapper("outer"))
    with pytest.raises(BadParameter):
        await engine.job("add", c=1).run()
    assert seen == ["outer(add", "inner(add", "inner)", "outer)"]


async def test_a_wrapper_may_refuse_and_may_change_the_env() -> None:
    async def policy(job: Job[Any], call: Any) -> Any:
        if job.env.get("b") == 13:
            raise Denied("not today")
        return await call(job)

    engine = Engine()
    engine.register("add", add)
    engine.around("a*", policy)
    with pytest.raises(Denied):
        await engine.job("add", 1, 13).run()
    with pytest.raises(Denied):
        await engine.call(Add(a=1, b=13))
    assert await engine.job("add", 1, 2).run() == 3


async def test_a_wrapper_added_after_the_first_run_counts() -> None:
    async def zero(job: Job[Any], call: Any) -> int:
        return 0

    engine = Engine()
    engine.register("add", add)
    await engine.job("add", 1).run()
    engine.around("add", zero)
    assert await engine.job("add", 1).run() == 0


async def test_an_unexpected_exception_becomes_internal_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(job: Job[Any]) -> None:
        raise ZeroDivisionError("a secret")

    engine = Engine()
    engine.register("broken", broken)
    job = engine.job("broken")
    with caplog.at_level(logging.ERROR, "windlass.engine"), pytest.raises(Internal) as caught:
        await job.run()
    assert "secret" not in caught.value.message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "a secret" in caplog.text
    assert (job.state, job.exit_status) == ("failed", 1)


async def test_a_lone_error_comes_out_of_its_nursery() -> None:
    async def fail() -> None:
        raise NotFound("no such container: web")

    async def nested(job: Job[Any]) -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            inner.start_soon(fail)
            outer.start_soon(trio.sleep_forever)

    engine = Engine()
    engine.register("nested", nested)
    with pytest.raises(NotFound, match="web"):
        await engine.job("nested").run()


async def test_a_child_knows_its_parent_and_ends_with_it() -> None:
    parents: list[str] = []

    async def outer(job: Job[Any]) -> None:
        await job.engine.job("inner").run()

    async def inner(job: Job[Any]) -> None:
        parents.append(str(job.parent))
        assert job.parent is not None
        job.parent.cancel()
        await trio.sleep_forever()

    engine = Engine()
    engine.register("outer", outer)
    engine.register("inner", inner)
    job = engine.job("outer")
    with trio.fail_after(5), pytest.raises(Cancelled):
        await job.run()
    assert parents == [str(job)]
    assert not engine.running


async def test_a_job_from_outside_has_no_parent() -> None:
    engine = Engine()
    seen: list[Any] = []

    async def outer(job: Job[Any]) -> None:
        seen.append(Job(engine, "add", outside=True).parent)

    engine.register("outer", outer)
    await engine.job("outer").run()
    assert seen == [None]


async def test_a_service_starts_when_it_is_ready() -> None:
    async def serve(job: Job[Any]) -> None:
        await job.ready("listening")
        await job.stopping.wait()

    async with Engine() as engine:
        engine.register("serve", serve)
        job = engine.job("serve")
        assert await job.start() == "listening"
        assert (job.state, job.is_ready, engine.services) == ("running", True, [job])
    assert job.state == "done"


async def test_a_service_that_fails_before_it_is_ready_fails_its_start() -> None:
    async def serve(job: Job[Any]) -> None:
        raise Conflict("the port is taken")

    async with Engine() as engine:
        engine.register("serve", serve)
        with pytest.raises(Conflict, match="taken"):
            await engine.job("serve").start()
        assert engine.services == []


async def test_a_service_that_fails_later_is_logged_and_ends_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    fails = trio.Event()

    async def serve(job: Job[Any]) -> None:
        await job.ready()
        await fails.wait()
        raise NotFound("my socket is gone")

    async with Engine() as engine:
        engine.register("serve", serve)
        job = engine.job("serve")
        await job.start()
        fails.set()
        await trio.testing.wait_all_tasks_blocked()
        assert engine.services == [] and isinstance(job.error, NotFound)
        assert await engine.job("commands").run()
    assert "my socket is gone" in caplog.text


async def test_a_job_that_ends_without_ready_starts_with_its_result() -> None:
    async with Engine() as engine:
        engine.register("add", add)
        assert await engine.job("add", 1).start() == 2


async def test_starting_needs_a_nursery() -> None:
    engine = Engine()
    engine.register("add", add)
    with pytest.raises(RuntimeError, match="nursery"):
        await engine.job("add", 1).start()


async def test_two_engines_share_nothing() -> None:
    one, two = Engine(), Engine()
    one.register("add", add)
    one.provide("route", 1)
    assert "add" not in two.names() and two.provided("route") == ()


async def test_what_is_provided_comes_in_order() -> None:
    engine = Engine()
    for route in (1, 2):
        engine.provide("route", route)
    assert engine.provided("route") == (1, 2)
    assert engine.provided("nothing") == ()


async def test_installers_install_in_order() -> None:
    names: list[str] = []
    engine = install_all(Engine(), [lambda e: names.append("a"), lambda e: names.append("b")])
    assert names == ["a", "b"] and isinstance(engine, Engine)


async def test_one_line_of_text_makes_a_job() -> None:
    engine = Engine()
    engine.register("add", add)
    assert await engine.parse_job("b=5 add 2").run() == 7


async def test_a_job_of_another_signature_is_a_mistake_of_ours() -> None:
    engine = Engine()
    engine.register("strange", add)
    with pytest.raises(Internal):
        await engine.call(Strange())


def test_results_survive_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Add(a=1)), type=Add) == Add(a=1)
