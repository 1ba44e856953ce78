"""What a container has changed: by its upper layer, or by comparing two trees.

The container may run meanwhile and put links where folders were, so folders are opened by descriptor, one name at a
time, and no link is followed. What vanishes while we look is left out. The layers below are nobody's to change.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .driver import Change

MAX_DEPTH = 256  # folders in folders; each holds one descriptor


def of_upper(upper: Path, lower: list[Path]) -> list[Change]:
    """What overlay's `upper` folder changes in the `lower` ones, topmost first (overlayfs.rst, "whiteouts")."""
    found: list[Change] = []
    with _folder(upper) as fd:
        if fd >= 0:
            _walk_upper(fd, "", lower, False, found)
    return sorted(found, key=lambda change: change.path)


def of_trees(new: Path, old: Path | None) -> list[Change]:
    """What differs between two trees; a folder in which something differs is modified, as Docker has it."""
    found: dict[str, Change] = {}
    with _folder(new) as fd:
        if fd >= 0:
            _compare(fd, old, "", found)
    return sorted(found.values(), key=lambda change: change.path)


@contextmanager
def _folder(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder, no link; -1 when there is none any more."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _entries(fd: int, path: str) -> list[tuple[str, os.stat_result]]:
    """The names in a folder and what they are."""
    if path.count("/") > MAX_DEPTH:
        raise OSError(errno.ELOOP, f"folders are nested more than {MAX_DEPTH} deep")
    found = []
    for name in os.listdir(fd):
        try:
            found.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
        except FileNotFoundError:
            continue
    return found


# -- overlay -------------------------------------------------------------------------------------------------------


def _walk_upper(fd: int, prefix: str, lower: list[Path], is_new: bool, found: list[Change]) -> None:
    """With `is_new` the folder has taken the place of the one below: what it lacks is deleted."""
    entries = _entries(fd, prefix)
    if is_new:
        gone = _names_below(lower, prefix) - {name for name, _ in entries}
        found.extend(Change(f"{prefix}/{name}", 2) for name in gone)
    for name, info in entries:
        path = f"{prefix}/{name}"
        if _is_whiteout(info):
            found.append(Change(path, 2))
            continue
        found.append(Change(path, 0 if _is_below(lower, path) else 1))
        if stat.S_ISDIR(info.st_mode):
            with _folder(name, fd) as folder:
                if folder >= 0:
                    _walk_upper(folder, path, lower, is_new or _is_opaque(folder), found)


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_opaque(folder: int | str) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _is_below(lower: list[Path], path: str) -> bool:
    """True when the merged lower layers have `path`, by looking from the topmost down."""
    return any(True for _ in _places(lower, path))


def _names_below(lower: list[Path], path: str) -> set[str]:
    """The names in the folder `path` of the merged lower layers."""
    gone: set[str] = set()
    names: set[str] = set()
    for place in _places(lower, path):
        if not stat.S_ISDIR(place.lstat().st_mode):
            break
        for entry in os.scandir(place):
            (gone if _is_whiteout(entry.stat(follow_symlinks=False)) else names).add(entry.name)
        names -= gone
    return names


def _places(lower: list[Path], path: str) -> Iterator[Path]:
    """Where the merged lower layers have `path`, topmost first, as far down as nothing hides it."""
    parts = path.strip("/").split("/")
    for layer in lower:
        at, ends = layer, False
        for depth, part in enumerate(parts):
            at = at / part
            try:
                info = at.lstat()
            except FileNotFoundError:
                break
            if _is_whiteout(info) or (depth < len(parts) - 1 and not stat.S_ISDIR(info.st_mode)):
                return
            ends = ends or not stat.S_ISDIR(info.st_mode) or _is_opaque(str(at))
        else:
            yield at
        if ends:
            return


# -- two trees -----------------------------------------------------------------------------------------------------


def _compare(fd: int, old: Path | None, prefix: str, found: dict[str, Change]) -> None:
    before = {entry.name: entry for entry in os.scandir(old)} if old is not None else {}
    count = len(found)
    for name, info in _entries(fd, prefix):
        path = f"{prefix}/{name}"
        was = before.pop(name, None)
        if was is None:
            found[path] = Change(path, 1)
        elif _differs(info, was.stat(follow_symlinks=False)):
            found[path] = Change(path, 0)
        if stat.S_ISDIR(info.st_mode):
            below = Path(was.path) if was is not None and was.is_dir(follow_symlinks=False) else None
            with _folder(name, fd) as folder:
                if folder >= 0:
                    _compare(folder, below, path, found)
    for name in before:
        found[f"{prefix}/{name}"] = Change(f"{prefix}/{name}", 2)
    if prefix and len(found) > count:
        found.setdefault(prefix, Change(prefix, 0))


def _differs(a: os.stat_result, b: os.stat_result) -> bool:
    same = ("st_mode", "st_uid", "st_gid", "st_rdev", "st_mtime_ns")
    if any(getattr(a, name) != getattr(b, name) for name in same):
        return True
    return a.st_size != b.st_size and not stat.S_ISDIR(a.st_mode)
