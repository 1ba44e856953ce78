"""An image archive on disk: a tar whose members are found by name and read by offset, never unpacked.

The archive lies in an unlinked file, so nothing of it stays whatever happens. Member names are keys of a dictionary
and nothing else: none ever becomes a path. Links, which old archives have among their layers, are looked up there too.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import trio

from windlass.engine.errors import BadParameter
from windlass.engine.params import parse_json
from windlass.lib import reference

BLOCK = 512
CHUNK = 1 << 20
MEMBERS_MAX = 100_000
JSON_MAX = 8 << 20  # bytes, as containerd has it
LINKS_MAX = 8


class Member(NamedTuple):
    """Where a member's data is; `link` is the name that a link leads to."""

    offset: int
    size: int
    link: str = ""


class BadArchive(BadParameter):
    """The archive is no tar, or not one of images."""


class Archive:
    """A spooled archive. `close` it when done."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members = _index(fd)

    @classmethod
    async def spool(cls, chunks: AsyncIterator[bytes], folder: Path) -> Archive:
        """Write `chunks` into an unlinked file in `folder` and index it. Raises BadArchive, OSError (ENOSPC …)."""
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - its descriptor is kept
        fd = os.dup(file.fileno())
        file.close()
        try:
            async for chunk in chunks:
                await trio.to_thread.run_sync(_write_all, fd, chunk)
            return await trio.to_thread.run_sync(cls, fd)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        os.close(self._fd)

    def has(self, name: str) -> bool:
        return _tidy(name) in self._members

    def json(self, name: str) -> Any:
        """Parse the member `name`. Raises BadArchive when it is missing, too large, or no JSON."""
        return parse_member(self.read(name), name)

    def blob(self, item: Any) -> bytes:
        """The small blob that an OCI descriptor names. Raises BadArchive when it is not what was promised."""
        name = blob_name(item)
        data = self.read(name)
        if hashlib.sha256(data).hexdigest() != name.rpartition("/")[2]:
            raise BadArchive(f"invalid archive: {name} is not what its digest says")
        return data

    def read(self, name: str) -> bytes:
        """The bytes of a small member, which must be a file itself. Raises BadArchive."""
        member = self._find(name)
        if self._members[_tidy(name)].link:
            raise BadArchive(f"invalid archive: {name!r:.200} is a link")
        if member.size > JSON_MAX:
            raise BadArchive(f"invalid archive: {name!r:.200} has {member.size} bytes, over the limit of {JSON_MAX}")
        return os.pread(self._fd, member.size, member.offset)

    def size(self, name: str) -> int:
        """The bytes of a member. Raises BadArchive when it is missing."""
        return self._find(name).size

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of a large member."""
        member = self._find(name)
        at, end = member.offset, member.offset + member.size
        while at < end:
            chunk = await trio.to_thread.run_sync(os.pread, self._fd, min(CHUNK, end - at), at)
            if not chunk:
                raise BadArchive(f"invalid archive: {name} is cut short")
            at += len(chunk)
            yield chunk

    def _find(self, name: str) -> Member:
        key = _tidy(name)
        for _ in range(LINKS_MAX):
            member = self._members.get(key)
            if member is None:
                raise BadArchive(f"invalid archive: {name!r:.200} is missing")
            if not member.link:
                return member
            folder = "" if member.link.startswith("/") else key.rpartition("/")[0]
            key = _tidy(f"{folder}/{member.link}")
        raise BadArchive(f"invalid archive: {name!r:.200} is a link without an end")


def parse_member(data: bytes, name: str) -> Any:
    """Parse JSON out of an archive. Raises BadArchive."""
    try:
        return parse_json(data, name)
    except BadParameter as exc:
        raise BadArchive(f"invalid archive: {exc}") from None


def blob_name(item: Any) -> str:
    """The member that an OCI descriptor means. Raises BadArchive."""
    digest = item.get("digest") if isinstance(item, dict) else None
    if not isinstance(digest, str) or not reference.is_digest(digest):
        raise BadArchive(f"invalid archive: malformed digest {digest!r:.100}")
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _tidy(name: str) -> str:
    """A name as a key: without `.` and empty components; `..` takes one away, and never leaves the top."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _index(fd: int) -> dict[str, Member]:
    """Read every header. Raises BadArchive."""
    members: dict[str, Member] = {}
    end, at = os.fstat(fd).st_size, 0
    long: dict[str, str] = {}
    while at + BLOCK <= end:
        header = os.pread(fd, BLOCK, at)
        if not header.strip(b"\0"):
            return members
        size, kind, name, link = _header(header)
        if kind not in "LKxg" and "size" in long:  # what does not fit into the header's eleven digits
            size = _decimal(long["size"])
        data, at = at + BLOCK, at + BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK
        if data + size > end:
            raise BadArchive("invalid archive: it is cut short")
        if kind in "LKx":
            if size > JSON_MAX:
                raise BadArchive("invalid archive: an extended header is too long")
            long |= _extended(kind, os.pread(fd, size, data))
        elif kind != "g":
            name, link = long.get("path", name), long.get("linkpath", link)
            if kind in "0\0007":
                members[_tidy(name)] = Member(data, size)
            elif kind in "12":  # a hard link is named from the top of the archive, a symbolic one from where it is
                members[_tidy(name)] = Member(0, 0, f"/{link}" if kind == "1" else link)
            long = {}
        if len(members) > MEMBERS_MAX:
            raise BadArchive(f"invalid archive: more than {MEMBERS_MAX} members")
    if not members:
        raise BadArchive("invalid archive: it is no tar, or an empty one")
    return members


def _header(header: bytes) -> tuple[int, str, str, str]:
    stated, found = header[148:156].strip(b" \0"), sum(header[:148] + b" " * 8 + header[156:])
    if stated.lstrip(b"0") != b"%o" % found:
        raise BadArchive("invalid archive: a header's checksum is wrong, or this is no tar")
    text = [header[a:b].split(b"\0")[0].decode(errors="surrogateescape") for a, b in ((0, 100), (157, 257), (345, 500))]
    name = f"{text[2]}/{text[0]}" if text[2] and header[257:263] == b"ustar\0" else text[0]
    return _number(header[124:136]), chr(header[156]), name, text[1]


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadArchive("invalid archive: a size is no number")
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise BadArchive("invalid archive: a size is no number")
    return int(text)


def _extended(kind: str, data: bytes) -> dict[str, str]:
    if kind != "x":
        return {"path" if kind == "L" else "linkpath": data.rstrip(b"\0").decode(errors="surrogateescape")}
    found = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) + 3 < int(length[:10]) <= len(data):
            raise BadArchive("invalid archive: an extended header is malformed")
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        key, _, value = record.partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = value.decode(errors="surrogateescape")
    return found
