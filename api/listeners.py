"""Sockets that the API listens on: unix, tcp, and those that systemd hands over.

A unix socket is born with its last permissions: made under a umask, given its group before anybody can connect. A
stale one is removed only when nobody answers there; ours is removed at the end, unless it is another's by then.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from windlass.engine.errors import BadParameter, Conflict

PORT, TLS_PORT = 2375, 2376
DEFAULT_PATH = "/var/run/windlass.sock"
DEFAULT_GROUP = "docker"
FIRST_FD = 3  # sd_listen_fds(3)
MAX_PATH = 107  # bytes: unix(7)

logger = logging.getLogger("windlass.api")


@dataclass(slots=True)
class Bound:
    """A listening socket. `path` is the socket file that goes with it; an inherited one is not ours to remove."""

    sock: socket.socket
    address: str
    is_local: bool
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        self.sock.close()
        if self.path is None:
            return
        try:
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()
        except OSError as exc:
            logger.warning("cannot remove %s: %s, ignoring", self.path, exc)


def bind(host: str, group: str, backlog: int, *, tls: bool, plain_tcp: bool) -> list[Bound]:
    """Listen on `host`. Raises BadParameter for what is no address, or TCP without TLS that nobody asked for;
    Conflict when somebody else listens there.
    """
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        return [_unix(rest or DEFAULT_PATH, group, backlog)]
    if scheme == "fd":
        return [_checked(bound, tls, plain_tcp) for bound in _inherited(rest)]
    if scheme != "tcp":
        raise BadParameter(f"{host!r} is none of unix://PATH, tcp://HOST[:PORT], fd://[N]", key="hosts")
    if not (tls or plain_tcp):
        raise _plain_tcp(host)
    return _tcp(host, rest, backlog, TLS_PORT if tls else PORT)


def _plain_tcp(address: str) -> BadParameter:
    return BadParameter(
        f"{address}: whoever reaches a TCP port without TLS is root on this host: use --tlsverify, or say "
        "--tls=false (AllowPlainTcp), also for the loopback",
        key="AllowPlainTcp",
    )


# -- unix --------------------------------------------------------------------------------------------------------


def _unix(name: str, group: str, backlog: int) -> Bound:
    path = Path(name)
    if len(os.fsencode(path)) > MAX_PATH:
        raise BadParameter(f"{name}: a socket's path has at most {MAX_PATH} bytes", key="hosts")
    gid = _group_id(group)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            previous = os.umask(0o117)
            try:
                sock.bind(name)
            finally:
                os.umask(previous)
            if gid is not None:
                os.chown(name, -1, gid, follow_symlinks=False)
            sock.listen(backlog)
            return Bound(sock, f"unix://{name}", True, path, path.lstat().st_ino)
        except BaseException:
            sock.close()
            raise
    except OSError as exc:
        raise _not_bound(f"unix://{name}", exc) from None


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(str(path))
    if answer in (errno.ECONNREFUSED, errno.ENOENT):
        path.unlink(missing_ok=True)
    else:
        raise Conflict(f"somebody listens on {path} already")


def _group_id(group: str) -> int | None:
    """The number of `group`. Docker's own group need not be there: root alone has the socket then."""
    if not group:
        return None
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group != DEFAULT_GROUP:
            raise BadParameter(f"there is no group {group}", key="SocketGroup") from None
        logger.debug("there is no group %s: the socket is root's alone", group)
        return None


# -- tcp ---------------------------------------------------------------------------------------------------------


def _tcp(host: str, rest: str, backlog: int, port: int) -> list[Bound]:
    name, port = split_port(host, rest.rstrip("/"), port)
    bound: list[Bound] = []
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            bound.append(Bound(sock, "", False))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(backlog)
            bound[-1].address = _tcp_address(sock)
    except OSError as exc:
        for each in bound:
            each.close()
        raise _not_bound(host, exc) from None
    return bound


def split_port(host: str, rest: str, port: int) -> tuple[str, int]:
    """Split HOST[:PORT], where HOST may be [v6] and empty means the loopback. Raises BadParameter."""
    name, colon, digits = rest.rpartition(":")
    if not colon or "]" in digits:
        name, digits = rest, ""
    if digits:
        if not (digits.isascii() and digits.isdigit() and int(digits) < 65536):
            raise BadParameter(f"{host}: {digits} is no port", key="hosts")
        port = int(digits)
    if "/" in name:
        raise BadParameter(f"{host}: a TCP address has no path", key="hosts")
    return name.strip("[]") or "127.0.0.1", port


def _tcp_address(sock: socket.socket) -> str:
    name, port = sock.getsockname()[:2]
    return f"tcp://[{name}]:{port}" if ":" in name else f"tcp://{name}:{port}"


def _not_bound(host: str, exc: OSError) -> BadParameter | Conflict:
    if exc.errno == errno.EADDRINUSE:
        return Conflict(f"{host}: somebody listens there already")
    return BadParameter(f"{host}: cannot listen there: {exc.strerror or exc}", key="hosts")


# -- systemd -----------------------------------------------------------------------------------------------------


def _inherited(which: str) -> list[Bound]:
    """The sockets of sd_listen_fds(3): all of them, or the one with descriptor `which`. Raises BadParameter."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise BadParameter("fd://: systemd has handed over no sockets (LISTEN_PID is not ours)", key="hosts")
    count = os.environ.get("LISTEN_FDS", "")
    fds = range(FIRST_FD, FIRST_FD + (int(count) if count.isascii() and count.isdigit() and len(count) < 5 else 0))
    if which not in ("", "*"):
        fds = range(int(which), int(which) + 1) if which.isdigit() and int(which) in fds else range(0)
    if not fds:
        raise BadParameter(f"fd://{which}: systemd has handed over no such socket", key="hosts")
    return [_adopted(fd) for fd in fds]


def _adopted(fd: int) -> Bound:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise BadParameter(f"fd://{fd}: {exc.strerror}", key="hosts") from None
    if not listens or sock.type != socket.SOCK_STREAM:
        raise BadParameter(f"fd://{fd} is no listening stream socket", key="hosts")
    is_local = sock.family == socket.AF_UNIX
    return Bound(sock, f"unix://{sock.getsockname()}" if is_local else _tcp_address(sock), is_local)


def _checked(bound: Bound, tls: bool, plain_tcp: bool) -> Bound:
    if not (bound.is_local or tls or plain_tcp):
        bound.close()
        raise _plain_tcp(bound.address)
    return bound
