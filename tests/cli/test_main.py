"""The command line against nobody: help, mistakes, addresses, and what it imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import command, environment
from windlass.cli.daemon import run as run_daemon
from windlass.cli.main import COMMANDS, client, main
from windlass.cli.options import COMMON, DAEMON, NOT_CONFIG
from windlass.lib.config import KEYS

FORBIDDEN = {"trio", "h11", "msgspec", "pyroute2", "yaml", "httpx", "cffi", "ssl", "asyncio", "dataclasses", "typing"}


def imported(*words: str) -> set[str]:
    """Return the modules that the command line imports for `words`, by name of their package."""
    code = "import sys; from windlass.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    argv = [sys.executable, "-P", "-S", "-c", code, *words]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("name", ["version", "ps", "images", "jobs", "job", "events", "describe"])
def test_a_client_command_starts_without_the_engine(name: str, tmp_path: Path) -> None:
    modules = imported("-H", f"unix://{tmp_path}/none", name, *(["x"] if name in ("job", "describe") else []))
    assert not {module.partition(".")[0] for module in modules} & FORBIDDEN
    assert not [module for module in modules if module.startswith(("windlass.engine", "windlass.jobs"))]
    assert len(modules) < 110, "each module is paid for at each start"


def test_every_flag_of_the_daemon_has_a_setting() -> None:
    file_only = {"image_gc"}  # a structure, which no flag could hold
    dests = {flag.dest for flag in [*COMMON, *DAEMON]} - NOT_CONFIG
    assert dests == set(KEYS.values()) - file_only


def test_every_command_is_there_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(f"Usage:  windlass {name} [OPTIONS]")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in ["daemon", *COMMANDS])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo\nSee 'windlass --help'.\n"),
        (["ps", "--foo"], "unknown flag: --foo\nSee 'windlass ps --help'.\n"),
        (["frobnicate"], "windlass: 'frobnicate' is not a windlass command.\nSee 'windlass --help'.\n"),
        (["-H", "unix:///a", "-H", "unix:///b", "ps"], "Please specify only one -H\nSee 'windlass ps --help'.\n"),
        (["ps", "x"], "\"windlass ps\" accepts no arguments.\nSee 'windlass ps --help'.\n"),
        (["job"], "\"windlass job\" requires the name of a job.\nSee 'windlass job --help'.\n"),
        (["-s", "vfs", "ps"], "-s is a flag of the daemon: windlass daemon -s …\nSee 'windlass ps --help'.\n"),
        (["daemon", "x"], "\"windlass daemon\" accepts no arguments: x\nSee 'windlass --help'.\n"),
    ],
)
def test_a_mistake_is_told_and_ends_with_125(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 125
    assert capsys.readouterr().err == message


def test_without_a_daemon_it_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-H", f"unix://{tmp_path}/none", "ps"]) == 1
    assert capsys.readouterr().err == (
        f"Cannot connect to the windlass daemon. Is it running? No such file or directory: unix://{tmp_path}/none\n"
    )


def test_a_wrong_address_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-H", "ftp://x", "ps"]) == 1
    assert capsys.readouterr().err == "unable to parse host: ftp://x\n"


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-v"], ["--version"], ["daemon", "-v"], ["-d", "-v"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("windlass version 0.")


def test_the_host_comes_from_flags_then_ours_then_dockers_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WINDLASS_HOST", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert client({}).host == "unix:///var/run/windlass.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    assert client({}).host == "unix:///docker"
    monkeypatch.setenv("WINDLASS_HOST", "unix:///ours")
    assert client({}).host == "unix:///ours"
    assert client({"hosts": ["tcp://h:1"]}).host == "tcp://h:1"


def test_tlsverify_asks_for_tls_even_as_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    assert client({}).tls is None
    verified, unverified = client({"tlsverify": True}).tls, client({"tlsverify": False}).tls
    assert verified is not None and verified.verify
    assert unverified is not None and not unverified.verify


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data-rot: /x", "unknown key 'data-rot' (did you mean 'data-root'?)"),
        ('{"debug": "yes"}', "expected `bool`, got `str` - at `$.debug`"),
        ("[1, 2]", "settings are KEY: VALUE"),
        ("a: [", "neither YAML nor JSON"),
        ("log-level: loud", "unable to parse logging level: loud"),
    ],
)
def test_a_wrong_configuration_is_named_and_the_daemon_does_not_start(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "daemon.yaml"
    path.write_text(text)
    assert run_daemon({"config_file": str(path)}) == 2
    assert message in capsys.readouterr().err


def test_a_setting_in_both_places_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"data-root": "/x"}')
    assert run_daemon({"config_file": str(path), "data_root": "/y"}) == 2
    assert "also given on the command line: data-root" in capsys.readouterr().err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(command("--version"), env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("windlass version")
