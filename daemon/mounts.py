"""A container's mounts as the exec driver takes them.

Only paths of the host that the caller wrote, or that a volume driver told, are opened, by the exec driver, before the
container exists; places in the container are the kernel's to resolve, inside its root.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from windlass.execdriver import driver
from windlass.jobs.container_config import BindSettings, HostConfig

from .mount_spec import clean_target, tmpfs_options
from .points import Point


def driver_mounts(host: HostConfig, points: tuple[Point, ...], volumes: Mapping[str, str]) -> list[driver.Mount]:
    """The mounts; `volumes` says by name where volumes are. Blocks; a bind's missing source is made, if it may be."""
    mounts = [_mount(point, volumes) for point in points]
    return mounts + [
        driver.Mount(clean_target(path), "tmpfs", options=text) for path, text in (host.Tmpfs or {}).items()
    ]


def _mount(point: Point, volumes: Mapping[str, str]) -> driver.Mount:
    if point.kind == "tmpfs":
        return driver.Mount(point.target, "tmpfs", options=tmpfs_options(point.spec))
    if point.kind == "volume":
        return driver.Mount(point.target, "bind", volumes[point.name], readonly=not point.rw)
    _make_source(point)
    return driver.Mount(point.target, "bind", point.source, readonly=not point.rw)


def _make_source(point: Point) -> None:
    """Make the folder that `-v` names, or `--mount` with CreateMountpoint, when there is nothing of that name."""
    options = point.spec.BindOptions or BindSettings()
    source = Path(point.source)
    if options.CreateMountpoint and not source.exists():
        source.mkdir(parents=True, mode=0o755)
