"""`windlass job NAME [ARG…] [KEY=VALUE…]` and `windlass job -f FILE`: any job, from a shell."""

from __future__ import annotations

import re
import sys

from windlass.client.http import HTTPError

from .command import JSON, arguments, call, dump
from .flags import Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from windlass.client.http import Client

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")
NO_SUCH_JOB = 127
FLAGS = [
    Flag("-f --file", "file", str, "Run the jobs of this YAML file, one after the other", "FILE"),
    Flag("-i --interactive", "stdin", bool, "Send our stdin to the job's"),
    JSON,
]


def job(client: Client, words: list[str]) -> int:
    values, rest = arguments("job", words, FLAGS, takes="NAME [ARG...] [KEY=VALUE...]", most=-1, interspersed=False)
    try:
        if "file" in values:
            return _file(client, values["file"], rest)
        name, args, env = split(rest)
        stdin = sys.stdin.buffer if values.get("stdin") else None
        show(call(client, name, *args, env=env, lax=True, stdin=stdin))
    except HTTPError as exc:
        print(f"windlass: {exc.message}", file=sys.stderr)
        return NO_SUCH_JOB if exc.code == "no-such-job" else 1
    return 0


def split(words: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """A job's name, arguments and env: KEY=VALUE is env wherever it stands, until a word `--`."""
    args: list[str] = []
    env: dict[str, str] = {}
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        if KEY.match(word):
            key, _, value = word.partition("=")
            env[key] = value
        else:
            args.append(word)
    args += words[end + 1 :]
    if not args:
        raise UsageError('"windlass job" requires the name of a job.')
    return args[0], args[1:], env


def show(result: Any) -> None:
    """Print a result: text as it is, nothing for nothing, the rest as JSON."""
    if isinstance(result, str):
        print(result)
    elif result is not None:
        dump(result)


def _file(client: Client, path: str, rest: list[str]) -> int:
    from windlass.lib.jobfile import JobFileError, read

    if rest:
        raise UsageError(f"-f takes no job besides the file's: {rest[0]}")
    try:
        jobs = read(path)
    except (JobFileError, OSError) as exc:
        print(f"windlass: {exc}", file=sys.stderr)
        return 1
    for name, args, env in jobs:
        show(call(client, name, *args, env=env))
    return 0
