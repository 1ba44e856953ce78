"""One blob to a registry: is it there, can it be mounted from a neighbour, else send it.

Source: OCI distribution spec, "Pushing blobs", "Mounting a blob from another repository".
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote, urlsplit

from windlass.engine.errors import JobError
from windlass.jobs.images import Blob
from windlass.lib.blobs import Blobs

from .errors import RegistryError
from .session import Content, Session, body_of, redirected

CHUNK = 16 << 20  # bytes of one PATCH to a registry that takes no blob in one piece
INTERVAL = 0.1
SMALL = 64 << 10

Told = Callable[[int], None]  # bytes sent


class Target:
    """The repository that is pushed to."""

    def __init__(self, session: Session, blobs: Blobs) -> None:
        self.session = session
        self._blobs = blobs
        self._base = f"/v2/{session.endpoint.repository}"

    async def has(self, digest: str) -> bool:
        """True when the repository has the blob."""
        try:
            response = await self.session.send("HEAD", f"{self._base}/blobs/{digest}")
        except RegistryError as exc:
            if exc.status == 404:
                return False
            raise
        await response.aclose()
        return True

    async def mount(self, digest: str, repository: str) -> bool:
        """Take the blob from another repository of the registry; False when it does not."""
        query = f"mount={quote(digest)}&from={quote(repository)}"
        try:
            response = await self.session.send("POST", f"{self._base}/blobs/uploads/?{query}", content=b"")
        except RegistryError:
            return False
        await body_of(response, SMALL)
        if response.status_code == 201:
            return True
        await self._abandon(response.headers.get("location", ""))
        return False

    async def _abandon(self, location: str) -> None:
        """End the upload that a registry began since it could not mount."""
        if location:
            try:
                await (await self.session.send("DELETE", self._location(location))).aclose()
            except JobError:
                return

    async def send(self, blob: Blob, told: Told) -> None:
        """Upload a blob out of the store: in one piece, or in several when the registry says that one is too large."""
        try:
            await self._whole(blob.digest, blob.size, lambda: _told(self._blobs.read(blob.digest), told))
        except RegistryError as exc:
            if exc.status not in (405, 411, 413, 416):
                raise
            await self._in_pieces(blob, told)

    async def send_small(self, digest: str, content: bytes) -> None:
        """Upload a blob that is in memory."""
        if not await self.has(digest):
            await self._whole(digest, len(content), lambda: _one(content))

    async def _whole(self, digest: str, size: int, content: Content) -> None:
        location = await self._begin()
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        response = await self.session.send("PUT", _with_digest(location, digest), headers, content)
        await body_of(response, SMALL)

    async def _in_pieces(self, blob: Blob, told: Told) -> None:
        location, at = await self._begin(), 0
        while at < blob.size:
            piece = await self._piece(blob.digest, at)
            headers = {
                "Content-Length": str(len(piece)),
                "Content-Range": f"{at}-{at + len(piece) - 1}",
                "Content-Type": "application/octet-stream",
            }
            response = await self.session.send("PATCH", location, headers, piece)
            await body_of(response, SMALL)
            location = self._location(response.headers.get("location", ""))
            at += len(piece)
            told(at)
        response = await self.session.send("PUT", _with_digest(location, blob.digest), {"Content-Length": "0"}, b"")
        await body_of(response, SMALL)

    async def _piece(self, digest: str, at: int) -> bytes:
        piece = bytearray()
        async for data in self._blobs.read(digest, at):
            piece += data[: CHUNK - len(piece)]
            if len(piece) == CHUNK:
                break
        return bytes(piece)

    async def _begin(self) -> str:
        response = await self.session.send("POST", f"{self._base}/blobs/uploads/", content=b"")
        await body_of(response, SMALL)
        return self._location(response.headers.get("location", ""))

    def _location(self, location: str) -> str:
        """Where the registry wants the next request. Raises JobError when it does not say, Denied for no such place."""
        if not location:
            raise JobError(f"{self.session.endpoint.url}: the registry began an upload and did not say where")
        return redirected(f"{self.session.endpoint.url}{self._base}/blobs/uploads/", location)

    async def put_manifest(self, where: str, media_type: str, content: bytes) -> None:
        """Store a manifest under a tag or its digest."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        response = await self.session.send("PUT", f"{self._base}/manifests/{where}", headers, content)
        await body_of(response, SMALL)


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(digest)}"


async def _told(chunks: AsyncIterator[bytes], told: Told) -> AsyncIterator[bytes]:
    """`chunks`, and how much of them has been taken."""
    done, due = 0, 0.0
    async for chunk in chunks:
        yield chunk
        done += len(chunk)
        if time.monotonic() >= due:
            told(done)
            due = time.monotonic() + INTERVAL


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
