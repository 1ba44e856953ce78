"""Turns an untyped env (HTTP query, flags, JSON body, keyword arguments) into a job's declared parameters.

Two kinds of value come in. *Text* comes from a query string or a command line and is parsed, once, here: Docker's
booleans, decimal integers, everything else strictly. *Values* come from JSON or from code and must fit already;
`true` is no integer, `"1"` is no integer either, unless the caller says `lax`.

msgspec does the typed work. Ours is what it lacks: the nearest key, the exact path, Docker's booleans, integers
that are really decimal digits, and JSON that is guarded before it is decoded (msgspec lets doubled keys through,
and raises other things than DecodeError on deep nesting and bad UTF-8).
"""

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, NoReturn, TypeVar

import msgspec

from .errors import BadParameter
from .signature import Signature, fields

S = TypeVar("S", bound=msgspec.Struct)

MAX_DEPTH = 200
TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})
FALSE = frozenset({"", "0", "f", "false", "n", "no", "none", "off"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z", re.ASCII)
_FLOAT = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\Z", re.ASCII)
_PATH = re.compile(r"(?P<text>.*?) - at `\$(?P<path>[^`]*)`\Z", re.DOTALL)


def bind(signature: type[Signature[Any]], args: Sequence[Any], env: Mapping[str, Any]) -> dict[str, Any]:
    """Put positional `args` under the names of the signature's fields, beside `env`.

    Raises BadParameter when there are too many, or one is given twice.
    """
    bound = dict(env)
    rest = signature.REST
    names = list(fields(signature))
    if rest:
        names = names[: names.index(rest)]  # what stands after it is given by name
    if len(args) > len(names) and not rest:
        raise BadParameter(f"{signature.NAME} takes at most {len(names)} arguments, got {len(args)}")
    for name, value in zip(names, args, strict=False):
        if name in bound:
            raise BadParameter(f"{name!r} is given twice", key=name)
        bound[name] = value
    if rest and len(args) > len(names):
        bound[rest] = list(args[len(names) :])
    return bound


def build(signature: type[S], env: Mapping[str, Any], *, lax: bool = False, ignore_unknown: bool = False) -> S:
    """Check `env` against `signature` and return the typed parameters.

    `lax` parses text, for queries and command lines. `ignore_unknown` is for Docker's own JSON bodies, where unknown
    keys are ignored and null means the default, as dockerd does. Raises BadParameter naming the key.
    """
    known = fields(signature)
    if ignore_unknown:
        env = {key: _without_nulls(value) for key, value in env.items() if key in known and value is not None}
    else:
        for key in env:
            if key not in known:
                raise _unknown(key, known)
    for name, field in known.items():
        if field.required and name not in env:
            raise BadParameter(f"missing key {name!r}", key=name)
    if lax:
        env = {key: from_text(known[key].type, value, key) for key, value in env.items()}
    if not ignore_unknown:
        for name in _nesting(signature):
            if name in env:
                _check_keys(known[name].type, env[name], name)
    try:
        return msgspec.convert(env, signature)
    except msgspec.ValidationError as exc:
        raise _readable(exc) from None


def _unknown(key: Any, known: Mapping[str, Any], path: str = "") -> BadParameter:
    folded = {name.lower(): name for name in known}
    near = folded.get(str(key).lower()) or next(iter(get_close_matches(str(key), known, 1)), None)
    hint = f", did you mean {path + near!r}?" if near else ""
    return BadParameter(f"unknown key {f'{path}{key}'!r}{hint}", key=f"{path}{key}")


@cache
def _nesting(signature: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields whose values may hold objects with keys of their own."""
    return tuple(name for name, field in fields(signature).items() if _holds_struct(field.type))


def _holds_struct(hint: Any) -> bool:
    return _is_struct(hint) or any(_holds_struct(arg) for arg in typing.get_args(hint))


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _check_keys(hint: Any, value: Any, path: str) -> None:
    """Refuse keys at `path` that `hint` does not know: msgspec would ignore them, and with them a misspelt limit."""
    hint = _bare(hint)
    args = typing.get_args(hint)
    if _is_struct(hint) and isinstance(value, dict):
        known = fields(hint)
        for key, item in value.items():
            if key not in known:
                raise _unknown(key, known, f"{path}.")
            _check_keys(known[key].type, item, f"{path}.{key}")
    elif isinstance(value, list) and args:
        for number, item in enumerate(value):
            _check_keys(args[0], item, f"{path}[{number}]")
    elif isinstance(value, dict) and len(args) == 2 and typing.get_origin(hint) is dict:
        for key, item in value.items():
            _check_keys(args[1], item, f"{path}.{key}")


def _readable(exc: msgspec.ValidationError) -> BadParameter:
    match = _PATH.match(str(exc))
    if match is None:
        return BadParameter(str(exc))
    key = match["path"].lstrip(".")
    text = match["text"]
    return BadParameter(f"{key!r}: {text[:1].lower()}{text[1:]}", key=key)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def from_text(hint: Any, value: Any, key: str) -> Any:
    """Parse `value`, if it is text, as the type `hint`. Anything else is returned as it is.

    Booleans are Docker's words; numbers are ASCII decimal; lists and objects are JSON, and a list of strings may
    also be one bare string. Raises BadParameter naming `key`.
    """
    hint = _bare(hint)
    if isinstance(value, list) and value and hint in (bool, int, float, str):
        return from_text(hint, value[-1], key) if len(value) == 1 else _refuse(key, "is given more than once", value)
    if not isinstance(value, str):
        return value
    if hint is bool:
        if value.lower() in TRUE:
            return True
        return False if value.lower() in FALSE else _refuse(key, "must be a boolean", value)
    if hint is int:
        return int(value) if _INTEGER.match(value) else _refuse(key, "must be an integer", value)
    if hint is float:
        return float(value) if _FLOAT.match(value) else _refuse(key, "must be a number", value)
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple, dict) or (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        return _structured(origin, value, key)
    return value


def _bare(hint: Any) -> Any:
    """`hint` without Annotated and without None; a list that may also be one bare string is a list."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if len(rest) > 1 and str in rest:
            rest.remove(str)
        if len(rest) == 1:
            return _bare(rest[0])
    return hint


def _structured(origin: Any, value: str, key: str) -> Any:
    if value.lstrip()[:1] in ("[", "{"):
        return parse_json(value, key)
    if origin in (list, tuple):
        return [value] if value else []
    return {} if not value else _refuse(key, "must be a JSON object", value)


def _refuse(key: str, why: str, value: Any) -> NoReturn:
    raise BadParameter(f"{key!r} {why}, not {value!r:.100}", key=key)


def parse_json(text: str | bytes, what: str = "the body") -> Any:
    """Decode JSON from a stranger.

    Raises BadParameter on: bad UTF-8, nesting over MAX_DEPTH, a key twice in one object, NaN and Infinity, integers
    beyond 64 bits, lone surrogates, anything after the value.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        text.encode()
        _check_depth(text, what)
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
        _check_text(value)
    except RecursionError:
        raise BadParameter(f"{what} is nested deeper than {MAX_DEPTH}") from None
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise BadParameter(f"{what} is not valid UTF-8") from None
    except ValueError as exc:
        raise BadParameter(f"{what} is not valid JSON: {exc}") from None
    return value


_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _check_depth(text: str, what: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise BadParameter(f"{what} is nested deeper than {MAX_DEPTH}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} is given twice")
    return result


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**64:
        raise ValueError(f"the integer {digits:.24} does not fit into 64 bits")
    return number


def _float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"the number {digits:.24} does not fit into 64 bits")
    return number


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, which JSON escapes can make and UTF-8 cannot carry."""
    if isinstance(value, str):
        if not value.isascii():
            value.encode()
    elif isinstance(value, list):
        for item in value:
            _check_text(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
