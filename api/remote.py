"""Jobs over HTTP: `POST /engine/v1/jobs/{name}` with the body `{"args": […], "env": {…}, "lax": false}`.

With `Upgrade: windlass-job/1` the connection then carries frames, both ways: one byte for the kind, three zero bytes,
the payload's length as 32 bits big-endian, the payload (Docker's header for multiplexed streams, with more kinds).
Without, the answer is JSON lines, one key each: `event`, `stdout` and `stderr` in base64, at last `result` or `error`;
an error before any of them is a status. The client's leaving cancels the job.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import msgspec
import trio

from windlass.engine import Job, streams
from windlass.engine.engine import Engine
from windlass.engine.errors import BadParameter, Denied, Internal, JobError, NoSuchJob
from windlass.engine.events import Event

from . import errors, openapi
from .errors import Refused
from .exchange import Exchange
from .request import json_body
from .run import watched
from .server import Server

PROTOCOL = "windlass-job/1"
STDIN, STDOUT, STDERR, EVENT, RESULT, ERROR, END_OF_STDIN, CANCEL = range(8)
STDIN_CHUNKS = 64  # of 64 KiB at most, kept for a job that does not read; then the client waits
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z", re.ASCII)
_KEYS = {"args": list, "env": dict, "lax": bool}


async def run_job(server: Server, exchange: Exchange, names: dict[str, str]) -> None:
    """Run a job for a remote caller."""
    upgrade = exchange.head.upgrade
    if upgrade and upgrade.lower() != PROTOCOL:
        raise Refused(400, f"the only protocol to upgrade to is {PROTOCOL}")
    job = await make_job(server.engine, exchange, names["name"])
    signature = server.engine.signature(job.name)
    way = _framed if upgrade else _lines
    await server.supervised(job, way(job, exchange), is_live=signature is not None and signature.READONLY)


async def make_job(engine: Engine, exchange: Exchange, name: str) -> Job[Any]:
    """The job that the request's body describes. Raises NoSuchJob, Denied, BadParameter."""
    signature = engine.signature(name)
    if signature is None and engine.catchall is None:
        raise NoSuchJob(f"no such job: {name}")
    if signature is not None and signature.LOCAL:
        raise Denied(f"the job {name} is for callers in the engine's own process")
    body = await json_body(exchange)
    for key, value in body.items():
        if key not in _KEYS:
            raise BadParameter(f"unknown key {key!r}: there are args, env and lax", key=key)
        if not isinstance(value, _KEYS[key]):
            raise BadParameter(f"{key!r} must be of type {_KEYS[key].__name__}", key=key)
    return Job(
        engine,
        name,
        body.get("args", []),
        body.get("env", {}),
        lax=body.get("lax", False),
        outside=True,
        deadline=_deadline(exchange),
        peer=exchange.connection.peer,
    )


def _deadline(exchange: Exchange) -> float:
    text = exchange.head.headers.get("x-windlass-deadline")
    if text is None:
        return inf
    if not _SECONDS.match(text) or float(text) <= 0:
        raise BadParameter(f"X-Windlass-Deadline must be seconds above 0, not {text!r:.40}")
    return float(text)


class Teller:
    """Tells a remote caller, in order, what a job does. Events wait for the next byte or for the task `tell`."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], encode: Callable[[int, bytes], bytes]) -> None:
        self._send = send
        self._encode = encode
        self._pending: list[bytes] = []
        self._lock = trio.Lock()
        self._changed = trio.Event()
        self.has_told = False

    def put(self, event: Event) -> None:
        self._pending.append(self._encode(EVENT, msgspec.json.encode(event)))
        self._changed.set()

    async def ready(self, value: Any) -> None:
        await self.send(EVENT, _json({"event": "ready", "value": value}) or b'{"event":"ready"}')

    async def send(self, kind: int, payload: bytes) -> None:
        """Send one piece, after the events so far. Raises BrokenResourceError when the caller is gone."""
        await self._flush(self._encode(kind, payload))

    async def _flush(self, data: bytes = b"") -> None:
        async with self._lock:
            pending, self._pending = self._pending, []
            self.has_told = True
            await self._send(b"".join(pending) + data)

    async def tell(self) -> None:
        """Send events as they come, for ever; leaves when the caller is gone."""
        try:
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                if self._pending:
                    await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


class Sink(trio.abc.SendStream):
    """A job's stdout or stderr, told to a remote caller. When the caller is gone the job is cancelled."""

    def __init__(self, teller: Teller, kind: int, job: Job[Any]) -> None:
        self._teller, self._kind, self._job = teller, kind, job

    async def send_all(self, data: Any) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), streams.CHUNK):
                await self._teller.send(self._kind, bytes(view[start : start + streams.CHUNK]))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._job.cancel()
            await trio.lowlevel.checkpoint()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _connect(job: Job[Any], teller: Teller) -> None:
    job.stdout, job.stderr = Sink(teller, STDOUT, job), Sink(teller, STDERR, job)
    job.on_event = teller.put
    job.on_ready = teller.ready


# -- frames ------------------------------------------------------------------------------------------------------


async def _framed(job: Job[Any], exchange: Exchange) -> None:
    connection = exchange.connection
    await exchange.switch(PROTOCOL, "")
    teller = Teller(connection.send, streams.frame)
    writer, job.stdin = streams.pipe(STDIN_CHUNKS)
    _connect(job, teller)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.tell)
        nursery.start_soon(_receive, job, exchange, writer)
        kind, payload, _ = await _outcome(job.run)
        nursery.cancel_scope.cancel()
    await teller.send(kind, payload)


async def _receive(job: Job[Any], exchange: Exchange, stdin: trio.abc.SendStream) -> None:
    """Take the caller's frames: stdin and its end, `cancel`. The connection's end cancels the job too."""
    connection, demultiplexer = exchange.connection, streams.Demultiplexer()
    try:
        while connection.buffer or await connection.fill():
            for kind, payload in demultiplexer.feed(connection.take(len(connection.buffer))):
                if kind == STDIN and payload:
                    await _give(stdin, payload)
                elif kind == END_OF_STDIN:
                    await stdin.aclose()
                elif kind == CANCEL:
                    job.cancel()
    except ValueError:  # these are no frames
        exchange.abort()
    job.cancel()


async def _give(stdin: trio.abc.SendStream, payload: bytes) -> None:
    try:
        await stdin.send_all(payload)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # the job reads no more


# -- lines -------------------------------------------------------------------------------------------------------

_NAMES = {STDOUT: b"stdout", STDERR: b"stderr", EVENT: b"event", RESULT: b"result", ERROR: b"error"}


def _line(kind: int, payload: bytes) -> bytes:
    value = msgspec.json.encode(payload) if kind in (STDOUT, STDERR) else payload  # msgspec makes base64 of bytes
    return b'{"%b":%b}\n' % (_NAMES[kind], value)


async def _lines(job: Job[Any], exchange: Exchange) -> None:
    async def send(data: bytes) -> None:
        await exchange.begin(200, "application/x-ndjson")
        await exchange.write(data)

    teller = Teller(send, _line)
    _connect(job, teller)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.tell)
        kind, payload, error = await _outcome(lambda: watched(job, exchange))
        nursery.cancel_scope.cancel()
    if error is not None and not teller.has_told:
        status = errors.status_of(error)
        await exchange.answer(409 if status == 304 else status, payload + b"\n")  # 304 could not say which code
        return
    await teller.send(kind, payload)
    await exchange.end()


# -- outcome -----------------------------------------------------------------------------------------------------


async def _outcome(run: Callable[[], Awaitable[Any]]) -> tuple[int, bytes, JobError | None]:
    """Run, and encode the result or the error."""
    try:
        result = await run()
        payload = _json(result)
        if payload is None:
            raise Internal(f"a result of type {type(result).__name__} cannot be sent")
        return RESULT, payload, None
    except JobError as exc:
        return ERROR, _error(exc), exc


def _error(error: JobError) -> bytes:
    told = {"code": error.code, "message": error.message, "detail": error.detail}
    return _json(told) or msgspec.json.encode(told | {"detail": {}})


def _json(value: Any) -> bytes | None:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return None


async def describe_all(server: Server, exchange: Exchange, names: dict[str, str]) -> None:
    """Answer the OpenAPI description of our own surface."""
    await exchange.answer(200, msgspec.json.encode(openapi.document(server.engine, server.rows)) + b"\n")


OWN = {"job": run_job, "openapi": describe_all}
