"""Things done at the same time, of which the first failure counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in `group` that is not a cancellation; a cancellation when there is nothing else."""
    _, rest = group.split(trio.Cancelled)
    error: BaseException = rest or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def in_parallel(function: Callable[..., Awaitable[None]], calls: Iterable[tuple[Any, ...]]) -> None:
    """Call `function` with each of `calls` at the same time. Raises the first error, when all the rest is cancelled."""
    try:
        async with trio.open_nursery() as nursery:
            for arguments in calls:
                nursery.start_soon(function, *arguments)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
