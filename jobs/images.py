"""The image family: import, load, images, image_inspect, image_get, tag, image_delete, history.

`name` is a reference (`busybox`, `busybox:1.36`, `name@sha256:…`), an image id, or a unique prefix of one.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

Name = Annotated[str, Meta(description="Image reference, id, or unique prefix of an id.")]
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


class ImageRecord(msgspec.Struct, frozen=True):
    """What `create` needs of an image. `chain` is the chain id of its topmost layer; empty: no layer."""

    id: str
    config: dict[str, Any]
    chain: str
    size: int
    os: str
    architecture: str
    tags: list[str]


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


class ImageInspect(Signature[ImageInfo], frozen=True):
    """Tell all about an image."""

    NAME: ClassVar[str] = "image_inspect"
    READONLY: ClassVar[bool] = True
    name: Name


class ImageGet(Signature[ImageRecord], frozen=True):
    """Find an image for a container to be made from. Raises NotFound: `No such image: NAME:TAG`."""

    NAME: ClassVar[str] = "image_get"
    READONLY: ClassVar[bool] = True
    name: Name
    platform: Annotated[str, Meta(description="OS[/ARCH[/VARIANT]] that it must have.")] = ""


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
    force: bool = False
    noprune: bool = False


class History(Signature[list[HistoryItem]], frozen=True):
    """List the steps in which an image was made."""

    NAME: ClassVar[str] = "history"
    READONLY: ClassVar[bool] = True
    name: Name


class Import(Signature[str], frozen=True):
    """Make an image of one layer from a tar, plain or compressed: from stdin (`-`) or a URL. Gives the image's id."""

    NAME: ClassVar[str] = "import"
    fromSrc: Annotated[str, Meta(description="`-` for stdin, or an http(s) URL.")] = "-"
    repo: Annotated[str, Meta(description="Name for the image, with or without a tag.")] = ""
    tag: str = ""
    message: str = ""
    changes: Annotated[list[str], Meta(description="Dockerfile instructions for its configuration.")] = []
    platform: str = ""


class Load(Signature[list[str]], frozen=True):
    """Load images from a docker-archive or OCI-layout tar on stdin. Gives their names, or ids where they have none."""

    NAME: ClassVar[str] = "load"
    quiet: bool = False
    platform: str = ""
