"""From a reference to a manifest: the endpoints in order, each asked until one has it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from windlass.engine import Job
from windlass.engine.errors import JobError
from windlass.jobs.images import Blob, Document
from windlass.jobs.registry import Endpoint, ResolveImage
from windlass.lib.reference import Reference

from . import manifest
from .errors import BadImage, RegistryError, Unreachable
from .names import canonical
from .retry import retried
from .session import Session
from .settings import Settings

T = TypeVar("T")
Read = Callable[[Any, bytes], T]

NOWHERE = "https://nowhere.invalid"  # an endpoint that is never asked itself

logger = logging.getLogger("windlass.registry")


class Source:
    """The sessions with the endpoints of one repository, from the first that answered on.

    `outside` is for what lies elsewhere (a foreign layer's urls): it has no credentials (CVE-2020-15157).
    """

    def __init__(self, settings: Settings, name: str, sessions: list[Session], outside: Session) -> None:
        self.settings = settings
        self.name = name
        self.sessions = sessions
        self.outside = outside

    async def ask(self, path: str, accept: str, read: Read[T]) -> T:
        """GET /v2/REPOSITORY/`path` from the first endpoint that has it; `read` makes something of headers and body.

        A mirror that cannot, or sends what `read` refuses, is passed over, and so is TLS to an insecure registry that
        has none: they are not asked again. Raises what the last one raised.
        """
        while True:
            session = self.sessions[0]
            is_last = len(self.sessions) == 1
            try:
                return read(*await self._ask_one(session, path, accept, self.settings.attempts if is_last else 1))
            except JobError as exc:
                may_go_on = session.endpoint.is_mirror or (isinstance(exc, Unreachable) and not session.was_reached)
                if is_last or not may_go_on:
                    raise
                logger.info("%s, trying the next endpoint", exc)
                del self.sessions[0]

    async def _ask_one(self, session: Session, path: str, accept: str, attempts: int) -> tuple[Any, bytes]:
        url = f"/v2/{session.endpoint.repository}/{path}"

        async def once() -> tuple[Any, bytes] | Unreachable:
            try:
                return await session.read("GET", url, manifest.DOCUMENT_MAX, {"Accept": accept})
            except Unreachable as exc:
                if not exc.never_connected:
                    raise
                return exc  # nobody takes connections there: not now, and not in a second

        found = await retried(attempts, once)
        if isinstance(found, Unreachable):
            raise found
        return found

    async def document(self, where: str) -> tuple[Document, dict[str, Any]]:
        """The manifest or index that a tag or digest names, and the object in it. Raises BadImage."""

        def read(headers: Any, content: bytes) -> tuple[Document, dict[str, Any]]:
            media_type = headers.get("content-type", "").partition(";")[0].strip()
            document = Document(manifest.digest_of(content), media_type, content)
            if where.startswith("sha256:") and document.digest != where:
                raise BadImage(f"manifest verification failed for digest {where}")
            return document, manifest.parse(document, self.name)

        return await self.ask(f"manifests/{where}", manifest.ACCEPT, read)

    async def blob(self, blob: Blob) -> bytes:
        """A small blob. Raises BadImage when it is not what its descriptor says."""

        def read(_: Any, content: bytes) -> bytes:
            if manifest.digest_of(content) != blob.digest or len(content) != blob.size:
                raise BadImage(f"image config verification failed for digest {blob.digest}")
            return content

        return await self.ask(f"blobs/{blob.digest}", "*/*", read)


@asynccontextmanager
async def opened(settings: Settings, endpoints: list[Endpoint], name: str) -> AsyncIterator[Source]:
    """Sessions with `endpoints`, as long as the context lasts; `name` is what people call the image."""
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(Session(settings, endpoint, f"repository:{endpoint.repository}:pull"))
            for endpoint in endpoints
        ]
        outside = await stack.enter_async_context(Session(settings, Endpoint(NOWHERE, "")))
        yield Source(settings, name, sessions, outside)


async def resolve(job: Job[Any], ref: Reference, auth: str, platform: str = "", push: bool = False) -> list[Endpoint]:
    """Where `ref` is to be had, by the job `resolve_image`. Raises RegistryError when it names nothing."""
    found = await job.engine.call(ResolveImage(name=canonical(ref), auth=auth, platform=platform, push=push))
    if not found.endpoints:
        raise RegistryError(404, "", f"no registry is known to have {ref.familiar}")
    return found.endpoints
