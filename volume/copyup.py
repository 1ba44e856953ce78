"""Runs `windlass-files copyup`: a new volume gets what an image has at its place. See native/c/copyup.c."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from windlass.engine.errors import BadParameter
from windlass.lib.helper import helper


async def copy_up(program: str, volume: Path, path: str, layers: Sequence[str]) -> None:
    """Copy what `layers` have at `path` into the folder `volume`, if it is empty and there is something.

    Raises BadParameter when the image has something else than a folder there, OSError for the rest; what has been
    copied stays then. The child is gone when this returns or raises.
    """
    async with helper(program, ["copyup", str(volume), path, *layers]) as child:
        answer = b"".join([chunk async for chunk in child.output()])
    _check(answer.decode(errors="replace").rstrip("\n"), path)


def _check(answer: str, path: str) -> None:
    if answer in ("copied", "kept", "missing"):
        return
    words = answer.split(" ", 2)
    if words[0] != "error" or len(words) < 3 or not words[1].isdigit():
        raise OSError(errno.EIO, f"copying the image's {path} ended without a word")
    number = int(words[1])
    if number == errno.ENOTDIR:
        raise BadParameter(f"cannot mount volume over existing file, file exists {path}")
    raise OSError(number, f"failed to copy the image's {words[2]} into the volume: {os.strerror(number)}")
