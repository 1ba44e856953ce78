"""A container's mounts as they are settled at its creation, and kept with it."""

from __future__ import annotations

import msgspec

from windlass.jobs.container_config import Mount
from windlass.jobs.container_views import MountPoint


class Point(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount. `spec` is what was asked for; its empty Source is the sign of an anonymous volume.

    `name` is a volume's, or the image's as it was asked for; `source` is shown, and a bind's is used; `layer` is the
    topmost one of an image.
    """

    spec: Mount
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    name: str = ""
    driver: str = ""
    source: str = ""
    layer: str = ""
    copies: bool = False  # a new volume gets what the image has at this place

    @property
    def kind(self) -> str:
        return self.spec.Type

    @property
    def target(self) -> str:
        return self.spec.Target

    @property
    def is_volume(self) -> bool:
        return self.kind == "volume"

    @property
    def is_anonymous(self) -> bool:
        return self.is_volume and not self.spec.Source

    @property
    def subpath(self) -> str:
        options = self.spec.VolumeOptions or self.spec.ImageOptions
        return options.Subpath if options else ""

    def shown(self) -> MountPoint:
        """The mount as inspect and lists have it."""
        return MountPoint(
            Type=self.kind,
            Source=self.source,
            Destination=self.target,
            Name=self.name or msgspec.UNSET,
            Driver=self.driver or msgspec.UNSET,
            Mode=self.mode,
            RW=self.rw,
            Propagation=self.propagation,
        )
