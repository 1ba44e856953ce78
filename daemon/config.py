"""Makes one configuration of what the image says and what the request says (moby: daemon/commit.go `merge`).

The request wins; environment, labels and exposed ports are joined. An entry point of the request takes the image's
command away; an entry point of one empty word takes the image's entry point away.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import Config, HealthConfig
from windlass.jobs.containers import Create
from windlass.lib import duration

from .signals import parse_signal

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOSTNAME_MAX = 63
SHORTEST = 10**6  # nanoseconds that a time of a health check may have


def requested(params: Create) -> Config:
    """Take the Config out of a create request. Raises BadParameter."""
    values = {name: getattr(params, name) for name in Config.__struct_fields__}
    for key in ("Cmd", "Entrypoint"):
        if isinstance(values[key], str):
            values[key] = [values[key]]
    config = Config(**values)
    _check(config)
    return config


def merge(config: Config, image: Mapping[str, Any]) -> Config:
    """Join the request's `config` with the image's, as its JSON has it. Raises BadParameter without a command."""
    base = image_config(image)
    command, entrypoint = config.Cmd, config.Entrypoint
    if not entrypoint:
        command = command or base.Cmd
        if entrypoint is None:
            entrypoint = base.Entrypoint
    if entrypoint == [""]:
        entrypoint = None
    if not entrypoint and not command:
        raise BadParameter("no command specified", key="Cmd")
    return msgspec.structs.replace(
        config,
        Cmd=command,
        Entrypoint=entrypoint,
        User=config.User or base.User,
        Env=join_env(base.Env or [], config.Env or []),
        WorkingDir=config.WorkingDir or base.WorkingDir,
        ExposedPorts=(base.ExposedPorts or {}) | (config.ExposedPorts or {}) or None,
        Volumes=(base.Volumes or {}) | (config.Volumes or {}) or None,
        Labels=base.Labels | config.Labels,
        StopSignal=config.StopSignal or base.StopSignal,
        StopTimeout=base.StopTimeout if config.StopTimeout is None else config.StopTimeout,
        Healthcheck=_join_health(config.Healthcheck, base.Healthcheck),
        Shell=config.Shell or base.Shell,
    )


def _join_health(config: HealthConfig | None, base: HealthConfig | None) -> HealthConfig | None:
    """The request's health check, with the image's in place of what it does not say."""
    if config is None or base is None:
        return config or base
    given = {key: value for key in HealthConfig.__struct_fields__ if (value := getattr(config, key))}
    return msgspec.structs.replace(base, **given)


def image_config(image: Mapping[str, Any]) -> Config:
    """Read an image's configuration; keys that are null or of another type are as if they were not there.

    An image comes from anybody: it must not make create fail in a way that nobody understands.
    """
    values = {}
    for name in Config.__struct_fields__:
        try:
            values[name] = msgspec.convert(_keys_kept(name, image[name]), _TYPES[name])
        except (KeyError, msgspec.ValidationError):
            continue
    return Config(**values)


def _keys_kept(name: str, value: Any) -> Any:
    """Sets are written as objects, whose values may be anything: only the keys count."""
    return dict.fromkeys(value, {}) if name in ("Volumes", "ExposedPorts") and isinstance(value, dict) else value


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Config)}


def join_env(base: Iterable[str], added: Iterable[str]) -> list[str]:
    """Lay `added` over `base`: KEY=VALUE replaces where it stands, KEY alone takes the key away."""
    result = {entry.partition("=")[0]: entry for entry in base}
    for entry in added:
        key, equals, _ = entry.partition("=")
        if equals:
            result[key] = entry
        else:
            result.pop(key, None)
    return list(result.values())


def environment(
    config: Config, hostname: str, tty: bool, home: str, added: Iterable[str] = (), linked: Iterable[str] = ()
) -> tuple[str, ...]:
    """The environment: the engine's entries, links', the container's, `added`, and HOME where nobody gave it."""
    own = [PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if tty else []), *linked]
    env = join_env(join_env(own, config.Env or []), added)
    if not any(entry.startswith("HOME=") for entry in env):
        env.append(f"HOME={home}")
    return tuple(env)


def command_line(config: Config) -> tuple[str, ...]:
    """Program and arguments."""
    return (*(config.Entrypoint or ()), *(config.Cmd or ()))


def working_directory(config: Config) -> str:
    return posixpath.normpath(config.WorkingDir) if config.WorkingDir else "/"


def _check(config: Config) -> None:
    if config.WorkingDir and not config.WorkingDir.startswith("/"):
        raise BadParameter(
            f"the working directory '{config.WorkingDir}' is invalid, it needs to be an absolute path",
            key="WorkingDir",
        )
    for entry in config.Env or ():
        if not entry.partition("=")[0]:
            raise BadParameter(f"invalid environment variable: {entry}", key="Env")
    _check_health(config.Healthcheck or HealthConfig())
    if config.StopSignal:
        parse_signal(config.StopSignal)
    for key in ("Hostname", "Domainname"):
        if "\0" in getattr(config, key) or len(getattr(config, key).encode()) > _HOSTNAME_MAX:
            raise BadParameter(f"invalid {key}: longer than {_HOSTNAME_MAX} bytes, or with a NUL", key=key)
    words = [*(config.Env or ()), *(config.Cmd or ()), *(config.Entrypoint or ()), config.WorkingDir, config.User]
    if any("\0" in word for word in words):
        raise BadParameter("a NUL byte cannot be in a command, an environment, a user or a working directory")


def _check_health(health: HealthConfig) -> None:
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if getattr(health, key) and getattr(health, key) < SHORTEST:
            raise BadParameter(f"{key} in Healthcheck cannot be less than {duration.text(SHORTEST)}", key=key)
    if health.Retries < 0:
        raise BadParameter("Retries in Healthcheck cannot be negative", key="Retries")
    if any("\0" in word for word in health.Test):
        raise BadParameter("a NUL byte cannot be in a health check", key="Healthcheck")
