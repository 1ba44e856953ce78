"""The OpenAPI description of our own surface, `/engine/v1`: rows of the route table and the jobs' signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from windlass.engine import Engine, Signature, result_type
from windlass.engine.errors import BY_CODE
from windlass.engine.introspect import description, schema
from windlass.lib.version import VERSION

from .errors import STATUS
from .route import Route

PREFIX = "/engine/v1/"
REFERENCE = "#/components/schemas/{name}"
_NAME = re.compile(r"\{(\w+)\*?\}")

Schema = dict[str, Any]


class Schemas:
    """JSON Schemas of many types, with what they share in one place; `{}` for what JSON cannot say."""

    def __init__(self, types: Iterable[Any]) -> None:
        self._types = [each for each in types if schema(each)]
        schemas, self.components = msgspec.json.schema_components(self._types, ref_template=REFERENCE)
        self._schemas = list(schemas)

    def of(self, type_: Any) -> Schema:
        return self._schemas[self._types.index(type_)] if type_ in self._types else {}


def document(engine: Engine, rows: Iterable[Route]) -> Schema:
    """OpenAPI 3.1: every row below PREFIX, and one operation for each job that may be called from outside."""
    signatures = {name: signature for name in engine.names() if (signature := engine.signature(name)) is not None}
    schemas = Schemas([*signatures.values(), *map(result_type, signatures.values())])
    paths: dict[str, Schema] = {}
    for row in rows:
        if row.path.startswith(PREFIX) and row.job != "job":
            operation = _operation(engine, row, schemas)
            paths.setdefault(_NAME.sub(r"{\1}", row.path), {})[row.method.lower()] = operation
    for name, signature in signatures.items():
        if not signature.LOCAL:
            paths[f"{PREFIX}jobs/{name}"] = {"post": _job_operation(engine, name, signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "windlass", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas.components | {"Error": ERROR}},
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
BASE64: Schema = {"type": "string", "contentEncoding": "base64"}


def _operation(engine: Engine, row: Route, schemas: Schemas) -> Schema:
    signature = engine.signature(row.job)
    doc = inspect.cleandoc(signature.__doc__ or "") if signature else "Describe this surface."
    result = schemas.of(result_type(signature)) if signature else {}
    return {
        "operationId": f"{row.method.lower()}_{row.job}",
        "summary": doc.partition("\n")[0],
        "parameters": [_parameter(name) for name in _NAME.findall(row.path)],
        "responses": {str(row.ok): {"description": "done"} if row.ok == 204 else _content("the result", result)}
        | _failures(),
    }


def _parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _job_operation(engine: Engine, name: str, signature: type[Signature[Any]], schemas: Schemas) -> Schema:
    doc = description(engine, name).doc
    properties: dict[str, Schema] = {
        "args": {"type": "array"},
        "env": schemas.of(signature),
        "lax": {"type": "boolean", "default": False},
    }
    lines = {
        "event": {"type": "object"},
        "stdout": BASE64,
        "stderr": BASE64,
        "result": schemas.of(result_type(signature)),
        "error": {"$ref": REFERENCE.format(name="Error")},
    }
    body = {"type": "object", "additionalProperties": False, "properties": properties}
    line = {"oneOf": [_only(key, value) for key, value in lines.items()]}
    return {
        "operationId": f"job_{name}",
        "summary": doc.partition("\n")[0],
        "description": doc,
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {"200": _content("one JSON value a line", line, "application/x-ndjson")} | _failures(),
    }


def _only(key: str, value: Schema) -> Schema:
    return {"type": "object", "properties": {key: value}, "required": [key]}


def _content(text: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _failures() -> Schema:
    statuses = sorted({status for status in STATUS.values() if status >= 400})
    return {str(status): _content("an error", {"$ref": REFERENCE.format(name="Error")}) for status in statuses}
