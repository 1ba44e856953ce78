"""Ending an engine, in order.

    drain    new jobs from outside are refused; children of running jobs are not
    stop     services are told to end, the last started first
    grace    what runs may finish, for `grace` seconds
    cancel   what is left is cancelled
    hooks    run in reverse order of their adding, one after the other, each timed, with the right to run jobs
    report   what was cancelled, which hooks failed or hung

The first caller does the work; every other waits for the same report.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from .job import Job, current

if TYPE_CHECKING:
    from .engine import Engine

Hook = Callable[[], Awaitable[Any]]
CANCEL_TIMEOUT = 5.0  # seconds for cancelled jobs to unwind

logger = logging.getLogger("windlass.engine")


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How a shutdown went: jobs that had to be cancelled, hooks that failed or hung, by name."""

    cancelled: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    failed_hooks: dict[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not (self.cancelled or self.abandoned or self.failed_hooks)


class Shutdown:
    """The phases of one engine's end, and who may still run jobs in each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hooks: list[tuple[Hook, str, float]] = []
        self._done: trio.Event | None = None
        self._ended: trio.Event | None = None
        self._report = ShutdownReport()
        self._over = False

    @property
    def begun(self) -> bool:
        return self._done is not None

    def add(self, hook: Hook, name: str, timeout: float) -> None:
        self._hooks.append((hook, name, timeout))

    def refuses(self, job: Job[Any]) -> bool:
        """True when `job` may not begin: it comes from outside, or all is over."""
        return self.begun and (self._over or job.parent is None)

    def job_ended(self) -> None:
        if self._ended is not None:
            self._ended.set()

    async def run(self, grace: float) -> ShutdownReport:
        if self._done is not None:
            await self._done.wait()
            return self._report
        self._done = trio.Event()
        try:
            for service in reversed(list(self._engine.services)):
                service.stop()
            if not await self._wait_idle(grace):
                await self._cancel_rest()
            await self._run_hooks()
        finally:
            self._over = True
            self._done.set()
        return self._report

    async def _wait_idle(self, seconds: float) -> bool:
        """Wait until only the jobs that this task itself is inside of are left; False when time is up."""
        with trio.move_on_after(seconds):
            while self._others():
                self._ended = trio.Event()
                await self._ended.wait()
            return True
        return False

    def _others(self) -> list[Job[Any]]:
        own = set()
        job = current.get()
        while job is not None:
            own.add(job.id)
            job = job.parent
        return [job for job in self._engine.running.values() if job.id not in own]

    async def _cancel_rest(self) -> None:
        for job in self._others():
            self._report.cancelled.append(str(job))
            job.cancel()
        if not await self._wait_idle(CANCEL_TIMEOUT):
            self._report.abandoned.extend(str(job) for job in self._others())
            logger.error("jobs that do not end: %s, ignoring", ", ".join(self._report.abandoned))

    async def _run_hooks(self) -> None:
        token = current.set(Job(self._engine, "shutdown"))  # the parent that gives hooks the right to run jobs
        try:
            for hook, name, timeout in reversed(self._hooks):
                await self._run_hook(hook, name, timeout)
        finally:
            current.reset(token)

    async def _run_hook(self, hook: Hook, name: str, timeout: float) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout) as scope:
            try:
                await hook()
            except Exception as exc:
                self._report.failed_hooks[name] = f"{type(exc).__name__}: {exc}"
                logger.error("shutdown hook %s failed, ignoring", name, exc_info=exc)
        if scope.cancelled_caught:
            self._report.failed_hooks[name] = f"took longer than {timeout:g} s"
            logger.error("shutdown hook %s took longer than %g s, ignoring", name, timeout)
