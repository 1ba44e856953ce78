"""The volume family: Docker's volumes, and the jobs by which a container comes to have one.

Two owners meet here. `volume/` owns volumes, who holds them, and what is mounted for them. `daemon/` owns what a
container is configured to have. A volume that is held cannot be deleted.

    create   daemon ── volume_hold ─────▶ volume     (made when it is not there; the container is a holder from now on)
             daemon ── volume_populate ─▶ volume     (an empty one gets what the image has at its place)
    start    daemon ── volume_mount ────▶ volume     (where it is on the host, mounted if it has to be)
    exit     daemon ── volume_unmount ──▶ volume
    delete   daemon ── volume_release ──▶ volume     (with `rm -v` anonymous ones go when nobody holds them any more)
    restart  daemon ── volumes_reconcile ▶ volume    (who holds what, told anew)
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

ANONYMOUS = "com.docker.volume.anonymous"  # the label of volumes that nobody has given a name

Name = Annotated[str, Meta(description="Volume name.")]
Container = Annotated[str, Meta(description="Full id of a container.")]
Filters = Annotated[dict[str, list[str] | dict[str, bool]], Meta(description="What to keep, by Docker's filter names.")]


class UsageData(msgspec.Struct, frozen=True):
    """What a volume takes. Size in bytes; -1 where its driver cannot tell."""

    Size: int
    RefCount: int


class VolumeInfo(msgspec.Struct, frozen=True):
    """One volume (Docker API: Volume)."""

    Name: str
    Driver: str
    Mountpoint: Annotated[str, Meta(description="Where its files are on the host; empty while it is nowhere.")]
    CreatedAt: Annotated[str, Meta(description="RFC 3339, in seconds.")]
    Labels: dict[str, str] | None
    Scope: str
    Options: dict[str, str] | None
    Status: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    UsageData: UsageData | msgspec.UnsetType = msgspec.UNSET


class VolumeList(msgspec.Struct, frozen=True):
    """All volumes, and what kept some from being told."""

    Volumes: list[VolumeInfo]
    Warnings: list[str] | None = None


class VolumesPruned(msgspec.Struct, frozen=True):
    """Names of the volumes that were deleted; SpaceReclaimed in bytes."""

    VolumesDeleted: list[str] | None
    SpaceReclaimed: int


# -- for clients -----------------------------------------------------------------------------------------------------


class VolumeCreate(Signature[VolumeInfo], frozen=True):
    """Create a volume; one that is there already is left as it is. Raises Conflict when it has another driver."""

    NAME: ClassVar[str] = "volume_create"
    Name: Annotated[str, Meta(description="Name of the volume; empty: 64 random digits.")] = ""
    Driver: Annotated[str, Meta(description="local, or one that a plugin provides.")] = ""
    DriverOpts: Annotated[dict[str, str] | None, Meta(description="The driver's options; local: type, o, device.")] = (
        None
    )
    Labels: dict[str, str] | None = None
    ClusterVolumeSpec: Annotated[dict[str, Any] | None, Meta(description="Swarms only: refused.")] = None


class Volumes(Signature[VolumeList], frozen=True):
    """List volumes."""

    NAME: ClassVar[str] = "volumes"
    READONLY: ClassVar[bool] = True
    filters: Filters = {}
    usage: Annotated[bool, Meta(description="Fill in UsageData, which takes a look at every file.")] = False


class VolumeInspect(Signature[VolumeInfo], frozen=True):
    """Tell everything about a volume."""

    NAME: ClassVar[str] = "volume_inspect"
    READONLY: ClassVar[bool] = True
    name: Name


class VolumeDelete(Signature[None], frozen=True):
    """Delete a volume with what is in it. Raises Conflict while a container has it."""

    NAME: ClassVar[str] = "volume_delete"
    name: Name
    force: Annotated[bool, Meta(description="That it is not there is no error, nor that its driver is gone.")] = False


class VolumePrune(Signature[VolumesPruned], frozen=True):
    """Delete the anonymous volumes that no container has; with `all`, or the filter `all=true`, all of those."""

    NAME: ClassVar[str] = "volume_prune"
    filters: Filters = {}
    all: Annotated[bool, Meta(description="Also those with a name: what clients below API 1.42 mean.")] = False


# -- for the daemon --------------------------------------------------------------------------------------------------


class VolumeHold(Signature[VolumeInfo], frozen=True):
    """Note that a container has a volume, which is made when it is not there."""

    NAME: ClassVar[str] = "volume_hold"
    name: Name
    container: Container
    driver: str = ""
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class VolumeRelease(Signature[None], frozen=True):
    """Note that a container has these volumes no longer; those in `delete` go with it, unless another has them."""

    NAME: ClassVar[str] = "volume_release"
    names: list[str]
    container: Container
    delete: list[str] = []


class VolumePopulate(Signature[None], frozen=True):
    """Copy what an image has at `path` into a volume that is empty. `layers` are folders of the host, topmost first."""

    NAME: ClassVar[str] = "volume_populate"
    LOCAL: ClassVar[bool] = True
    name: Name
    container: Container
    path: str
    layers: list[str]


class VolumeMounted(msgspec.Struct, frozen=True):
    """Where a volume's files are on the host."""

    path: str


class VolumeMount(Signature[VolumeMounted], frozen=True):
    """Make a volume's files available for a run of a container."""

    NAME: ClassVar[str] = "volume_mount"
    name: Name
    container: Container
    destination: Annotated[str, Meta(description="Where the container has it.")] = ""
    writable: bool = True


class VolumeUnmount(Signature[None], frozen=True):
    """Note that a run of a container has ended: it needs the volume's files no longer."""

    NAME: ClassVar[str] = "volume_unmount"
    name: Name
    container: Container


class VolumesReconcile(Signature[None], frozen=True):
    """Tell who holds and who uses what, by names of volumes: all containers, and those that run. At start-up."""

    NAME: ClassVar[str] = "volumes_reconcile"
    held: dict[str, list[str]]
    used: dict[str, list[str]]
