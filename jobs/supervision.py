"""Supervision: what becomes of a container that has ended, is unhealthy, or was found ended at the daemon's start.

`supervise` decides, and the daemon acts upon its verdict. A plugin may register another handler in its place, or wrap
it; while it fails or does not answer, the daemon's own rule holds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

from . import container_config

Why = Literal["exit", "unhealthy", "daemon-start"]


class Verdict(msgspec.Struct, frozen=True):
    """What to do. `stop` and `kill` are for a container that runs; `restart` waits for `delay` where it does not."""

    action: Literal["nothing", "restart", "stop", "kill"] = "nothing"
    delay: Annotated[float, Meta(description="Seconds until it is started again.")] = 0.0
    gives_up: Annotated[bool, Meta(description="It would be started again, had that not failed too often.")] = False


class Supervise(Signature[Verdict], frozen=True):
    """Decide what becomes of a container. Not asked when a client has stopped it, but for `daemon-start`."""

    NAME: ClassVar[str] = "supervise"
    READONLY: ClassVar[bool] = True
    id: Annotated[str, Meta(description="Full id of the container.")]
    name: Annotated[str, Meta(description="Its name.")]
    why: Annotated[Why, Meta(description="`daemon-start`: it does not run, and the daemon has just come up.")]
    policy: container_config.RestartRule = container_config.RestartRule()
    exit_code: int = 0
    oom_killed: bool = False
    ran: Annotated[float, Meta(description="Seconds that the last run has lasted.")] = 0.0
    restarts: Annotated[int, Meta(description="How often it was started again since a client started it.")] = 0
    last_delay: Annotated[float, Meta(description="Seconds that the last restart was delayed; 0: none was.")] = 0.0
    stopped: Annotated[bool, Meta(description="A client has stopped it.")] = False
    labels: dict[str, str] = {}


class ContainersRestore(Signature[None], frozen=True):
    """Start the containers whose policy says so, in the order of their conditions; returns when all are known.

    Run once, when the daemon has come up and the plugins are there.
    """

    NAME: ClassVar[str] = "containers_restore"
    LOCAL: ClassVar[bool] = True
