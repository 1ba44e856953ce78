"""Blobs on their way in. One pull fetches a blob, and every other one that wants it waits.

    ask ─▶ lock of the digest ─▶ there meanwhile? ─▶ a slot ─▶ GET, Range from where it was cut ─▶ check ─▶ blob store

The pull that holds the lock fetches with its own session, so its credentials serve nobody else. When it is cancelled,
the next in line goes on where it stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from windlass.engine.errors import JobError
from windlass.jobs.images import Blob
from windlass.lib.blobs import Blobs, Writer

from . import retry
from .errors import BadImage, RegistryError, Unreachable
from .session import reason

if TYPE_CHECKING:
    import httpx

BUFFER = 1 << 20  # bytes that are written at a time
INTERVAL = 0.1  # seconds between two lines of progress of one blob
FAILED = "filesystem layer verification failed"  # in Docker's words
SHORT = 12  # digits of a digest that people see

Told = Callable[[str, int, int], None]  # status, bytes, of how many
Open = Callable[[dict[str, str]], Awaitable["httpx.Response"]]


class Download:
    """One blob that is wanted by `watchers`."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.watchers: list[Told] = []

    def tell(self, status: str, current: int = 0, total: int = 0) -> None:
        for watcher in self.watchers:
            watcher(status, current, total)


class Downloads:
    """All blobs on their way in."""

    def __init__(self, blobs: Blobs, limit: int, attempts: int) -> None:
        self.blobs = blobs
        self._slots = trio.Semaphore(limit)
        self._attempts = attempts
        self._running: dict[str, Download] = {}

    async def fetch(self, blob: Blob, sources: list[Open], tell: Told) -> None:
        """Bring `blob` into the store, from the first of `sources` that has it.

        Raises BadImage when it is not what its descriptor says, and what the last source raised.
        """
        download = self._running.setdefault(blob.digest, Download())
        download.watchers.append(tell)
        try:
            async with download.lock:
                if not await self.blobs.has(blob.digest):
                    await self._in_turn(download, blob, sources)
            tell("Download complete", 0, 0)
        finally:
            download.watchers.remove(tell)
            if not download.watchers:
                del self._running[blob.digest]

    async def _in_turn(self, download: Download, blob: Blob, sources: list[Open]) -> None:
        if not self._slots.value:
            download.tell("Waiting")
        async with self._slots:
            for source in sources:
                try:
                    await self._from_one(download, blob, source)
                    return
                except (Unreachable, RegistryError, BadImage):
                    if source is sources[-1]:
                        raise

    async def _from_one(self, download: Download, blob: Blob, source: Open) -> None:
        writer = await self.blobs.writer(blob.digest)
        try:
            await self._persist(download, blob, source, writer)
        except OSError as exc:
            raise JobError(f"failed to write the layer {blob.digest}: {exc.strerror}") from exc
        finally:
            writer.close()

    async def _persist(self, download: Download, blob: Blob, source: Open, writer: Writer) -> None:
        """Fetch until the blob is whole and right; attempts that bring nothing are counted."""
        failures = 0
        while True:
            had = writer.size
            try:
                if writer.size < blob.size or not writer.size:
                    await _receive(download, blob, source, writer)
                download.tell("Verifying Checksum")
                if await _is_right(blob, writer):
                    return
                continue  # what was there from an earlier attempt was wrong: all over, once
            except (Unreachable, RegistryError) as exc:
                failures = failures + 1 if writer.size == had else 1
                if failures >= self._attempts or not retry.may_pass(exc):
                    raise
                wait = retry.delay(failures, exc)
            download.tell(f"Retrying in {wait:.0f} second{'s' * (round(wait) != 1)}")
            await trio.sleep(wait)


async def _receive(download: Download, blob: Blob, source: Open, writer: Writer) -> None:
    """Read what is missing of the blob into `writer`."""
    import httpx

    try:
        response = await source({"Range": f"bytes={writer.size}-"} if writer.size else {})
    except RegistryError as exc:
        if exc.status != 416:
            raise
        await writer.restart()  # it knows of fewer bytes than are here
        raise Unreachable(str(exc)) from exc
    buffer, due = bytearray(), 0.0
    try:
        await _check_head(response, blob, writer)
        async for chunk in response.aiter_raw():
            buffer += chunk
            if writer.size + len(buffer) > blob.size:
                await writer.discard()
                raise BadImage(f"{FAILED} for digest {blob.digest}: more than {blob.size} bytes")
            if len(buffer) >= BUFFER:
                await writer.write(buffer)
                buffer = bytearray()
            if time.monotonic() >= due:
                download.tell("Downloading", writer.size + len(buffer), blob.size)
                due = time.monotonic() + INTERVAL
    except httpx.TransportError as exc:
        raise Unreachable(f'Get "{_shown(response)}": {reason(exc)}') from exc
    finally:  # what has come is kept, whatever has ended this
        with trio.CancelScope(shield=True):
            await response.aclose()
            await writer.write(buffer)
    if writer.size < blob.size:
        raise Unreachable(f'Get "{_shown(response)}": unexpected EOF after {writer.size} of {blob.size} bytes')


async def _check_head(response: httpx.Response, blob: Blob, writer: Writer) -> None:
    """See that the answer is the part that was asked for; the whole means to begin again. Raises BadImage."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)", response.headers.get("content-range", ""))
        if found is None or int(found[1]) != writer.size or found[2] not in ("*", str(blob.size)):
            await writer.restart()
            raise Unreachable(f'Get "{_shown(response)}": the range is not what was asked for')
        return
    if writer.size:
        await writer.restart()
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) != blob.size:
        await writer.discard()
        raise BadImage(f"{FAILED} for digest {blob.digest}: {length} bytes instead of {blob.size}")


async def _is_right(blob: Blob, writer: Writer) -> bool:
    """Put the blob in its place if it is what its digest says; False to fetch it again. Raises BadImage."""
    if (writer.digest, writer.size) == (blob.digest, blob.size):
        await writer.commit()
        return True
    if writer.resumed:
        await writer.restart()
        return False
    await writer.discard()
    raise BadImage(f"{FAILED} for digest {blob.digest}")


def _shown(response: httpx.Response) -> str:
    return str(response.request.url.copy_with(query=None))
