"""Keeps browsers out: a page that a user looks at may not speak to the engine on the user's machine.

A page can send requests to 127.0.0.1, its origin named in `Origin`; after DNS rebinding also without, but then with
its own name in `Host`. So requests over TCP must ask for a name that we know, and must not come from a page, unless
CORS was switched on.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from .errors import Refused
from .head import Head

METHODS = "HEAD, GET, POST, DELETE, PUT, OPTIONS"
ALLOWED_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, X-Registry-Auth"


@dataclass(frozen=True, slots=True)
class Guard:
    """What `serveapi` was told about origins: `cors` is the value of Access-Control-Allow-Origin, empty for none."""

    cors: str = ""
    names: frozenset[str] = field(default=frozenset({"localhost"}))

    @property
    def headers(self) -> str:
        """The CORS headers of every answer."""
        if not self.cors:
            return ""
        return (
            f"Access-Control-Allow-Origin: {self.cors}\r\nAccess-Control-Allow-Headers: {ALLOWED_HEADERS}\r\n"
            f"Access-Control-Allow-Methods: {METHODS}\r\n"
        )

    def check(self, head: Head) -> None:
        """Check a request that came over TCP. Raises Refused."""
        if "origin" in head.headers and not self.cors:
            raise Refused(403, "requests from web pages are refused: start the daemon with --api-cors-header")
        if "host" in head.headers and not self._is_known(head.headers["host"]):
            raise Refused(421, f"this engine is not called {head.headers['host']!r:.80}")

    def _is_known(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or "]" in port:
            name = host
        elif port and not (port.isascii() and port.isdigit()):
            return False
        name = name.strip("[]").lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True
