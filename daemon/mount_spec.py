"""What a request says about mounts, checked: `--volume`, `--mount`, `--tmpfs`, `--volumes-from`.

Everything becomes a `Mount`, as `--mount` has it. Rules and words after moby v28.5.2 (volume/mounts/linux_parser.go).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from windlass.engine.errors import BadParameter
from windlass.execdriver.native.mounts import check_target
from windlass.jobs.container_config import (
    BindSettings,
    HostConfig,
    Mount,
    TmpfsSettings,
    VolumeDriverConfig,
    VolumeSettings,
)
from windlass.jobs.containers import Create

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# The words of a `-v`'s third part by kind: at most one of each.
_MODES = (("rw", "ro"), ("z", "Z"), PROPAGATIONS, ("nocopy",), ("consistent", "cached", "delegated"))
_OTHER_OPTIONS = {
    "bind": ("VolumeOptions", "ImageOptions", "TmpfsOptions"),
    "volume": ("BindOptions", "ImageOptions", "TmpfsOptions"),
    "tmpfs": ("BindOptions", "VolumeOptions", "ImageOptions"),
    "image": ("BindOptions", "VolumeOptions", "TmpfsOptions"),
}
_TMPFS_KEYS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")
_TMPFS_FLAGS = frozenset(
    ("defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "mand")
    + ("nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime")
    + ("nostrictatime", *PROPAGATIONS)
)


class Spec(NamedTuple):
    """A mount that is asked for; `mode` is the text that `-v` had at its end."""

    mount: Mount
    mode: str = ""


def check_mounts(host: HostConfig, params: Create) -> None:
    """Check all mounts of a request. Raises BadParameter."""
    for text in host.VolumesFrom or ():
        parse_volumes_from(text)
    specs = requested_mounts(host)
    for path, options in (host.Tmpfs or {}).items():
        clean_target(path)
        _check_tmpfs_text(options)
    targets: set[str] = set()
    for target in [*(spec.mount.Target for spec in specs), *map(clean_target, host.Tmpfs or {})]:
        if target in targets:
            raise BadParameter(f"Duplicate mount point: {target}", key="Mounts")
        targets.add(target)
    for path in params.Volumes or {}:
        clean_target(path)


def requested_mounts(host: HostConfig) -> list[Spec]:
    """The mounts of Binds and Mounts, with clean paths. Raises BadParameter."""
    specs = [parse_bind(text, host.VolumeDriver) for text in host.Binds or ()]
    return specs + [Spec(check_mount(mount, must_exist=True)) for mount in host.Mounts or ()]


# -- one mount -------------------------------------------------------------------------------------------------------


def parse_bind(text: str, volume_driver: str = "") -> Spec:
    """Parse `[SOURCE:]TARGET[:MODE]`, where SOURCE is a path of the host or a volume's name. Raises BadParameter."""
    parts = text.split(":")
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _is_mode(parts[1])):
        raise BadParameter(f"invalid volume specification: '{text}'", key="Binds")
    source, target = ("", parts[0]) if len(parts) == 1 else parts[:2]
    mode = parts[2] if len(parts) == 3 else ""
    if not _is_mode(mode):
        raise BadParameter(f"invalid mode: {mode}", key="Binds")
    words = mode.split(",")
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    is_bind = source.startswith("/")
    volume = VolumeSettings(
        NoCopy="nocopy" in words,
        DriverConfig=VolumeDriverConfig(volume_driver) if volume_driver and not is_bind else None,
    )
    mount = Mount(
        Type="bind" if is_bind else "volume",
        Source=source,
        Target=target,
        ReadOnly="ro" in words,
        BindOptions=BindSettings(propagation, CreateMountpoint=is_bind) if propagation or is_bind else None,
        VolumeOptions=None if volume == VolumeSettings() else volume,
    )
    try:
        return Spec(check_mount(mount), mode)
    except BadParameter as exc:
        raise BadParameter(f"invalid volume specification: '{text}': {exc.message}", key="Binds") from None


def _is_mode(text: str) -> bool:
    words = text.split(",") if text else []
    kinds = [number for word in words for number, kind in enumerate(_MODES) if word in kind]
    return len(kinds) == len(words) == len(set(kinds))


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Parse `CONTAINER[:MODE]`: the container's name, and whether this one may write. Raises BadParameter."""
    name, colon, mode = text.partition(":")
    if not name:
        raise BadParameter("volumes-from specification cannot be an empty string", key="VolumesFrom")
    words = mode.split(",")
    if (colon and not mode) or not _is_mode(mode) or "nocopy" in words or not set(PROPAGATIONS).isdisjoint(words):
        raise BadParameter(f"invalid mode: {mode}", key="VolumesFrom")
    return name, "ro" not in words


def check_mount(mount: Mount, *, must_exist: bool = False) -> Mount:
    """Return the mount with clean paths. Raises BadParameter; with `must_exist` also for a bind's missing source."""
    try:
        target = clean_target(mount.Target)
        if mount.Type not in _OTHER_OPTIONS:
            raise BadParameter("mount type unknown")
        for field in _OTHER_OPTIONS[mount.Type]:
            if getattr(mount, field) is not None:
                raise BadParameter(f"field {field} must not be specified")
        _CHECKS[mount.Type](mount, must_exist)
    except BadParameter as exc:
        raise BadParameter(f'invalid mount config for type "{mount.Type}": {exc.message}', key="Mounts") from None
    source = clean(mount.Source) if mount.Type == "bind" else mount.Source
    return msgspec.structs.replace(mount, Source=source, Target=target)


def _check_bind(mount: Mount, must_exist: bool) -> None:
    options = mount.BindOptions or BindSettings()
    if not mount.Source:
        raise BadParameter("field Source must not be empty")
    if options.Propagation and options.Propagation not in PROPAGATIONS:
        raise BadParameter(f"invalid propagation mode: {options.Propagation}")
    _check_absolute(mount.Source)
    if options.ReadOnlyNonRecursive and options.ReadOnlyForceRecursive:
        raise BadParameter("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
    if must_exist and not options.CreateMountpoint and not Path(mount.Source).exists():
        raise BadParameter(f"bind source path does not exist: {mount.Source}")


def _check_volume(mount: Mount, must_exist: bool) -> None:
    options = mount.VolumeOptions or VolumeSettings()
    if options.Subpath and not mount.Source:
        raise BadParameter("must not set Subpath when using anonymous volumes")
    _check_subpath(options.Subpath)
    if mount.ReadOnly and not mount.Source:
        raise BadParameter("must not set ReadOnly mode when using anonymous volumes")


def _check_tmpfs(mount: Mount, must_exist: bool) -> None:
    if mount.Source:
        raise BadParameter("field Source must not be specified")
    tmpfs_options(mount)


def _check_image(mount: Mount, must_exist: bool) -> None:
    if not mount.Source:
        raise BadParameter("field Source must not be empty")
    _check_subpath(mount.ImageOptions.Subpath if mount.ImageOptions else "")


_CHECKS = {"bind": _check_bind, "volume": _check_volume, "tmpfs": _check_tmpfs, "image": _check_image}


def _check_subpath(path: str) -> None:
    """What a subpath is made of is the kernel's to resolve; here it only may not look as if it led out."""
    if path and (path.startswith("/") or "\0" in path or posixpath.normpath(path).split("/")[0] == ".."):
        raise BadParameter("subpath must be a relative path within the volume")


# -- tmpfs -----------------------------------------------------------------------------------------------------------


def tmpfs_options(mount: Mount) -> str:
    """The options of a `--mount type=tmpfs`, as text. Raises BadParameter."""
    settings = mount.TmpfsOptions or TmpfsSettings()
    options = ["ro"] if mount.ReadOnly else []
    if not 0 <= settings.Mode <= 0o7777:
        raise BadParameter(f"invalid tmpfs mode: {settings.Mode:o}")
    if settings.SizeBytes < 0:
        raise BadParameter(f"invalid tmpfs size: {settings.SizeBytes}")
    options += [f"mode={settings.Mode:o}"] if settings.Mode else []
    options += [f"size={settings.SizeBytes}"] if settings.SizeBytes else []
    for pair in settings.Options or ():
        if not 1 <= len(pair) <= 2:
            raise BadParameter("invalid option array length")
        if pair[0] not in ("exec", "noexec"):
            raise BadParameter(f"invalid option: {pair[0]}")
        options.append("=".join(pair))
    return ",".join(options)


def _check_tmpfs_text(text: str) -> None:
    """Check the options of a `--tmpfs`. Raises BadParameter, in Docker's words (moby/sys/mount: MergeTmpfsOptions)."""
    for option in filter(None, text.split(",")):
        key, equals, value = option.partition("=")
        if option in _TMPFS_FLAGS or (equals and key in _TMPFS_KEYS and "\0" not in value):
            continue
        words = " ".join(f'"{word}"' for word in ([key, value] if equals else [key]))
        raise BadParameter(f"invalid tmpfs option [{words}]", key="Tmpfs")


# -- paths -----------------------------------------------------------------------------------------------------------


def clean(path: str) -> str:
    """An absolute path in its shortest spelling. Not a word about links: the kernel resolves them."""
    return posixpath.normpath("/" + path.lstrip("/"))


def clean_target(path: str) -> str:
    """A place in the container, in its shortest spelling.

    Raises BadParameter for the root itself, for relative paths, and for what is inside /proc.
    """
    if not path:
        raise BadParameter("field Target must not be empty", key="Mounts")
    if posixpath.normpath(path).strip("/") == "":
        raise BadParameter("invalid specification: destination can't be '/'", key="Mounts")
    _check_absolute(path)
    return inner(path)


def inner(path: str) -> str:
    """`clean_target` for what an image says: a relative path counts from the root."""
    target = clean(path)
    try:
        check_target(target)
    except ValueError as exc:
        raise BadParameter(str(exc), key="Mounts") from None
    return target


def _check_absolute(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise BadParameter(f"invalid mount path: '{path}' mount path must be absolute", key="Mounts")


def image_volumes(paths: Iterable[str]) -> list[str]:
    """The places of VOLUME, from an image or a request. Raises BadParameter."""
    return list(dict.fromkeys(inner(path) for path in paths))
