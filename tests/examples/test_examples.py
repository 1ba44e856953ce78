"""The examples do what they say."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemon import Daemon

import windlass
from windlass.engine.errors import Denied

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.root


def run(*words: object, **env: str) -> str:
    """Run an example as its reader would, and return what it prints."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**_environment(), **env}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, without the safe path: the examples import their neighbour `busybox`."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}


def get(host: str, path: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(host.removeprefix("unix://"))
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_the_script_runs_a_container_in_its_own_process(tmp_path: Path) -> None:
    assert re.fullmatch(r"hello from script, process \d+\nexit status 0\n", run(EXAMPLES / "script.py", tmp_path))


def test_the_remote_script_runs_one_in_a_daemon(own_daemon: Daemon) -> None:
    said = run(EXAMPLES / "remote.py", own_daemon.host)
    assert re.fullmatch(r"hello from remote, process \d+\nexit status 0\n", said)
