"""`docs/compatibility.md` speaks of every option that the docker CLI knows."""

import re
import subprocess

import pytest

from tests.support.packages import PROJECT, Missing, docker_cli

STATES = {"yes", "client", "partly", "warned", "refused"}
ROW = re.compile(r"^\| ((?:`-[^`]+`(?:, )?)+) \| (\w+) \| ?(.*?) ?\|$", re.MULTILINE)
OPTION = re.compile(r"^ {2,6}(?:-(\w), )?--([a-z0-9-]+)", re.MULTILINE)


def table() -> dict[str, tuple[str, str]]:
    """Return state and remark of each option in the table, by its names."""
    text = (PROJECT / "docs" / "compatibility.md").read_text()
    return {names.replace("`", ""): (state, remark) for names, state, remark in ROW.findall(text)}


def known_to_the_cli(command: str) -> set[str]:
    try:
        help = subprocess.check_output([docker_cli(), command, "--help"], text=True)
    except Missing as why:
        pytest.skip(f"no docker CLI: {why}")
    return {f"-{short}, --{long}" if short else f"--{long}" for short, long in OPTION.findall(help)}


@pytest.mark.parametrize("command", ["run", "create"])
def test_every_option_of_the_cli_is_in_the_table(command: str) -> None:
    assert known_to_the_cli(command) - set(table()) == set()


def test_the_table_speaks_of_no_option_that_there_is_not() -> None:
    """`run` of CLI 28 knows them all; an older one knows fewer."""
    version = subprocess.check_output([docker_cli(), "--version"], text=True)
    if not re.search(r"version (2[89]|[3-9]\d)\.", version):
        pytest.skip(f"needs CLI 28: {version.strip()}")
    assert set(table()) - known_to_the_cli("run") == set()


def test_every_row_has_a_state_and_a_reason_where_it_is_not_plain() -> None:
    found = table()
    assert {state for state, _ in found.values()} <= STATES
    silent = [option for option, (state, remark) in found.items() if state in ("partly", "refused") and not remark]
    assert silent == []
