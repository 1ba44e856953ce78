"""What filters of several kinds of objects have in common: labels, names, moments (moby: api/types/filters)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

from . import duration, timestamp

# Of the daemon's own time zone, as Docker has it.
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?", re.ASCII)


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """True when the label `KEY`, or `KEY=VALUE`, is there."""
    key, equals, value = wanted.partition("=")
    return labels.get(key) == value if equals else key in labels


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """True when all of them are there, as it is with none."""
    return all(has_label(labels, each) for each in wanted)


def search(pattern: str, text: str) -> bool:
    """Match a name: by a regular expression that fits anywhere (`^web$`); what is none is looked for as it is."""
    try:
        return pattern in text or re.search(pattern, text) is not None
    except re.error:
        return False


def until(text: str) -> int:
    """The moment of a filter `until`, in nanoseconds since the epoch: a point in time, or how long ago (`1h30m`).

    Raises ValueError.
    """
    try:
        return time.time_ns() - duration.parse(text)
    except ValueError:
        if _DATE.fullmatch(text):
            return int(datetime.fromisoformat(text).timestamp()) * timestamp.SECOND
        return timestamp.parse(text)
