"""The command line: finds the command, and prints what goes wrong in Docker's words."""

from __future__ import annotations

import os
import sys

from windlass.client.http import DEFAULT_HOST, TLS, BadHost, Client, HTTPError

from .flags import UsageError, parse, usage
from .options import COMMON, DAEMON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Command = Callable[[Client, list[str]], int]

# The command's module and what it does. A module is imported when its command is given.
COMMANDS = {
    "commands": ("jobs", "List the names of all jobs"),
    "describe": ("jobs", "Describe a job: its parameters and its result"),
    "events": ("system", "Get real time events from the server"),
    "images": ("lists", "List images"),
    "info": ("system", "Display system-wide information"),
    "job": ("job", "Run a job of the daemon's engine"),
    "jobs": ("jobs", "List the jobs that run"),
    "plugins": ("jobs", "List the plugins that the daemon has installed"),
    "ps": ("lists", "List containers"),
    "version": ("system", "Show the windlass version information"),
}

USAGE_STATUS = 125  # as the docker CLI has it


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words` (default: the process's own); return the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    command = ""
    try:
        values, rest = parse([*COMMON, *DAEMON], words, interspersed=False)
        command = rest[0] if rest else ""
        return _dispatch(values, rest)
    except UsageError as exc:
        print(f"{exc}\nSee 'windlass{f' {command}' if command in COMMANDS else ''} --help'.", file=sys.stderr)
        return USAGE_STATUS
    except HTTPError as exc:
        print(f"Error response from daemon: {exc.message}", file=sys.stderr)
    except BadHost as exc:
        print(exc, file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush at exit
    except OSError as exc:
        print(f"Cannot connect to the windlass daemon. Is it running? {exc.strerror or exc}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _dispatch(values: dict[str, Any], rest: list[str]) -> int:
    if values.get("daemon") or rest[:1] == ["daemon"]:
        return _daemon(values, rest[1:] if rest[:1] == ["daemon"] else rest)
    if values.get("version"):
        return _print_version()
    if values.get("help") or not rest or rest == ["help"]:
        print(help_text())
        return 0
    given = [flag for flag in DAEMON if flag.dest in values]
    if given:
        raise UsageError(f"{given[0].names[0]} is a flag of the daemon: windlass daemon {given[0].names[0]} …")
    return _command(rest[0])(client(values), rest[1:])


def _daemon(values: dict[str, Any], words: list[str]) -> int:
    more, arguments = parse([*COMMON, *DAEMON], words)
    for key, value in more.items():
        values[key] = values[key] + value if isinstance(value, list) and key in values else value
    if values.get("version"):
        return _print_version()
    if values.get("help"):
        print(f"Usage:  windlass daemon [OPTIONS]\n\nRun a container engine\n\nOptions:\n{usage([*COMMON, *DAEMON])}")
        return 0
    if arguments:
        raise UsageError(f'"windlass daemon" accepts no arguments: {arguments[0]}')
    from .daemon import run

    return run(values)


def _print_version() -> int:
    from windlass.lib.version import VERSION, commit

    print(f"windlass version {VERSION}, build {commit() or 'unknown'}")
    return 0


def _command(name: str) -> Command:
    if name not in COMMANDS:
        raise UsageError(f"windlass: '{name}' is not a windlass command.")
    module = __import__(f"windlass.cli.{COMMANDS[name][0]}", fromlist=[name])
    command: Command = getattr(module, name)
    return command


def client(values: dict[str, Any]) -> Client:
    """Who to talk to, by flags, then by WINDLASS_HOST, DOCKER_HOST and Docker's TLS variables."""
    hosts = values.get("hosts", [])
    if len(hosts) > 1:
        raise UsageError("Please specify only one -H")
    host = hosts[0] if hosts else os.environ.get("WINDLASS_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    return Client(host, _tls(values))


def _tls(values: dict[str, Any]) -> TLS | None:
    verify = values.get("tlsverify", bool(os.environ.get("DOCKER_TLS_VERIFY")))
    # To say --tlsverify at all, even as false, asks for TLS, as docker has it.
    if not (verify or values.get("tls") or "tlsverify" in values):
        return None
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    cert = values.get("tlscert") or os.path.join(folder, "cert.pem")
    key = values.get("tlskey") or os.path.join(folder, "key.pem")
    has_pair = os.path.exists(cert) and os.path.exists(key)
    ca = values.get("tlscacert") or os.path.join(folder, "ca.pem")
    return TLS(ca, cert if has_pair else "", key if has_pair else "", verify)


def help_text() -> str:
    """What `windlass` alone prints."""
    lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["Usage:  windlass [OPTIONS] COMMAND", "", "A container engine you can program", "", "Commands:"]
        + ["  daemon     Run a container engine"]
        + lines
        + ["", "Options:", usage(COMMON), "", "Run 'windlass COMMAND --help' for more on a command."]
    )
