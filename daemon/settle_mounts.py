"""Which mounts a container will have: decided at its creation, in Docker's order (moby: registerMountPoints).

Volumes of other containers come first; `-v` and `--mount` take their places, and what the image wants as a VOLUME
comes where nothing else is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from windlass.engine.errors import BadParameter, NotFound
from windlass.jobs.container_config import BindSettings, Config, HostConfig, Mount, VolumeSettings
from windlass.jobs.images import ImageGet

from .daemon import Daemon
from .mount_spec import Spec, clean_target, image_volumes, parse_volumes_from, requested_mounts
from .points import Point

MOST = 96  # the exec driver has room for 128, its own among them


async def settle_mounts(daemon: Daemon, host: HostConfig, config: Config) -> list[Point]:
    """The mounts of a container to be. Nothing is made yet. Raises BadParameter, NotFound."""
    points = {point.target: point for text in host.VolumesFrom or () for point in _of_other(daemon, text)}
    for spec in requested_mounts(host):
        point = _point(daemon, spec)
        points[point.target] = await _with_image(daemon, point) if point.kind == "image" else point
    taken = {clean_target(path) for path in host.Tmpfs or {}}
    for target in image_volumes(config.Volumes or {}):
        if target not in points:
            points[target] = Point(
                Mount(Type="volume", Target=target), name=new_name(), driver=host.VolumeDriver, copies=True
            )
    points = {target: point for target, point in points.items() if target not in taken}
    if len(points) + len(taken) > MOST:
        raise BadParameter(f"a container can have {MOST} mounts, not {len(points) + len(taken)}", key="Mounts")
    return list(points.values())


def new_name() -> str:
    """The name of an anonymous volume."""
    return secrets.token_hex(32)


def _of_other(daemon: Daemon, text: str) -> Iterator[Point]:
    name, writable = parse_volumes_from(text)
    try:
        other = daemon.containers.get(name)
    except NotFound as exc:
        raise BadParameter(exc.message, key="VolumesFrom") from None
    for point in other.definition.mounts:
        yield msgspec.structs.replace(point, rw=point.rw and writable, copies=False)


def _point(daemon: Daemon, spec: Spec) -> Point:
    mount, mode = spec
    writable = not mount.ReadOnly
    if mount.Type == "bind":
        options = mount.BindOptions or BindSettings()
        propagation = options.Propagation or _default_propagation(daemon, Path(mount.Source))
        return Point(mount, mode, writable, propagation, source=mount.Source)
    if mount.Type == "volume":
        settings = mount.VolumeOptions or VolumeSettings()
        driver = settings.DriverConfig.Name if settings.DriverConfig else ""
        copies = not settings.NoCopy and not settings.Subpath
        return Point(mount, mode, writable, name=mount.Source or new_name(), driver=driver, copies=copies)
    if mount.Type == "image":
        return Point(mount, mode, rw=False, name=mount.Source)
    return Point(mount, mode, writable)


def _default_propagation(daemon: Daemon, source: Path) -> str:
    """A container that has our data root would keep what is mounted there after its users have gone."""
    root = daemon.data_root
    return "rslave" if root.is_relative_to(source) or source.is_relative_to(root) else "rprivate"


async def _with_image(daemon: Daemon, point: Point) -> Point:
    image = await daemon.engine.call(ImageGet(name=point.name))
    return msgspec.structs.replace(point, source=image.id, layer=image.chain)
