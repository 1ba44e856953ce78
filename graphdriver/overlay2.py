"""Layers for overlayfs: each is the folder of its own changes, and the kernel lays them over each other.

    layers/ID/diff/        what the layer changes; whiteouts are 0:0 devices, opaque folders have an xattr
    containers/ID/upper/   what the container changes
    containers/ID/work/    overlayfs's own

Source: https://docs.kernel.org/filesystems/overlayfs.html.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from windlass.lib.rootfs import Overlay, RootFS

from .driver import Change
from .layers import LayerFolders


class Overlay2(LayerFolders):
    """The default driver. Nothing is mounted here: the exec driver makes the mount in the container's namespace."""

    name = "overlay2"
    flavour = "overlay"

    def _prepare(self, folder: Path, parent: str | None) -> Path:
        (folder / "diff").mkdir(mode=0o755)
        return folder / "diff"

    def _prepare_container(self, folder: Path, parent: str | None) -> None:
        for name, mode in (("upper", 0o755), ("work", 0o700)):
            (folder / name).mkdir(mode=mode)
        lower = self._chain(parent)
        if lower:  # the merged root's own mode and owner are the upper folder's
            found = os.stat(lower[0] / "diff")
            os.chown(folder / "upper", found.st_uid, found.st_gid)
            os.chmod(folder / "upper", stat.S_IMODE(found.st_mode))
        else:
            (folder / "empty").mkdir(mode=0o755)  # overlayfs wants one lower folder at least

    def _rootfs(self, folder: Path, parent: str | None) -> RootFS:
        lower = tuple(str(layer / "diff") for layer in self._chain(parent)) or (str(folder / "empty"),)
        return Overlay(lower, str(folder / "upper"), str(folder / "work"))

    def _changes(self, folder: Path, parent: str | None) -> list[Change]:
        lower = [layer / "diff" for layer in self._chain(parent)]
        found: list[Change] = []
        _walk(folder / "upper", "", lower, found)
        return found


def _walk(upper: Path, prefix: str, lower: list[Path], found: list[Change]) -> None:
    with os.scandir(upper) as entries:
        for entry in entries:
            path = f"{prefix}/{entry.name}"
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                found.append(Change(path, 2))
                continue
            found.append(Change(path, 0 if _is_below(lower, path) else 1))
            if stat.S_ISDIR(info.st_mode):
                _walk(upper / entry.name, path, [] if _is_opaque(entry.path) else lower, found)


def _is_below(lower: list[Path], path: str) -> bool:
    """True when the merged lower layers have `path`, by looking from the topmost down."""
    parts = path.strip("/").split("/")
    answers = (_find(layer, parts) for layer in lower)
    return next((answer for answer in answers if answer is not None), False)


def _find(layer: Path, parts: list[str]) -> bool | None:
    """True: the layer has it; False: the layer hides what lower ones have; None: ask the next."""
    at, hides = layer, None
    for depth, part in enumerate(parts):
        at = at / part
        try:
            info = at.lstat()
        except FileNotFoundError:
            return hides
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            return False
        if depth < len(parts) - 1 and not stat.S_ISDIR(info.st_mode):
            return False
        if stat.S_ISDIR(info.st_mode) and _is_opaque(str(at)):
            hides = False
    return True


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
