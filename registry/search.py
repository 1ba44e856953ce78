"""Job `search`: repositories by name, where a registry has the old search of Docker Hub's v1 API."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError
from windlass.engine.params import parse_json
from windlass.jobs.registry import Search, SearchResult
from windlass.lib.reference import DEFAULT_DOMAIN, OFFICIAL

from . import errors
from .credentials import for_host, parse_auth
from .errors import RegistryError, Unreachable
from .resolve import origins
from .session import Session
from .settings import Settings

HUB_INDEX = "index.docker.io"
ANSWER_MAX = 4 << 20  # bytes
DEFAULT, MOST = 25, 100  # results
FILTERS = ("is-automated", "is-official", "stars")


async def search(settings: Settings, job: Job[Search]) -> list[SearchResult]:
    """Search a registry for images."""
    params = job.params
    filters = {key: list(values) for key, values in params.filters.items()}
    check(params.limit, filters)
    host, term = split(params.term)
    query = urlencode({"q": term, "n": params.limit or DEFAULT})
    credentials = for_host(parse_auth(params.auth), host)
    if host == DEFAULT_DOMAIN:
        host = settings.default or HUB_INDEX
    endpoints = await origins(settings, host, credentials=credentials)
    for endpoint in endpoints:
        async with Session(settings, endpoint) as session:
            try:
                _, body = await session.read("GET", f"/v1/search?{query}", ANSWER_MAX)
            except Unreachable:
                if session.was_reached or endpoint is endpoints[-1]:
                    raise
            except RegistryError as exc:
                raise errors.of_any(exc) from exc
            else:
                return [result for result in parse(body) if keep(result, filters)]
    raise AssertionError("there is always an endpoint")


def check(limit: int, filters: dict[str, list[str]]) -> None:
    """Raise BadParameter for a limit or a filter that there is not."""
    if limit and not 1 <= limit <= MOST:
        raise BadParameter(f"limit {limit} is outside the range of [1, {MOST}]", key="limit")
    for key, values in filters.items():
        if key not in FILTERS:
            raise BadParameter(f"invalid filter '{key:.100}'", key="filters")
        for value in values:
            if not (value.isdecimal() if key == "stars" else value in ("true", "false", "1", "0")):
                raise BadParameter(f"invalid filter '{key}={value:.100}'", key="filters")


def split(term: str) -> tuple[str, str]:
    """The registry and what to look for there (moby: splitReposSearchTerm)."""
    if "://" in term:
        raise BadParameter('invalid repository name (ex: "registry.domain.tld/myrepos")', key="term")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (DEFAULT_DOMAIN if first == HUB_INDEX else first), rest
    return DEFAULT_DOMAIN, term.removeprefix(OFFICIAL)


def parse(body: bytes) -> list[SearchResult]:
    """The results in an answer; one that is none is left out. Raises JobError when it is no answer at all."""
    answer: Any = parse_json(body, "the registry's answer")
    items = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise JobError("the registry's answer to the search is malformed")
    return [result for item in items[:MOST] if (result := _result(item)) is not None]


def _result(item: Any) -> SearchResult | None:
    try:
        return msgspec.convert({key: value for key, value in item.items() if value is not None}, SearchResult)
    except (AttributeError, msgspec.ValidationError):
        return None


def keep(result: SearchResult, filters: dict[str, list[str]]) -> bool:
    """True for what the filters let through."""
    official = [(value in ("true", "1")) == result.is_official for value in filters.get("is-official", ())]
    automated = [(value in ("true", "1")) == result.is_automated for value in filters.get("is-automated", ())]
    stars = [result.star_count >= int(value) for value in filters.get("stars", ())]
    return all([*official, *automated, *stars])
