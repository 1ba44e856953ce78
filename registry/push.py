"""Job `push`: blobs first, then the manifest that names them.

An image that came from a registry is pushed with the manifest that it came with, so it has the same digest there as
here, as long as its blobs are to be had. Otherwise, and for an image that was made here, a schema 2 manifest is made,
byte for byte the one that dockerd makes, over gzip layers, which every registry and every client takes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError, NoSuchJob, NotFound
from windlass.engine.events import Aux, Progress
from windlass.engine.params import parse_json
from windlass.jobs.events import Log
from windlass.jobs.images import (
    Blob,
    BlobSources,
    Document,
    ImageContent,
    ImageContents,
    ImageKeep,
    Images,
    KeptLayer,
    LayerPack,
)
from windlass.jobs.registry import Endpoint, Push
from windlass.lib import reference
from windlass.lib.blobs import Blobs
from windlass.lib.groups import in_parallel
from windlass.lib.reference import Reference

from . import errors, manifest, names
from .downloads import SHORT
from .errors import RegistryError, Unreachable
from .fetch import resolve
from .retry import retried
from .session import Session
from .settings import Settings
from .upload import Target

T = TypeVar("T")

SOURCES_MAX = 3  # repositories that a blob is tried to be mounted from


async def push(settings: Settings, blobs: Blobs, job: Job[Push]) -> None:
    """Push an image, or all tags of a repository."""
    params = job.params
    ref = names.parse(params.name, params.tag)
    if ref.digest:
        raise BadParameter("cannot push a digest reference", key="name")
    endpoints = await resolve(job, ref, params.auth, push=True)
    job.emit(Progress(f"The push refers to repository [{ref.repository}]"))
    images = [(tag, await _content(job, tag)) for tag in await _tags(job, ref)]
    try:
        for tag, content in images:
            await _Push(settings, blobs, job, tag, content).run(endpoints)
    except RegistryError as exc:
        raise errors.of_any(exc) from exc


async def _tags(job: Job[Push], ref: Reference) -> list[Reference]:
    """What is to be pushed. Raises NotFound when there is nothing."""
    known = [reference.parse(tag) for image in await job.engine.call(Images()) for tag in image.RepoTags]
    known = [tag for tag in known if tag.repository == ref.repository]
    if not known:
        raise NotFound(f"An image does not exist locally with the tag: {ref.familiar_name}")
    if not ref.tag:
        return sorted(known, key=lambda tag: tag.tag)
    if ref not in known:
        raise NotFound(f"tag does not exist: {ref.familiar}")
    return [ref]


async def _content(job: Job[Push], tag: Reference) -> ImageContent:
    """The image of `tag`. Raises NotFound when it is for another platform than is asked for."""
    content = await job.engine.call(ImageContents(name=names.canonical(tag)))
    if job.params.platform:
        wanted = parse_json(job.params.platform, "platform")
        if not isinstance(wanted, dict):
            raise BadParameter("invalid platform: it is no JSON object", key="platform")
        found = manifest.normal(msgspec.json.decode(content.config))
        if found[:2] != manifest.normal(wanted)[:2]:
            shown = "/".join(manifest.normal(wanted)[:2])
            raise NotFound(
                f"image with reference {tag.familiar} was found but does not provide the specified platform ({shown})"
            )
    return content


class _Push:
    """The push of one tag."""

    def __init__(self, settings: Settings, blobs: Blobs, job: Job[Push], ref: Reference, content: ImageContent) -> None:
        self._settings, self._blobs, self._job = settings, blobs, job
        self._ref, self._content = ref, content
        self._sources: dict[str, list[str]] = {}  # by digest, repositories of the same registry
        self._slots = trio.Semaphore(settings.uploads)

    async def run(self, endpoints: list[Endpoint]) -> None:
        for layer in reversed(self._content.layers):
            self._tell(layer, "Preparing")
            for blob in layer.blobs:
                self._sources[blob.digest] = await self._neighbours(blob.digest)
        async with self._connected(endpoints) as target:
            document, blobs = await self._plan(target)
            pairs = zip(self._content.layers, blobs, strict=True)
            await in_parallel(self._send_layer, [(target, layer, blob) for layer, blob in reversed([*pairs])])
            await self._retried(lambda: target.send_small(self._content.id, self._content.config))
            document = document or self._made(blobs)
            await self._retried(lambda: target.put_manifest(self._ref.tag, document.media_type, document.content))
        await self._remember(document, blobs)

    async def _neighbours(self, digest: str) -> list[str]:
        """The paths of other repositories of the registry that have the blob."""
        found = [reference.parse(name) for name in await self._job.engine.call(BlobSources(digest=digest))]
        paths = [each.path for each in found if each.domain == self._ref.domain and each.path != self._ref.path]
        return paths[:SOURCES_MAX]

    @asynccontextmanager
    async def _connected(self, endpoints: list[Endpoint]) -> AsyncIterator[Target]:
        """The first of the endpoints that answers. Raises Unreachable."""
        others = sorted({path for paths in self._sources.values() for path in paths})
        for endpoint in endpoints:
            scopes = [f"repository:{endpoint.repository}:pull,push", *(f"repository:{path}:pull" for path in others)]
            async with Session(self._settings, endpoint, *scopes) as session:
                try:
                    await (await session.send("GET", "/v2/")).aclose()
                except Unreachable:
                    if endpoint is endpoints[-1]:
                        raise
                    continue
                except JobError:
                    if not session.was_reached:
                        raise
                yield Target(session, self._blobs)
                return

    # -- what to push --------------------------------------------------------------------------------------------

    async def _plan(self, target: Target) -> tuple[Document | None, list[Blob]]:
        """The manifest that the image came with, if all its layers can be had, and the blobs of the layers."""
        for document in self._content.manifests:
            blobs = [blob for blob, _ in manifest.layers_of(manifest.parse(document, self._ref.familiar))]
            if all([await self._is_at_hand(target, blob) for blob in blobs]):
                return document, blobs
        found: dict[str, Blob] = {}

        async def pack(layer: KeptLayer) -> None:
            found[layer.chain] = await self._gzip(target, layer)

        await in_parallel(pack, [(layer,) for layer in self._content.layers])
        return None, [found[layer.chain] for layer in self._content.layers]

    async def _is_at_hand(self, target: Target, blob: Blob) -> bool:
        return (
            _is_foreign(blob)
            or await self._blobs.has(blob.digest)
            or bool(self._sources.get(blob.digest))
            or await self._retried(lambda: target.has(blob.digest))
        )

    async def _gzip(self, target: Target, layer: KeptLayer) -> Blob:
        """The layer as gzip, made if need be. Raises NotFound when nothing is kept that it could be made of."""
        for blob in layer.blobs:
            if blob.media_type.endswith("gzip") and await self._is_at_hand(target, blob):
                return blob
        return await self._job.engine.call(LayerPack(chain=layer.chain))

    def _made(self, blobs: list[Blob]) -> Document:
        """A schema 2 manifest, with the white space of dockerd's, and so its digest."""
        layers = [{"mediaType": manifest.LAYER, "size": blob.size, "digest": blob.digest} for blob in blobs]
        config = {"mediaType": manifest.CONFIG, "size": len(self._content.config), "digest": self._content.id}
        value = {"schemaVersion": 2, "mediaType": manifest.MANIFEST, "config": config, "layers": layers}
        content = json.dumps(value, indent=3).encode()
        return Document(manifest.digest_of(content), manifest.MANIFEST, content)

    # -- pushing -------------------------------------------------------------------------------------------------

    async def _send_layer(self, target: Target, layer: KeptLayer, blob: Blob) -> None:
        if _is_foreign(blob):
            self._tell(layer, "Skipped foreign layer")
            return
        if not self._slots.value:
            self._tell(layer, "Waiting")
        async with self._slots:
            if await self._retried(lambda: target.has(blob.digest)):
                self._tell(layer, "Layer already exists")
                return
            for path in self._sources.get(blob.digest, ()):
                if await target.mount(blob.digest, path):
                    self._tell(layer, f"Mounted from {path}")
                    return
            self._tell(layer, "Pushing", 0, blob.size)
            await self._retried(
                lambda: target.send(blob, lambda sent: self._tell(layer, "Pushing", sent, blob.size)), layer
            )
            self._tell(layer, "Pushed")

    async def _remember(self, document: Document, blobs: list[Blob]) -> None:
        """Tell the client and the image store what the registry knows the image as."""
        tag, digest, size = self._ref.tag, document.digest, len(document.content)
        self._job.emit(Progress(f"{tag}: digest: {digest} size: {size}"))
        self._job.emit(Aux({"Tag": tag, "Digest": digest, "Size": size}))
        engine, repository = self._job.engine, self._ref.repository
        await engine.call(ImageKeep(id=self._content.id, repository=repository, manifest=document, blobs=blobs))
        name = self._ref.familiar
        try:
            await engine.call(Log(action="push", id=name, type="image", attributes={"name": self._ref.familiar_name}))
        except NoSuchJob:  # an engine of images alone
            return

    async def _retried(self, action: Callable[[], Awaitable[T]], layer: KeptLayer | None = None) -> T:
        def told(seconds: float) -> None:
            if layer is not None:
                self._tell(layer, f"Retrying in {seconds:.0f} second{'s' * (round(seconds) != 1)}")

        return await retried(self._settings.attempts, action, told)

    def _tell(self, layer: KeptLayer, status: str, current: int = 0, total: int = 0) -> None:
        self._job.emit(Progress(status, layer.diff_id.removeprefix("sha256:")[:SHORT], current, total))


def _is_foreign(blob: Blob) -> bool:
    """True for a layer that must not be given away: its manifest says where it lies."""
    return blob.media_type in manifest.FOREIGN or blob.media_type.startswith(manifest.NONDISTRIBUTABLE)
