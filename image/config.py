"""An image's configuration: made for an import, checked when a stranger brings it.

Source: OCI image spec, config.md.
"""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from windlass.engine.errors import BadParameter

_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
LAYERS_MAX = 125  # moby's limit; overlayfs below Linux 6.5 takes about as many in one mount
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def host_architecture() -> str:
    """This host's architecture, as Go and so Docker names it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def now() -> str:
    """The time now, RFC 3339 with nanoseconds as Docker writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def platform_of(text: str) -> tuple[str, str]:
    """Architecture and variant of `OS[/ARCH[/VARIANT]]`; the host's when it is empty. Raises BadParameter."""
    os, _, rest = text.lower().partition("/")
    architecture, _, variant = rest.partition("/")
    if os not in ("", "linux"):
        raise BadParameter(f'operating system "{os:.40}" is not supported', key="platform")
    if not re.fullmatch("[a-z0-9_.-]*", architecture + variant, re.ASCII):
        raise BadParameter(f'"{text:.100}" is an invalid platform', key="platform")
    return ARCHITECTURES.get(architecture, architecture) or host_architecture(), variant


def make(diff_ids: list[str], run: dict[str, Any], *, architecture: str, variant: str, comment: str) -> bytes:
    """The configuration of a new image, as the bytes that its id is the digest of."""
    created = now()
    return msgspec.json.encode(
        {
            "architecture": architecture,
            **({"variant": variant} if variant else {}),
            "os": "linux",
            "created": created,
            "comment": comment,
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": created, "comment": comment}],
        }
    )


def check(config: Any) -> list[str]:
    """The diff ids of a configuration from outside. Raises BadParameter saying what is wrong with it."""
    if not isinstance(config, dict):
        raise BadParameter("invalid image: its configuration is no JSON object")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(d, str) and _DIFF_ID.match(d) for d in diff_ids):
        raise BadParameter("invalid image: its configuration lists no diff_ids, or malformed ones")
    if len(diff_ids) > LAYERS_MAX:
        raise BadParameter(f"max depth exceeded: an image may have {LAYERS_MAX} layers, not {len(diff_ids)}")
    texts = ("os", "architecture", "variant", "created", "author", "comment", "docker_version")
    for key, kind in (("config", dict), ("history", list), *((key, str) for key in texts)):
        if config.get(key) is not None and not isinstance(config[key], kind):
            raise BadParameter(f"invalid image: {key} in its configuration is of the wrong type")
    if config.get("os") not in (None, "", "linux"):
        raise BadParameter(f"invalid image: it is for {config['os']}, not for linux")
    check_run(config.get("config") or {})
    return diff_ids


def check_run(run: dict[str, Any]) -> dict[str, Any]:
    """Return `run`, what an image says about its containers. Raises BadParameter when a key is of another type."""
    lists, texts = ("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"), ("User", "WorkingDir", "StopSignal")
    for key in lists:
        if run.get(key) is not None and not _is_list_of_text(run[key]):
            raise BadParameter(f"invalid image: {key} in its configuration is no list of strings")
    for key in texts:
        if run.get(key) is not None and (not isinstance(run[key], str) or "\0" in run[key]):
            raise BadParameter(f"invalid image: {key} in its configuration is no string")
    for key in ("Labels", "Volumes", "ExposedPorts"):
        if run.get(key) is not None and not isinstance(run[key], dict):
            raise BadParameter(f"invalid image: {key} in its configuration is no object")
    if not all(isinstance(value, str) for value in (run.get("Labels") or {}).values()):
        raise BadParameter("invalid image: a label in its configuration is no string")
    return run


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and "\0" not in item for item in value)
