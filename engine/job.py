"""A job: one invocation of a handler, shaped like a Unix process.

It has a name, an env, three streams, a parent and an outcome. It runs once:

    new ──run──▶ running ──▶ done | failed | cancelled

`run` waits for the end and returns what the handler returned. `start` is for services, which go on: it returns when
the handler says `await job.ready()`, as `nursery.start` does. Whoever opens a stream closes it: a job closes nothing
that it was lent.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import msgspec
import trio

from . import params
from .errors import Cancelled, Conflict, DeadlineExceeded, JobError
from .events import Event, Warning
from .signature import Args, Signature, redacted

if TYPE_CHECKING:
    from .engine import Engine

P = TypeVar("P", bound=Signature[Any])
State = Literal["new", "running", "done", "failed", "cancelled"]

current: contextvars.ContextVar[Job[Any] | None] = contextvars.ContextVar("job", default=None)


class Peer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked for a job from outside: credentials of a unix socket, or a client certificate's name."""

    pid: int = 0
    uid: int = -1
    gid: int = -1
    certificate: str = ""
    address: str = ""


class Job(Generic[P]):
    """One invocation of the handler that is called `name` when the job runs.

    `env` holds what was given: values from code or JSON, or text when `lax`. `params` is the same, checked and
    typed; it is there once the handler runs. `outside` marks a job that a stranger asked for: it has no parent and
    is refused while the engine drains.
    """

    __slots__ = (
        "_args", "_began", "_env", "_loop", "_ready_event", "_stopping", "deadline", "engine", "error", "id",
        "ignore_unknown", "lax", "name", "on_event", "on_ready", "params", "parent", "peer", "ready_value", "result",
        "scope", "state", "stderr", "stdin", "stdout", "warnings",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        name: str,
        args: Sequence[Any] = (),
        env: Mapping[str, Any] | None = None,
        *,
        params: P | None = None,
        lax: bool = False,
        ignore_unknown: bool = False,
        outside: bool = False,
        deadline: float = inf,
        peer: Peer | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.id = engine.next_id()
        self.parent = None if outside else current.get()
        self.peer: Peer | None = peer or (self.parent.peer if self.parent else None)
        self.params: P = cast(P, params)
        self.lax = lax
        self.ignore_unknown = ignore_unknown
        self.deadline = deadline
        self.stdin: trio.abc.ReceiveStream | None = None
        self.stdout: trio.abc.SendStream | None = None
        self.stderr: trio.abc.SendStream | None = None
        self.on_event: Callable[[Event], None] | None = None
        self.on_ready: Callable[[Any], Awaitable[None]] | None = None
        self.state: State = "new"
        self.result: Any = None
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.ready_value: Any = None
        self.scope = trio.CancelScope()
        self._args = args
        self._env = env
        self._began = inf
        self._ready_event: trio.Event | None = None
        self._stopping: trio.Event | None = None
        self._loop: trio.lowlevel.TrioToken | None = None

    # -- what the caller does ------------------------------------------------------------------------------------

    async def run(self) -> Any:
        """Run to the end; return what the handler returned.

        Raises JobError: the handler's own, BadParameter for a wrong env, NoSuchJob, Unavailable while the engine
        shuts down, Cancelled, Conflict when the job ran before. An exception that is no JobError comes as Internal.
        """
        return await self.engine.run_job(self)

    async def start(self, nursery: trio.Nursery | None = None) -> Any:
        """Run in `nursery` (default: the engine's own) and return what the handler gave to `ready()`.

        Raises what the handler raises before it is ready. What it raises later ends the nursery, unless that is the
        engine's own: there it is logged, and kept as the job's error. Raises RuntimeError without a nursery.
        """
        return await self.engine.start_job(self, nursery)

    def cancel(self) -> None:
        """Cancel the job, with the children that it waits for. From any thread; more than once is fine."""
        if self._loop is None or _in_loop(self._loop):
            self.scope.cancel()
        else:
            self._loop.run_sync_soon(self.scope.cancel)

    def stop(self) -> None:
        """Ask a service to end: `stopping` fires. A job that does not listen goes on until it is cancelled."""
        self.stopping.set()

    # -- what the handler does -----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Tell the caller something in between. Never blocks; a Warning is also kept in `warnings`."""
        if isinstance(event, Warning):
            self.warnings.append(event.message)
        if self.on_event is not None:
            self.on_event(event)

    async def ready(self, value: Any = None) -> None:
        """Say that the job has begun in earnest: errors after this come late. `start` returns `value`.

        Over HTTP the head of the response goes out before this returns. The second call does nothing.
        """
        if self._ready_event is None:
            self._ready_event = trio.Event()
        if self._ready_event.is_set():
            return
        self.ready_value = value
        self._ready_event.set()
        if self.on_ready is not None:
            await self.on_ready(value)

    @property
    def is_ready(self) -> bool:
        return self._ready_event is not None and self._ready_event.is_set()

    @property
    def stopping(self) -> trio.Event:
        """Fires when a service shall end of its own accord."""
        if self._stopping is None:
            self._stopping = trio.Event()
        return self._stopping

    # -- what everybody may read ---------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, Any]:
        """The env by key, positional arguments bound to the handler's signature where there is one."""
        if self._env is None and self.params is not None:
            return msgspec.structs.asdict(self.params)
        signature = self.engine.signature(self.name)
        if not self._args or signature is None or signature is Args:
            return dict(self._env or {})
        return params.bind(signature, self._args, self._env or {})

    @property
    def shown_env(self) -> dict[str, Any]:
        """`env` for logs: secrets replaced."""
        signature = self.engine.signature(self.name)
        try:
            env = self.env
        except JobError:  # a wrong env is reported where the job runs
            env = dict(self._env or {})
        return redacted(signature, env) if signature else env

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments as given."""
        return tuple(self._args)

    @property
    def age(self) -> float:
        """Seconds since the run began; 0 before it. Only inside the loop."""
        return max(0.0, trio.current_time() - self._began)

    @property
    def exit_status(self) -> int:
        """What a shell would see: 0 done, 127 no such job, 1 any other failure. Derived, never carried."""
        if self.error is None:
            return 0
        return self.error.exit_status if isinstance(self.error, JobError) else 1

    def __str__(self) -> str:
        return f"{self.name}#{self.id}"

    def __repr__(self) -> str:
        return f"<Job {self} {self.state}>"

    # -- for the engine ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.state != "new":
            raise Conflict(f"{self} already ran")
        self.state = "running"
        self._loop = trio.lowlevel.current_trio_token()
        self._began = trio.current_time()
        if self.deadline != inf:
            self.scope.deadline = self._began + self.deadline

    def _build(self, signature: type[P]) -> None:
        """Fill in `params`. Raises BadParameter."""
        if self.params is not None:
            if not isinstance(self.params, signature):
                raise TypeError(f"{self.name} takes {signature.__name__}, not {type(self.params).__name__}")
        elif issubclass(signature, Args):
            self.params = cast(P, Args(args=list(self._args), env=dict(self._env or {})))
        else:
            self.params = params.build(signature, self.env, lax=self.lax, ignore_unknown=self.ignore_unknown)

    def _cancelled(self) -> Cancelled:
        if self.deadline != inf and trio.current_time() >= self._began + self.deadline:
            return DeadlineExceeded(f"{self} passed its deadline of {self.deadline:g} s")
        return Cancelled(f"{self} was cancelled")


def _in_loop(token: trio.lowlevel.TrioToken) -> bool:
    try:
        return trio.lowlevel.current_trio_token() is token
    except RuntimeError:
        return False
