"""Job `system_df`: what takes how much of the disk."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

from .container_views import Summary
from .images import ImageSummary
from .volumes import VolumeInfo

KINDS = ("container", "image", "volume", "build-cache")


class DiskUsage(msgspec.Struct, frozen=True):
    """What takes disk space; None for a kind that was not asked for. LayersSize, in bytes, counts a layer once."""

    LayersSize: int
    Images: list[ImageSummary] | None
    Containers: list[Summary] | None
    Volumes: list[VolumeInfo] | None
    BuildCache: list[dict[str, Any]] | None


class SystemDf(Signature[DiskUsage], frozen=True):
    """Tell what images, containers, volumes and the build cache take. Looks at every file: it may take a while."""

    NAME: ClassVar[str] = "system_df"
    READONLY: ClassVar[bool] = True
    type: Annotated[list[str], Meta(description="container, image, volume, build-cache; none: all.")] = []
