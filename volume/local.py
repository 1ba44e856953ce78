"""The local driver: `volumes/NAME/_data` under the data root, or what the volume's options have mounted there.

    volumes/NAME/_data       the content
    volumes/.removing/NAME   being removed: the row may still be there
    volumes/.trash/…         to be unlinked

A folder is on disk before its row is, and is away before its row is. What a crash leaves: an empty folder without a
row, of a creation, and something in `.removing`. Both are taken away at the start. A folder with content and without
a row is nothing that we leave behind: it becomes a volume, since whoever put it there wants to keep it.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import trio

from windlass.engine.errors import BadParameter
from windlass.lib.disk import sync
from windlass.lib.trash import Trash

from .model import LOCAL, Volume
from .options import Device, check_options, is_mounted, mount_device, unmount_device

logger = logging.getLogger("windlass.volume")

DATA = "_data"
REMOVING, TRASH = ".removing", ".trash"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
NAME_MAX = 255  # bytes of a file's name
THREADS = 8
T = TypeVar("T")


class LocalDriver:
    """See the top of this file, and drivers.VolumeDriver."""

    name = LOCAL

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made when missing. Blocks; for start-up."""
        self.folder = folder
        for each, mode in (("", 0o701), (REMOVING, 0o700), (TRASH, 0o700)):
            (folder / each).mkdir(mode=mode, parents=True, exist_ok=True)
        self.trash = Trash(folder / TRASH)
        self._limit = trio.CapacityLimiter(THREADS)

    def data(self, name: str) -> Path:
        return self.folder / name / DATA

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run what looks at volumes' content in a thread of our own: a network's disk may keep it, and us, for ever.

        Cancellation leaves the thread alone with it.
        """
        return await trio.to_thread.run_sync(function, *args, limiter=self._limit, abandon_on_cancel=True)

    # -- as a driver ---------------------------------------------------------------------------------------------

    async def create(self, volume: Volume) -> None:
        check_options(volume.options or {})
        await trio.to_thread.run_sync(self._make, volume.name)

    async def remove(self, volume: Volume) -> None:
        await trio.to_thread.run_sync(self._put_aside, volume.name)

    async def path(self, volume: Volume) -> str:
        return str(self.data(volume.name))

    async def mount(self, volume: Volume) -> str:
        path = self.data(volume.name)
        if volume.options:
            device = await Device.of(volume.options)
            await self.run(mount_device, device, path)
        return str(path)

    async def unmount(self, volume: Volume) -> None:
        if volume.options:
            await self.run(unmount_device, self.data(volume.name))

    async def status(self, volume: Volume) -> dict[str, Any] | None:
        return None

    # -- removal and start-up; these block -----------------------------------------------------------------------

    def discard(self, name: str) -> None:
        """Give up for good what `remove` has put aside: its row is gone."""
        self.trash.put(self.folder / REMOVING / name)

    def restore(self, name: str) -> None:
        """Undo `remove`: the row could not be deleted."""
        (self.folder / REMOVING / name).rename(self.folder / name)

    def removing(self) -> list[str]:
        """Names of volumes whose removal was cut short."""
        return os.listdir(self.folder / REMOVING)

    def settle(self, known: Mapping[str, Volume | None]) -> list[Volume]:
        """Bring the folders to agree with the rows; return what has content and no row. Unused devices are unmounted.

        A row's folder that is not there is made anew: labels and options are still good for something.
        """
        there = {entry.name for entry in os.scandir(self.folder) if NAME.fullmatch(entry.name)}
        for name, volume in known.items():
            if volume is not None and volume.driver == LOCAL and not self._has_data(name):
                logger.warning("the folder of volume %s is gone: it is made anew, and empty", name)
                self._make(name)
        return [self._adopt(name) for name in sorted(there - known.keys()) if not self._drop_empty(name)]

    def unmount_unused(self, volumes: Iterable[Volume]) -> None:
        """Unmount what an earlier daemon has mounted for nobody who is still there."""
        for volume in volumes:
            if volume.driver == LOCAL and volume.options and is_mounted(self.data(volume.name)):
                try:
                    unmount_device(self.data(volume.name))
                except OSError as exc:
                    logger.warning("volume %s stays mounted: %s", volume.name, exc)

    def _has_data(self, name: str) -> bool:
        """Whether the folder is there. It is not looked at itself: a network's disk on it might not answer."""
        try:
            return DATA in os.listdir(self.folder / name)
        except OSError:
            return False

    def _drop_empty(self, name: str) -> bool:
        try:
            for path in (self.data(name), self.folder / name):
                if path.exists():
                    path.rmdir()
        except OSError:
            return False
        return True

    def _adopt(self, name: str) -> Volume:
        logger.warning("folder %s has content and belongs to no volume: it becomes one", self.folder / name)
        self._make(name)
        return Volume(name, LOCAL, int((self.folder / name).stat().st_mtime_ns) or time.time_ns())

    def _make(self, name: str) -> None:
        """Make the folders, on disk when this returns. Undone on failure."""
        top, data = self.folder / name, self.data(name)
        is_new = not top.exists()
        try:
            top.mkdir(mode=0o701, exist_ok=True)
            data.mkdir(mode=0o755, exist_ok=True)
            for path in (data, top, self.folder):
                sync(path)
        except OSError:
            if is_new:
                self._drop_empty(name)
            raise

    def _put_aside(self, name: str) -> None:
        unmount_device(self.data(name))  # whatever is mounted there is not ours to delete
        self.discard(name)  # one of that name that an error has left there
        try:
            (self.folder / name).rename(self.folder / REMOVING / name)
        except FileNotFoundError:
            return
        for path in (self.folder / REMOVING, self.folder):
            sync(path)


def check_name(name: str) -> None:
    """Raises BadParameter, in Docker's words (moby: volume/local, validateName)."""
    if len(name) == 1:
        raise BadParameter("volume name is too short, names should be at least two alphanumeric characters", key="Name")
    if not NAME.fullmatch(name):
        raise BadParameter(
            f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path",
            key="Name",
        )
    if len(name) > NAME_MAX:
        raise BadParameter(f'volume name "{name[:40]}…" is longer than {NAME_MAX} characters', key="Name")
