"""Docker's flags."""

from typing import Any

import pytest

from windlass.cli.flags import Flag, UsageError, parse, usage

FLAGS = [
    Flag("-d --detach", "detach"),
    Flag("-i --interactive", "stdin"),
    Flag("-t --tty", "tty"),
    Flag("--rm", "rm"),
    Flag("-n --last", "last", int),
    Flag("-e --env", "env", list),
    Flag("--name", "name", str),
    Flag("--time", "time", float),
]


@pytest.mark.parametrize(
    ("line", "values", "rest"),
    [
        ("", {}, []),
        ("-it busybox sh", {"stdin": True, "tty": True}, ["busybox", "sh"]),
        ("-d=false", {"detach": False}, []),
        ("--rm=true --rm=0", {"rm": False}, []),
        ("--detach busybox", {"detach": True}, ["busybox"]),
        ("-e A=1 --env B=2 --env=C=3", {"env": ["A=1", "B=2", "C=3"]}, []),
        ("-n5", {"last": 5}, []),
        ("-n 5 -n=6", {"last": 6}, []),
        ("-itn 3", {"stdin": True, "tty": True, "last": 3}, []),
        ("-ie A=1", {"stdin": True, "env": ["A=1"]}, []),
        ("--name= x", {"name": ""}, ["x"]),
        ("--name -x", {"name": "-x"}, []),
        ("--time 2.5", {"time": 2.5}, []),
        ("a -d b", {"detach": True}, ["a", "b"]),
        ("-d -- -i --rm", {"detach": True}, ["-i", "--rm"]),
        ("- -d", {"detach": True}, ["-"]),
    ],
)
def test_a_line_is_taken_apart(line: str, values: dict[str, Any], rest: list[str]) -> None:
    assert parse(FLAGS, line.split()) == (values, rest)


def test_flags_after_the_first_argument_are_the_commands_own() -> None:
    assert parse(FLAGS, ["-d", "busybox", "ls", "-i"], interspersed=False) == (
        {"detach": True},
        ["busybox", "ls", "-i"],
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--foo", "unknown flag: --foo"),
        ("--foo=1", "unknown flag: --foo"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-ixt", "unknown shorthand flag: 'x' in -ixt"),
        ("--name", "flag needs an argument: --name"),
        ("-n", "flag needs an argument: 'n' in -n"),
        ("-in", "flag needs an argument: 'n' in -in"),
        (
            "-d=maybe",
            'invalid argument "maybe" for "-d, --detach" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        ("--last x", 'invalid argument "x" for "-n, --last" flag: parsing "x": invalid syntax'),
    ],
)
def test_a_wrong_line_is_told_in_dockers_words(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, line.split())
    assert str(caught.value) == message


def test_usage_has_a_line_for_each_flag() -> None:
    text = usage(
        [Flag("-d --detach", "detach", bool, "Run in background"), Flag("--name", "name", str, "Assign a name")]
    )
    assert text.splitlines() == ["  -d, --detach        Run in background", "      --name string   Assign a name"]
