"""A container's log: its driver and options, checked as dockerd does, and as the exec driver takes them."""

from __future__ import annotations

import re

from windlass.engine.errors import BadParameter, Unsupported
from windlass.execdriver.driver import LogConfig
from windlass.jobs.container_config import HostConfig

_LOG_OPTIONS = """
    max-size max-file compress labels labels-regex env env-regex tag mode max-buffer-size cache-disabled
    cache-max-size cache-max-file cache-compress
"""
LOG_OPTIONS = frozenset(_LOG_OPTIONS.split())
_SIZE = re.compile(r"([0-9]{1,15})(?:\.[0-9]+)? ?([kmgtp]?)i?b?\Z", re.ASCII | re.IGNORECASE)


def check_log(host: HostConfig) -> None:
    """Check the log driver and its options. Raises BadParameter, Unsupported."""
    kind, options = host.LogConfig.Type, host.LogConfig.Config
    if kind not in ("", "json-file", "none"):
        raise Unsupported(f"the log driver {kind!r} cannot be used yet: json-file and none can", key="LogConfig")
    for name in options:
        if kind == "none" or name not in LOG_OPTIONS:
            raise BadParameter(f"unknown log opt '{name}' for {kind or 'json-file'} log driver", key="LogConfig")
    size, files = _log_limits(options)
    if files > 1 and not size:
        raise BadParameter("max-file cannot be greater than 1 when max-size is not set", key="LogConfig")


def log_config(host: HostConfig, path: str) -> LogConfig:
    """The log as the exec driver takes it."""
    size, files = _log_limits(host.LogConfig.Config)
    return LogConfig("none" if host.LogConfig.Type == "none" else "json-file", path, size, files)


def _log_limits(options: dict[str, str]) -> tuple[int, int]:
    size, files = options.get("max-size", ""), options.get("max-file", "")
    if files and not (files.isascii() and files.isdecimal() and 1 <= int(files) <= 10_000):
        raise BadParameter(f"max-file cannot be {files!r}: it must be a number from 1 to 10000", key="LogConfig")
    return 0 if size in ("", "-1") else parse_size(size), int(files or 1)


def parse_size(text: str, key: str = "LogConfig") -> int:
    """Bytes from `10m`, `1GiB`, `4096`: powers of 1024. Raises BadParameter."""
    match = _SIZE.match(text)
    if match is None:
        raise BadParameter(f"invalid size: '{text}'", key=key)
    return int(match[1]) << (10 * (" kmgtp".index(match[2].lower() or " ")))
