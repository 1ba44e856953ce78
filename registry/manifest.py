"""Manifests and indexes: what a stranger says an image consists of, checked before anything is done with it.

A document is an image's manifest or an index of several, never both (CVE-2021-41190). Digests are sha256 and nothing
else, so none is ever a path (CVE-2024-3727).

Source: OCI image spec, manifest.md and image-index.md; distribution's schema 2.
"""

from __future__ import annotations

import hashlib
from typing import Any

from windlass.engine.errors import JobError, NotFound
from windlass.engine.params import parse_json
from windlass.jobs.images import Blob, Document
from windlass.lib import reference
from windlass.lib.host import architecture

from .errors import BadImage

DOCUMENT_MAX = 4 << 20  # bytes, of manifests and of configurations
LAYERS_MAX = 1000

DOCKER, OCI = "application/vnd.docker.distribution.", "application/vnd.oci.image."
MANIFEST, INDEX = f"{DOCKER}manifest.v2+json", f"{DOCKER}manifest.list.v2+json"
OCI_MANIFEST, OCI_INDEX = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json"
MANIFESTS, INDEXES = (MANIFEST, OCI_MANIFEST), (INDEX, OCI_INDEX)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))

CONFIG, OCI_CONFIG = "application/vnd.docker.container.image.v1+json", f"{OCI}config.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_LAYER = f"{OCI}layer.v1.tar"
FOREIGN = ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",)
NONDISTRIBUTABLE = f"{OCI}layer.nondistributable.v1.tar"
LAYERS = (
    LAYER, "application/vnd.docker.image.rootfs.diff.tar", *FOREIGN,
    *(f"{kind}{how}" for kind in (OCI_LAYER, NONDISTRIBUTABLE) for how in ("", "+gzip", "+zstd")),
)  # fmt: skip

SCHEMA_1 = (
    "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled: "
    "ask the author of {} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. "
    "More information at https://docs.docker.com/go/deprecated-image-specs/"
)


def parse(document: Document, name: str) -> dict[str, Any]:
    """The document as an object of a kind that we know. Raises BadImage."""
    try:
        value = parse_json(document.content, "manifest")
    except JobError as exc:
        raise BadImage(f"invalid manifest: {exc}") from None
    if not isinstance(value, dict):
        raise BadImage("invalid manifest: it is no JSON object")
    if value.get("schemaVersion") == 1:
        raise BadImage(SCHEMA_1.format(name))
    if ("manifests" in value) == ("layers" in value) or ("manifests" in value and "config" in value):
        raise BadImage("invalid manifest: it is both a manifest and an index, or neither")
    kinds = INDEXES if "manifests" in value else MANIFESTS
    if value.get("mediaType", document.media_type) != document.media_type:
        raise BadImage(
            f"invalid manifest: mediaType in manifest should be '{document.media_type:.100}' not"
            f" '{value['mediaType']!s:.100}'"
        )
    if document.media_type not in kinds:
        raise BadImage(f"unsupported manifest media type: {document.media_type:.100}")
    return value


def is_index(value: dict[str, Any]) -> bool:
    return "manifests" in value


def config_of(value: dict[str, Any]) -> Blob:
    """The configuration's descriptor. Raises BadImage."""
    blob = descriptor(value.get("config"), "configuration")
    if blob.media_type not in (CONFIG, OCI_CONFIG):
        raise BadImage(f'Encountered remote "{blob.media_type:.100}"(unknown) when fetching an image')
    if blob.size > DOCUMENT_MAX:
        raise BadImage(f"invalid manifest: a configuration of {blob.size} bytes, over the limit of {DOCUMENT_MAX}")
    return blob


def layers_of(value: dict[str, Any]) -> list[tuple[Blob, list[str]]]:
    """The layers' descriptors, lowest first, with the URLs of those that lie elsewhere. Raises BadImage."""
    items = value["layers"]
    if not isinstance(items, list) or len(items) > LAYERS_MAX:
        raise BadImage(f"invalid manifest: its layers are no list, or more than {LAYERS_MAX}")
    found = []
    for item in items:
        blob = descriptor(item, "layer")
        if blob.media_type not in LAYERS:
            raise BadImage(f"unsupported layer media type: {blob.media_type:.100}")
        is_foreign = blob.media_type in FOREIGN or blob.media_type.startswith(NONDISTRIBUTABLE)
        found.append((blob, _urls(item) if is_foreign else []))
    return found


def descriptor(item: Any, what: str) -> Blob:
    """A descriptor. Raises BadImage for a digest that is none, and for a size that is no number of bytes."""
    if not isinstance(item, dict):
        raise BadImage(f"invalid manifest: the {what}'s descriptor is no object")
    digest, size, media_type = item.get("digest"), item.get("size"), item.get("mediaType")
    check_digest(digest, what)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise BadImage(f"invalid manifest: the size of the {what} {digest} is {size!r:.50}")
    if not isinstance(media_type, str):
        raise BadImage(f"invalid manifest: the {what} {digest} has no media type")
    return Blob(str(digest), size, media_type)


def check_digest(digest: Any, what: str) -> None:
    """Raise BadImage unless `digest` is one that we can check."""
    if not isinstance(digest, str) or not reference.is_digest(digest):
        algorithm = digest.partition(":")[0] if isinstance(digest, str) else ""
        why = "unsupported digest algorithm" if algorithm in ("sha384", "sha512") else "invalid checksum digest format"
        raise BadImage(f"invalid manifest: the {what}'s digest is {digest!r:.120}: {why}")


def _urls(item: dict[str, Any]) -> list[str]:
    urls = item.get("urls") or []
    if not isinstance(urls, list) or not all(
        isinstance(url, str) and url.startswith(("http://", "https://")) for url in urls
    ):
        raise BadImage("invalid manifest: a foreign layer's urls are not URLs of http or https")
    return urls[:10]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# -- platforms ---------------------------------------------------------------------------------------------------

ALIASES = {"x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"),
           "armel": ("arm", "v6"), "i386": ("386", ""), "i686": ("386", "")}  # fmt: skip
IMPLIED = {"arm64": "v8", "arm": "v7"}


def platform_of(text: str) -> tuple[str, str, str]:
    """OS, architecture and variant of `OS[/ARCH[/VARIANT]]` or `ARCH`; the host's when it is empty. Raises BadImage."""
    words = text.lower().split("/") if text else []
    if len(words) > 3 or not all(word.replace("_", "").replace("-", "").replace(".", "").isalnum() for word in words):
        raise BadImage(f'"{text:.100}" is an invalid platform')
    if words and len(words) == 1 and words[0] != "linux":
        words = ["linux", *words]
    if words and words[0] != "linux":
        raise BadImage(f'operating system "{words[0]:.50}" is not supported')
    named = words[1] if len(words) > 1 else architecture()
    arch, variant = ALIASES.get(named, (named, ""))
    return "linux", arch, (words[2] if len(words) == 3 else variant) or IMPLIED.get(arch, "")


def choose(value: dict[str, Any], wanted: tuple[str, str, str]) -> Blob:
    """The entry of an index for a platform: the very variant, else the next lower one. Raises NotFound, BadImage."""
    if not isinstance(value["manifests"], list):
        raise BadImage("invalid manifest: an index's manifests are no list")
    best: tuple[str, Any] | None = None
    for item in value["manifests"]:
        platform = item.get("platform") if isinstance(item, dict) else None
        if isinstance(platform, dict):
            found = normal(platform)
            if found[:2] == wanted[:2] and found[2] <= wanted[2] and (best is None or found[2] > best[0]):
                best = found[2], item
    if best is None:
        name = "/".join(part for part in wanted if part)
        raise NotFound(f"no matching manifest for {name} in the manifest list entries")
    blob = descriptor(best[1], "manifest")
    if blob.media_type not in MANIFESTS:
        raise BadImage(f"invalid manifest: an index's entry is of media type {blob.media_type:.100}")
    return blob


def normal(platform: dict[str, Any]) -> tuple[str, str, str]:
    """OS, architecture and variant of a platform as JSON has it."""
    os, arch = str(platform.get("os") or "linux"), str(platform.get("architecture") or "")
    return os, arch, str(platform.get("variant") or "") or IMPLIED.get(arch, "")
