"""`windlass daemon`: from flags and files to a running daemon."""

from __future__ import annotations

import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any

from .flags import UsageError
from .options import NOT_CONFIG

USAGE_STATUS = 2


def run(values: dict[str, Any]) -> int:
    """Run a daemon that was told `values` on the command line; return its exit status."""
    from windlass.lib import config, log

    given = {key: value for key, value in values.items() if key not in NOT_CONFIG}
    if pools := given.get("default_address_pools"):
        given["default_address_pools"] = [_pool(text) for text in pools]
    if mirrors := given.get("mirrors"):
        given["mirrors"] = _mirrors(mirrors)
    if ulimits := given.get("default_ulimits"):
        given["default_ulimits"] = dict(_ulimit(text) for text in ulimits)
    try:
        settings = config.make(given, _file(values))
        log.set_up("debug" if settings.debug else settings.log_level)
    except (config.ConfigError, OSError, ValueError) as exc:
        print(f"windlass: {exc}", file=sys.stderr)
        return USAGE_STATUS
    if os.geteuid() != 0:
        print("windlass: the daemon needs to be run as root", file=sys.stderr)
        return 1
    return serve(settings)


def serve(settings: Any) -> int:
    """Run the daemon that `settings` describe, in this process."""
    gc.disable()
    from windlass.builtins import run_daemon

    # All of this stays: looking for garbage in it, now and in every later collection, is time wasted.
    gc.freeze()
    gc.enable()
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return run_daemon(settings)


def _pool(text: str) -> dict[str, str | int]:
    """`base=CIDR,size=N` as the configuration file has it. Raises UsageError."""
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    if set(parts) != {"base", "size"} or not parts["size"].isdecimal():
        raise UsageError(f'invalid argument "{text}" for "--default-address-pool" flag: it is base=CIDR,size=N')
    return {"base": parts["base"], "size": int(parts["size"])}


def _mirrors(texts: list[str]) -> dict[str, list[str]]:
    """`HOST=URL` of each as the configuration file has them, by host. Raises UsageError."""
    found: dict[str, list[str]] = {}
    for text in texts:
        host, equals, url = text.partition("=")
        if not host or not equals or "/" in host:
            raise UsageError(f'invalid argument "{text}" for "--mirror" flag: it is HOST[:PORT]=URL')
        found.setdefault(host, []).append(url)
    return found


def _ulimit(text: str) -> tuple[str, dict[str, str | int]]:
    """`NAME=SOFT[:HARD]` as the configuration file has it. Raises UsageError."""
    name, _, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        return name, {"Name": name, "Soft": int(soft), "Hard": int(hard if colon else soft)}
    except ValueError:
        raise UsageError(f'invalid argument "{text}" for "--default-ulimit" flag: it is NAME=SOFT[:HARD]') from None


def _file(values: dict[str, Any]) -> Path | None:
    """The configuration file that was named, or the first of the default ones that is there."""
    from windlass.lib.config import DEFAULT_FILES

    if "config_file" in values:
        if not values["config_file"]:
            raise UsageError("flag needs an argument: --config-file")
        return Path(values["config_file"])
    return next((path for path in DEFAULT_FILES if path.exists()), None)
