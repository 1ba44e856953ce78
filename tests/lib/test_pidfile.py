"""Locks that end with their holder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.lib.pidfile import Held, Lock


def test_it_holds_our_pid_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with Lock(path) as lock:
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(Held, match=f"process {os.getpid()}") as caught:
            Lock(path)
        assert caught.value.pid == os.getpid()
        assert path.read_text() == f"{os.getpid()}\n", "a refused try leaves it alone"
    lock.close()
    assert path.read_text() == ""
    Lock(path).close()


def test_a_stale_pid_means_nothing(tmp_path: Path) -> None:
    """1.3 refused to start while a process of that number was there, whatever it was."""
    path = tmp_path / "pid"
    path.write_text("1\n")
    with Lock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_it_ends_with_its_holder_and_is_not_inherited(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = (
        "import subprocess, sys; from pathlib import Path; from windlass.lib.pidfile import Lock;"
        "lock = Lock(Path(sys.argv[1])); child = subprocess.Popen(['sleep', '60'], close_fds=False,"
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(child.pid, flush=True); import os; os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True)
    child = int(done.stdout)
    try:
        Lock(path).close()
    finally:
        os.kill(child, 9)


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pid").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        Lock(tmp_path / "pid")
    assert not (tmp_path / "victim").exists()
