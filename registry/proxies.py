"""The proxy for a URL, by the environment: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, as Go's programs read them."""

from __future__ import annotations

import ipaddress
from urllib import request
from urllib.parse import urlsplit


def find(url: str) -> str | None:
    """The proxy's URL; None for none. Loopback is never asked through one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = request.getproxies_environment()
    proxy = proxies.get(parts.scheme)
    if not proxy or _is_loopback(host) or _is_excluded(host, parts.port, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_excluded(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    """True when NO_PROXY has the host, a domain above it, or a CIDR block around it."""
    if request.proxy_bypass_environment(  # type: ignore[attr-defined]  # typeshed has it for macOS
        f"{host}:{port}" if port else host, proxies
    ):
        return True
    try:
        address = ipaddress.ip_address(host)
        return any(
            address in ipaddress.ip_network(each.strip()) for each in proxies.get("no", "").split(",") if "/" in each
        )
    except ValueError:
        return False
