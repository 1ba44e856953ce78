"""The daemon's configuration: what may be set, what it defaults to, and the file that it is read from.

The file's keys are daemon.json's; YAML or JSON, since JSON is YAML. A key that is not here is named, and the daemon
does not start: a typing error must not silently take a limit or a certificate away.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from .network_settings import mistakes

DEFAULT_SOCKET = "/var/run/windlass.sock"
DEFAULT_HOST = f"unix://{DEFAULT_SOCKET}"
DEFAULT_FILES = (Path("/etc/windlass/daemon.yaml"), Path("/etc/windlass/daemon.json"))
MAX_BYTES = 1 << 20


class ConfigError(Exception):
    """The configuration is wrong; the message names the key and the file."""


class ImageGc(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """When and how images are taken away by policy; the keys are those of the job `image_gc`."""

    interval: str = ""  # how often, as `6h`; empty: never by itself
    high: int | None = None
    low: int | None = None
    min_age: str | None = None
    keep_last: int | None = None
    keep_labels: list[str] | None = None
    pinned: list[str] | None = None
    dangling: bool | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What one daemon is told. In the file a key has dashes where a field has underscores."""

    hosts: list[str] = []
    group: str = "docker"
    tls: bool | None = None  # false, said aloud: TCP without TLS is what is wanted
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    api_enable_cors: bool = False
    api_cors_header: str = ""
    data_root: str = "/var/lib/windlass"
    exec_root: str = "/run/windlass"
    pidfile: str = ""  # empty: none; the lock on the exec root has the pid as well
    storage_driver: str = ""  # empty: the best that works here
    exec_driver: str = "native"
    debug: bool = False
    log_level: str = "info"
    labels: list[str] = []
    plugins: list[str] = []
    plugins_dir: str = "/etc/windlass/plugins.d"
    ignore_plugin_errors: bool = False
    insecure_registries: list[str] = []
    registry_mirrors: list[str] = []  # of Docker Hub
    mirrors: dict[str, list[str]] = {}  # of any registry, by its host
    default_registry: str = ""  # where names without a registry are looked for; empty: Docker Hub
    certs_dir: str = "/etc/docker/certs.d"
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    bridge: str = ""  # empty: one of our own; none: no default bridge
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: list[dict[str, str | int]] = []  # `base` in CIDR notation, `size`: prefix length of each
    mtu: int = 0  # 0: the device's
    icc: bool = True
    ip: str = ""  # where ports are published when nobody says
    ip_forward: bool = True
    ip_masq: bool = True
    iptables: bool = True  # keep packet filter rules
    ipv6: bool = False  # on the default bridge
    userland_proxy: bool = True
    host_gateway_ips: list[str] = []
    dns: list[str] = []
    dns_opts: list[str] = []
    dns_search: list[str] = []
    userns_remap: str = ""  # `default`, USER[:GROUP] or UID[:GID], whose ranges in subuid(5) containers get
    default_ulimits: dict[str, dict[str, str | int]] = {}  # by name: `Name`, `Soft`, `Hard`
    image_gc: ImageGc = ImageGc()
    shutdown_timeout: float = 15.0  # seconds that running jobs may take to finish


KEYS = {field.encode_name: field.name for field in msgspec.structs.fields(Config)}


def read(path: Path) -> dict[str, Any]:
    """The settings in the file `path`, by field of Config. Raises ConfigError, or OSError when it cannot be read."""
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes")
    if not text.strip():
        return {}
    import yaml  # 30 ms, for those who have something in a file

    try:
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(f"{path} is neither YAML nor JSON: {' '.join(str(exc).split())}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: settings are KEY: VALUE, not {type(settings).__name__}")
    if unknown := [str(key) for key in settings if key not in KEYS]:
        raise ConfigError(f"{path}: unknown key {', '.join(map(_with_hint, unknown))}")
    return {KEYS[key]: value for key, value in settings.items() if value is not None}


def make(flags: dict[str, Any], file: Path | None = None) -> Config:
    """Make a Config of what the command line says, by field, and the file. Raises ConfigError, OSError.

    A setting in both places is refused, as dockerd does; but for lists, of which the flags' come after the file's.
    """
    settings = read(file) if file is not None else {}
    both = sorted(key for key in flags.keys() & settings.keys() if not isinstance(flags[key], list))
    if both:
        names = ", ".join(key.replace("_", "-") for key in both)
        raise ConfigError(f"{file}: also given on the command line: {names}")
    merged = settings | {
        key: [*settings.get(key, []), *value] if isinstance(value, list) else value for key, value in flags.items()
    }
    try:
        config = msgspec.convert({key.replace("_", "-"): value for key, value in merged.items()}, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{file or 'command line'}: {str(exc)[:1].lower()}{str(exc)[1:]}") from None
    if wrong := next(mistakes(config), ""):
        raise ConfigError(wrong)
    return config


def _with_hint(key: str) -> str:
    near = get_close_matches(key.replace("_", "-"), KEYS, 1)
    return f"{key!r} (did you mean {near[0]!r}?)" if near else repr(key)
