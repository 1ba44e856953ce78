"""What inspect and list both show: times, status texts, networks, sizes."""

from __future__ import annotations

import os
import stat
import time

import trio

from windlass.graphdriver.driver import Driver as GraphDriver
from windlass.jobs.container_config import EndpointSettings
from windlass.jobs.container_views import NEVER, Health
from windlass.lib import timestamp
from windlass.lib.rootfs import Overlay, RootFS

from .container import Container
from .endpoints import endpoints
from .lifecycle import State


def shown_time(nanoseconds: int) -> str:
    return timestamp.text(nanoseconds) if nanoseconds else NEVER


def duration_text(seconds: float) -> str:
    """`3 seconds`, `About a minute`, `2 weeks`: how long, for people (go-units: HumanDuration)."""
    whole, minutes, hours = int(seconds), int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 2:
        return "1 second" if whole == 1 else "Less than a second"
    if minutes < 2:
        return "About a minute" if minutes else f"{whole} seconds"
    if minutes < 60 or hours < 2:
        return "About an hour" if minutes >= 60 else f"{minutes} minutes"
    for limit, length, name in (
        (48, 1, "hours"),
        (14 * 24, 24, "days"),
        (60 * 24, 168, "weeks"),
        (17520, 720, "months"),
    ):
        if hours < limit:
            return f"{hours // length} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def status_text(container: Container) -> str:
    """`Up 3 seconds`, `Exited (0) 2 minutes ago`, `Created`."""
    outcome, now = container.outcome, time.time_ns()
    match container.life.state:
        case State.RUNNING:
            return f"Up {duration_text((now - outcome.started_ns) / 1e9)}{_health_text(outcome.health)}"
        case State.PAUSED:
            return f"Up {duration_text((now - outcome.started_ns) / 1e9)} (Paused)"
        case State.RESTARTING:
            return f"Restarting ({outcome.code}) {duration_text((now - outcome.finished_ns) / 1e9)} ago"
        case State.EXITED:
            return f"Exited ({outcome.code}) {duration_text((now - outcome.finished_ns) / 1e9)} ago"
        case State.REMOVING:
            return "Removal In Progress"
        case State.DEAD:
            return "Dead"
        case _:
            return "Created"


def _health_text(health: Health | None) -> str:
    if health is None:
        return ""
    return f" (health: {health.Status})" if health.Status == "starting" else f" ({health.Status})"


def networks(container: Container) -> dict[str, EndpointSettings]:
    """The networks that a container is in: what it has of them while it runs, what it asks for else."""
    if container.config.NetworkDisabled:
        return {}
    return dict(container.sandbox.endpoints) if container.sandbox else endpoints(container)


async def sizes(graph: GraphDriver, container: Container) -> tuple[int, int]:
    """Bytes that the container has written, and bytes of its whole root, as `du -b` counts files."""
    rootfs = await graph.rootfs(container.id)
    if isinstance(rootfs, Overlay):
        return await trio.to_thread.run_sync(_overlay_sizes, rootfs)
    changed = [change.path for change in await graph.changes(container.id) if change.kind != 2]
    return await trio.to_thread.run_sync(_folder_sizes, rootfs, changed)


def _overlay_sizes(rootfs: Overlay) -> tuple[int, int]:
    upper = _tree_size(rootfs.upper)
    return upper, upper + sum(_tree_size(lower) for lower in rootfs.lower)


def _folder_sizes(rootfs: RootFS, changed: list[str]) -> tuple[int, int]:
    assert not isinstance(rootfs, Overlay)
    return sum(_file_size(rootfs.path + path) for path in changed), _tree_size(rootfs.path)


def _tree_size(folder: str) -> int:
    return sum(
        _file_size(f"{parent}/{name}") for parent, _, names in os.walk(folder, followlinks=False) for name in names
    )


def _file_size(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) else 0
