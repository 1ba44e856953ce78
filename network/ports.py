"""Publishing ports: which of the host's, who holds them, who carries the bytes.

A published port is held by a bound socket, so that nobody else takes it and a clash is seen at once; the helper keeps
it beyond this daemon's life. The bytes are the kernel's, by one element of a map. Where it cannot translate, from a
host address of one family to a container of the other and from [::1], the helper listens and carries them.

    asked for          bound                              carried by
    nothing            0.0.0.0, and [::] on the same port  kernel; helper for [::]
    an IPv4 address    that one                           kernel
    an IPv6 address    that one                           kernel where the container has IPv6, and the helper

Automatic ports are 49153 to 65535, from the last one given on, as in Docker 1.3.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from windlass.engine.errors import BadParameter, Conflict, Internal
from windlass.jobs.container_config import EndpointSettings, PortBinding

from .records import PortRecord
from .rules import Port

FIRST, LAST = 49153, 65535
_SCTP = getattr(socket, "IPPROTO_SCTP", 132)
_KINDS = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, _SCTP)}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Held:
    """One published port and the socket that holds it; the socket is the caller's to close."""

    record: PortRecord
    socket: socket.socket


class Publisher:
    """Chooses and binds ports of the host. `default` is where ports go when nobody says; empty: everywhere."""

    def __init__(
        self, default: str = "", proxies: bool = True, is_ours: Callable[[str, int], bool] = lambda proto, port: False
    ) -> None:
        self._default = default
        self._is_ours = is_ours  # whether a container has a port of the host
        self._proxies = proxies
        self._last = LAST

    def publish(
        self, spec: str, bindings: Iterable[PortBinding], bridge: str, endpoint: EndpointSettings
    ) -> Iterator[Held]:
        """Bind what `PORT/PROTO` is published as, one after the other. Raises BadParameter, Conflict."""
        port, _, proto = spec.partition("/")
        for binding in bindings:
            hosts = self._hosts(binding.HostIp, endpoint)
            yield from self._bind_all(proto or "tcp", hosts, binding.HostPort, int(port), bridge, endpoint)

    def _hosts(self, asked: str, endpoint: EndpointSettings) -> list[Address]:
        text = asked or self._default
        if text:
            try:
                return [ipaddress.ip_address(text.strip("[]"))]
            except ValueError:
                raise BadParameter(f"invalid host ip {text}", key="HostIp") from None
        both: list[Address] = [ipaddress.IPv4Address(0)] if endpoint.IPAddress or self._proxies else []
        if _has_ipv6() and (endpoint.GlobalIPv6Address or self._proxies):
            both.append(ipaddress.IPv6Address(0))
        return both

    def _bind_all(
        self, proto: str, hosts: list[Address], wanted: str, port: int, bridge: str, endpoint: EndpointSettings
    ) -> list[Held]:
        """Bind one port number on all `hosts`, the first of those wanted that is free on each."""
        candidates = self._candidates(wanted)
        failure: OSError | None = None
        for number in candidates:
            held: list[Held] = []
            try:
                for host in hosts:
                    record = _record(proto, host, number, port, bridge, endpoint)
                    held.append(Held(record, bind(record)))
            except OSError as exc:
                for each in held:
                    each.socket.close()
                failure = exc
                if exc.errno != errno.EADDRINUSE:
                    break
                continue
            if not wanted or wanted == "0":
                self._last = number
            return held
        is_ours = wanted.isdecimal() and self._is_ours(proto, int(wanted))
        raise _clash(hosts[0], wanted, failure, is_ours)

    def _candidates(self, wanted: str) -> Iterable[int]:
        low, dash, high = wanted.partition("-")
        if low and low != "0":
            return range(int(low), int(high or low) + 1)
        span = LAST - FIRST + 1
        return (FIRST + (self._last - FIRST + 1 + step) % span for step in range(span))


def rule(record: PortRecord) -> Port:
    """A published port as the packet filter takes it."""
    return Port(
        proto=record.proto,
        host_ip=ipaddress.ip_address(record.host_ip),
        host_port=record.host_port,
        address=ipaddress.ip_address(record.address),
        port=record.port,
        bridge=record.bridge,
    )


def _record(proto: str, host: Address, number: int, port: int, bridge: str, endpoint: EndpointSettings) -> PortRecord:
    own = endpoint.IPAddress if host.version == 4 else endpoint.GlobalIPv6Address
    other = endpoint.GlobalIPv6Address if host.version == 4 else endpoint.IPAddress
    return PortRecord(proto, str(host), number, own or other, port, bridge, proxied=not own)


def bind(record: PortRecord) -> socket.socket:
    """Bind the socket that holds a port. It listens where the helper will accept."""
    host = ipaddress.ip_address(record.host_ip)
    kind, protocol = _KINDS[record.proto]
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    bound = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if record.proto == "tcp" and listens(record):
            # The helper's own connections may linger in TIME_WAIT; a listener is what a clash is seen by then.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((record.host_ip, record.host_port))
            bound.listen(socket.SOMAXCONN)
        else:
            bound.bind((record.host_ip, record.host_port))
    except BaseException:
        bound.close()
        raise
    return bound


def listens(record: PortRecord) -> bool:
    """True where the helper carries bytes: between families, and for what comes to an IPv6 loopback address."""
    host = ipaddress.ip_address(record.host_ip)
    return record.proto != "sctp" and (record.proxied or (host.version == 6 and (host.is_loopback or not int(host))))


def _clash(host: Address, wanted: str, failure: OSError | None, is_ours: bool) -> Conflict | BadParameter | Internal:
    shown = f"[{host}]" if host.version == 6 else str(host)
    if failure is None or failure.errno == errno.EADDRINUSE:
        if not wanted or wanted == "0":
            return Conflict("all ports are allocated")
        if is_ours or "-" in wanted:
            return Conflict(f"Bind for {shown}:{wanted} failed: port is already allocated")
        return Conflict(f"failed to bind host port for {shown}:{wanted}: address already in use")
    if failure.errno == errno.EADDRNOTAVAIL:
        return BadParameter(f"failed to bind host port for {shown}:{wanted}: cannot assign requested address")
    return Internal(f"failed to bind host port for {shown}:{wanted}: {failure.strerror}")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
