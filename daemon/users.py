"""USER in numbers, out of the image's own passwd(5) and group(5).

These files come from strangers. They are read from the folders that the root file system is made of, without mounting
it: each name is looked up in the topmost layer that has it, as overlayfs does, on descriptors that never follow a
link of the image; links are resolved here, inside the root. Only regular files are opened, at most `MAX_SIZE` bytes
are read, so a FIFO, a device or an endless file costs nothing.

Numbers come first, in strict decimal from 0 to 2^32-2; then names (runc: libcontainer/user, but for that order). What
is all digits is never a name, however long (CVE-2016-3697, CVE-2024-40635).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from windlass.engine.errors import BadParameter
from windlass.execdriver.driver import User
from windlass.lib.rootfs import Overlay, RootFS

MAX_SIZE = 4 << 20
MAX_LINKS = 40
MAX_ID = 2**32 - 2
_NUMBER = re.compile(r"[0-9]+\Z", re.ASCII)
_DIGITS = len(str(MAX_ID))
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Account(NamedTuple):
    """Who a process will be."""

    user: User
    home: str


class _Passwd(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: str  # names with commas between


def find_account(rootfs: RootFS, text: str, extra_groups: Sequence[str] = ()) -> Account:
    """Resolve `USER[:GROUP]`, empty for root, in the root file system. Blocks: call it in a thread.

    Raises BadParameter with Docker's sentence when a name is not in the files, or a number is out of range.
    """
    user_text, colon, group_text = text.partition(":")
    number = _number(user_text) if user_text else 0
    entry = _find_user(rootfs, user_text, number)
    if entry is None and number is None:
        raise BadParameter(f"unable to find user {user_text}: no matching entries in passwd file", key="User")
    uid = number if entry is None else entry.uid
    assert uid is not None
    is_given = bool(colon and group_text)
    wanted = [group_text, *extra_groups] if is_given else list(extra_groups)
    member = entry.name if entry is not None and not is_given else None
    gids, of_member = _find_groups(rootfs, wanted, member)
    gid = gids.pop(0) if is_given else 0 if entry is None else entry.gid
    return Account(User(uid, gid, tuple(dict.fromkeys((*of_member, *gids)))), (entry.home if entry else "") or "/")


def _find_user(rootfs: RootFS, name: str, number: int | None) -> _Passwd | None:
    for user in _passwd(rootfs):
        if user.uid == number if number is not None else user.name == name:
            return user
    return None


def _find_groups(rootfs: RootFS, wanted: Sequence[str], member: str | None) -> tuple[list[int], list[int]]:
    """Find the ids of the wanted groups, and of those that have `member`. Raises BadParameter."""
    numbers = {text: _number(text) for text in wanted}
    missing = {text for text, number in numbers.items() if number is None}
    of_member: list[int] = []
    for group in _groups(rootfs) if missing or member is not None else ():
        if group.name in missing:
            missing.remove(group.name)
            numbers[group.name] = group.gid
        if member is not None and f",{member}," in f",{group.members},":
            of_member.append(group.gid)
    found = [(text, numbers[text]) for text in wanted]
    for text, number in found:
        if number is None:
            raise BadParameter(f"unable to find group {text}: no matching entries in group file", key="User")
    return [number for _, number in found if number is not None], of_member


def check_user(text: str, extra_groups: Sequence[str] = ()) -> None:
    """Check what can be seen of `USER[:GROUP]` without the files. Raises BadParameter for numbers out of range."""
    for part in (*text.split(":", 1), *extra_groups):
        _number(part)


def _number(text: str) -> int | None:
    """The number that `text` is, or None for a name. Raises BadParameter when it is out of range."""
    if not _NUMBER.match(text):
        return None
    if not _is_id(text):
        raise BadParameter(f"uids and gids must be in range 0-{MAX_ID}, not {text:.40}", key="User")
    return int(text)


def _passwd(rootfs: RootFS) -> Iterator[_Passwd]:
    for fields in _lines(rootfs, "etc/passwd"):
        if len(fields) >= 4 and _is_id(fields[2]) and _is_id(fields[3]):
            yield _Passwd(fields[0], int(fields[2]), int(fields[3]), fields[5] if len(fields) > 5 else "")


def _groups(rootfs: RootFS) -> Iterator[_Group]:
    for fields in _lines(rootfs, "etc/group"):
        if len(fields) >= 3 and _is_id(fields[2]):
            yield _Group(fields[0], int(fields[2]), fields[3] if len(fields) > 3 else "")


def _is_id(text: str) -> bool:
    return bool(_NUMBER.match(text)) and len(text.lstrip("0")) <= _DIGITS and int(text) <= MAX_ID


def _lines(rootfs: RootFS, path: str) -> Iterator[list[str]]:
    # Line by line: a file of the size that is read would cost a hundred times as much taken apart.
    for line in io.BytesIO(read_file(rootfs, path)):
        if line.strip() and not line.startswith(b"#"):
            yield line.decode("utf-8", "surrogateescape").strip().split(":", 6)


# -- reading a file of the image -------------------------------------------------------------------------------------


def read_file(rootfs: RootFS, path: str) -> bytes:
    """Read a regular file inside the root; empty when it is missing or is no regular file.

    Only the first `MAX_SIZE` bytes are read. Source: kernel's filesystems/overlayfs.rst for how layers are merged.
    """
    layers = (rootfs.upper, *rootfs.lower) if isinstance(rootfs, Overlay) else (rootfs.path,)
    with contextlib.ExitStack() as opened:
        roots = [_open(opened, layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for layer in layers]
        found = _walk(opened, roots, path)
        if found is None:
            return b""
        parent, name = found
        return _read(parent, name)


def _walk(opened: contextlib.ExitStack, roots: list[int], path: str) -> tuple[int, str] | None:
    """Find the folder descriptor and the name of the regular file that `path` leads to, or None."""
    todo = [part for part in path.split("/") if part]
    trail: list[list[int]] = [roots]  # merged folders from the root to where we are
    links = 0
    while todo:
        part = todo.pop(0)
        if part in (".", ".."):
            if part == ".." and len(trail) > 1:
                trail.pop()
            continue
        kind, where = _look_up(opened, trail[-1], part)
        if kind == stat.S_IFDIR:
            trail.append(where)
        elif kind == stat.S_IFREG and not todo:
            return where[0], part
        elif kind == stat.S_IFLNK and links < MAX_LINKS:
            links += 1
            target = os.readlink(part, dir_fd=where[0])
            todo[:0] = [piece for piece in target.split("/") if piece]
            if target.startswith("/"):
                del trail[1:]
        else:
            return None
    return None


def _look_up(opened: contextlib.ExitStack, folders: list[int], name: str) -> tuple[int, list[int]]:
    """Look `name` up in a merged folder: its type (0: missing), and its folders, or the folder that it is in."""
    below: list[int] = []
    for folder in folders:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFDIR:
            if below:
                break  # a file below a folder is hidden
            return (0, []) if kind == stat.S_IFCHR and status.st_rdev == 0 else (kind, [folder])
        below.append(_open(opened, name, _LOOK | os.O_DIRECTORY, folder))
        if _is_opaque(below[-1]):
            break
    return (stat.S_IFDIR, below) if below else (0, [])


def _is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{folder}", "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _open(opened: contextlib.ExitStack, path: str, flags: int, folder: int | None = None) -> int:
    fd = os.open(path, flags, dir_fd=folder)
    opened.callback(os.close, fd)
    return fd


def _read(folder: int, name: str) -> bytes:
    try:
        fd = os.open(name, _READ, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return b""  # it was something else a moment ago
        raise
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(MAX_SIZE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
