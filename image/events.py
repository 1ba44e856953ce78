"""What happens to images, told through the job `log` where there is one."""

from __future__ import annotations

from typing import Any

from windlass.engine import Job
from windlass.jobs.events import Log


async def tell(job: Job[Any], action: str, id: str, name: str = "") -> None:
    """Tell that `action` happened to image `id`."""
    if job.engine.signature(Log.NAME) is not None:
        await job.engine.call(Log(action=action, id=id, type="image", attributes={"name": name or id}))


async def tell_pruned(job: Job[Any], reclaimed: int) -> None:
    """Tell that images were pruned; `reclaimed` in bytes."""
    if job.engine.signature(Log.NAME) is not None:
        await job.engine.call(Log(action="prune", id="", type="image", attributes={"reclaimed": str(reclaimed)}))
