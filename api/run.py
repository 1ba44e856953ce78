"""Runs the job that a request became, and answers with its outcome, in the way that its row says.

Errors before the answer has begun are statuses. After that a stream of progress ends with an `errorDetail` line, a
hijacked connection with the sentence, and anything else breaks off, so that no client takes a part for the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import JobError
from windlass.engine.events import Event, Progress

from . import errors, wire
from .exchange import Exchange
from .head import Version
from .hijack import Hijacked
from .route import Route

PENDING = 256  # events that a slow client may fall behind before it loses progress

logger = logging.getLogger("windlass.api")


class Output(trio.abc.SendStream):
    """A job's stdout as the body of the answer; the first byte sends the head.

    When the client is gone, the job is cancelled if its row says so; else what it writes goes nowhere.
    """

    def __init__(self, exchange: Exchange, job: Job[Any], route: Route, version: Version) -> None:
        self._exchange, self._job, self._route, self._version = exchange, job, route, version
        self._is_gone = False
        self._is_detached = False

    async def begin(self, ready: Any) -> None:
        kind = self._route.content_type
        if kind == wire.STREAM:
            kind = wire.stream_type(self._version, wire.has_tty(ready))
        try:
            headers = self._route.headers_of(ready) if self._route.headers_of and ready is not None else ()
            await self._exchange.begin(self._route.ok, kind, headers)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._gone()

    async def send_all(self, data: Any) -> None:
        await self.begin(None)
        if self._is_gone:
            await self._gone()
            return
        try:
            await self._exchange.write(bytes(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._gone()

    async def _gone(self) -> None:
        self._is_gone = True
        if self._route.cancel:
            self._job.cancel()
        await trio.lowlevel.checkpoint()
        if self._route.cancel:
            raise trio.BrokenResourceError("the client is gone")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class ProgressLines:
    """A job's events as lines of the answer's body, written by a task of its own so that the job never waits.

    A client that falls behind loses the oldest amounts of Progress, and nothing else.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pending: list[Event] = []
        self._changed = trio.Event()
        self._is_ended = False

    def put(self, event: Event) -> None:
        if len(self._pending) >= PENDING:
            oldest = next(
                (i for i, each in enumerate(self._pending) if isinstance(each, Progress) and each.current), None
            )
            if oldest is not None:
                del self._pending[oldest]
        self._pending.append(event)
        self._changed.set()

    def end(self) -> None:
        self._is_ended = True
        self._changed.set()

    async def write(self) -> None:
        """Write until `end`. Leaves silently when the client is gone."""
        try:
            while self._pending or not self._is_ended:
                if not self._pending:
                    self._changed = trio.Event()
                    await self._changed.wait()
                events, self._pending = self._pending, []
                data = b"".join(text for event in events if (text := wire.line(event)) is not None)
                if data:
                    await self._output.send_all(data)
        except trio.BrokenResourceError:
            return


async def run(job: Job[Any], route: Route, exchange: Exchange, version: Version) -> None:
    """Run `job` and answer. Raises BrokenResourceError when the client is gone."""
    await WAYS[route.kind](job, route, exchange, version)


async def plain(job: Job[Any], route: Route, exchange: Exchange, version: Version) -> None:
    """The result, rendered; with `early` its head goes out at `ready`."""
    if route.body == "stdin":
        job.stdin = exchange.body
    if route.early:
        job.on_ready = Output(exchange, job, route, version).begin
    try:
        result = await (watched(job, exchange) if route.cancel else job.run())
    except JobError as exc:
        await _fail(exchange, exc)
        return
    body = b"" if route.ok == 204 else encoded(route, result, version)
    if exchange.begun:
        await exchange.write(body)
        await exchange.end()
    else:
        headers = route.headers_of(result) if route.headers_of else ()
        await exchange.answer(route.ok, body, route.content_type, headers)


def encoded(route: Route, result: Any, version: Version) -> bytes:
    """A result as JSON; nothing for None, which Docker's routes without a result answer."""
    if route.render is not None:
        result = route.render(result, version)
    return b"" if result is None else msgspec.json.encode(result) + b"\n"


async def raw(job: Job[Any], route: Route, exchange: Exchange, version: Version) -> None:
    """The job's stdout."""
    output = Output(exchange, job, route, version)
    if route.body == "stdin":
        job.stdin = exchange.body
    job.stdout = output
    job.on_ready = output.begin
    try:
        await watched(job, exchange)
    except JobError as exc:
        await _fail(exchange, exc)
        return
    await output.begin(None)
    await exchange.end()


async def progress(job: Job[Any], route: Route, exchange: Exchange, version: Version) -> None:
    """The job's events, and an error or its result in the last line."""
    output = Output(exchange, job, route, version)
    lines = ProgressLines(output)
    if route.body == "stdin":
        job.stdin = exchange.body
    job.on_event = lines.put
    job.on_ready = output.begin
    error: JobError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.write)
        try:
            await watched(job, exchange)
        except JobError as exc:
            error = exc
        lines.end()
    if error is not None and not exchange.begun:
        await _fail(exchange, error)
        return
    await output.begin(None)
    last = errors.late(error) if error is not None else encoded(route, job.result, version) if route.render else b""
    await exchange.write(last)
    await exchange.end()


async def hijack(job: Job[Any], route: Route, exchange: Exchange, version: Version) -> None:
    """The connection becomes the job's stdin and stdout, and carries its stderr in frames."""
    if route.unless and job.env.get(route.unless):
        await plain(job, route, exchange, version)
        return
    stream = Hijacked(exchange, version)
    job.stdin, job.stdout, job.stderr = stream, stream, stream.stderr
    job.on_ready = stream.begin
    try:
        await job.run()
    except JobError as exc:
        if not exchange.begun:
            await _fail(exchange, exc)
        else:
            await stream.farewell(exc)
        return
    await stream.begin(None)


async def watched(job: Job[Any], exchange: Exchange) -> Any:
    """Run `job`, and cancel it when the client goes. Raises what `job.run` raises."""
    error: JobError | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await exchange.connection.watch(exchange.body)
            job.cancel()

        nursery.start_soon(watch)
        try:
            await job.run()
        except JobError as exc:
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    return job.result


async def _fail(exchange: Exchange, error: JobError) -> None:
    if exchange.begun:
        logger.debug("an answer broke off: %s", error)
        exchange.abort()
        return
    status = errors.status_of(error)
    await exchange.answer(status, b"" if status == 304 else errors.body_of(error))


Way = Callable[[Job[Any], Route, Exchange, Version], Awaitable[None]]
WAYS: dict[str, Way] = {"plain": plain, "raw": raw, "progress": progress, "hijack": hijack}
