"""Trying again: what may pass, after a while that grows, or that the registry asks for."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from .errors import RegistryError, Unreachable

T = TypeVar("T")

FIRST = 0.5  # seconds until the second attempt; each later one waits twice as long
LONGEST = 60.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def may_pass(exc: Exception) -> bool:
    """True for what the next attempt may not meet."""
    return isinstance(exc, Unreachable) or (isinstance(exc, RegistryError) and exc.status in PASSING)


def delay(failures: int, exc: Exception) -> float:
    """Seconds to wait after so many failures in a row; what the registry says (Retry-After, in seconds) at least."""
    asked = exc.retry_after if isinstance(exc, RegistryError) else ""
    backoff: float = FIRST * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
    return min(max(backoff, float(asked) if asked.isdigit() else 0.0), LONGEST)


async def retried(
    attempts: int, action: Callable[[], Awaitable[T]], told: Callable[[float], None] = lambda seconds: None
) -> T:
    """Do `action`, up to `attempts` times; `told` hears how long each wait is. Raises what the last one raised."""
    failures = 0
    while True:
        try:
            return await action()
        except (Unreachable, RegistryError) as exc:
            failures += 1
            if failures >= attempts or not may_pass(exc):
                raise
            wait = delay(failures, exc)
        told(wait)
        await trio.sleep(wait)
