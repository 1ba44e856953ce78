"""Jobs `import` and `load`: images out of tars."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Unavailable
from windlass.engine.events import Output, Progress
from windlass.graphdriver.driver import LayerError
from windlass.jobs.images import Import, Load
from windlass.lib import reference
from windlass.lib.reference import InvalidReference, Reference

from . import changes, config
from .archive import Archive, BadArchive, parse_member
from .decompress import CompressionError, decompressed
from .events import tell
from .store import Layer, Store, chain_ids

CHUNK = 256 << 10


async def import_(store: Store, job: Job[Import]) -> str:
    """Make an image of one layer from a tar."""
    params = job.params
    name = _name(params.repo, params.tag)
    run = changes.apply({}, params.changes)
    if params.fromSrc == "-":
        chunks, comment = _stdin(job), params.message
    else:
        chunks, comment = _fetch(params.fromSrc, job), params.message or f"Imported from {params.fromSrc}"
    async with store.using:
        chain, applied = await _apply(store, None, None, chunks)
        raw = config.make([applied.diff_id], run, comment=comment, created_by="")
        id = await store.add(raw, [Layer(chain, applied.size)], [name] if name else [])
    await tell(job, "import", id, name.familiar if name else "")
    return id


async def load(store: Store, data_root: Path, job: Job[Load]) -> list[str]:
    """Load images from a docker-archive or OCI-layout tar."""
    folder = data_root / "image" / "ingest"
    try:
        archive = await Archive.spool(decompressed(_stdin(job)), folder)
    except CompressionError as exc:
        raise BadArchive(f"invalid archive: {exc}") from None
    try:
        names = []
        for raw, layers, tags in _images(archive):
            names.extend(await _load_one(store, archive, raw, layers, tags, job))
        return names
    finally:
        archive.close()


async def _load_one(
    store: Store, archive: Archive, raw: bytes, layers: list[str], tags: list[Reference], job: Job[Load]
) -> list[str]:
    """Keep one image; return its names, or its id where it has none."""
    diff_ids = config.check(parse_member(raw, "an image's configuration"))
    if len(diff_ids) != len(layers):
        raise BadArchive(f"invalid archive: {len(layers)} layers, but {len(diff_ids)} diff_ids in the configuration")
    kept: list[Layer] = []
    async with store.using:
        try:
            for member, chain in zip(layers, chain_ids(diff_ids), strict=True):
                parent = kept[-1].chain if kept else None
                _, applied = await _apply(store, chain, parent, archive.stream(member))
                kept.append(Layer(chain, applied.size))
            id = await store.add(raw, kept, tags)
        except BaseException:
            with trio.CancelScope(shield=True):
                await store.drop_unused([layer.chain for layer in kept])
            raise
    for name in tags:
        job.emit(Output(f"Loaded image: {name.familiar}\n"))
    if not tags:
        job.emit(Output(f"Loaded image ID: {id}\n"))
    await tell(job, "load", id, tags[0].familiar if tags else "")
    return [name.familiar for name in tags] or [id]


# -- what an archive says ----------------------------------------------------------------------------------------


def _images(archive: Archive) -> list[tuple[bytes, list[str], list[Reference]]]:
    """Each image of the archive: its configuration, the members that are its layers, and its names."""
    if archive.has("manifest.json"):
        return [_docker(archive, item) for item in _list(archive.json("manifest.json"), "manifest.json")]
    if archive.has("index.json"):
        return list(_oci(archive, archive.json("index.json"), [], 0))
    raise BadArchive("invalid archive: it has neither manifest.json nor index.json")


def _docker(archive: Archive, item: Any) -> tuple[bytes, list[str], list[Reference]]:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    layers = _list(item.get("Layers") or [], "Layers")
    tags = _list(item.get("RepoTags") or [], "RepoTags")
    if not all(isinstance(text, str) for text in layers + tags):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    return archive.read(item["Config"]), layers, [_parse(tag) for tag in tags]


def _oci(
    archive: Archive, index: Any, names: list[Reference], depth: int
) -> list[tuple[bytes, list[str], list[Reference]]]:
    """The images of an OCI index: those for this host out of one for many, and of each name."""
    found: list[tuple[bytes, list[str], list[Reference]]] = []
    if depth > 4 or not isinstance(index, dict):
        raise BadArchive("invalid archive: an OCI index is malformed, or nested too deep")
    for item in _list(index.get("manifests"), "manifests"):
        document = archive.json(_blob(item))
        tags = _oci_names(item) or names
        if not isinstance(document, dict) or ("manifests" in document) == ("layers" in document):
            raise BadArchive("invalid archive: a manifest is malformed, or both an index and a manifest")
        if "manifests" in document:
            found += _oci(archive, document, tags, depth + 1)
        elif _is_for_here(item):
            layers = [_blob(layer) for layer in _list(document["layers"], "layers")]
            found.append((archive.read(_blob(document.get("config"))), layers, tags))
    if not found:
        raise BadArchive(f"invalid archive: no image for linux/{config.host_architecture()}")
    return found


def _oci_names(item: dict[str, Any]) -> list[Reference]:
    annotations = item.get("annotations")
    if not isinstance(annotations, dict):
        return []
    name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
    return [_parse(name)] if isinstance(name, str) and (":" in name or "/" in name) else []


def _is_for_here(item: dict[str, Any]) -> bool:
    wanted = item.get("platform")
    if not isinstance(wanted, dict):
        return True
    return (wanted.get("os"), wanted.get("architecture")) == ("linux", config.host_architecture())


def _blob(item: Any) -> str:
    digest = item.get("digest") if isinstance(item, dict) else None
    if not isinstance(digest, str) or not reference.is_digest(digest):
        raise BadArchive(f"invalid archive: malformed digest {digest!r:.100}")
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadArchive(f"invalid archive: {what} is no list")
    return value


def _parse(name: str) -> Reference:
    try:
        return reference.parse(name).tagged()
    except InvalidReference as exc:
        raise BadArchive(f"invalid archive: {exc}: {name!r:.200}") from None


# -- bytes -------------------------------------------------------------------------------------------------------


async def _apply(store: Store, id: str | None, parent: str | None, chunks: AsyncIterator[bytes]) -> Any:
    try:
        return await store.graph.apply(id, parent, decompressed(chunks))
    except (LayerError, CompressionError) as exc:
        raise BadParameter(str(exc)) from exc


async def _stdin(job: Job[Any]) -> AsyncIterator[bytes]:
    while job.stdin is not None and (chunk := await job.stdin.receive_some(CHUNK)):
        yield bytes(chunk)


async def _fetch(url: str, job: Job[Any]) -> AsyncIterator[bytes]:
    """The body at `url`. Raises BadParameter for another scheme, Unavailable when it cannot be had."""
    import httpx  # 128 ms that only this needs

    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise BadParameter(f"cannot import from {url}: only http and https are supported", key="fromSrc")
    job.emit(Progress(f"Downloading from {address}"))
    try:
        async with (
            httpx.AsyncClient(follow_redirects=True, timeout=60) as client,
            client.stream("GET", address) as answer,
        ):
            if answer.status_code >= 400:
                raise Unavailable(f"cannot import from {url}: HTTP status {answer.status_code}")
            async for chunk in answer.aiter_bytes(CHUNK):
                yield chunk
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(f"cannot import from {url}: {exc}") from exc


def _name(repo: str, tag: str) -> Reference | None:
    if not repo:
        return None
    try:
        name = reference.parse(f"{repo}:{tag}" if tag else repo)
    except InvalidReference as exc:
        raise BadParameter(str(exc), key="repo") from None
    if name.digest:
        raise BadParameter("cannot import digest reference", key="repo")
    return name.tagged()
