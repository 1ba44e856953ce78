"""A job from one line of text: Docker 1.3's `ParseJob`, with a shell's quoting."""

from __future__ import annotations

import re
import shlex

from .errors import BadParameter

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")


def split(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Split `text` into a job's name, its arguments and its env.

    KEY=VALUE is an env entry wherever it stands, also before the name; the first `=` splits; the last of two wins.
    After a word `--` every word is an argument, so that one may contain `=`. Raises BadParameter on a line without
    a name, or with an open quote.
    """
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise BadParameter(f"{exc}: {text!r}") from None
    env: dict[str, str] = {}
    args: list[str] = []
    literal = False
    for word in words:
        if not literal and word == "--":
            literal = True
        elif not literal and _KEY.match(word):
            key, _, value = word.partition("=")
            env[key] = value
        else:
            args.append(word)
    if not args:
        raise BadParameter(f"empty command: {text!r}")
    return args[0], args[1:], env
