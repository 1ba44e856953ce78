"""Job `pull`: manifest, configuration, layers; the image store unpacks them while others are still on their way."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

from windlass.engine import Job
from windlass.engine.errors import JobError, NotFound
from windlass.engine.events import Progress, Warning
from windlass.engine.params import parse_json
from windlass.jobs.images import Blob, Document, ImageContent, ImageContents, ImageSet
from windlass.jobs.registry import Pull
from windlass.lib.reference import Reference

from . import errors, manifest, names
from .downloads import SHORT, Downloads, Open
from .errors import BadImage, RegistryError
from .fetch import Source, opened, resolve
from .settings import Settings

TAGS_MAX = 10_000


async def pull(settings: Settings, downloads: Downloads, job: Job[Pull]) -> None:
    """Pull an image, or all tags of a repository."""
    params = job.params
    ref = names.parse(params.fromImage.removesuffix(":"), params.tag, "fromImage")
    platform = manifest.platform_of(params.platform)
    endpoints = await resolve(job, ref, params.auth, params.platform)
    async with opened(settings, endpoints, ref.familiar) as source:
        try:
            tags = [ref] if ref.tag or ref.digest else await all_tags(source, ref)
            pulls = [await _Pull(job, downloads, source, tag, platform).run() for tag in tags]
        except RegistryError as exc:
            raise errors.of_pull(exc, ref) from exc
    what = "Downloaded newer image for" if any(each.is_new for each in pulls) else "Image is up to date for"
    job.emit(Progress(f"Status: {what} {ref.familiar}"))
    for each in pulls:
        each.warn()


async def all_tags(source: Source, ref: Reference) -> list[Reference]:
    """All tags of the repository. Raises JobError when there are none, or more than TAGS_MAX."""
    found: list[Reference] = []
    path = "tags/list"
    while path:
        link, tags = await source.ask(path, "application/json", _read_tags)
        found += [names.parse(ref.repository, tag) for tag in tags]
        if len(found) > TAGS_MAX:
            raise JobError(f"{ref.familiar_name} has more than {TAGS_MAX} tags")
        path = f"tags/list{link}" if link and tags else ""
    if not found:
        raise NotFound(f"no tags found for {ref.familiar_name}")
    return found


def _read_tags(headers: Any, body: bytes) -> tuple[str, list[str]]:
    """The query of the next page, empty when there is none, and the tags of this one. Raises BadImage."""
    answer = parse_json(body, "the list of tags")
    tags = answer.get("tags") if isinstance(answer, dict) else None
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise BadImage("invalid list of tags")
    link = re.match(r'<[^>?]*(\?[^>]*)>;\s*rel="?next', headers.get("link", ""))
    return link[1] if link else "", tags or []


class _Pull:
    """The pull of one tag or digest."""

    def __init__(
        self, job: Job[Pull], downloads: Downloads, source: Source, ref: Reference, platform: tuple[str, str, str]
    ) -> None:
        self._job, self._downloads, self._source, self._ref = job, downloads, source, ref
        self._platform = platform
        self._config = b""
        self.is_new = False

    async def run(self) -> _Pull:
        """Pull, and say that it is done."""
        ref = self._ref
        top, value = await self._source.document(ref.digest or ref.tag)
        self._job.emit(Progress(f"Pulling from {ref.path}", ref.tag or ref.digest))
        document, value = await self._choose(top, value)
        name = names.canonical(ref)
        before = await self._find(name)
        config = manifest.config_of(value)
        here = await self._find(config.digest)
        content = here.config if here else await self._source.blob(config)
        layers = [self._layer(blob, urls, is_told=here is None) for blob, urls in manifest.layers_of(value)]
        id = await self._job.engine.call(
            ImageSet(config=content, layers=layers, name=name, manifest=document, digest=top.digest)
        )
        self._job.emit(Progress(f"Digest: {top.digest}"))
        self.is_new = before is None or id != before.id
        self._config = content
        return self

    async def _choose(self, top: Document, value: dict[str, Any]) -> tuple[Document, dict[str, Any]]:
        """The manifest for our platform, out of an index if it is one. Raises NotFound, BadImage."""
        if not manifest.is_index(value):
            return top, value
        document, value = await self._source.document(manifest.choose(value, self._platform).digest)
        if manifest.is_index(value):
            raise BadImage("invalid manifest: an index in an index")
        return document, value

    async def _find(self, name: str) -> ImageContent | None:
        try:
            return await self._job.engine.call(ImageContents(name=name))
        except NotFound:
            return None

    def _layer(self, blob: Blob, urls: list[str], is_told: bool) -> Layer:
        ours = [
            (session, f"/v2/{session.endpoint.repository}/blobs/{blob.digest}") for session in self._source.sessions
        ]
        places = [*((self._source.outside, url) for url in urls), *ours]
        opens: list[Open] = [functools.partial(session.send, "GET", place) for session, place in places]
        return Layer(blob, opens, self._downloads, self._job if is_told else None)

    def warn(self) -> None:
        """Say so when an image that is for one platform only is for another than was asked for."""
        found = manifest.normal(msgspec.json.decode(self._config))
        if self._job.params.platform and found[:2] != self._platform[:2]:
            shown, wanted = ("/".join(part for part in each[:2]) for each in (found, self._platform))
            self._job.emit(Warning(
                f"image with reference {self._ref.familiar} was found but its platform ({shown}) does not match the"
                f" specified platform ({wanted})"
            ))  # fmt: skip


class Layer:
    """A layer on its way in, for the image store. Nothing is told of those of an image that is here."""

    def __init__(self, blob: Blob, sources: list[Open], downloads: Downloads, job: Job[Pull] | None) -> None:
        self.blob = blob
        self._sources, self._downloads, self._job = sources, downloads, job

    def tell(self, status: str, current: int = 0, total: int = 0) -> None:
        if self._job is not None:
            self._job.emit(Progress(status, self.blob.digest.removeprefix("sha256:")[:SHORT], current, total))

    async def fetch(self) -> None:
        await self._downloads.fetch(self.blob, self._sources, self.tell)
