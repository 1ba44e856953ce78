"""Makes a job's env out of a request, as its row in the route table says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from windlass.engine import Engine
from windlass.engine.errors import BadParameter
from windlass.engine.params import from_text, parse_json
from windlass.engine.signature import Args, Signature, fields

from .errors import Refused
from .exchange import Exchange
from .head import Version
from .limits import Limits
from .route import Route

BIG = 256 << 10  # bytes of JSON from which on decoding would hold the loop up

Query = Mapping[str, list[str]]


async def env_of(
    route: Route, names: Mapping[str, str], query: Query, exchange: Exchange, engine: Engine, version: Version
) -> dict[str, Any]:
    """The env for `route`'s job. Raises Refused and BadParameter."""
    signature = engine.signature(route.job) or Args
    env: dict[str, Any] = {}
    if route.body.startswith("json"):
        body = await json_body(exchange)
        _, _, field = route.body.partition(":")
        env = {field: body} if field else _folded(body, signature)
    env.update(route.fixed)
    env.update({field: value for below, field, value in route.older if version < below})
    env.update(_from_query(route, query, signature))
    for entry in route.headers:
        header, _, field = entry.partition("=")
        if value := exchange.head.headers.get(header.lower()):
            env[field] = value
    env.update({key: from_text(hint_of(signature, key), value, key) for key, value in names.items()})
    return env


def _from_query(route: Route, query: Query, signature: type[Signature[Any]]) -> dict[str, Any]:
    """The query's values, typed. An empty one means that it was not given, but for a boolean: there it is false."""
    env = {}
    for entry in route.query:
        key, _, field = entry.partition("=")
        if (values := query.get(key)) is None:
            continue
        hint = hint_of(signature, field := field or key)
        if values != [""] or hint in (bool, Any):
            env[field] = from_text(hint, values[0] if len(values) == 1 else values, key)
    return env


def hint_of(signature: type[Signature[Any]], key: str) -> Any:
    """The type of a job's field; Any for a field that it has not."""
    known = fields(signature) if signature is not Args else {}
    return known[key].type if key in known else Any


def _folded(body: dict[str, Any], signature: type[Signature[Any]]) -> dict[str, Any]:
    """`body` with its keys in the signature's case: Go, and so every Docker client, ignores the case of keys."""
    known = fields(signature) if signature is not Args else {}
    if not known or all(key in known for key in body):
        return body
    by_lower = {name.lower(): name for name in known}
    folded = {}
    for key, value in body.items():
        name = key if key in known else by_lower.get(key.lower(), key)
        if name in folded:
            raise BadParameter(f"key {name!r} is given twice", key=name)
        folded[name] = value
    return folded


async def json_body(exchange: Exchange) -> dict[str, Any]:
    """The request's body as a JSON object; empty when there is none. Raises Refused and BadParameter."""
    limits = exchange.connection.limits
    if not exchange.head.has_body:
        return {}
    media_type = exchange.head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json":
        raise Refused(400, f"Content-Type specified ({media_type:.80}) must be 'application/json'")
    data = await exchange.body.read_all(limits.json_body)
    if not data:
        return {}
    if not media_type:
        raise Refused(400, "Content-Type is missing: it must be 'application/json'")
    return await _decoded(data, limits)


async def _decoded(data: bytes, limits: Limits) -> dict[str, Any]:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > limits.json_tokens:
        raise Refused(413, f"the body has more than {limits.json_tokens} values")
    value = await trio.to_thread.run_sync(parse_json, data) if len(data) > BIG else parse_json(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter("the body must be a JSON object")
    return value
