"""Run docker-compose, Debian's 1.29 in Python: a client that is not ours and not Docker's."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .cli import Docker, Result
from .packages import docker_cli

LIMIT = 180.0  # seconds until a command that should end has failed
PACKAGE = "docker-compose"


@cache
def docker_compose() -> str:
    """Return the program, installed by apt where it is missing; without dockerd, which it merely recommends."""
    if found := shutil.which(PACKAGE):
        return found
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", PACKAGE]):
        subprocess.run([*apt, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return shutil.which(PACKAGE) or f"/usr/bin/{PACKAGE}"


class Project:
    """A Compose project of one name in a folder of its own, at one engine."""

    def __init__(self, docker: Docker, folder: Path, name: str) -> None:
        self.docker, self.folder, self.name = docker, folder, name

    def write(self, **parts: Any) -> None:
        """Write the project's file; `services` and the like are its parts."""
        (self.folder / "docker-compose.yml").write_text(yaml.safe_dump({"version": "3.7", **parts}))

    def __call__(self, *words: str) -> Result:
        """Run a command on the project to its end."""
        argv = [docker_compose(), "--ansi", "never", "-p", self.name, *words]
        # Not the tests' own Python and its packages: it is a program of the machine's.
        # It calls the docker CLI for `run` and `exec`.
        path = f"/usr/sbin:/usr/bin:/sbin:/bin:{Path(docker_cli()).parent}"
        environment = {**self.docker.environment, "PATH": path, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            argv, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT
        )
        return Result(argv, done)

    def ok(self, *words: str) -> str:
        """Run a command that must succeed; return what it wrote."""
        result = self(*words)
        assert result.code == 0, result
        return result.out.strip()

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.name}_{service}_{number}"
