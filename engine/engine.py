"""The engine: names, handlers, and the jobs that run them. It knows no subsystem and no transport.

One path leads to every handler, whoever calls:

    job.run() ─▶ wrappers, outermost registered last ─▶ env checked against the signature ─▶ handler

The handler is looked up when the job runs, so a job may be made before its handler is there. Signature errors arise
inside the wrappers: an audit sees rejected attempts too. `shutdown.py` ends it all in order.
"""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, TypeVar

import trio

from . import introspect
from .errors import Conflict, Internal, JobError, NoSuchJob, Unavailable
from .job import Job, P, current
from .parse import split
from .shutdown import Hook, Shutdown, ShutdownReport
from .signature import Args, Signature, result_type

R = TypeVar("R")
Handler = Callable[[Job[Any]], Awaitable[Any]]
Wrapper = Callable[[Job[Any], Handler], Awaitable[Any]]

logger = logging.getLogger("windlass.engine")


class Engine:
    """A table of handlers by name. `async with Engine()` gives it a nursery for its services; its end shuts it down.

    Several engines may live in one process; nothing is shared between them. Only the loop's thread may touch one,
    but for `Job.cancel`.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[Handler, type[Signature[Any]]]] = {}
        self._wrappers: list[tuple[str, Wrapper]] = []
        self._chains: dict[str, Handler] = {}  # name -> wrapped call; emptied whenever the tables change
        self._provided: defaultdict[str, list[Any]] = defaultdict(list)
        self._ids = count(1)
        self.catchall: Handler | None = None
        self.running: OrderedDict[int, Job[Any]] = OrderedDict()
        self.services: list[Job[Any]] = []
        self.nursery: trio.Nursery | None = None
        self._shutdown = Shutdown(self)
        introspect.install(self)

    # -- handlers ------------------------------------------------------------------------------------------------

    def register(self, name: str, handler: Handler) -> None:
        """Bind `name` to `handler`, once.

        `Job[Stop]` in the handler's annotations makes Stop the job's signature; without it anything is taken.
        Raises Conflict when the name is taken, ValueError for an empty name, TypeError when the handler is no
        coroutine function or promises another result than its signature.
        """
        if not name or name != name.strip():
            raise ValueError(f"a job's name must not be empty or padded: {name!r}")
        if name in self._handlers:
            raise Conflict(f"{name} is already registered")
        self._handlers[name] = handler, _signature(name, handler)
        self._chains.clear()

    def unregister(self, name: str) -> Handler:
        """Take the handler away and return it. Jobs that run already go on. Raises NoSuchJob."""
        if name not in self._handlers:
            raise NoSuchJob(f"no such job: {name}")
        self._chains.clear()
        return self._handlers.pop(name)[0]

    def around(self, pattern: str, wrapper: Wrapper) -> None:
        """Wrap every job whose name matches the shell `pattern`; the wrapper registered last is outermost.

        A wrapper is `async def audit(job, call)`: it may refuse by raising, change the env, or `await call(job)`.
        """
        self._wrappers.append((pattern, wrapper))
        self._chains.clear()

    def provide(self, kind: str, value: Any) -> None:
        """Offer `value` to whoever asks for `kind`: a route, a network, volume, log, graph or exec driver."""
        self._provided[kind].append(value)

    def provided(self, kind: str) -> tuple[Any, ...]:
        """What has been offered under `kind`, in order."""
        return tuple(self._provided[kind])

    def names(self) -> list[str]:
        """The names of all registered jobs, sorted."""
        return sorted(self._handlers)

    def signature(self, name: str) -> type[Signature[Any]] | None:
        """The signature of job `name`; None when there is no such job, Args when it declares none."""
        entry = self._handlers.get(name)
        return entry[1] if entry else None

    def handler(self, name: str) -> Handler:
        """The handler of job `name`, wrappers apart. Raises NoSuchJob."""
        if name not in self._handlers:
            raise NoSuchJob(f"no such job: {name}")
        return self._handlers[name][0]

    # -- jobs ----------------------------------------------------------------------------------------------------

    def job(self, name: str, /, *args: Any, **env: Any) -> Job[Any]:
        """Make a job; it never fails here. Positional `args` fill the signature's fields in order, when it runs."""
        return Job(self, name, args, env)

    def parse_job(self, text: str) -> Job[Any]:
        """Make a job from one line of text, `VERBOSE=1 create --name web …`, with a shell's quoting.

        A word KEY=VALUE is an env entry wherever it stands, until a word `--` ends that. Raises BadParameter on an
        empty line or an open quote.
        """
        name, args, env = split(text)
        return Job(self, name, args, env, lax=True)

    async def call(self, params: Signature[R]) -> R:
        """Run the job that `params` is the signature of, and return its result, typed."""
        result: R = await self.run_job(Job(self, params.NAME, params=params))
        return result

    def next_id(self) -> int:
        return next(self._ids)

    async def run_job(self, job: Job[Any]) -> Any:
        """Run `job` to its end in this task; see `Job.run`."""
        job._begin()
        self._admit(job)
        self.running[job.id] = job
        token = current.set(job)
        try:
            with job.scope:
                call = self._chains.get(job.name) or self._chain(job.name)
                job.result = await call(job)
                job.state = "done"
                return job.result
            raise job._cancelled()
        except BaseException as exc:
            job.error = error = _as_raised(job, exc)
            job.state = "cancelled" if isinstance(error, trio.Cancelled) or job.scope.cancelled_caught else "failed"
            if error is exc:
                raise
            raise error from exc
        finally:
            current.reset(token)
            del self.running[job.id]
            self._shutdown.job_ended()

    async def start_job(self, job: Job[Any], nursery: trio.Nursery | None = None) -> Any:
        """Run `job` in `nursery` until it is ready; see `Job.start`."""
        where = nursery or self.nursery
        if where is None:
            raise RuntimeError("the engine has no nursery: use `async with Engine()`, or pass one")
        own = where is self.nursery
        return await where.start(self._serve, job, own)

    async def _serve(self, job: Job[Any], own: bool, task_status: trio.TaskStatus[Any]) -> None:
        started = False
        previous = job.on_ready

        async def on_ready(value: Any) -> None:
            nonlocal started
            if previous is not None:
                await previous(value)
            started = True
            self.services.append(job)
            task_status.started(value)

        job.on_ready = on_ready
        try:
            result = await self.run_job(job)
            if not started:
                task_status.started(result)
        except JobError as exc:
            if not started or not own:
                raise
            if job.state == "failed":
                logger.error("service %s failed: %s", job, exc)
        finally:
            if job in self.services:
                self.services.remove(job)

    def _admit(self, job: Job[Any]) -> None:
        if self._shutdown.refuses(job):
            job.state, job.error = "failed", Unavailable("the engine is shutting down")
            raise job.error

    def _chain(self, name: str) -> Handler:
        handler, signature = self._handlers.get(name) or (self.catchall, Args)
        if handler is None or not name:
            return self._wrap(name, _no_such_job)
        chain = self._wrap(name, functools.partial(_invoke, handler, signature))
        if name in self._handlers:
            self._chains[name] = chain
        return chain

    def _wrap(self, name: str, call: Handler) -> Handler:
        for pattern, wrapper in self._wrappers:
            if fnmatchcase(name, pattern):
                call = functools.partial(_wrapped, wrapper, call)
        return call

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        self._manager = trio.open_nursery()
        self.nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> bool | None:
        try:
            with trio.CancelScope(shield=True):
                await self.shutdown()
        finally:
            assert self.nursery is not None
            self.nursery.cancel_scope.cancel()
            self.nursery = None
            swallowed = await self._manager.__aexit__(*exc)
        return swallowed

    @property
    def is_closing(self) -> bool:
        """True as soon as a shutdown has begun."""
        return self._shutdown.begun

    def on_shutdown(self, hook: Hook, *, name: str = "", timeout: float = 10.0) -> None:
        """Call `hook` at shutdown, after the jobs have ended: hooks run in reverse order, each for `timeout` s at
        most, and may run jobs. One added after they ran never runs.
        """
        self._shutdown.add(hook, name or getattr(hook, "__qualname__", repr(hook)), timeout)

    async def shutdown(self, grace: float = 10.0) -> ShutdownReport:
        """End the engine in phases; see `shutdown.py`. A second caller waits for the same report."""
        return await self._shutdown.run(grace)


def install_all(engine: Engine, installers: Iterable[Callable[[Engine], None]]) -> Engine:
    """Install each of `installers` on `engine`, in order, and return it."""
    for installer in installers:
        installer(engine)
    return engine


async def _invoke(handler: Handler, signature: type[Signature[Any]], job: Job[Any]) -> Any:
    job._build(signature)
    return await handler(job)


async def _wrapped(wrapper: Wrapper, call: Handler, job: Job[Any]) -> Any:
    return await wrapper(job, call)


async def _no_such_job(job: Job[Any]) -> Any:
    raise NoSuchJob(f"no such job: {job.name}" if job.name else "a job needs a name")


def _signature(name: str, handler: Handler) -> type[Signature[Any]]:
    """The S of `Job[S]` among the handler's annotations; Args where there is none."""
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not inspect.isroutine(function):
        function = type(function).__call__  # an object that can be called
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"the handler of {name} is no coroutine function: {handler!r}")
    hints: Mapping[str, Any] = typing.get_type_hints(function)
    found = [arg for hint in hints.values() if typing.get_origin(hint) is Job for arg in typing.get_args(hint)]
    # Any is a class since Python 3.11; `Job[Any]` takes anything.
    if not found or not (isinstance(found[0], type) and issubclass(found[0], Signature)):
        return Args
    signature: type[Signature[Any]] = found[0]
    promised, given = result_type(signature), hints.get("return", Any)
    if Any not in (promised, given) and promised != given and not (promised is type(None) and given is None):
        raise TypeError(f"the handler of {name} returns {given}, but {signature.__name__} promises {promised}")
    return signature


def _as_raised(job: Job[Any], exc: BaseException) -> BaseException:
    """What the caller shall see: a lone JobError out of a nursery's group, Internal for what nobody expected."""
    leaf = exc
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    if isinstance(leaf, JobError | trio.Cancelled) or not isinstance(exc, Exception):
        return leaf if isinstance(leaf, JobError) else exc
    logger.error("%s failed", job, exc_info=exc)
    return Internal(f"{job.name} failed: {type(leaf).__name__}")


__all__ = ["Engine", "Handler", "P", "Wrapper", "install_all"]
