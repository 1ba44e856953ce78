"""Job `image_export`, which is `docker save`: a tar that is an OCI layout and a docker-archive in one.

    oci-layout, index.json    the OCI image specification's way in (image-layout.md)
    manifest.json             the docker-archive's, which every engine and tool knows
    repositories              for engines before 1.10, which read no more than the names
    blobs/sha256/…            manifests, configurations and layers, each once

A layer is the gzip blob that is kept of it, sent as it lies there. One that came as a plain tar is sent as that, since
engines before 23.0 know no zstd. A manifest that the image came with goes along byte for byte, as long as its layers
are to be had; else one is made. Nothing here depends on the time or on chance: the same image gives the same archive.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter, NotFound
from windlass.jobs.images import Blob, Document, ImageContent, ImageExport, KeptLayer
from windlass.lib import reference
from windlass.lib.decompress import decompressed
from windlass.lib.reference import InvalidReference, Reference

from . import platforms
from .contents import MANIFEST
from .events import tell
from .keep import TAR
from .platforms import Platform
from .store import Store

BLOCK = 512
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER_TYPES = {"application/vnd.docker.image.rootfs.diff.tar.gzip": f"{TAR}+gzip"}  # Docker's own, as OCI names them


class Part(NamedTuple):
    """What becomes a member of the archive: bytes, or a layer as `blob`, read from the blob `kept`."""

    size: int
    content: bytes = b""
    blob: Blob | None = None
    kept: Blob | None = None


class Picked(NamedTuple):
    """An image that is to be saved, and the names that go with it."""

    content: ImageContent
    names: list[Reference]


async def image_export(store: Store, job: Job[ImageExport]) -> None:
    """Write an archive of images to stdout."""
    params = job.params
    names = [params.name] if params.name else params.names
    if not names:
        raise BadParameter("no image is named", key="names")
    wanted = platforms.parse(params.platform)
    async with store.work():
        picked = await _pick(store, names, wanted)
        members = await _Plan(store).make(picked)
        await job.ready()
        await _write(store, job, members)
    for each in picked:
        await tell(job, "save", each.content.id)


async def _pick(store: Store, names: list[str], wanted: Platform | None) -> list[Picked]:
    """The images, each once, in the order in which they are asked for. Raises NotFound."""
    picked: dict[str, Picked] = {}
    for name in names:
        for where, ref in await _meant(store, name):
            content = await store.contents(where)
            found = platforms.of(msgspec.json.decode(content.config))
            if wanted is not None and not wanted.fits(found):
                raise NotFound(
                    f"image with reference {name} was found but does not provide the specified platform ({wanted})"
                )
            tags = picked.setdefault(content.id, Picked(content, [])).names
            if ref is not None and ref not in tags:
                tags.append(ref)
    return list(picked.values())


async def _meant(store: Store, name: str) -> list[tuple[str, Reference | None]]:
    """What to look up, and the name to save it under: all tags of a repository, one tag, or an id without a name."""
    try:
        ref = reference.parse(name)
    except InvalidReference:
        return [(name, None)]
    if ref.digest or ref.familiar_name == "sha256":
        return [(name, None)]
    if ref.tag:
        return [(name, ref)]
    tagged = [Reference(ref.domain, ref.path, tag) for tag in await store.tags_of(ref.repository)]
    return [(tag.familiar, tag) for tag in tagged] or [(name, None)]


class _Plan:
    """The members of an archive, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs: dict[str, Part] = {}
        self._index: list[dict[str, Any]] = []
        self._manifest: list[dict[str, Any]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    async def make(self, picked: list[Picked]) -> dict[str, Part]:
        """Raises NotFound when nothing is kept that a layer could be made of."""
        for each in picked:
            await self._add(each)
        texts = {
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
            "index.json": {"schemaVersion": 2, "mediaType": INDEX, "manifests": self._index},
            "manifest.json": self._manifest,
            **({"repositories": self._repositories} if self._repositories else {}),
        }
        members = {name: _text(value) for name, value in texts.items()}
        return members | {f"blobs/sha256/{digest[7:]}": part for digest, part in self._blobs.items()}

    async def _add(self, picked: Picked) -> None:
        content, names = picked
        at_hand = [await self._at_hand(layer) for layer in content.layers]
        document, layers = _manifest_of(content, at_hand)
        self._blobs[document.digest] = Part(len(document.content), document.content)
        self._blobs[content.id] = Part(len(content.config), content.config)
        self._blobs.update({_digest(part): part for part in layers})
        config = msgspec.json.decode(content.config)
        platform = {key: value for key in ("architecture", "os", "variant") if (value := config.get(key))}
        entry = {"mediaType": document.media_type, "digest": document.digest, "size": len(document.content)}
        for notes in [{"annotations": _annotations(name)} for name in names] or [{}]:
            self._index.append(entry | notes | {"platform": platform})
        for name in names if layers else ():
            self._repositories.setdefault(name.familiar_name, {})[name.tag] = _digest(layers[-1])[7:]
        self._manifest.append(
            {
                "Config": f"blobs/sha256/{content.id[7:]}",
                "RepoTags": [name.familiar for name in names] or None,
                "Layers": [f"blobs/sha256/{_digest(part)[7:]}" for part in layers],
            }
        )

    async def _at_hand(self, layer: KeptLayer) -> list[Part]:
        """The layer in each form that it can be sent in, the one that most can read first."""
        kept = [blob for blob in layer.blobs if await self._store.blobs.has(blob.digest)]
        if not kept:
            raise NotFound(f"layer {layer.chain} cannot be saved: nothing is kept that it could be made of")
        kept.sort(key=lambda blob: not blob.media_type.endswith("gzip"))
        as_kept = [Part(blob.size, blob=blob, kept=blob) for blob in kept]
        plain = [Part(blob.size, blob=blob, kept=kept[0]) for blob in layer.blobs if blob.media_type == TAR]
        return as_kept + plain if kept[0].media_type.endswith("gzip") else plain + as_kept


def _manifest_of(content: ImageContent, at_hand: list[list[Part]]) -> tuple[Document, list[Part]]:
    """The OCI manifest that the image came with, when its layers are at hand, or a new one; and the layers."""
    forms = [{_digest(part): part for part in parts} for parts in at_hand]
    for document in content.manifests:
        named = [layer.get("digest") for layer in msgspec.json.decode(document.content)["layers"]]
        if document.media_type == MANIFEST and all(digest in form for digest, form in zip(named, forms, strict=True)):
            return document, [form[digest] for digest, form in zip(named, forms, strict=True)]
    first = [parts[0] for parts in at_hand]
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": content.id, "size": len(content.config)},
        "layers": [
            {"mediaType": LAYER_TYPES.get(blob.media_type, blob.media_type), "digest": blob.digest, "size": blob.size}
            for blob in (part.blob for part in first)
            if blob is not None
        ],
    }
    raw = _text(value).content
    return Document(f"sha256:{hashlib.sha256(raw).hexdigest()}", MANIFEST, raw), first


def _digest(part: Part) -> str:
    assert part.blob is not None
    return part.blob.digest


def _annotations(name: Reference) -> dict[str, str]:
    full = f"{name.repository}:{name.tag}"
    return {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": name.tag}


def _text(value: Any) -> Part:
    data = json.dumps(value, separators=(",", ":")).encode()
    return Part(len(data), data)


# -- the tar -------------------------------------------------------------------------------------------------------


async def _write(store: Store, job: Job[ImageExport], members: dict[str, Part]) -> None:
    assert job.stdout is not None
    for folder in ("blobs/", "blobs/sha256/"):
        await job.stdout.send_all(_header(folder, 0, tarfile.DIRTYPE))
    for name, part in members.items():
        await job.stdout.send_all(_header(name, part.size, tarfile.REGTYPE))
        done = 0
        async for data in _bytes(store, part):
            done += len(data)
            await job.stdout.send_all(data)
        if done != part.size:
            raise NotFound(f"{name} cannot be saved: it has {done} bytes instead of {part.size}")
        await job.stdout.send_all(bytes(-part.size % BLOCK))
    await job.stdout.send_all(bytes(2 * BLOCK))


async def _bytes(store: Store, part: Part) -> AsyncIterator[bytes]:
    if part.kept is None:
        yield part.content
        return
    chunks = store.blobs.read(part.kept.digest)
    async for data in chunks if part.kept == part.blob else decompressed(chunks):
        yield data


def _header(name: str, size: int, kind: bytes) -> bytes:
    """A member's header: of no time and nobody. A size beyond eight gigabytes is written in base 256, as GNU has it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info.tobuf(tarfile.GNU_FORMAT)
