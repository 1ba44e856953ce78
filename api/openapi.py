"""The OpenAPI description of our own surface, `/engine/v1`: rows of the route table and the jobs' signatures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from windlass.engine import Engine
from windlass.engine.errors import BY_CODE
from windlass.engine.introspect import Description, description
from windlass.lib.version import VERSION

from .errors import STATUS
from .route import Route

PREFIX = "/engine/v1/"
_NAME = re.compile(r"\{(\w+)\*?\}")

Schema = dict[str, Any]


def document(engine: Engine, rows: Iterable[Route]) -> Schema:
    """OpenAPI 3.1: every row below PREFIX, and one operation for each job that may be called from outside."""
    paths: dict[str, Schema] = {}
    for row in rows:
        if row.path.startswith(PREFIX) and row.job != "job":
            paths.setdefault(_NAME.sub(r"{\1}", row.path), {})[row.method.lower()] = _operation(engine, row)
    for name in engine.names():
        told = description(engine, name)
        if not told.local:
            paths[f"{PREFIX}jobs/{name}"] = {"post": _job_operation(told)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "windlass", "version": VERSION},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"enum": sorted(BY_CODE)},
        "message": {"type": "string"},
        "detail": {"type": "object"},
    },
    "required": ["message"],
}


def _operation(engine: Engine, row: Route) -> Schema:
    told = description(engine, row.job) if engine.signature(row.job) else None
    {"description": "done"} if row.ok == 204 else _content("the result", told.result if told else {})
    return {
        "operationId": f"{row.method.lower()}_{row.job}",
        "summary": told.doc.partition("\n")[0] if told else "Describe this surface.",
        "parameters": [_parameter(name) for name in _NAME.findall(row.path)],
        "responses": {
            str(row.ok): _content("the result", told.result if told else {})
            if row.ok != 204
            else {"description": "done"}
        }
        | _failures(),
    }


def _parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _job_operation(told: Description) -> Schema:
    body = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"args": {"type": "array"}, "env": told.params, "lax": {"type": "boolean", "default": False}},
    }
    line = {
        "oneOf": [
            {"type": "object", "properties": {"event": {"type": "object"}}, "required": ["event"]},
            {"type": "object", "properties": {"stdout": BASE64}, "required": ["stdout"]},
            {"type": "object", "properties": {"stderr": BASE64}, "required": ["stderr"]},
            {"type": "object", "properties": {"result": told.result}, "required": ["result"]},
            {"type": "object", "properties": {"error": {"$ref": "#/components/schemas/Error"}}, "required": ["error"]},
        ]
    }
    return {
        "operationId": f"job_{told.name}",
        "summary": told.doc.partition("\n")[0],
        "description": told.doc,
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {"200": _content("one JSON value a line", line, "application/x-ndjson")} | _failures(),
    }


BASE64: Schema = {"type": "string", "contentEncoding": "base64"}


def _content(text: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _failures() -> Schema:
    statuses = sorted({status for status in STATUS.values() if status >= 400})
    return {str(status): _content("an error", {"$ref": "#/components/schemas/Error"}) for status in statuses}
