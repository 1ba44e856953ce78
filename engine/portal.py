"""A blocking view of an engine, for scripts and the interactive prompt.

    with windlass.open() as engine:
        engine.job("create", "web", Image="busybox", Cmd=["sleep", "60"]).run()

One background thread runs one trio loop for the portal's whole life, so attached streams and supervisors live
between a script's calls. Ctrl-C cancels the job that the script waits for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import IO, Any, TypeVar

import trio

from .engine import Engine
from .errors import Cancelled, Unavailable
from .events import Event
from .job import Job
from .signature import Signature
from .streams import Capture, FileSink, FileSource, source

R = TypeVar("R")
T = TypeVar("T")


class BlockingJob:
    """One job, from outside the loop. Its streams may be bytes, binary files or trio streams."""

    def __init__(self, portal: Portal, job: Job[Any]) -> None:
        self._portal = portal
        self.job = job

    def run(
        self,
        *,
        stdin: bytes | IO[bytes] | trio.abc.ReceiveStream | None = None,
        stdout: IO[bytes] | trio.abc.SendStream | None = None,
        stderr: IO[bytes] | trio.abc.SendStream | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Any:
        """Run to the end and return the result; see `Job.run`. `on_event` is called in the loop's thread."""
        job = self.job
        job.stdin = _as_source(stdin)
        job.stdout, job.stderr = _as_sink(stdout), _as_sink(stderr)
        job.on_event = on_event or job.on_event
        return self._portal.run(job.run, on_interrupt=job.cancel)

    def output(self, stdin: bytes | None = None) -> bytes:
        """Run to the end and return what the job wrote to stdout (the last 16 MiB)."""
        capture = Capture()
        self.run(stdin=stdin, stdout=capture)
        return capture.data

    def start(self) -> Any:
        """Start a service; see `Job.start`."""
        return self._portal.run(self.job.start, on_interrupt=self.job.cancel)

    def cancel(self) -> None:
        self.job.cancel()

    @property
    def state(self) -> str:
        return self.job.state

    @property
    def warnings(self) -> list[str]:
        return self.job.warnings

    @property
    def exit_status(self) -> int:
        return self.job.exit_status


class Portal:
    """Runs an engine in a thread of its own; every call blocks the calling thread.

    `manage` gives the async context manager that makes the engine and takes it down; the default is a bare Engine.
    """

    def __init__(self, manage: Callable[[], AbstractAsyncContextManager[Engine]] = Engine) -> None:
        self._manage = manage
        self._started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="windlass-engine", daemon=True)
        self._thread.start()
        if (failure := self._started.get()) is not None:
            self._thread.join()
            raise failure

    def _work(self) -> None:
        try:
            trio.run(self._main, restrict_keyboard_interrupt_to_checkpoints=True)
        except BaseException as exc:  # noqa: BLE001 - it is raised in the script's thread
            self._failure = _sole(exc)
            self._started.put(self._failure)

    async def _main(self) -> None:
        self._stop = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with self._manage() as engine:
            self.engine = engine
            self._started.put(None)
            await self._stop.wait()

    def run(self, function: Callable[[], Awaitable[T]], on_interrupt: Callable[[], None] | None = None) -> T:
        """Run an async function in the loop and return what it returns."""
        outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        async def call() -> None:
            try:
                outcome.put((True, await function()))
            except trio.Cancelled:
                outcome.put((False, Cancelled("the engine was closed meanwhile")))
                raise
            except BaseException as exc:
                outcome.put((False, exc))
                if not isinstance(exc, Exception):
                    raise

        def spawn() -> None:
            if self.engine.nursery is None:
                outcome.put((False, Unavailable("the engine is closed")))
            else:
                self.engine.nursery.start_soon(call)

        try:
            self._token.run_sync_soon(spawn)
        except trio.RunFinishedError:
            raise Unavailable("the engine is closed") from None
        while True:
            try:
                done, value = outcome.get()
            except KeyboardInterrupt:
                if on_interrupt is not None:
                    on_interrupt()
                raise
            if done:
                return value  # type: ignore[no-any-return]
            raise value

    def job(self, name: str, /, *args: Any, **env: Any) -> BlockingJob:
        return BlockingJob(self, self.engine.job(name, *args, **env))

    def parse_job(self, text: str) -> BlockingJob:
        return BlockingJob(self, self.engine.parse_job(text))

    def call(self, params: Signature[R]) -> R:
        """Run the job that `params` is the signature of, and return its result, typed."""
        return self.run(lambda: self.engine.call(params))

    def register(self, name: str, handler: Any) -> None:
        self._in_loop(lambda: self.engine.register(name, handler))

    def around(self, pattern: str, wrapper: Any) -> None:
        self._in_loop(lambda: self.engine.around(pattern, wrapper))

    def _in_loop(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self.run(call)

    def close(self) -> None:
        """Shut the engine down and end the thread; a second call does nothing. Raises what the shutdown raised."""
        if self._thread.is_alive():
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Portal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _as_source(stdin: Any) -> trio.abc.ReceiveStream | None:
    if isinstance(stdin, bytes):
        return source(stdin)
    return stdin if stdin is None or isinstance(stdin, trio.abc.ReceiveStream) else FileSource(stdin)


def _as_sink(sink: Any) -> trio.abc.SendStream | None:
    return sink if sink is None or isinstance(sink, trio.abc.SendStream) else FileSink(sink)


def _sole(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
