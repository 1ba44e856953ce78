"""Signatures: what a job takes and gives, as data.

    class Stop(Signature[None], frozen=True):
        '''Stop a running container: its stop signal first, then KILL.'''

        NAME: ClassVar[str] = "stop"
        name: Annotated[str, Meta(description="Container name or id prefix.")]
        t: Annotated[float | None, Meta(description="Seconds to wait before KILL.")] = None

The type between the brackets is the result's. A handler is `async def stop(job: Job[Stop]) -> None`.
"""

from __future__ import annotations

import typing
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

R = TypeVar("R", covariant=True)


class Signature(msgspec.Struct, Generic[R], frozen=True):
    """Base of every job's parameters. Fields are the env's keys; their order is that of positional arguments."""

    NAME: ClassVar[str] = ""
    LOCAL: ClassVar[bool] = False  # refused over /engine/v1: carries file descriptors or live objects
    READONLY: ClassVar[bool] = False  # changes nothing: it is left out of the journal
    SECRET: ClassVar[frozenset[str]] = frozenset()  # keys that no log, journal or event may show
    REST: ClassVar[str] = ""  # the list field that takes all further positional arguments


class Args(Signature[Any], frozen=True):
    """The signature of a handler that declares none: anything goes."""

    args: list[str] = []
    env: dict[str, Any] = {}


@cache
def result_type(signature: type[Signature[Any]]) -> Any:
    """The type between the brackets of `Signature[…]`, evaluated; Any when there is none."""
    for cls in signature.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            if typing.get_origin(base) is Signature:
                (arg,) = typing.get_args(base)
                return type(None) if arg is None else arg
    return typing.Any


@cache
def fields(signature: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a Struct by their name in an env, in order. The types come evaluated."""
    return {field.encode_name: field for field in msgspec.structs.fields(signature)}


def redacted(signature: type[Signature[Any]], env: dict[str, Any]) -> dict[str, Any]:
    """`env` with the values of secret keys replaced by `***`."""
    return {key: "***" if key in signature.SECRET and value else value for key, value in env.items()}
