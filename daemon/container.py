"""One container: what it is made from, how its last run ended, and what goes on with it now.

`Definition` and `Outcome` are durable; everything else in a `Container` can be found again on the host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import trio

from windlass.execdriver.driver import Attached, Exit, Running, Session
from windlass.jobs.container_config import Config, HostConfig, NetworkingConfig
from windlass.jobs.container_views import Health
from windlass.jobs.networks import Link, Sandbox
from windlass.jobs.supervision import Verdict

from .lifecycle import Lifecycle, State, Step
from .points import Point

if TYPE_CHECKING:
    from .exec import Exec
    from .sampler import Sampler


LOST = 137  # exit code of a run whose supervisor is gone without a word
HOST_WENT_DOWN = 255  # exit code of a run that a reboot ended, as dockerd says it


class Definition(msgspec.Struct, frozen=True):
    """What a container was created as. `config` is the image's and the request's, merged; times in nanoseconds."""

    id: str
    name: str
    created_ns: int
    image_id: str
    layer: str | None
    config: Config
    host: HostConfig
    networking: NetworkingConfig
    graph_driver: str
    mounts: tuple[Point, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """How the last run went. Times in nanoseconds since the epoch, 0 for never; `error` is why a start failed.

    `restarts` counts the starts since a client started it, `delay` is the seconds before the last of them, and `is_due`
    says that this one has yet to come. `stopped`: a client wants it stopped. `health` is None without health checks.
    """

    has_run: bool = False
    code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restarts: int = 0
    delay: float = 0.0
    is_due: bool = False
    stopped: bool = False
    health: Health | None = None


class Notice:
    """Wakes everybody who waits for a change, as often as there are changes."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def give(self) -> None:
        self._event.set()
        self._event = trio.Event()

    @property
    def next(self) -> trio.Event:
        """The next change: for who hands the waiting to another task, and must not miss one until that has begun."""
        return self._event

    async def wait(self) -> None:
        await self._event.wait()


@dataclass(eq=False)
class Client:
    """A client that attached before the start: its session is handed to the driver with the Command.

    `attached` stays None when the start failed or the container was removed.
    """

    session: Session
    attached: Attached | None = None
    settled: trio.Event = field(default_factory=trio.Event)

    def settle(self, attached: Attached | None = None) -> None:
        self.attached = attached
        self.settled.set()


class Container:
    """A container as the daemon has it in memory.

    `lock` is held over steps that take several awaits: start, clean-up, remove, rename. State changes happen between
    two awaits, and `changed` tells of each. `exits` counts the ends that waiters can see.
    """

    def __init__(self, definition: Definition, outcome: Outcome) -> None:
        self.definition = definition
        self.outcome = outcome
        self.life = Lifecycle(State.EXITED if outcome.has_run else State.CREATED)
        self.lock = trio.Lock()
        self.signalling = trio.Lock()  # held from a signal to its event, so that `kill` is told before `die`
        self.changed = Notice()
        self.running: Running | None = None
        self.sandbox: Sandbox | None = None  # what a run has of the network, where that subsystem made its namespace
        self.opened: list[Link] = []  # what its links on the default bridge let through
        self.exits = 0
        self.survives_its_end = False  # a client restarts it: neither `--rm` nor its policy waits for this end
        self.comes_back: Verdict | None = None  # it is being stopped in order to be started again
        self.is_settled = True  # False from a start until its end is durable and the driver has forgotten it
        self.clients: list[Client] = []
        self.sampler: Sampler | None = None  # while somebody reads what it uses
        self.execs: dict[str, Exec] = {}

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def config(self) -> Config:
        return self.definition.config

    @property
    def host(self) -> HostConfig:
        return self.definition.host

    @property
    def is_running(self) -> bool:
        """True for a paused one, too, and, as in Docker, for one that is about to be started again."""
        return self.life.state in (State.RUNNING, State.PAUSED, State.RESTARTING)

    @property
    def is_paused(self) -> bool:
        return self.life.state is State.PAUSED

    @property
    def is_restarting(self) -> bool:
        """True while it does not run, but will be started again."""
        return self.life.state is State.RESTARTING

    @property
    def is_gone(self) -> bool:
        return self.life.state is State.GONE

    def rename(self, name: str) -> None:
        self.definition = msgspec.structs.replace(self.definition, name=name)

    def note_exit(self, end: Exit) -> None:
        """Keep how the run ended; the state follows by `life`."""
        self.outcome = msgspec.structs.replace(
            self.outcome, code=end.code, oom_killed=end.oom_killed, finished_ns=end.time_ns, error="", is_due=False
        )
        self.exits += 1
        self.running = None

    def note_restart(self, delay: float) -> None:
        """Count one more start that no client has asked for, to come after `delay` seconds."""
        restarts = self.outcome.restarts + 1
        self.outcome = msgspec.structs.replace(self.outcome, restarts=restarts, delay=delay, is_due=True)
        self.life.advance(Step.AGAIN)

    def note_end_of_restarts(self) -> None:
        """It will not be started again: its last end is the one that waiters wait for."""
        self.outcome = msgspec.structs.replace(self.outcome, is_due=False)
        self.life.advance(Step.ENDED)
        self.exits += 1
        self.changed.give()

    def settle_clients(self, attached: list[Attached] | None = None) -> None:
        """Tell the clients that attached early how it went; without `attached` they go away."""
        clients, self.clients = self.clients, []
        for number, client in enumerate(clients):
            client.settle(attached[number] if attached else None)
