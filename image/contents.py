"""What an archive of images says is in it: a docker-archive's manifest.json, or an OCI layout's index.json.

`docker save` of today writes both. manifest.json is then what is loaded, as dockerd does, and the index is asked only
for the manifests, which are kept as they are. Nothing that is read here becomes a path: names are an Archive's keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from windlass.jobs.images import Document
from windlass.lib import reference
from windlass.lib.reference import InvalidReference, Reference

from . import config, platforms
from .archive import Archive, BadArchive, blob_name, parse_member
from .platforms import Platform

MANIFESTS_MAX = 1000
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Found(NamedTuple):
    """One image of an archive: its configuration, the members that are its layers, its names, its manifest."""

    config: bytes
    layers: list[str]
    names: list[Reference]
    manifest: Document | None = None


def read(archive: Archive, wanted: Platform | None) -> list[Found]:
    """The images of an archive, those for `wanted` if that is given. Raises BadArchive when there is none."""
    if archive.has("manifest.json"):
        found = [_docker(archive, item) for item in _list(archive.json("manifest.json"), "manifest.json")]
        kept = [each for each in found if wanted is None or wanted.fits(_platform(each.config))]
        if found and not kept:
            raise BadArchive(f"invalid archive: no image for {wanted}")
        return kept
    if archive.has("index.json"):
        kept = list(_oci(archive, archive.json("index.json"), [], wanted or _here(), Budget()))
        if not kept:
            raise BadArchive(f"invalid archive: no image for {wanted or _here()}")
        return kept
    raise BadArchive("invalid archive: it has neither manifest.json nor index.json")


def _here() -> Platform:
    return Platform("linux", config.host_architecture(), "")


def _platform(raw: bytes) -> Platform:
    return platforms.of(parse_member(raw, "an image's configuration"))


# -- docker-archive ------------------------------------------------------------------------------------------------


def _docker(archive: Archive, item: Any) -> Found:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    layers = _list(item.get("Layers") or [], "Layers")
    tags = _list(item.get("RepoTags") or [], "RepoTags")
    if not all(isinstance(text, str) for text in layers + tags):
        raise BadArchive("invalid archive: an entry of manifest.json is malformed")
    raw = archive.read(item["Config"])
    return Found(raw, layers, [_parse(tag) for tag in tags], _beside(archive, raw, layers))


def _beside(archive: Archive, raw: bytes, layers: list[str]) -> Document | None:
    """The manifest of an image of manifest.json that lies in the OCI layout beside it."""
    if not archive.has("index.json"):
        return None
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    for found in _oci(archive, archive.json("index.json"), [], Platform("", "", ""), Budget(), lenient=True):
        if found.manifest and f"sha256:{hashlib.sha256(found.config).hexdigest()}" == digest and found.layers == layers:
            return found.manifest
    return None


# -- OCI layout ----------------------------------------------------------------------------------------------------


class Budget:
    """How many manifests an archive may have: small indexes that name one another add up to a great many."""

    def __init__(self) -> None:
        self._left = MANIFESTS_MAX

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadArchive(f"invalid archive: more than {MANIFESTS_MAX} manifests")


def _oci(
    archive: Archive, index: Any, names: list[Reference], wanted: Platform, budget: Budget, lenient: bool = False
) -> Iterator[Found]:
    """The images of an OCI index: those for `wanted` out of one for many, and of each name.

    With `lenient`, manifests that are not in the archive are left out: of an image for many platforms often but one is.
    """
    if not isinstance(index, dict):
        raise BadArchive("invalid archive: an OCI index is malformed")
    for item in _list(index.get("manifests"), "manifests"):
        budget.spend()
        if lenient and not archive.has(blob_name(item)):
            continue
        if isinstance(item, dict) and not wanted.fits(platforms.of(item.get("platform"))):
            continue
        content = archive.blob(item)
        document = parse_member(content, "a manifest")
        tags = _oci_names(item) or names
        if not isinstance(document, dict) or ("manifests" in document) == ("layers" in document):
            raise BadArchive("invalid archive: a manifest is malformed, or both an index and a manifest")
        if "manifests" in document:
            yield from _oci(archive, document, tags, wanted, budget, lenient)
        elif not lenient or archive.has(blob_name(document.get("config"))):
            layers = [blob_name(layer) for layer in _list(document["layers"], "layers")]
            yield Found(archive.blob(document.get("config")), layers, tags, _document(item, document, content))


def _document(item: dict[str, Any], document: dict[str, Any], content: bytes) -> Document | None:
    """The manifest as it can be kept: with sizes and types for everything, as the specification wants it."""
    for each in [document["config"], *document["layers"]]:
        if not isinstance(each.get("mediaType"), str) or type(each.get("size")) is not int:
            return None
    media_type = document.get("mediaType") or item.get("mediaType") or MANIFEST
    return Document(item["digest"], media_type, content) if isinstance(media_type, str) else None


def _oci_names(item: dict[str, Any]) -> list[Reference]:
    annotations = item.get("annotations")
    if not isinstance(annotations, dict):
        return []
    name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
    return [_parse(name)] if isinstance(name, str) and (":" in name or "/" in name) else []


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadArchive(f"invalid archive: {what} is no list")
    return value


def _parse(name: str) -> Reference:
    try:
        found = reference.parse(name)
    except InvalidReference as exc:
        raise BadArchive(f"invalid archive: {exc}: {name!r:.200}") from None
    if found.digest:
        raise BadArchive(f"invalid archive: invalid tag {name!r:.200}")
    return found.tagged()
