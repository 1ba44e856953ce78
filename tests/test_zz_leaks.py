"""The last test of the suite: nothing of ours is left on the machine."""

import contextlib
import os
import subprocess
import sys

import pytest

from tests.support import daemon, leaks

pytestmark = pytest.mark.root


def test_a_process_that_names_our_folder_is_found() -> None:
    """The check can fail: a process left behind is seen, and is gone when it is ended."""
    argv = [sys.executable, "-c", "input('here')", str(daemon.SESSION / "left")]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=null) as left:
        assert left.stdout and left.stdout.read(4) == b"here"  # the kernel shows its arguments a little after exec
        assert any(entry.startswith(f"{left.pid} ") for entry in leaks.processes())
    assert not any(entry.startswith(f"{left.pid} ") for entry in leaks.processes())


def test_a_cgroup_of_ours_is_found() -> None:
    parents = [path for path in (leaks.CGROUPS / "pids", leaks.CGROUPS) if (path / "cgroup.procs").exists()]
    cgroup = parents[0] / "windlass" / f"leak-{os.getpid()}"
    cgroup.mkdir(parents=True)
    try:
        assert str(cgroup) in leaks.cgroups()
    finally:
        cgroup.rmdir()
        with contextlib.suppress(OSError):  # a daemon of another run may be using it
            cgroup.parent.rmdir()


def test_a_mount_and_a_folder_of_ours_are_found() -> None:
    place = daemon.SESSION / "mounted"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "windlass-test", place], check=True)
    try:
        assert str(place) in leaks.mounts()
        assert str(daemon.SESSION) in leaks.files()
    finally:
        subprocess.run(["umount", place], check=True)


def test_another_runs_folder_is_not_ours() -> None:
    """The parent of this process is alive, so what carries its number may be in use."""
    assert not leaks.is_ours(f"{leaks.MARK}{os.getppid()}/d1/w.sock")
    assert leaks.is_ours(f"{leaks.MARK}{os.getpid()}/d1/w.sock")


def test_nothing_of_ours_is_left() -> None:
    """Runs last (see conftest): ends the session's daemons, then looks at the whole machine."""
    daemon.close_all()
    assert daemon.LEFT == []
    assert leaks.left() == {}
