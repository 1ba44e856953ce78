"""The jobs `serveapi` and `acceptconnections`: listeners in front of an engine."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
from contextlib import ExitStack

import trio

from windlass.engine import Engine, Job, Peer
from windlass.jobs.api import AcceptConnections, ServeApi

from . import remote, tls
from .gate import Gate
from .guard import Guard
from .http import Connection
from .limits import Limits
from .listeners import Bound, bind, split_port
from .server import Options, Server
from .sockets import SocketStream, accept

_CREDENTIALS = struct.Struct("3i")

logger = logging.getLogger("windlass.api")


def install(engine: Engine, limits: Limits = Limits()) -> None:
    """Register `serveapi` and `acceptconnections`, which share a gate."""
    api = Api(limits)
    engine.register("serveapi", api.serveapi)
    engine.register("acceptconnections", api.acceptconnections)


class Api:
    """One engine's HTTP: the gate, and the limits of everything behind it."""

    def __init__(self, limits: Limits) -> None:
        self.gate = Gate()
        self.limits = limits

    async def acceptconnections(self, job: Job[AcceptConnections]) -> None:
        """Let the waiting requests in, and tell systemd; with `error`, tell them why the engine does not come up."""
        if job.params.error:
            self.gate.fail(job.params.error)
        elif not self.gate.is_open:
            self.gate.open()
            notify("READY=1")

    async def serveapi(self, job: Job[ServeApi]) -> None:
        """Serve the API on every host given, until stopped; then running requests finish.

        The sockets are bound before it is ready; requests wait until `acceptconnections` ran.
        """
        params = job.params
        context = _context(params)
        options = Options(params.Version, params.Logging, _guard(params), params.BufferRequests)
        with ExitStack() as stack:
            bound = _bind_all(params, self.limits, stack)
            async with trio.open_nursery() as connections:
                server = Server(job.engine, self.gate, connections, remote.OWN, options, self.limits)
                connections.start_soon(server.watch)
                async with trio.open_nursery() as accepting:
                    for each in bound:
                        accepting.start_soon(_accept, server, each, context, connections)
                    logger.info("listening on %s", ", ".join(each.address for each in bound))
                    await job.ready([each.address for each in bound])
                    await job.stopping.wait()
                    accepting.cancel_scope.cancel()
                stack.close()
                server.stop()


def _context(params: ServeApi) -> ssl.SSLContext | None:
    if not (params.Tls or params.TlsVerify):
        return None
    return tls.context(params.TlsCert, params.TlsKey, params.TlsCa, verify=params.TlsVerify)


def _bind_all(params: ServeApi, limits: Limits, stack: ExitStack) -> list[Bound]:
    """Bind all hosts or none."""
    bound: list[Bound] = []
    uses_tls = params.Tls or params.TlsVerify
    for host in params.hosts:
        for each in bind(host, params.SocketGroup, limits.backlog, tls=uses_tls, plain_tcp=params.AllowPlainTcp):
            stack.callback(each.close)
            bound.append(each)
    return bound


def _guard(params: ServeApi) -> Guard:
    """Names that a client on TCP may call us by: localhost, this host's, and those that we listen on."""
    names = {"localhost", socket.gethostname().lower()}
    for host in params.hosts:
        scheme, separator, rest = host.partition("://")
        if scheme == "tcp" or not separator:
            names.add(split_port(host, (rest if separator else host).rstrip("/"), 0)[0].lower())
    return Guard(params.CorsHeaders or ("*" if params.EnableCors else ""), frozenset(names))


async def _accept(server: Server, bound: Bound, context: ssl.SSLContext | None, connections: trio.Nursery) -> None:
    bound.sock.setblocking(False)
    while True:
        for sock in await accept(bound.sock):
            connections.start_soon(_serve, server, SocketStream(sock), bound.is_local, context)


async def _serve(server: Server, stream: SocketStream, is_local: bool, context: ssl.SSLContext | None) -> None:
    peer = _peer(stream.sock, is_local)
    if is_local or context is None:
        connection = Connection(stream, server.limits, peer, server.spawn, is_local=is_local)
    else:
        secured = await _handshake(stream, context, server.limits)
        if secured is None:
            return
        peer = Peer(address=peer.address, certificate=tls.common_name(secured))
        connection = Connection(secured, server.limits, peer, server.spawn, is_local=False, is_tls=True)
    if server.has_room(is_root=is_local and peer.uid == 0):
        await server.serve(connection)
    else:
        await server.turn_away(connection)


async def _handshake(
    stream: SocketStream, context: ssl.SSLContext, limits: Limits
) -> trio.SSLStream[SocketStream] | None:
    """Agree on TLS; None when the client cannot, or takes too long."""
    secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    with trio.move_on_after(limits.tls_handshake):
        try:
            await secured.do_handshake()
            return secured
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            logger.info("a TLS client was refused: %s", exc.__cause__ or exc)
    stream.close()
    return None


def _peer(sock: socket.socket, is_local: bool) -> Peer:
    """Who is on the other side: unix(7), SO_PEERCRED."""
    try:
        if is_local:
            data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, gid = _CREDENTIALS.unpack(data)
            return Peer(pid=pid, uid=uid, gid=gid)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name, port = sock.getpeername()[:2]
        return Peer(address=f"{name}:{port}")
    except OSError:
        return Peer()  # gone already: the first read tells


def notify(state: str) -> None:
    """Tell systemd; see sd_notify(3). Nothing happens where nobody wants to know."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as exc:
            logger.warning("cannot tell systemd that we are up: %s, ignoring", exc)
