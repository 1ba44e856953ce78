"""What a nursery's group of exceptions says to somebody who wants one."""

from __future__ import annotations

import trio


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in `group` that is not a cancellation; a cancellation when there is nothing else."""
    _, rest = group.split(trio.Cancelled)
    error: BaseException = rest or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
