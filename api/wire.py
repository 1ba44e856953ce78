"""Docker's spellings on the wire, where they are not the job's own, and where API versions differ."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from windlass.engine import Aux, Output, Progress, Warning
from windlass.engine.events import Event
from windlass.jobs.container_config import Config

from .head import Version

STREAM = "stream"  # a content type that is known when the job is ready: see `stream_type`
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def has_tty(ready: Any) -> bool:
    """What a job that streams said at `ready`: True when its bytes come from a terminal, without frames."""
    if isinstance(ready, dict):
        return bool(ready.get("Tty") or ready.get("tty"))
    return bool(getattr(ready, "Tty", False) or getattr(ready, "tty", False))


def stream_type(version: Version, tty: bool) -> str:
    """The content type of a container's output: since 1.42 it tells whether there are frames."""
    return MULTIPLEXED if not tty and version >= (1, 42) else RAW


def status(result: Any, version: Version) -> Any:
    """A result as the last line of a stream of progress: an id, as `docker import` prints it."""
    if result is None:
        return None
    text = result if isinstance(result, str) else getattr(result, "Id", None) or getattr(result, "id", None)
    return {"status": text} if text else None


def image(result: Any, version: Version) -> Any:
    """An image, with the configuration of the container that it was made from: none of ours was.

    Docker leaves it out from 1.45 on, and Compose 1.29, which asks for our newest version, fails without it.
    """
    shown = msgspec.to_builtins(result)
    if not isinstance(shown, dict):
        return shown
    if version >= (1, 44):
        shown.pop("VirtualSize", None)
    return shown | {"ContainerConfig": Config()}


def images(result: Any, version: Version) -> Any:
    """A list of images: VirtualSize was left out in 1.44, the `<none>` of an image without names in 1.43."""
    shown = msgspec.to_builtins(result)
    for each in shown if isinstance(shown, list) else ():
        if version >= (1, 44):
            each.pop("VirtualSize", None)
        if version < (1, 43) and not each["RepoTags"] and not each["RepoDigests"]:
            each |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    return shown


def path_stat(result: Any) -> list[tuple[str, str]]:
    """What is at a path of a container, as the header that `docker cp` reads."""
    return [("X-Docker-Container-Path-Stat", base64.b64encode(msgspec.json.encode(result)).decode())]


def disk_usage(result: Any, version: Version) -> Any:
    """What takes disk space: below 1.42 the build cache's size is a number of its own."""
    shown = msgspec.to_builtins(result)
    if not isinstance(shown, dict):
        return shown
    builder = {"BuilderSize": 0} if version < (1, 42) else {}
    return shown | {"Images": images(shown.get("Images"), version)} | builder


def line(event: Event) -> bytes | None:
    """An event as a line of a stream of progress (`pkg/jsonmessage` of moby)."""
    if isinstance(event, Progress):
        message: dict[str, Any] = {"status": event.status}
        if event.current or event.total or event.id:
            message["progressDetail"] = _detail(event)
        if event.current or event.total:
            message["progress"] = _bar(event)
        if event.id:
            message["id"] = event.id
    elif isinstance(event, Output):
        message = {"stream": event.stream}
    elif isinstance(event, Aux):
        message = {"aux": event.value}
    elif isinstance(event, Warning):
        message = {"status": f"WARNING: {event.message}"}
    else:
        return None
    return msgspec.json.encode(message) + b"\r\n"


def _detail(event: Progress) -> dict[str, Any]:
    detail: dict[str, Any] = {}
    if event.current:
        detail["current"] = event.current
    if event.total:
        detail["total"] = event.total
    if event.units:
        detail["units"] = event.units
    return detail


def _bar(event: Progress) -> str:
    """The bar that old clients print as it is."""
    if event.units:
        amount = f"{event.current}/{event.total} {event.units}" if event.total else f"{event.current} {event.units}"
    else:
        amount = f"{_size(event.current)}/{_size(event.total)}" if event.total else _size(event.current)
    if not event.total:
        return amount.rjust(8)
    done = min(50, event.current * 50 // event.total)
    return f"[{'=' * done}{'>' if done < 50 else ''}{' ' * (49 - done)}]  {amount}"


def _size(count: float) -> str:
    """Bytes as Docker's progress bars have them: four digits, decimal units."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.4g}{_UNITS[unit]}"
