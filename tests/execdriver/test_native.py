"""The native driver, with real containers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.suites.execdriver import ExecDriverSuite, busybox_root, yard
from tests.suites.isolation import IsolationSuite, probe
from tests.suites.userns import UserNamespaceSuite
from tests.suites.yard import OpenDriver
from windlass.execdriver.driver import Command
from windlass.execdriver.native.launch import open_native_driver

__all__ = ["busybox_root", "probe", "yard"]
pytestmark = pytest.mark.root


@pytest.fixture
def open_driver(tmp_path: Path) -> OpenDriver:
    return lambda: open_native_driver(tmp_path / "exec")


class TestNative(ExecDriverSuite):
    async def kill_supervisor(self, command: Command) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if path.read_bytes().split(b"\0")[:3] == [b"windlass-shim", b"run", command.id.encode()]:
                os.kill(int(path.parent.name), signal.SIGKILL)


class TestIsolation(IsolationSuite):
    pass


class TestUserNamespace(UserNamespaceSuite):
    pass


@pytest.mark.parametrize("text", ["", "/", "windl", "windlass", "system.slice", "../windlass/a1"])
async def test_what_a_crash_left_of_a_groups_name_is_not_believed(tmp_path: Path, text: str) -> None:
    """The name says whose processes the next daemon kills; half a name would say other people's."""
    async with open_native_driver(tmp_path / "exec") as driver:
        folder = tmp_path / "exec" / "containers" / "a1"
        folder.mkdir()
        own = driver._cgroup_of("a1").name
        (folder / "cgroup").write_text(text)
        assert driver._cgroup_of("a1").name == own
        (folder / "cgroup").write_text(f"parent/{own}")
        assert driver._cgroup_of("a1").name == f"parent/{own}"
