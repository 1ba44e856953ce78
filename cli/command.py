"""What the commands share: their flags and usage, and running a job."""

from __future__ import annotations

import json
import sys

from windlass.client.http import HTTPError
from windlass.client.session import ERROR, EVENT, RESULT, STDERR, STDOUT, Session, request

from .flags import Flag, UsageError, parse, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO, Any

    from windlass.client.http import Client

HELP = Flag("--help", "help", bool, "Print usage")
JSON = Flag("--json", "json", bool, "Print the answer as JSON")


class Helped(SystemExit):
    """The command's help was asked for, and printed."""


def arguments(
    name: str,
    words: list[str],
    flags: Sequence[Flag] = (),
    *,
    takes: str = "",
    most: int = 0,
    interspersed: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Parse a command's own flags; `takes` names its arguments, of which there are `most` at most (-1: any number).

    Raises UsageError; Helped after `--help`.
    """
    values, rest = parse([*flags, HELP], words, interspersed=interspersed)
    if values.get("help"):
        print(f"Usage:  windlass {name} [OPTIONS] {takes}".rstrip() + f"\n\nOptions:\n{usage([*flags, HELP])}")
        raise Helped(0)
    if most >= 0 and len(rest) > most:
        count = f"at most {most} argument{'s' if most > 1 else ''}" if most else "no arguments"
        raise UsageError(f'"windlass {name}" accepts {count}.')
    return values, rest


def call(
    client: Client,
    name: str,
    *args: Any,
    env: dict[str, Any] | None = None,
    lax: bool = False,
    stdin: IO[bytes] | None = None,
) -> Any:
    """Run job `name`; its bytes go to ours, its warnings to stderr. Raises HTTPError, with the job's code."""
    session = Session(client, name, request(args, env or {}, lax=lax))
    try:
        session.pump(stdin)
        for kind, payload in session.frames():
            if kind in (STDOUT, STDERR):
                out = sys.stdout if kind == STDOUT else sys.stderr
                out.buffer.write(payload)
                out.flush()
            elif kind == EVENT:
                show(json.loads(payload))
            elif kind == RESULT:
                return json.loads(payload)
            elif kind == ERROR:
                error = json.loads(payload)
                raise HTTPError(0, error["message"], error["code"], error.get("detail"))
    finally:
        session.close()
    raise OSError(f"the daemon went away while {name} ran")


def show(event: dict[str, Any]) -> None:
    """Print what a job tells in between, for people, on stderr."""
    kind = event.get("event")
    if kind == "warning":
        print(f"WARNING: {event['message']}", file=sys.stderr)
    elif kind == "progress":
        amount = f" {event['current']}/{event['total']}" if event.get("total") else ""
        print(f"{event.get('id', '')} {event['status']}{amount}".strip(), file=sys.stderr)
    elif kind == "output":
        print(event["stream"], end="", file=sys.stderr)


def dump(value: Any) -> None:
    """Print `value` as JSON for people."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
