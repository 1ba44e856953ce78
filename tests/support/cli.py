"""Run the docker CLI against an engine: for its output, for its exit code, or on a terminal."""

import os
import re
import subprocess
from pathlib import Path

from .packages import docker_cli
from .terminal import Terminal
from .wire import Wire

LIMIT = 60.0  # seconds until a command that should end has failed


class Result:
    """What a command wrote and how it ended."""

    def __init__(self, command: list[str], done: subprocess.CompletedProcess[bytes]) -> None:
        self.command, self.code = command, done.returncode
        self.raw, self.raw_err = done.stdout, done.stderr

    @property
    def out(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.raw_err.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def __repr__(self) -> str:
        return f"<{' '.join(self.command[1:])!r} ended with {self.code}: {self.out!r} {self.err!r}>"


class Docker:
    """The docker CLI, pointed at one engine, with an empty configuration of its own."""

    def __init__(self, host: str, config: Path) -> None:
        self.host, self.wire = host, Wire(host)
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(config),
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(config),
            "DOCKER_CLI_HINTS": "false",
            "TERM": "xterm",
        }
        self.version = self.wire.get("/version").json
        # The Engine of 20.10 announces API 1.41; where it differs from 28, tests expect 28's ways.
        api = tuple(int(part) for part in self.version["ApiVersion"].split("."))
        self.is_old = api < (1, 44)

    @property
    def cli_version(self) -> int:
        """Return the CLI's major version (28, or Debian's 20)."""
        found = re.search(r"version (\d+)\.", subprocess.check_output([docker_cli(), "--version"], text=True))
        assert found, "docker --version says no version"
        return int(found[1])

    def __call__(self, *arguments: str, input: bytes | None = None, limit: float = LIMIT) -> Result:
        """Run a command to its end; its input is empty unless given."""
        argv = [docker_cli(), *arguments]
        done = subprocess.run(
            argv,
            env=self.environment,
            capture_output=True,
            timeout=limit,
            **({"stdin": subprocess.DEVNULL} if input is None else {"input": input}),
        )
        return Result(argv, done)

    def ok(self, *arguments: str, input: bytes | None = None, limit: float = LIMIT) -> str:
        """Run a command that must succeed; return what it wrote, without the last newline."""
        result = self(*arguments, input=input, limit=limit)
        assert result.code == 0, result
        return result.out.removesuffix("\n")

    def inspect(self, name: str, template: str) -> str:
        """Return one field of a container, image or network, by Go template."""
        return self.ok("inspect", "-f", template, name)

    def start(self, *arguments: str) -> "Background":
        """Start a command in the background, its output in a pipe."""
        return Background([docker_cli(), *arguments], self.environment)

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Start a command on a terminal of this size."""
        return Terminal([docker_cli(), *arguments], self.environment, rows, columns)


class Background:
    """A command that runs while the test goes on; use as a context, which ends it."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def line(self) -> str:
        """Wait for the next line of output; empty at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().removesuffix("\n")

    def finish(self, limit: float = LIMIT) -> tuple[str, str, int]:
        """Close its input, wait for its end; return the rest of its output, its errors, its exit code."""
        out, err = self.process.communicate(timeout=limit)
        return out, err, self.process.returncode

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
