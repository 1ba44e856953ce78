"""A container's mounts as the exec driver takes them.

Only paths of the host that the caller wrote, or that a volume driver told, are opened, by the exec driver, before the
container exists; places in the container are the kernel's to resolve, inside its root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from windlass.engine.errors import BadParameter
from windlass.execdriver import driver
from windlass.jobs.container_config import BindSettings, HostConfig
from windlass.kernel.mount import Mounted, mounts
from windlass.lib.rootfs import RootFS

from .mount_spec import check_mount, clean_target, tmpfs_options
from .points import Point

_PROPAGATION: dict[str, Literal["private", "slave", "shared"]] = {
    "private": "private", "rprivate": "private", "slave": "slave", "rslave": "slave", "shared": "shared",
    "rshared": "shared",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a run's volumes are on the host, by name, and what its images' mounts are made of, by topmost layer."""

    volumes: Mapping[str, str]
    images: Mapping[str, RootFS]


def driver_mounts(host: HostConfig, points: tuple[Point, ...], sources: Sources) -> list[driver.Mount]:
    """The mounts as the exec driver takes them.

    Blocks; a bind's missing source is made, if it may be. Raises BadParameter for a propagation that cannot be.
    """
    found = []
    for point in points:
        match point.kind:
            case "tmpfs":
                found.append(driver.Mount(point.target, "tmpfs", options=tmpfs_options(point.spec)))
            case "volume":
                source = sources.volumes[point.name]
                mount = driver.Mount(point.target, "bind", source, not point.rw, subpath=point.subpath, mapped=True)
                found.append(mount)
            case "image":
                layers = sources.images[point.layer]
                found.append(driver.Mount(point.target, "image", point.name, layers=layers, subpath=point.subpath))
            case _:
                found.append(_bind(point))
    return found + [
        driver.Mount(clean_target(path), "tmpfs", options=text) for path, text in (host.Tmpfs or {}).items()
    ]


def _bind(point: Point) -> driver.Mount:
    options = point.spec.BindOptions or BindSettings()
    check_mount(point.spec, must_exist=True)  # it was there at the creation, but now?
    source = Path(point.source)
    if options.CreateMountpoint and not source.exists():
        _make_source(source)
    propagation = _PROPAGATION[point.propagation]
    if propagation != "private":
        try:
            _check_propagation(point.source, propagation)
        except BadParameter:
            if options.Propagation:
                raise
            propagation = "private"  # nobody has asked for it
    return driver.Mount(
        point.target,
        "bind",
        point.source,
        readonly=not point.rw,
        propagation=propagation,
        recursive=not options.NonRecursive,
        readonly_below=not options.ReadOnlyNonRecursive,
    )


def _make_source(path: Path) -> None:
    try:
        path.mkdir(parents=True, mode=0o755, exist_ok=True)
    except OSError as exc:
        text = f"error while creating mount source path '{path}': mkdir {exc.filename}: {exc.strerror}"
        raise BadParameter(text, key="Binds") from exc


def _check_propagation(source: str, propagation: str) -> None:
    """Mounts pass between the container and the host only where the source's own mount does it (moby: ensureShared)."""
    mounted = _mount_of(os.path.realpath(source))
    kinds = {tag.partition(":")[0] for tag in mounted.tags}
    if "shared" in kinds or (propagation == "slave" and "master" in kinds):
        return
    wanted = "a shared mount" if propagation == "shared" else "a shared or slave mount"
    raise BadParameter(f"path {source} is mounted on {mounted.target} but it is not {wanted}", key="Mounts")


def _mount_of(path: str) -> Mounted:
    """The mount that `path` is on: the longest place above it, and the last one there."""
    above = [each for each in mounts() if path == each.target or path.startswith(each.target.rstrip("/") + "/")]
    return max(reversed(above), key=lambda each: len(each.target))
