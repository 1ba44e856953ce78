"""Suspending all processes of a group, without a signal that they could see.

On v2 every group can be frozen: a process that is killed ends all the same. On v1 there is the controller `freezer`:
there a signal waits, SIGKILL too, until the group is thawed. A hybrid host has both, and v2 is the better one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from pathlib import Path
from typing import Protocol

import trio

from .cgroup_file import write

_TIMEOUT = 10.0  # seconds; a process in an uninterruptible wait cannot be frozen before it has ended
_LOOK_AGAIN = 0.001  # seconds between two looks at a v1 group, which tells nobody


class Freezer(Protocol):
    """One group that can be frozen."""

    async def freeze(self) -> None:
        """Suspend every process, now and to come. Raises OSError (ETIMEDOUT) when one resists; all run on then."""
        ...

    def thaw(self) -> None:
        """Let them run on. Does nothing when they do, or when the group has gone."""
        ...

    def is_frozen(self) -> bool: ...


def freezer_of(unified: Path | None, v1: Path | None) -> Freezer:
    """Return what freezes a group: `unified` is its v2 folder, `v1` that of the controller. Raises OSError without."""
    if unified and (unified / "cgroup.freeze").exists():  # Linux 5.2
        return _V2(unified)
    if v1:
        return _V1(v1)
    raise OSError(errno.ENOTSUP, "this host has no freezer cgroup")


class _Freezer:
    """What both kinds have in common. `state` is the file that says it, `on` and `off` what is written there."""

    def __init__(self, state: Path, on: str, off: str) -> None:
        self._state, self._on, self._off = state, on, off

    async def freeze(self) -> None:
        try:
            with trio.fail_after(_TIMEOUT):
                await self._until_frozen()
        except trio.TooSlowError:
            self.thaw()
            raise _resisted(self._state) from None
        except trio.Cancelled:
            self.thaw()
            raise

    def thaw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            write(self._state, self._off)

    def is_frozen(self) -> bool:
        try:
            return self._state.read_text().strip() != self._off
        except FileNotFoundError:
            return False

    async def _until_frozen(self) -> None:
        raise NotImplementedError


class _V2(_Freezer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "cgroup.freeze", "1", "0")
        self._events = folder / "cgroup.events"

    async def _until_frozen(self) -> None:
        write(self._state, self._on)
        fd = os.open(self._events, os.O_RDONLY | os.O_CLOEXEC)
        # Readable is what such a file always is; news is "priority", which epoll tells apart and trio does not.
        with os.fdopen(fd) as events, select.epoll() as poll:
            poll.register(fd, select.EPOLLPRI)
            while "frozen 1" not in events.read():
                await trio.lowlevel.wait_readable(poll.fileno())
                poll.poll(0)
                events.seek(0)


class _V1(_Freezer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "freezer.state", "FROZEN", "THAWED")

    async def _until_frozen(self) -> None:
        while True:  # what was forked meanwhile is caught by writing again
            write(self._state, self._on)
            if self._state.read_text().strip() == self._on:
                return
            await trio.sleep(_LOOK_AGAIN)


def _resisted(path: Path) -> OSError:
    return OSError(errno.ETIMEDOUT, f"not all processes could be frozen within {_TIMEOUT:g} s", str(path))
