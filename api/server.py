"""Requests in, answers out: what all listeners of one `serveapi` share.

`_ping` is answered here, without a job; every other request is looked up in the route table and becomes a job.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec
import trio

from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, JobError, Unsupported
from windlass.lib.version import API_VERSION

from . import errors
from .errors import Refused
from .exchange import Exchange
from .gate import Gate
from .guard import Guard
from .head import Version, parse_query, split_target
from .http import Connection
from .limits import Limits
from .request import env_of
from .route import Route
from .router import Router, checked_version
from .routes import ROUTES
from .run import run

logger = logging.getLogger("windlass.api")

Own = Callable[["Server", Exchange, dict[str, str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What `serveapi` was told."""

    version: str = ""
    logging: bool = True
    guard: Guard = Guard()
    wait_at_gate: bool = True


class Server:
    """Answers the requests of all its connections, for one engine."""

    def __init__(
        self,
        engine: Engine,
        gate: Gate,
        nursery: trio.Nursery,
        own: Mapping[str, Own],
        options: Options = Options(),
        limits: Limits = Limits(),
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.options = options
        self.is_stopping = False
        self._gate = gate
        self._own = own
        self._nursery = nursery
        self._connections: set[Connection] = set()
        self._live: set[Job[Any]] = set()
        self._spawned: set[trio.CancelScope] = set()
        self._woken: trio.Event | None = None
        self._over = trio.Event()
        self._provided: tuple[Route, ...] = ()
        self._router = Router(ROUTES)
        version = f"/{options.version}" if options.version else ""
        self._common = (
            f"Server: Windlass{version} (linux)\r\nApi-Version: {API_VERSION}\r\nDocker-Experimental: false\r\n"
            f"Ostype: linux\r\n{options.guard.headers}"
        )

    # -- connections ---------------------------------------------------------------------------------------------

    def has_room(self, is_root: bool) -> bool:
        """True when one more connection may come; the last few places are root's own, to look and to kill."""
        limit = self.limits.connections - (0 if is_root else self.limits.reserve)
        return len(self._connections) < limit

    async def watch(self) -> None:
        """End the connections whose time is up, until the server has stopped and the last one is gone."""
        while self._connections or not self.is_stopping:
            if not self._connections:
                self._woken = trio.Event()
                await self._woken.wait()
            with trio.move_on_after(self.limits.tick):
                await self._over.wait()
            now = monotonic()
            for connection in self._connections:
                if connection.deadline < now:
                    connection.expire()

    async def serve(self, connection: Connection) -> None:
        """Answer a connection's requests, one after the other, until it ends; then close it. Never raises."""
        self._connections.add(connection)
        if self._woken is not None:
            self._woken.set()
        try:
            with connection.scope:
                await self._requests(connection)
            if connection.scope.cancelled_caught and connection.reads_head and connection.buffer:
                connection.reset = False
                await self._refuse(connection, Refused(408, "the request did not come in time"))
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
            logger.debug("a client left: %s", exc)
        except Exception:
            logger.exception("a connection failed, closing it")
            connection.reset = True
        finally:
            self._connections.discard(connection)
            self._check_over()
            await connection.aclose()

    async def _requests(self, connection: Connection) -> None:
        while not self.is_stopping:
            connection.idle = not connection.buffer
            try:
                request = await connection.next_request()
            except Refused as exc:
                await self._refuse(connection, exc)
                return
            if request is None:
                return
            exchange = Exchange(connection, *request, self._common)
            await self._answer(exchange)
            if not await exchange.finish():
                # TLS cannot be half closed: a client that waits for the end gets it by closing alone.
                may_still_send = not exchange.body.is_complete or (exchange.has_switched and not connection.is_tls)
                if may_still_send and not connection.is_detached:
                    await connection.linger()
                return

    async def _refuse(self, connection: Connection, refused: Refused) -> None:
        """Answer what is no request, and let the client read that before the connection goes."""
        body = errors.body_of(refused)
        head = (
            f"HTTP/1.1 {refused.status} {errors.REASONS.get(refused.status, 'Refused')}\r\n{self._common}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with trio.move_on_after(self.limits.linger):
            await connection.send(head.encode("latin-1") + body)
        await connection.linger()

    async def turn_away(self, connection: Connection) -> None:
        """Answer a connection for which there is no room."""
        try:
            await self._refuse(connection, Refused(503, "too many connections, try again later"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await connection.aclose()

    def stop(self) -> None:
        """Close the idle connections, and cancel what would never end; other requests finish."""
        self.is_stopping = True
        if self._woken is not None:
            self._woken.set()
        for connection in self._connections:
            if connection.idle:
                connection.scope.cancel()
        for job in self._live:
            job.cancel()

        for scope in self._spawned:
            scope.cancel()
        self._check_over()

    def _check_over(self) -> None:
        if self.is_stopping and not self._connections:
            self._over.set()

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Start a task that ends with the server."""
        self._nursery.start_soon(self._spawn, function, args)

    async def _spawn(self, function: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
        with trio.CancelScope() as scope:
            self._spawned.add(scope)
            try:
                await function(*args)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                logger.debug("a client left: %s", exc)
            finally:
                self._spawned.discard(scope)

    # -- requests ------------------------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> None:
        head = exchange.head
        try:
            await self._dispatch(exchange)
        except (Refused, JobError) as exc:
            if exchange.begun:
                exchange.abort()
                return
            if isinstance(exc, Refused):
                body = b"" if exc.status == 301 else errors.body_of(exc)
                await exchange.answer(exc.status, body, headers=exc.headers)
            else:
                await exchange.answer(errors.status_of(exc), errors.body_of(exc))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception:
            logger.exception("%s %s failed", head.method, head.target)
            if exchange.begun:
                exchange.abort()
            else:
                await exchange.answer(500, b'{"message":"internal error, see the log of the daemon"}\n')

    async def _dispatch(self, exchange: Exchange) -> None:
        head, options = exchange.head, self.options
        if not exchange.connection.is_local:
            options.guard.check(head)
        if head.method == "OPTIONS":
            await exchange.answer(200)
            return
        version, path, raw_query = split_target(head.target)
        if options.wait_at_gate:
            await self._gate.wait(self.limits.gate)
        if path == "/_ping":
            await self._ping(exchange, version)
            return
        if options.logging:
            logger.info("%s %s", head.method, head.target)
        await self._route(exchange, checked_version(version), path, raw_query)

    async def _ping(self, exchange: Exchange, version: Version | None) -> None:
        checked_version(version)
        if exchange.head.method not in ("GET", "HEAD"):
            raise Refused(405, f"/_ping takes GET, HEAD, not {exchange.head.method}", ("Allow", "GET, HEAD"))
        body = b"" if exchange.head.method == "HEAD" else b"OK"  # dockerd's HEAD has Content-Length: 0
        await exchange.answer(200, body, "text/plain; charset=utf-8", PING)

    async def _route(self, exchange: Exchange, version: Version, path: str, raw_query: str) -> None:
        query = parse_query(raw_query, self.limits.fields)
        route, names = self._routes().find(exchange.head.method, path, query)
        if version < route.since:
            raise BadParameter(f"{route.method} {route.path} needs API version {route.since[0]}.{route.since[1]}")
        if route.refuse is not None:
            raise Refused(*route.refuse)
        if route.answer is not None:
            await exchange.answer(route.ok, msgspec.json.encode(route.answer) + b"\n")
        elif route.kind == "own":
            await self._own[route.job](self, exchange, names)
        else:
            self._check_built(route)
            env = await env_of(route, names, query, exchange, self.engine, version)
            peer = exchange.connection.peer
            job: Job[Any] = Job(self.engine, route.job, (), env, ignore_unknown=route.lax, outside=True, peer=peer)
            await self.supervised(job, run(job, route, exchange, version), is_live=route.live)

    async def supervised(self, job: Job[Any], running: Awaitable[None], *, is_live: bool) -> None:
        """Await `running`, which runs `job`; with `is_live` the job is cancelled when the server stops."""
        if is_live:
            self._live.add(job)
        try:
            await running
        finally:
            self._live.discard(job)

    def _check_built(self, route: Route) -> None:
        if self.engine.catchall is None and self.engine.signature(route.job) is None:
            # `docker inspect NAME` asks for one kind of object after the other, and passes over "not supported".
            raise Unsupported(f"{route.method} {route.path} is not supported yet: there is no job {route.job}")

    def _routes(self) -> Router:
        """The routes of plugins, which may come at any time, before ours."""
        provided = self.engine.provided("route")
        if len(provided) != len(self._provided):
            self._provided = provided
            self._router = Router((*provided, *ROUTES))
        return self._router

    @property
    def rows(self) -> tuple[Route, ...]:
        return self._routes().rows


PING = (
    ("Builder-Version", "1"),
    ("Swarm", "inactive"),
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
)
