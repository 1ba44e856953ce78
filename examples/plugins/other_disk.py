"""A volume driver: volumes that live in a folder of another disk, $WINDLASS_OTHER_DISK.

windlass daemon --plugin examples/plugins/other_disk.py
docker run --volume-driver other-disk -v data:/data …

The engine keeps the volumes' names, options and labels, and asks the driver for their content only. An answer may
take its time, but not for ever; what blocks goes to a thread.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Engine
from windlass.volume.model import Volume


class OtherDisk:
    name = "other-disk"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, volume: Volume) -> Path:
        return self.folder / volume.name  # which has no slash and no dot in front: the engine has seen to that

    async def create(self, volume: Volume) -> None:
        await trio.to_thread.run_sync(lambda: self._path(volume).mkdir(parents=True, exist_ok=True))

    async def remove(self, volume: Volume) -> None:
        await trio.to_thread.run_sync(lambda: shutil.rmtree(self._path(volume), ignore_errors=True))

    async def path(self, volume: Volume) -> str:
        return str(self._path(volume))

    async def mount(self, volume: Volume) -> str:
        return str(self._path(volume))

    async def unmount(self, volume: Volume) -> None:
        pass

    async def status(self, volume: Volume) -> dict[str, Any] | None:
        return {"Free": shutil.disk_usage(self.folder).free}


def install(engine: Engine) -> None:
    engine.provide("volume-driver", OtherDisk(Path(os.environ.get("WINDLASS_OTHER_DISK", "/srv/volumes"))))
