"""What a job tells while it runs: progress and warnings, structured, apart from its bytes and its result."""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event", omit_defaults=True):
    """Base of what `job.emit` takes."""


class Warning(Event, frozen=True, tag="warning"):
    """Something that the caller should know, though the job goes on."""

    message: str


class Progress(Event, frozen=True, tag="progress"):
    """How far a job is. `current` and `total` count bytes unless `units` says otherwise; 0 is unknown."""

    status: str
    id: str = ""
    current: int = 0
    total: int = 0
    units: str = ""


class Output(Event, frozen=True, tag="output"):
    """A line for people in a stream of progress, as `docker build` and `docker load` print them."""

    stream: str


class Aux(Event, frozen=True, tag="aux"):
    """A value in the middle of a stream of progress: an image's id, a digest."""

    value: dict[str, Any]


class Ready(Event, frozen=True, tag="ready"):
    """The job has begun in earnest: from here on errors come late. Told to remote callers only."""


AnyEvent = Warning | Progress | Output | Aux | Ready
