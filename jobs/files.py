"""Files of containers, in and out: container_archive_stat, container_archive, container_extract, container_copy,
container_changes, export, commit."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

from .containers import Name

Path = Annotated[str, Meta(description="A path of the container; links are resolved inside of it.")]


class PathStat(msgspec.Struct, frozen=True):
    """What is at a path. `mode` is a Go FileMode; `linkTarget` is where a link ends, as far as it leads."""

    name: str
    size: int
    mode: int
    mtime: str
    linkTarget: str


class ContainerArchiveStat(Signature[PathStat], frozen=True):
    """Tell what is at a path of a container, running or not. Raises NotFound."""

    NAME: ClassVar[str] = "container_archive_stat"
    READONLY: ClassVar[bool] = True
    name: Name
    path: Path


class ContainerArchive(Signature[None], frozen=True):
    """Write a tar of what is at a path of a container to stdout; `ready` carries a `PathStat`. Raises NotFound."""

    NAME: ClassVar[str] = "container_archive"
    READONLY: ClassVar[bool] = True
    name: Name
    path: Path


class ContainerCopy(Signature[None], frozen=True):
    """The same for old clients."""

    NAME: ClassVar[str] = "container_copy"
    READONLY: ClassVar[bool] = True
    name: Name
    Resource: Path
    HostPath: Annotated[str, Meta(description="Not looked at.")] = ""


class Change(msgspec.Struct, frozen=True):
    """One path that a container has changed: kind 0 is modified, 1 added, 2 deleted."""

    Path: str
    Kind: int


class ContainerChanges(Signature[list[Change]], frozen=True):
    """List what a container has changed in its image's files."""

    NAME: ClassVar[str] = "container_changes"
    READONLY: ClassVar[bool] = True
    name: Name


class Export(Signature[None], frozen=True):
    """Write a tar of a container's root file system to stdout, without what is mounted in it."""

    NAME: ClassVar[str] = "export"
    READONLY: ClassVar[bool] = True
    name: Name


class Committed(msgspec.Struct, frozen=True):
    """The id of an image that was made of a container."""

    Id: str


class Commit(Signature[Committed], frozen=True):
    """Make an image of a container: of what it has changed, and of its configuration."""

    NAME: ClassVar[str] = "commit"
    container: Name
    repo: Annotated[str, Meta(description="Name for the image, with or without a tag.")] = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: Annotated[bool, Meta(description="Suspend its processes meanwhile, unless they are already.")] = True
    changes: Annotated[list[str], Meta(description="Dockerfile instructions for the image's configuration.")] = []
    config: Annotated[dict[str, Any] | None, Meta(description="What the image's configuration has instead.")] = None


class ContainerExtract(Signature[None], frozen=True):
    """Unpack the tar on stdin, plain or compressed, into a folder of a container. Raises NotFound.

    What has been unpacked stays when it fails.
    """

    NAME: ClassVar[str] = "container_extract"
    name: Name
    path: Path
    noOverwriteDirNonDir: Annotated[
        bool, Meta(description="No folder gives way to anything else, nor the other way round.")
    ] = False
    copyUIDGID: Annotated[bool, Meta(description="The container's user gets everything, if it has one.")] = False
