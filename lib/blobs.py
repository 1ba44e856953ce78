"""Blobs by digest, as registries send them: a layer's compressed tar is kept, so that push and save merely send files.

    ROOT/sha256/HEX    a blob, whole and checked
    ROOT/ingest/HEX    one on its way in; a later writer goes on where this one was cut, after a crash too
    ROOT/ingest/.…     one whose digest nobody knows yet; garbage at start-up

What is written is hashed; a blob is renamed into place when its digest and its size are right. Who needs a blob is
not known here: see the image store, which takes away what no image has.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import trio

from .disk import sync

CHUNK = 1 << 20
KEPT = 24 * 3600.0  # seconds that an unfinished blob, or one of no image, waits for the next attempt


class BlobError(Exception):
    """What was written is not what the digest says."""


class Blobs:
    """The blobs under one folder. Its coroutines do their work in threads."""

    def __init__(self, root: Path) -> None:
        """Use `root`, made when missing. Blocks; meant for start-up."""
        self.root = root
        for folder in (root, root / "sha256", root / "ingest"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in (root / "ingest").glob(".*"):
            leftover.unlink()

    async def has(self, digest: str) -> bool:
        return await trio.to_thread.run_sync(self._path(digest).is_file)

    async def writer(self, digest: str = "") -> Writer:
        """Begin to write a blob, or go on with one that was cut; `close` the writer."""
        name = _hex(digest) if digest else f".{secrets.token_hex(8)}"
        return await trio.to_thread.run_sync(Writer, self, self.root / "ingest" / name)

    async def read(self, digest: str, at: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a blob from `at` on. Raises FileNotFoundError."""
        fd = await trio.to_thread.run_sync(os.open, self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while data := await trio.to_thread.run_sync(os.pread, fd, CHUNK, at):
                at += len(data)
                yield data
        finally:
            os.close(fd)

    async def remove(self, digests: set[str]) -> None:
        """Take blobs away, and what there is of them in `ingest`. Those that are not there are no error."""

        def unlink() -> None:
            for digest in digests:
                for path in (self._path(digest), self.root / "ingest" / _hex(digest)):
                    path.unlink(missing_ok=True)

        await trio.to_thread.run_sync(unlink)

    async def sweep(self, needed: set[str]) -> None:
        """Take away what is not `needed` and has been waiting for too long."""

        def unlink() -> None:
            before = time.time() - KEPT
            blobs = [path for path in (self.root / "sha256").iterdir() if f"sha256:{path.name}" not in needed]
            for path in [*blobs, *(self.root / "ingest").iterdir()]:
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()

        await trio.to_thread.run_sync(unlink)

    def _path(self, digest: str) -> Path:
        return self.root / "sha256" / _hex(digest)


class Writer:
    """One blob on its way in. `size` is how much of it is there."""

    def __init__(self, blobs: Blobs, path: Path) -> None:
        self._blobs, self._path = blobs, path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0
        while data := os.pread(self._fd, CHUNK, self.size):
            self._hash.update(data)
            self.size += len(data)
        self.resumed = self.size > 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    async def write(self, data: bytes | bytearray) -> None:
        """Add bytes. Raises OSError (ENOSPC …)."""
        await trio.to_thread.run_sync(self.write_now, data)

    def write_now(self, data: bytes | bytearray) -> None:
        """`write`, blocking, for threads."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self.size)
            self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    async def restart(self) -> None:
        """Forget what is there."""
        await trio.to_thread.run_sync(os.ftruncate, self._fd, 0)
        self._hash, self.size, self.resumed = hashlib.sha256(), 0, False

    async def commit(self) -> str:
        """Sync the blob, put it in its place and return its digest."""

        def publish() -> None:
            os.fsync(self._fd)
            place = self._blobs._path(self.digest)
            self._path.rename(place)
            sync(place.parent)  # or a row could outlive the blob that it names

        await trio.to_thread.run_sync(publish)
        return self.digest

    async def discard(self) -> None:
        """Take away what there is of the blob."""
        await trio.to_thread.run_sync(lambda: self._path.unlink(missing_ok=True))

    def close(self) -> None:
        """Let go of the file; it stays for the next attempt, unless nobody knows its digest."""
        os.close(self._fd)
        if self._path.name.startswith("."):
            self._path.unlink(missing_ok=True)


def _hex(digest: str) -> str:
    """The file's name. Raises ValueError for what is no digest: a stranger's text never becomes a path."""
    algorithm, _, digits = digest.partition(":")
    if algorithm != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(f"no digest: {digest!r:.100}")
    return digits
