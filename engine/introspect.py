"""The engine's own jobs: `commands`, `jobs`, `describe`, `cancel`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from .errors import NotFound
from .job import Job
from .signature import Args, Signature, fields, result_type

if TYPE_CHECKING:
    from .engine import Engine


class Commands(Signature[list[str]], frozen=True):
    """List the names of all jobs."""

    NAME: ClassVar[str] = "commands"
    READONLY: ClassVar[bool] = True


class JobInfo(msgspec.Struct, frozen=True):
    """One running job."""

    id: int
    name: str
    parent: int | None
    state: str
    age: Annotated[float, Meta(description="Seconds since it began.")]
    deadline: Annotated[float | None, Meta(description="Seconds that it may take in all.")]
    env: dict[str, Any]


class Jobs(Signature[list[JobInfo]], frozen=True):
    """List the running jobs, parents before children."""

    NAME: ClassVar[str] = "jobs"
    READONLY: ClassVar[bool] = True


class Description(msgspec.Struct, frozen=True):
    """What a job is, takes and gives."""

    name: str
    doc: str
    params: Annotated[dict[str, Any], Meta(description="JSON Schema of the env.")]
    result: Annotated[dict[str, Any], Meta(description="JSON Schema of the result.")]
    args: Annotated[list[str], Meta(description="The keys that positional arguments fill, in order.")]
    local: bool = False
    readonly: bool = False


class Describe(Signature[Description], frozen=True):
    """Describe a job: its parameters and its result, as JSON Schema."""

    NAME: ClassVar[str] = "describe"
    READONLY: ClassVar[bool] = True
    name: Annotated[str, Meta(description="The job's name.")]


class Cancel(Signature[None], frozen=True):
    """Cancel a running job, with its children."""

    NAME: ClassVar[str] = "cancel"
    id: Annotated[int, Meta(description="The job's id, as `jobs` lists it.")]


async def commands(job: Job[Commands]) -> list[str]:
    return job.engine.names()


async def jobs(job: Job[Jobs]) -> list[JobInfo]:
    return [
        JobInfo(
            id=each.id,
            name=each.name,
            parent=each.parent.id if each.parent else None,
            state=each.state,
            age=each.age,
            deadline=None if each.deadline == float("inf") else each.deadline,
            env=_plain(each.shown_env),
        )
        for each in job.engine.running.values()
    ]


async def describe(job: Job[Describe]) -> Description:
    return description(job.engine, job.params.name)


async def cancel(job: Job[Cancel]) -> None:
    victim = job.engine.running.get(job.params.id)
    if victim is None:
        raise NotFound(f"no such job running: {job.params.id}")
    victim.cancel()


def description(engine: Engine, name: str) -> Description:
    """Describe job `name`. Raises NoSuchJob."""
    handler = engine.handler(name)
    signature = engine.signature(name) or Args
    doc = _doc(handler) or (None if signature is Args else signature.__doc__)
    return Description(
        name=name,
        doc=inspect.cleandoc(doc or ""),
        params=schema(signature),
        result=schema(result_type(signature)),
        args=[] if signature is Args else list(fields(signature)),
        local=signature.LOCAL,
        readonly=signature.READONLY,
    )


def _doc(handler: Any) -> str | None:
    """The handler's own docstring: a partial has one that speaks of partials."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    doc: str | None = handler.__doc__
    return doc


def schema(type_: Any) -> dict[str, Any]:
    """JSON Schema of `type_`; `{}`, which is anything, for what JSON cannot say (a `local` signature's objects)."""
    try:
        return msgspec.json.schema(type_)
    except TypeError:
        return {}


def _plain(env: dict[str, Any]) -> dict[str, Any]:
    """`env` as JSON values; what JSON cannot carry is shown by its repr."""
    plain: dict[str, Any] = msgspec.to_builtins(env, enc_hook=repr, str_keys=True)
    return plain


def install(engine: Engine) -> None:
    """Register the engine's own jobs."""
    for name, handler in (("commands", commands), ("jobs", jobs), ("describe", describe), ("cancel", cancel)):
        engine.register(name, handler)
