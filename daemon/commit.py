"""`docker commit`: an image of what a container has changed.

A container that runs is suspended meanwhile, unless it was before: then it stays so. One that does not run is kept from
starting.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import msgspec

from windlass.engine import Job
from windlass.jobs.container_config import Config
from windlass.jobs.files import Commit, Committed
from windlass.jobs.images import ImageCommit, ImageName

from .changes import changes_of
from .config import image_config, merge
from .container import Container
from .daemon import Daemon
from .files import kept_from_starting
from .pause import held_still

# What an image says of its containers (OCI image spec, config.md, and Docker's own); the rest is this one's alone.
_KEPT = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "ArgsEscaped", "Healthcheck", "Volumes", "WorkingDir", "Labels",
    "OnBuild", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip


async def commit(daemon: Daemon, job: Job[Commit]) -> Committed:
    """Make an image of a container: of what it has changed, and of its configuration."""
    params = job.params
    container = daemon.containers.get(params.container)
    name = await daemon.engine.call(ImageName(repo=params.repo, tag=params.tag))
    run = _run_config(container, params.config)
    async with AsyncExitStack() as held:
        if not await kept_from_starting(daemon, held, container, "commit") and params.pause:
            await held.enter_async_context(held_still(daemon, container))
        layer = await held.enter_async_context(daemon.graph.diff(container.id, await changes_of(daemon, container)))
        id = await daemon.engine.call(
            ImageCommit(
                parent=container.definition.image_id,
                layer=layer,
                run=run,
                changes=params.changes,
                repo=params.repo,
                tag=params.tag,
                author=params.author,
                comment=params.comment,
                created_by=" ".join(container.config.Cmd or ()),
                container=container.id,
            )
        )
        await daemon.tell(container, "commit", comment=params.comment, imageID=id, imageRef=name)
    return Committed(Id=id)


def _run_config(container: Container, given: dict[str, Any] | None) -> dict[str, Any]:
    """What containers of the image will have: what is given, and the container's own for what is not."""
    base = msgspec.to_builtins(container.config)
    merged: Config = merge(image_config(given or {}), base)
    merged = msgspec.structs.replace(merged, OnBuild=merged.OnBuild or container.config.OnBuild)
    found = msgspec.to_builtins(merged)
    return {key: found[key] for key in _KEPT if found[key]}
