"""Points in time as the Docker API says them, in nanoseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SECOND = 10**9
_DECIMAL = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?\Z", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)


def parse(value: str | int | float) -> int:
    """Parse seconds since the epoch, with nine digits of fraction at most, or RFC 3339. Raises ValueError."""
    if isinstance(value, int):
        return value * SECOND
    text = value if isinstance(value, str) else f"{value:.9f}"
    if match := _DECIMAL.match(text):
        fraction = _nanoseconds(match[2])
        return int(match[1]) * SECOND + (-fraction if text.startswith("-") else fraction)
    if match := _RFC3339.match(text):
        seconds = datetime.fromisoformat(match[1].upper() + match[3].upper()).timestamp()
        return int(seconds) * SECOND + _nanoseconds(match[2])
    raise ValueError(f"{text!r:.60} is neither seconds since the epoch nor RFC 3339")


def text(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, in UTC: `2014-10-16T21:54:03.000000001Z`."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _nanoseconds(digits: str | None) -> int:
    return int((digits or "0").ljust(9, "0"))
