"""What is done once after a run, under the container's lock, by whoever comes first: a monitor, a start, a removal."""

from __future__ import annotations

import trio

from .container import Container
from .daemon import Daemon
from .volumes import unmount_volumes


async def settle(daemon: Daemon, container: Container) -> None:
    """Make the end of the last run durable and let the driver forget it, once. The lock is held."""
    if container.is_settled:
        return
    with trio.CancelScope(shield=True):
        await daemon.store.save_outcome(container.id, container.outcome)
        await forget(daemon, container)


async def forget(daemon: Daemon, container: Container) -> None:
    """Let the driver and the exec root forget a run that has ended."""
    await daemon.driver.destroy(container.id)
    await unmount_volumes(daemon, container)
    await daemon.store.forget_run(container.id)
    container.is_settled = True
