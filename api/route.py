"""A route: one row that says which job a request becomes, and what its outcome looks like. Never a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .head import Version

Render = Callable[[Any, Version], Any]
HeadersOf = Callable[[Any], list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row. Plugins add theirs with `engine.provide("route", Route(...))`; these are tried before ours.

    The env is made of the body's keys (`body="json"`), `fixed`, `query`, `headers` and the names in the path, later
    ones winning. An entry `key=field` of `query` and `headers` fills another field than its name says. Text of a
    query is parsed leniently, keys that the job does not know are left out, as dockerd does.

    How the answer comes:
      plain      the result, rendered, with status `ok`; with `early` its head goes out at the job's `ready`
      raw        the job's stdout, as `content_type`, from `ready` or the first byte on
      progress   the job's events as Docker's JSON lines, the result last if `render` makes a line of it
      hijack     the connection becomes the job's stdin and stdout, unless the body's key `unless` is true
    """

    method: str
    path: str
    job: str = ""
    query: tuple[str, ...] = ()
    body: Literal["", "json", "stdin"] | str = ""  # "json:field" puts the whole object under one key
    headers: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()
    older: tuple[tuple[Version, str, Any], ...] = ()  # fields with a value for clients of versions below the one named
    when: str = ""  # the row is for requests with this key in the query
    ok: int = 200
    headers_of: HeadersOf | None = None  # further headers of the answer, made of the result, or of what `ready` carries
    render: Render | None = None
    kind: Literal["plain", "raw", "progress", "hijack", "own"] = "plain"
    early: bool = False
    unless: str = ""
    content_type: str = "application/json"
    cancel: bool = False  # the client's leaving cancels the job; without it the job finishes
    live: bool = False  # does not end by itself: cancelled when the server stops
    since: Version = (1, 0)
    answer: Any = field(default=None)  # a constant instead of a job
    refuse: tuple[int, str] | None = None  # a status and a sentence instead of a job
    lax: bool = True  # query text is parsed leniently; /engine/v1 is strict about unknown keys
