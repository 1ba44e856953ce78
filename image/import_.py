"""Jobs `import` and `load`: images out of tars."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, JobError, Unavailable
from windlass.engine.events import Output, Progress
from windlass.graphdriver.driver import LayerError
from windlass.jobs.images import Import, Load
from windlass.lib import reference
from windlass.lib.groups import first_error
from windlass.lib.reference import InvalidReference, Reference

from . import changes, config
from .archive import Archive, BadArchive, blob_name, parse_member
from .decompress import CompressionError, bounded, decompressed
from .events import tell
from .keep import Keeper, keeping
from .store import Layer, Store, chain_ids

CHUNK = 256 << 10
MANIFESTS_MAX = 1000

Found = tuple[bytes, list[str], list[Reference]]  # configuration, members that are layers, names


async def import_(store: Store, job: Job[Import]) -> str:
    """Make an image of one layer from a tar."""
    params = job.params
    name = _name(params.repo, params.tag)
    run = config.check_run(changes.apply({}, params.changes))
    architecture, variant = config.platform_of(params.platform)
    chunks = _stdin(job) if params.fromSrc == "-" else _fetch(params.fromSrc, job)
    comment = params.message or f"Imported from {params.fromSrc}"
    async with store.work(), keeping(store) as keeper:
        layer, diff_id = await _apply(store, keeper, None, None, chunks)
        raw = config.make([diff_id], run, architecture=architecture, variant=variant, comment=comment)
        id = await store.add(raw, [layer], [name] if name else [])
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
        async with store.work(), keeping(store) as keeper:
            return await _load_all(store, keeper, archive, job)
    finally:
        archive.close()


async def _load_all(store: Store, keeper: Keeper, archive: Archive, job: Job[Load]) -> list[str]:
    """Apply the layers of all images, and put them on record when all are there: the whole archive or nothing."""
    found = await trio.to_thread.run_sync(_images, archive)
    applied = [(raw, await _apply_all(store, keeper, archive, raw, layers), tags) for raw, layers, tags in found]
    told: list[str] = []
    for raw, kept, tags in applied:
        id = await store.add(raw, kept, tags)
        names = [name.familiar for name in tags]
        for name in names:
            job.emit(Output(f"Loaded image: {name}\n"))
        if not tags:
            job.emit(Output(f"Loaded image ID: {id}\n"))
        await tell(job, "load", id)
        told += names or [id]
    return told


async def _apply_all(store: Store, keeper: Keeper, archive: Archive, raw: bytes, layers: list[str]) -> list[Layer]:
    """Apply an image's layers, lowest first, each checked against the configuration."""
    diff_ids = config.check(parse_member(raw, "an image's configuration"))
    if len(diff_ids) != len(layers):
        raise BadArchive(f"invalid archive: {len(layers)} layers, but {len(diff_ids)} diff_ids in the configuration")
    kept: list[Layer] = []
    for member, chain in zip(layers, chain_ids(diff_ids), strict=True):
        parent = kept[-1].chain if kept else None
        layer, _ = await _apply(store, keeper, chain, parent, archive.stream(member))
        kept.append(layer)
    return kept


# -- what an archive says ----------------------------------------------------------------------------------------


def _images(archive: Archive) -> list[Found]:
    """Each image of the archive: its configuration, the members that are its layers, and its names."""
    if archive.has("manifest.json"):
        return [_docker(archive, item) for item in _list(archive.json("manifest.json"), "manifest.json")]
    if archive.has("index.json"):
        found = list(_oci(archive, archive.json("index.json"), [], Budget()))
        if not found:
            raise BadArchive(f"invalid archive: no image for linux/{config.host_architecture()}")
        return found
    raise BadArchive("invalid archive: it has neither manifest.json nor index.json")


def _docker(archive: Archive, item: Any) -> Found:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    layers = _list(item.get("Layers") or [], "Layers")
    tags = _list(item.get("RepoTags") or [], "RepoTags")
    if not all(isinstance(text, str) for text in layers + tags):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    return archive.read(item["Config"]), layers, [_parse(tag) for tag in tags]


class Budget:
    """How many manifests an archive may have: small indexes that name one another add up to a great many."""

    def __init__(self) -> None:
        self._left = MANIFESTS_MAX

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadArchive(f"invalid archive: more than {MANIFESTS_MAX} manifests")


def _oci(archive: Archive, index: Any, names: list[Reference], budget: Budget) -> Iterator[Found]:
    """The images of an OCI index: those for this host out of one for many, and of each name."""
    if not isinstance(index, dict):
        raise BadArchive("invalid archive: an OCI index is malformed")
    for item in _list(index.get("manifests"), "manifests"):
        budget.spend()
        document = parse_member(archive.blob(item), "a manifest")
        tags = _oci_names(item) or names
        if not isinstance(document, dict) or ("manifests" in document) == ("layers" in document):
            raise BadArchive("invalid archive: a manifest is malformed, or both an index and a manifest")
        if "manifests" in document:
            yield from _oci(archive, document, tags, budget)
        elif _is_for_here(item):
            layers = [blob_name(layer) for layer in _list(document["layers"], "layers")]
            yield archive.blob(document.get("config")), layers, tags


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


async def _apply(
    store: Store, keeper: Keeper, id: str | None, parent: str | None, chunks: AsyncIterator[bytes]
) -> tuple[Layer, str]:
    """Unpack a layer and keep its blob; return it with its diff id. Raises BadParameter."""
    try:
        async with keeper.keep(chunks) as keep:
            chain, applied = await store.graph.apply(id, parent, bounded(keep.plain(), store.blobs.root))
    except BaseExceptionGroup as group:
        raise _as_told(first_error(group)) from group
    return Layer(chain, applied.size, keep.blob), applied.diff_id


def _as_told(error: BaseException) -> BaseException:
    """A layer's failure as the client shall read it: its own fault, or the disk's."""
    if isinstance(error, LayerError | CompressionError):
        return BadParameter(str(error))
    if isinstance(error, OSError):
        return JobError(f"failed to register layer: {error.strerror or error}")
    return error


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
