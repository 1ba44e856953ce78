"""The image family: import, load, image_export, images, image_inspect, image_get, tag, image_delete, history, pruning.

`name` is a reference (`busybox`, `busybox:1.36`, `name@sha256:…`), an image id, or a unique prefix of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, ClassVar, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from windlass.engine.signature import Signature

Name = Annotated[str, Meta(description="Image reference, id, or unique prefix of an id.")]
Platform = Annotated[str, Meta(description="OS/ARCH[/VARIANT], or JSON: what the image must be for.")]
Filters = Annotated[dict[str, list[str] | dict[str, bool]], Meta(description="What to keep, by Docker's filter names.")]


class RootFS(msgspec.Struct, frozen=True):
    """The layers of an image by diff id, lowest first."""

    Type: str = "layers"
    Layers: list[str] = []


class GraphDriver(msgspec.Struct, frozen=True):
    """Where a graph driver keeps the layers."""

    Name: str
    Data: dict[str, str] | None = None


class ImageInfo(msgspec.Struct, frozen=True):
    """One image, in full (Docker API: ImageInspect)."""

    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Created: str
    Architecture: str
    Os: str
    Size: int
    RootFS: RootFS
    GraphDriver: GraphDriver
    Config: dict[str, Any]
    Parent: str = ""
    Comment: str = ""
    Author: str = ""
    DockerVersion: str = ""
    Variant: str = ""
    Metadata: dict[str, Any] = {}
    VirtualSize: int = 0


class ManifestSize(msgspec.Struct, frozen=True):
    """Bytes: of the blobs that are here, and with what is unpacked of them."""

    Content: int
    Total: int


class ManifestData(msgspec.Struct, frozen=True):
    """What a manifest's image is for, and who uses it."""

    Platform: dict[str, str]
    Containers: list[str]
    Size: dict[str, int]


class ManifestSummary(msgspec.Struct, frozen=True):
    """One manifest that an image is known by (Docker API: ImageManifestSummary)."""

    ID: str
    Descriptor: dict[str, str | int]
    Available: Annotated[bool, Meta(description="All its blobs are kept here.")]
    Size: ManifestSize
    ImageData: ManifestData
    Kind: str = "image"


class ImageSummary(msgspec.Struct, frozen=True):
    """One image in a list. `Created` is seconds since the epoch."""

    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Created: int
    Size: int
    Labels: dict[str, str] | None
    ParentId: str = ""
    SharedSize: int = -1
    Containers: int = -1
    VirtualSize: int = 0
    Manifests: list[ManifestSummary] | UnsetType = UNSET


class ImageRecord(msgspec.Struct, frozen=True):
    """What `create` needs of an image. `chain` is the chain id of its topmost layer; empty: no layer."""

    id: str
    config: dict[str, Any]
    chain: str
    size: int
    os: str
    architecture: str
    tags: list[str]


class Blob(msgspec.Struct, frozen=True):
    """What a layer, a configuration or a manifest is to a registry (OCI image spec, descriptor.md)."""

    digest: str
    size: int
    media_type: str


class Document(msgspec.Struct, frozen=True):
    """A manifest, byte for byte."""

    digest: str
    media_type: str
    content: bytes


class LayerSource(Protocol):
    """A layer on its way in. `tell` shows a status of it; `fetch` returns when its blob is in the blob store."""

    blob: Blob

    def tell(self, status: str, current: int = 0, total: int = 0) -> None: ...

    async def fetch(self) -> None: ...


class KeptLayer(msgspec.Struct, frozen=True):
    """A layer of an image that is here, and the blobs that are known to hold it."""

    chain: str
    diff_id: str
    blobs: list[Blob]


class ImageContent(msgspec.Struct, frozen=True):
    """What `push` and `save` need of an image: bytes that its digests are of. Layers are lowest first."""

    id: str
    config: bytes
    layers: list[KeptLayer]
    manifests: list[Document]
    names: list[str]


class HistoryItem(msgspec.Struct, frozen=True):
    """One step in an image's making, newest first."""

    Id: str
    Created: int
    CreatedBy: str
    Tags: list[str] | None
    Size: int
    Comment: str


class Deleted(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that `image_delete` took away: a tag, or an image or layer."""

    Untagged: str = ""
    Deleted: str = ""


class Images(Signature[list[ImageSummary]], frozen=True):
    """List images, newest first."""

    NAME: ClassVar[str] = "images"
    READONLY: ClassVar[bool] = True
    all: Annotated[bool, Meta(description="Intermediate images too.")] = False
    filters: Filters = {}
    filter: Annotated[str, Meta(description="Reference, for old clients.")] = ""
    digests: bool = False
    shared_size: Annotated[bool, Meta(description="Fill in SharedSize.")] = False
    manifests: Annotated[bool, Meta(description="Fill in Manifests.")] = False


class ImageInspect(Signature[ImageInfo], frozen=True):
    """Tell all about an image."""

    NAME: ClassVar[str] = "image_inspect"
    READONLY: ClassVar[bool] = True
    name: Name
    platform: Platform = ""


class ImageGet(Signature[ImageRecord], frozen=True):
    """Find an image for a container to be made from. Raises NotFound: `No such image: NAME:TAG`."""

    NAME: ClassVar[str] = "image_get"
    READONLY: ClassVar[bool] = True
    name: Name
    platform: Platform = ""


class Tag(Signature[None], frozen=True):
    """Give an image one more name; a name that another image has moves."""

    NAME: ClassVar[str] = "tag"
    name: Name
    repo: Annotated[str, Meta(description="Repository, without a tag.")] = ""
    tag: Annotated[str, Meta(description="Tag; empty: latest.")] = ""


class ImageDelete(Signature[list[Deleted]], frozen=True):
    """Take a name of an image away, and the image with its last name.

    Raises Conflict when a container uses it, or an id is given that has several names, without `force`.
    """

    NAME: ClassVar[str] = "image_delete"
    name: Name
    force: Annotated[bool, Meta(description="Also when stopped containers use it, or it has several names.")] = False
    noprune: Annotated[bool, Meta(description="Leave parents; images have none here.")] = False
    platforms: Annotated[list[str], Meta(description="Each one that the image must be for, as JSON.")] = []


class ImagesPruned(msgspec.Struct, frozen=True):
    """What `images_prune` took away; SpaceReclaimed in bytes."""

    ImagesDeleted: list[Deleted] | None
    SpaceReclaimed: int


class ImagesPrune(Signature[ImagesPruned], frozen=True):
    """Take away the images that no container stands on: those without a tag, or with dangling=false all."""

    NAME: ClassVar[str] = "images_prune"
    filters: Annotated[
        dict[str, list[str] | dict[str, bool]], Meta(description="dangling, until, label, label!: which to take.")
    ] = {}


class GcImage(msgspec.Struct, frozen=True):
    """An image in a plan. Size, in bytes, is what goes with it; `Reason` is why it is kept, empty when it is not."""

    Id: str
    Names: list[str]
    Size: int
    Reason: str = ""


class GcPlan(msgspec.Struct, frozen=True):
    """What `image_gc` would take away, the oldest first, and what it keeps; then what it has taken away."""

    DiskUsedPercent: int
    Remove: list[GcImage]
    Keep: list[GcImage]
    ImagesDeleted: list[Deleted] | None = None
    SpaceReclaimed: int = 0


class ImageGc(Signature[GcPlan], frozen=True):
    """Plan which images a policy takes away; with `run` take them away. What is not given is as configured."""

    NAME: ClassVar[str] = "image_gc"
    run: Annotated[bool, Meta(description="Take them away, and not only tell.")] = False
    high: Annotated[int | None, Meta(description="Percent of the disk from which on images go; 0: always.")] = None
    low: Annotated[int | None, Meta(description="Percent of the disk at which it is enough.")] = None
    min_age: Annotated[str | None, Meta(description="Keep what came less than this ago: 36h, 10d.")] = None
    keep_last: Annotated[int | None, Meta(description="Keep so many images of each repository.")] = None
    keep_labels: Annotated[list[str] | None, Meta(description="Keep images with one of these, KEY or KEY=VALUE.")] = (
        None
    )
    pinned: Annotated[list[str] | None, Meta(description="Keep images with such a name: busybox, team/*.")] = None
    dangling: Annotated[bool | None, Meta(description="Take only those without a tag.")] = None


class History(Signature[list[HistoryItem]], frozen=True):
    """List the steps in which an image was made."""

    NAME: ClassVar[str] = "history"
    READONLY: ClassVar[bool] = True
    name: Name
    platform: Platform = ""


class Import(Signature[str], frozen=True):
    """Make an image of one layer from a tar, plain or compressed: from stdin (`-`) or a URL. Gives the image's id."""

    NAME: ClassVar[str] = "import"
    fromSrc: Annotated[str, Meta(description="`-` for stdin, or an http(s) URL.")] = "-"
    repo: Annotated[str, Meta(description="Name for the image, with or without a tag.")] = ""
    tag: str = ""
    message: str = ""
    changes: Annotated[list[str], Meta(description="Dockerfile instructions for its configuration.")] = []
    platform: str = ""


class ImageCommit(Signature[str], frozen=True):
    """Make an image of another one and a layer on top of it; an empty layer is left out. Gives the image's id."""

    NAME: ClassVar[str] = "image_commit"
    LOCAL: ClassVar[bool] = True
    parent: Annotated[str, Meta(description="Id of the image below, which may have been deleted since.")]
    layer: Annotated[AsyncIterator[bytes], Meta(description="The layer's tar.")]
    run: Annotated[dict[str, Any], Meta(description="The configuration for containers.")]
    changes: Annotated[list[str], Meta(description="Dockerfile instructions that change it.")]
    repo: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    created_by: str = ""
    container: str = ""


class ImageName(Signature[str], frozen=True):
    """Check what an image is to be called; gives the name in full as people write it, empty for none."""

    NAME: ClassVar[str] = "image_name"
    LOCAL: ClassVar[bool] = True
    READONLY: ClassVar[bool] = True
    repo: str
    tag: str


class Load(Signature[list[str]], frozen=True):
    """Load images from a docker-archive or OCI-layout tar on stdin. Gives their names, or ids where they have none."""

    NAME: ClassVar[str] = "load"
    quiet: Annotated[bool, Meta(description="No progress.")] = True
    platform: Platform = ""


class ImageExport(Signature[None], frozen=True):
    """Write images to stdout, as a tar that is a docker-archive and an OCI layout in one.

    Of a repository without a tag all tags are saved, of an id the image without a name. Raises NotFound.
    """

    NAME: ClassVar[str] = "image_export"
    READONLY: ClassVar[bool] = True
    names: Annotated[list[str], Meta(description="References or ids.")] = []
    name: Annotated[str, Meta(description="One reference or id, instead of names.")] = ""
    platform: Platform = ""


class ImageSet(Signature[str], frozen=True):
    """Put an image on record whose layers are on their way. Gives its id.

    A layer that is here is not fetched; the others are unpacked while more are fetched. Raises BadParameter when
    what comes is not what the configuration says; nothing of it is kept then.
    """

    NAME: ClassVar[str] = "image_set"
    LOCAL: ClassVar[bool] = True
    config: bytes
    layers: Sequence[LayerSource]
    name: Annotated[str, Meta(description="Reference with a tag, or with a digest.")]
    manifest: Document
    digest: Annotated[str, Meta(description="What the registry knows the name as; of an index where there is one.")]


class ImageContents(Signature[ImageContent], frozen=True):
    """Find what an image consists of. Raises NotFound."""

    NAME: ClassVar[str] = "image_contents"
    LOCAL: ClassVar[bool] = True
    READONLY: ClassVar[bool] = True
    name: Name


class ImageKeep(Signature[None], frozen=True):
    """Remember what a registry knows an image as, after a push."""

    NAME: ClassVar[str] = "image_keep"
    LOCAL: ClassVar[bool] = True
    id: str
    repository: str
    manifest: Document
    blobs: Annotated[list[Blob], Meta(description="Of each layer, lowest first.")]


class BlobSources(Signature[list[str]], frozen=True):
    """Name the repositories that are known to have a blob."""

    NAME: ClassVar[str] = "blob_sources"
    LOCAL: ClassVar[bool] = True
    READONLY: ClassVar[bool] = True
    digest: str


class LayerPack(Signature[Blob], frozen=True):
    """Give the gzip blob of a layer, made of another that is kept where there is none. Raises NotFound."""

    NAME: ClassVar[str] = "layer_pack"
    LOCAL: ClassVar[bool] = True
    chain: str
