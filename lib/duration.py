"""Durations as Go writes them: `300ms`, `1m30s`, `1.5h`, and, of its own accord, `1h30m0s`."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(h|ms|us|µs|ns|m|s)", re.ASCII)
UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}


def parse(text: str) -> int:
    """Return nanoseconds. Raises ValueError."""
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f'invalid duration "{text:.100}"')
    return sum(
        int(part[1]) * UNITS[part[3]] + int(part[2] or 0) * UNITS[part[3]] // 10 ** len(part[2] or "") for part in parts
    )


def text(nanoseconds: int) -> str:
    """Write a duration that is not negative, as Go does (time.Duration.String)."""
    for unit in ("ns", "µs", "ms"):
        if nanoseconds < UNITS[unit] * 1000:
            return f"{_decimal(nanoseconds, UNITS[unit])}{unit}" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{shown}{_decimal(rest, UNITS['s'])}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
