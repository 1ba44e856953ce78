"""The last test of the suite: nothing of ours is left on the machine."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import daemon, leaks

pytestmark = pytest.mark.root


def test_a_process_that_names_our_folder_is_found() -> None:
    """The check can fail: a process left behind is seen, and is gone when it is ended."""
    root = str(daemon.SESSION)
    with subprocess.Popen([sys.executable, "-c", "input()", f"{root}/left"], stdin=subprocess.PIPE) as left:
        assert any(entry.startswith(f"{left.pid} ") for entry in leaks.processes([root]))
    assert not any(entry.startswith(f"{left.pid} ") for entry in leaks.processes([root]))


def test_a_cgroup_and_a_mount_of_ours_are_found(tmp_path: Path) -> None:
    """The check can fail: a cgroup and a mount left behind are seen."""
    parents = [path for path in (leaks.CGROUPS / "pids", leaks.CGROUPS) if (path / "cgroup.procs").exists()]
    cgroup = parents[0] / "windlass" / f"leak-{os.getpid()}"
    cgroup.mkdir(parents=True)
    try:
        assert str(cgroup) in leaks.cgroups()
    finally:
        cgroup.rmdir()
        with contextlib.suppress(OSError):  # a daemon of another run may be using it
            cgroup.parent.rmdir()
    subprocess.run(["mount", "-t", "tmpfs", "windlass-test", tmp_path], check=True)
    try:
        assert leaks.mounts([str(tmp_path)]) == {str(tmp_path)}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_nothing_of_ours_is_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs last (see conftest): ends the session's daemons, then looks at the whole machine."""
    daemon.close_all()
    leaks.watch(tmp_path_factory.getbasetemp())
    assert daemon.LEFT == []
    assert leaks.left() == {}
