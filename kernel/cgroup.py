"""Control groups, v1 and v2 behind one class.

On v1 each controller, or set of them, has a hierarchy of its own, and a container has a group of the same name in each;
on v2 there is one hierarchy. Many hosts are hybrid: the controllers are on v1, and a v2 hierarchy without any stands
beside them. There the container gets a group in that, too: it can be killed at a stroke (`cgroup.kill`) and tells by
an event when it is empty, which v1 cannot.

Joining differs as well. The shim's child is cloned straight into the v2 group (CLONE_INTO_CGROUP). Into v1 groups it
goes itself, by writing 0 to `tasks`: `cgroup.procs` takes a lock over all processes of the machine, for which the first
writer after a pause waits 8 to 10 ms; `tasks` moves the calling thread only, and the child has but one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import trio

from . import devicecg
from .cgroup_file import write
from .cgroup_freeze import Freezer, freezer_of
from .cgroup_limits import Limits, Setting, v1_settings, v2_settings
from .cgroup_stats import Usage, usage_v1, usage_v2
from .mount import mounts

_CONTROLLERS = frozenset(
    ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio")
    + ("perf_event", "pids", "rdma")
)
_REMOVAL_TIMEOUT = 10.0


class Hierarchy(NamedTuple):
    """One mounted v1 hierarchy: its controllers, or a name (`name=systemd`)."""

    mount: Path
    controllers: frozenset[str]


class Hierarchies:
    """What this host has: `v1` in the order of mounting, and the `v2` mount point, if any."""

    def __init__(self, v1: tuple[Hierarchy, ...], v2: Path | None) -> None:
        self.v1 = v1
        self.v2 = v2
        self._prepared: set[Path] = set()

    @classmethod
    def of_host(cls) -> Hierarchies:
        """Read /proc/self/mountinfo; of several mounts of one hierarchy the first counts."""
        v1: dict[frozenset[str], Hierarchy] = {}
        v2 = None
        for mounted in mounts():
            if mounted.kind == "cgroup2":
                v2 = v2 or Path(mounted.target)
            elif mounted.kind == "cgroup":
                names = frozenset(o for o in mounted.super_options if o in _CONTROLLERS or o.startswith("name="))
                v1.setdefault(names, Hierarchy(Path(mounted.target), names))
        return cls(tuple(v1.values()), v2)

    @property
    def is_v2(self) -> bool:
        """Whether the controllers are on v2."""
        return not any(hierarchy.controllers & _CONTROLLERS for hierarchy in self.v1)

    @cached_property
    def controllers(self) -> frozenset[str]:
        """Controllers that can be used, wherever they are."""
        if self.is_v2:
            return frozenset((self.v2 / "cgroup.controllers").read_text().split()) if self.v2 else frozenset()
        return frozenset().union(*(hierarchy.controllers for hierarchy in self.v1)) & _CONTROLLERS

    def mount_of(self, controller: str) -> Path | None:
        """Find where a v1 controller is mounted."""
        return next((h.mount for h in self.v1 if controller in h.controllers), None)

    def names(self, parent: str) -> set[str]:
        """Return the names of all groups below `parent`, in whichever hierarchy they are."""
        found: set[str] = set()
        for mount in self._mounts():
            with contextlib.suppress(FileNotFoundError), os.scandir(mount / parent) as entries:
                found |= {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        return found

    def make(self, mount: Path, name: str) -> Path:
        """Make the group's directory in one hierarchy, and its parents ready for it. Raises OSError."""
        path = mount / name
        if path.parent not in self._prepared:
            self._prepare(mount, path.parent)
            self._prepared.add(path.parent)
        try:
            path.mkdir()
        except FileNotFoundError:  # somebody has removed the parent
            self._prepared.discard(path.parent)
            return self.make(mount, name)
        except FileExistsError:  # left by an earlier container of this name: its limits must not hold on
            _rmdir(path)
            path.mkdir()
        return path

    def _prepare(self, mount: Path, parent: Path) -> None:
        """Make the parents. A group without cpus, or whose parent does not pass controllers on, is of no use."""
        for path in reversed([parent, *parent.parents]):
            if not path.is_relative_to(mount):
                continue
            if path != mount:
                path.mkdir(exist_ok=True)
            if mount == self.v2 and self.is_v2:
                write(path / "cgroup.subtree_control", " ".join(f"+{name}" for name in self._passed_on(path)))
            elif path != mount and mount == self.mount_of("cpuset"):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if not (path / file).read_text().strip():
                        write(path / file, (path.parent / file).read_text())
                write(path / "cgroup.clone_children", "1")

    def _passed_on(self, path: Path) -> list[str]:
        return (path / "cgroup.controllers").read_text().split()

    def _mounts(self) -> list[Path]:
        return [h.mount for h in self.v1] + ([self.v2] if self.v2 else [])


class Cgroup:
    """A container's groups: `name` is their path below each mount. Nothing exists before `create`.

    Raises ValueError for a name that could mean a group of somebody else: an empty one is the root of the hierarchy,
    and `kill` would end every process of the host.
    """

    def __init__(self, hierarchies: Hierarchies, name: str) -> None:
        self._hierarchies = hierarchies
        self.name = name.strip("/")
        if any(part in ("", ".", "..") for part in self.name.split("/")):
            raise ValueError(f"{name!r} is not the name of a container's cgroup")
        self.unified = hierarchies.v2 / self.name if hierarchies.v2 else None

    def create(self, limits: Limits, devices: tuple[devicecg.Rule, ...]) -> None:
        """Make the groups and set their limits. Raises OSError naming the file; nothing is left then."""
        made: list[Path] = []
        try:
            for hierarchy in self._hierarchies.v1:
                made.append(self._hierarchies.make(hierarchy.mount, self.name))
            if self._hierarchies.v2:
                made.append(self._hierarchies.make(self._hierarchies.v2, self.name))
            self._limit(limits)
            self._guard(devices)
        except OSError:
            for path in made:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    def tasks(self) -> list[str]:
        """List the files into which the child writes 0 to join: empty on v2."""
        return [str(hierarchy.mount / self.name / "tasks") for hierarchy in self._hierarchies.v1]

    def v1_views(self) -> Iterator[tuple[str, frozenset[str], str]]:
        """List what a container sees in /sys/fs/cgroup on v1: the mount's name, its controllers, the host's folder."""
        for hierarchy in self._hierarchies.v1:
            yield hierarchy.mount.name, hierarchy.controllers, str(hierarchy.mount / self.name)

    def oom_path(self) -> str | None:
        """Find the folder whose OOM kills are the container's: of the v1 memory controller, or on v2."""
        if self._hierarchies.is_v2:
            return str(self.unified) if "memory" in self._hierarchies.controllers else None
        return str(memory) if (memory := self._path("memory")) else None

    def kill(self) -> None:
        """Send SIGKILL to every process of the groups, and of groups below; frozen ones are thawed."""
        freezer = self._path("freezer")
        try:
            if not self.unified:
                raise FileNotFoundError
            write(self.unified / "cgroup.kill", "1")
        except FileNotFoundError:  # no v2 here, or before Linux 5.14
            self._kill_one_by_one(freezer)
        if freezer:
            with contextlib.suppress(FileNotFoundError):
                write(freezer / "freezer.state", "THAWED")

    def freezer(self) -> Freezer:
        """What suspends the groups' processes. Raises OSError on a host without."""
        return freezer_of(self.unified, self._path("freezer"))

    async def remove(self, timeout: float = _REMOVAL_TIMEOUT) -> None:
        """Remove the groups, once their last process has left. Raises OSError (EBUSY) when it does not in `timeout`."""
        with trio.move_on_after(timeout):
            while not self._removed():
                await self._until_empty()
            return
        raise OSError(f"cgroup {self.name} still has processes: {self.processes()}")

    def processes(self) -> list[int]:
        """List the processes in the groups and in groups below."""
        found: set[int] = set()
        for path in self._paths():
            for folder, _, _ in os.walk(path):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()}
        return sorted(found)

    def usage(self) -> Usage:
        """Count what the processes have used so far. Raises FileNotFoundError when the groups have gone."""
        if self._hierarchies.is_v2 and self.unified:
            return usage_v2(self.unified)
        return usage_v1(self._path)

    def update(self, old: Limits, new: Limits) -> None:
        """Set limits anew while processes are in the groups. Raises OSError naming the file; `old` holds on then."""
        before = set(self._settings(old))
        undo: list[tuple[Path, str]] = []
        try:
            for setting in self._settings(new, old):
                if setting not in before and (found := self._file(setting)):
                    path, value = found
                    undo.append((path, path.read_text()))
                    write(path, value)
        except OSError:
            for path, text in reversed(undo):
                with contextlib.suppress(OSError):
                    write(path, text)
            raise

    def _limit(self, limits: Limits) -> None:
        for setting in self._settings(limits):
            if found := self._file(setting):
                write(*found)

    def _settings(self, limits: Limits, old: Limits | None = None) -> Iterator[Setting]:
        return v2_settings(limits) if self._hierarchies.is_v2 else v1_settings(limits, old)

    def _file(self, setting: Setting) -> tuple[Path, str] | None:
        """Find the file that a setting is for, and what to write; None where this host can do without."""
        folder = self.unified if self._hierarchies.is_v2 else self._path(setting.controller)
        if folder is None:
            return None
        path = folder / setting.file
        if (setting.optional or setting.instead) and not path.exists():
            return (folder / setting.instead[0], setting.instead[1]) if setting.instead else None
        return path, setting.value

    def _guard(self, devices: tuple[devicecg.Rule, ...]) -> None:
        if devices == devicecg.EVERYTHING:
            return  # as every new group has it
        if path := self._path("devices"):
            devicecg.apply_v1(path, devices)
        elif self.unified:
            devicecg.apply_v2(self.unified, devices)

    def _kill_one_by_one(self, freezer: Path | None) -> None:
        if freezer:  # so that none can fork out of our list
            with contextlib.suppress(FileNotFoundError):
                write(freezer / "freezer.state", "FROZEN")
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _removed(self) -> bool:
        results = [_rmdir(path) for path in self._paths()]
        return all(results)

    async def _until_empty(self) -> None:
        """Wait for the kernel's word that the last process has gone; without v2 there is none, and we look again."""
        try:
            if not self.unified:
                raise FileNotFoundError
            fd = os.open(self.unified / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            await trio.sleep(0.002)
            return
        # Readable is what such a file always is; news is "priority", which epoll tells apart and trio does not.
        with os.fdopen(fd, closefd=True) as events, select.epoll() as poll:
            poll.register(fd, select.EPOLLPRI)
            if "populated 1" in events.read():
                await trio.lowlevel.wait_readable(poll.fileno())
            else:  # empty, and yet busy: in a v1 hierarchy the process is still on its way out
                await trio.sleep(0.001)

    def _path(self, controller: str) -> Path | None:
        mount = self._hierarchies.mount_of(controller)
        return mount / self.name if mount else None

    def _paths(self) -> list[Path]:
        return [h.mount / self.name for h in self._hierarchies.v1] + ([self.unified] if self.unified else [])


def _rmdir(path: Path) -> bool:
    """Remove a group and those below; False while processes are in it."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        return not path.exists()
    return True
