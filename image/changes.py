"""Dockerfile instructions that change an image's configuration: `docker import --change`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

from windlass.engine.errors import BadParameter
from windlass.engine.params import parse_json
from windlass.lib import duration

Run = dict[str, Any]

SHELL = ["/bin/sh", "-c"]


def apply(run: Run, instructions: list[str]) -> Run:
    """`run` with each of `instructions` applied. Raises BadParameter naming the instruction."""
    changed = dict(run)
    seen: set[str] = set()
    for line in instructions:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        instruction = INSTRUCTIONS.get(word.upper())
        if instruction is None:
            raise BadParameter(f"{word.lower()} is not a valid change command", key="changes")
        if not rest:
            raise BadParameter(f"{word.upper()} requires at least one argument", key="changes")
        instruction(changed, rest)
        seen.add(word.upper())
        if word.upper() == "ENTRYPOINT" and "CMD" not in seen:
            changed.pop("Cmd", None)  # it was meant for another one
    return changed


def lines(texts: list[str]) -> list[str]:
    """The instructions in `texts`, of which each may have several lines."""
    return [line for text in texts for line in text.splitlines() if line.strip()]


def _command(rest: str) -> list[str]:
    """JSON form as it is; anything else for a shell."""
    if rest.startswith("["):
        try:
            words = parse_json(rest, "the instruction")
        except BadParameter:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [*SHELL, rest]


def _cmd(run: Run, rest: str) -> None:
    run["Cmd"] = _command(rest)


def _entrypoint(run: Run, rest: str) -> None:
    run["Entrypoint"] = _command(rest)


def _pairs(rest: str, what: str) -> list[tuple[str, str]]:
    """KEY=VALUE …, or the old form `KEY VALUE`."""
    try:
        words = shlex.split(rest)
    except ValueError as exc:
        raise BadParameter(f"{what}: {exc}: {rest}", key="changes") from None
    if "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value:
            raise BadParameter(f"{what} must have two arguments", key="changes")
        return [(key, value.strip())]
    if bad := next((word for word in words if "=" not in word or word.startswith("=")), None):
        raise BadParameter(f"Syntax error - can't find = in {bad!r}. Must be of the form: name=value", key="changes")
    return [(key, value) for key, _, value in (word.partition("=") for word in words)]


def _env(run: Run, rest: str) -> None:
    env = dict(entry.partition("=")[::2] for entry in run.get("Env") or [])
    env.update(_pairs(rest, "ENV"))
    run["Env"] = [f"{key}={value}" for key, value in env.items()]


def _label(run: Run, rest: str) -> None:
    run["Labels"] = {**(run.get("Labels") or {}), **dict(_pairs(rest, "LABEL"))}


def _expose(run: Run, rest: str) -> None:
    ports = dict(run.get("ExposedPorts") or {})
    for word in rest.split():
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match is None or not first <= last <= 65535:
            raise BadParameter(f"invalid containerPort: {word}", key="changes")
        ports |= {f"{port}/{match[3] or 'tcp'}": {} for port in range(first, last + 1)}
    run["ExposedPorts"] = ports


def _volume(run: Run, rest: str) -> None:
    paths = _command(rest)
    if paths[:2] == SHELL:
        paths = rest.split()
    run["Volumes"] = {**(run.get("Volumes") or {}), **{path: {} for path in paths}}


def _text(key: str) -> Callable[[Run, str], None]:
    def instruction(run: Run, rest: str) -> None:
        run[key] = rest

    return instruction


def _workdir(run: Run, rest: str) -> None:
    base = "" if rest.startswith("/") else (run.get("WorkingDir") or "/").rstrip("/") + "/"
    run["WorkingDir"] = base + rest


def _onbuild(run: Run, rest: str) -> None:
    run["OnBuild"] = [*(run.get("OnBuild") or []), rest]


def _healthcheck(run: Run, rest: str) -> None:
    """`NONE`, or `[--interval=30s …] CMD COMMAND`; an option that is not given is left to the default."""
    check: dict[str, Any] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, equals, value = option[2:].partition("=")
        if name not in HEALTH_OPTIONS or not equals:
            raise BadParameter(f"unknown flag: {option:.100}", key="changes")
        check[HEALTH_OPTIONS[name]] = _count(value) if name == "retries" else _nanoseconds(value)
        rest = rest.lstrip()
    word, _, command = rest.partition(" ")
    if word.upper() == "NONE" and not command and not check:
        run["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not command.strip():
        raise BadParameter(f'Unknown type "{word.upper():.100}" in HEALTHCHECK (try CMD)', key="changes")
    words = _command(command.strip())
    test = ["CMD-SHELL", command.strip()] if words[:2] == SHELL else ["CMD", *words]
    run["Healthcheck"] = {"Test": test, **check}


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text, re.ASCII):
        raise BadParameter(f"invalid --retries: {text:.100}", key="changes")
    return int(text)


def _nanoseconds(text: str) -> int:
    try:
        return duration.parse(text)
    except ValueError as exc:
        raise BadParameter(f"time: {exc}", key="changes") from None


HEALTH_OPTIONS = {
    "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
    "retries": "Retries",
}  # fmt: skip

INSTRUCTIONS: dict[str, Callable[[Run, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "LABEL": _label,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "USER": _text("User"),
    "WORKDIR": _workdir,
    "STOPSIGNAL": _text("StopSignal"),
    "ONBUILD": _onbuild,
    "HEALTHCHECK": _healthcheck,
}
