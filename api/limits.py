"""How much of everything a client may send, and how long it may take. Times are seconds, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server; tests make them small."""

    line: int = 64 << 10  # the request line, or one header
    head: int = 128 << 10  # request line and headers together
    fields: int = 200  # headers, and fields of a query
    head_time_tcp: float = 30.0  # from a request's first byte to its head's last one
    head_time_unix: float = 300.0
    idle: float = 300.0  # between two requests
    tick: float = 1.0  # how often deadlines are looked at
    stall: float = 600.0  # without a byte, in a body or while the client does not read
    json_body: int = 16 << 20
    json_tokens: int = 1_000_000
    drain: int = 256 << 10  # of a body that nobody read, before the connection is closed rather than kept
    linger: float = 2.0  # for a refused client to read its answer before the connection is reset
    connections: int = 1024
    reserve: int = 32  # of these, for root on a unix socket
    backlog: int = 512
    gate: float = 120.0  # for requests to wait until the engine is up
    tls_handshake: float = 30.0
