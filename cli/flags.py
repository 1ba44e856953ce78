"""Docker's flags: `-it`, `-d=false`, `--rm=true`, `--label a --label b`, `-n5`, `--`.

Short flags stand together, a boolean takes its value after `=` only, a list is given again for each value. Messages
are the docker CLI's (spf13/pflag), since scripts and people know them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(Exception):
    """The command line is wrong, in the docker CLI's words."""


class Flag:
    """One flag. `names` are its spellings, `-d --detach`; `kind` is bool, str, int, float or list (of strings)."""

    def __init__(self, names: str, dest: str, kind: type = bool, help: str = "", metavar: str = "") -> None:
        self.names = names.split()
        self.dest = dest
        self.kind = kind
        self.help = help
        self.metavar = metavar or ("" if kind is bool else "string" if kind is str else kind.__name__)

    @property
    def title(self) -> str:
        return ", ".join(self.names)

    def parse(self, text: str) -> Any:
        """The value that `text` stands for. Raises UsageError."""
        if self.kind is bool:
            if text in TRUE or text in FALSE:
                return text in TRUE
            raise self._invalid(text, f'strconv.ParseBool: parsing "{text}": invalid syntax')
        if self.kind in (int, float):
            try:
                return self.kind(text)
            except ValueError:
                raise self._invalid(text, f'parsing "{text}": invalid syntax') from None
        return text

    def _invalid(self, text: str, why: str) -> UsageError:
        return UsageError(f'invalid argument "{text}" for "{self.title}" flag: {why}')


def parse(
    flags: Iterable[Flag], words: Sequence[str], *, interspersed: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Take `words` apart into values by `dest`, of those flags that were given, and arguments.

    Without `interspersed` everything from the first argument on is an argument. Raises UsageError.
    """
    table = {name: flag for flag in flags for name in flag.names}
    values: dict[str, Any] = {}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return values, arguments + rest
        if word.startswith("--"):
            _long(table, word, rest, values)
        elif word.startswith("-") and word != "-":
            _short(table, word, rest, values)
        elif interspersed:
            arguments.append(word)
        else:
            return values, [word, *rest]
    return values, arguments


def _long(table: dict[str, Flag], word: str, rest: list[str], values: dict[str, Any]) -> None:
    name, equals, text = word.partition("=")
    flag = table.get(name)
    if flag is None:
        raise UsageError(f"unknown flag: {name}")
    if not equals and flag.kind is not bool:
        if not rest:
            raise UsageError(f"flag needs an argument: {name}")
        text = rest.pop(0)
    _set(values, flag, text if equals or flag.kind is not bool else "true")


def _short(table: dict[str, Flag], word: str, rest: list[str], values: dict[str, Any]) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = table.get(f"-{letter}")
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            text, letters = letters[1:], ""
        elif flag.kind is bool:
            text = "true"
        elif letters:
            text, letters = letters, ""
        elif rest:
            text = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}")
        _set(values, flag, text)


def _set(values: dict[str, Any], flag: Flag, text: str) -> None:
    if flag.kind is list:
        values.setdefault(flag.dest, []).append(text)
    else:
        values[flag.dest] = flag.parse(text)


def usage(flags: Iterable[Flag]) -> str:
    """The flags for people, one a line, aligned."""
    rows = [(f"{'' if flag.names[0][1] != '-' else '    '}{flag.title} {flag.metavar}", flag.help) for flag in flags]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:{width}}   {help}".rstrip() for left, help in rows)
