"""Binds, `--mount` and tmpfs: checked at create, and as the exec driver takes them at start.

Only paths of the host that the caller wrote are opened, by the exec driver, before the container exists. Volumes
come later and are refused by name.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from windlass.engine.errors import BadParameter, Unsupported
from windlass.execdriver import driver
from windlass.jobs import container_config
from windlass.jobs.container_config import HostConfig
from windlass.jobs.container_views import MountPoint
from windlass.jobs.containers import Create

# Words of a bind's options that change nothing here: SELinux labels, and what is the default anyway.
_NEUTRAL = frozenset(("", "z", "Z", "rw", "ro", "rprivate", "private", "nocopy", "consistent", "cached", "delegated"))


def check_mounts(host: HostConfig, params: Create) -> None:
    """Check all mounts. Raises BadParameter, Unsupported."""
    if params.Volumes:
        raise Unsupported("Volumes: anonymous volumes cannot be used yet", key="Volumes")
    targets: set[str] = set()
    points = [_parse_bind(bind) for bind in host.Binds or ()]
    points += [_parse_mount(mount) for mount in host.Mounts or ()]
    for point in [*(each.Destination for each in points), *(host.Tmpfs or {})]:
        target = _target(point)
        if target in targets:
            raise BadParameter(f"Duplicate mount point: {target}", key="Mounts")
        targets.add(target)


def mount_points(host: HostConfig) -> list[MountPoint]:
    """The mounts as inspect shows them."""
    return [
        *(_parse_bind(bind) for bind in host.Binds or ()),
        *(_parse_mount(mount) for mount in host.Mounts or ()),
    ]


def driver_mounts(host: HostConfig) -> list[driver.Mount]:
    """The mounts as the exec driver takes them. Blocks; folders that `--volume` names are made when missing."""
    for bind in host.Binds or ():
        source = Path(_parse_bind(bind).Source)
        if not source.exists():
            source.mkdir(parents=True, mode=0o755)
    mounts = [_as_driver(point) for point in mount_points(host) if point.Type == "bind"]
    for mount in host.Mounts or ():
        if mount.Type == "tmpfs":
            options = _tmpfs_options(mount.TmpfsOptions or container_config.TmpfsSettings())
            mounts.append(driver.Mount(_target(mount.Target), "tmpfs", readonly=mount.ReadOnly, options=options))
    mounts += [driver.Mount(_target(path), "tmpfs", options=text) for path, text in (host.Tmpfs or {}).items()]
    return mounts


def _as_driver(point: MountPoint) -> driver.Mount:
    return driver.Mount(point.Destination, "bind", point.Source, readonly=not point.RW)


def _parse_bind(text: str) -> MountPoint:
    """Parse `/source:/target[:options]`."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not parts[0] or not parts[1]:
        raise BadParameter(f"invalid volume specification: '{text}'", key="Binds")
    source, target, options = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not source.startswith("/"):
        raise Unsupported(f"the volume {source!r} cannot be used yet: only paths of the host can", key="Binds")
    words = options.split(",")
    for word in words:
        if word not in _NEUTRAL:
            if word.removeprefix("r") in ("shared", "slave"):
                raise Unsupported(f"the bind propagation {word!r} cannot be used yet", key="Binds")
            raise BadParameter(f"invalid mode: {options}", key="Binds")
    return MountPoint(
        "bind", posixpath.normpath(source), _target(target), options, RW="ro" not in words, Propagation="rprivate"
    )


def _parse_mount(mount: container_config.Mount) -> MountPoint:
    kind = mount.Type
    if kind in ("volume", "image", "cluster"):
        raise Unsupported(f"mounts of type {kind!r} cannot be used yet", key="Mounts")
    if kind not in ("bind", "tmpfs"):
        raise BadParameter(f'invalid mount config for type "{kind}": mount type unknown', key="Mounts")
    if kind == "tmpfs":
        if mount.Source:
            raise BadParameter('invalid mount config for type "tmpfs": source must not be specified', key="Mounts")
        return MountPoint("tmpfs", "", _target(mount.Target), RW=not mount.ReadOnly)
    if not mount.Source.startswith("/"):
        raise BadParameter(
            f"invalid mount config for type \"bind\": invalid mount path: '{mount.Source}' mount path must be absolute",
            key="Mounts",
        )
    options = mount.BindOptions or container_config.BindSettings()
    if options.Propagation not in ("", "private", "rprivate"):
        raise Unsupported(f"the bind propagation {options.Propagation!r} cannot be used yet", key="Mounts")
    if not options.CreateMountpoint and not Path(mount.Source).exists():
        raise BadParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.Source}', key="Mounts"
        )
    source = posixpath.normpath(mount.Source)
    return MountPoint("bind", source, _target(mount.Target), RW=not mount.ReadOnly, Propagation="rprivate")


def _target(path: str) -> str:
    """A mount's place inside, normalised. Raises BadParameter for the root itself and for relative paths."""
    if "\0" in path or not path.startswith("/"):
        raise BadParameter(f"invalid mount path: '{path}' mount path must be absolute", key="Mounts")
    target = posixpath.normpath(path)
    if target.strip("/") == "":
        raise BadParameter("invalid specification: destination can't be '/'", key="Mounts")
    return target


def _tmpfs_options(settings: container_config.TmpfsSettings) -> str:
    options = [f"size={settings.SizeBytes}"] if settings.SizeBytes else []
    options += [f"mode={settings.Mode:o}"] if settings.Mode else []
    options += ["=".join(pair) for pair in settings.Options or ()]
    return ",".join(options)
