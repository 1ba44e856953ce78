"""/etc/resolv.conf of a container: from the host's, HostConfig and the daemon's defaults (moby: setupDNS, rebuildDNS).

network          nameservers
host, none       the host's
default bridge   the host's but for those of its loopback, which are out of reach; Google's when none is left
user-defined     127.0.0.11, which asks those that the container would have had
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path

from windlass.jobs.container_config import HostConfig
from windlass.jobs.networks import Sandbox

from .daemon import Dns

MAX_SIZE = 64 << 10  # bytes of a file of the host's that are read
HOST_GATEWAY = "host-gateway"
EMBEDDED = "127.0.0.11"
FALLBACK = ("8.8.8.8", "8.8.4.4")
FALLBACK_V6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
_HOST = Path("/etc/resolv.conf")
_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")


def resolv_conf(host: HostConfig, sandbox: Sandbox | None, dns: Dns) -> str:
    """The file's text. Blocks."""
    text = host_file()
    chosen = nameservers(host, dns)
    search = list(host.DnsSearch or dns.search) or _last(text, "search")
    options = list(host.DnsOptions or dns.options) or _last(text, "options")
    is_plain = not (chosen or host.DnsSearch or dns.search or host.DnsOptions or dns.options)
    if sandbox is None:
        return text if is_plain else _build(chosen or _all(text, "nameserver"), search, options)
    if sandbox.names:
        has_ndots = any(option.startswith("ndots") for option in options)
        return _build([EMBEDDED], search, options if has_ndots else [*options, "ndots:0"])
    return _build(chosen or _reachable(_all(text, "nameserver"), sandbox), search, options)


def nameservers(host: HostConfig, dns: Dns) -> list[str]:
    """The nameservers that were asked for, for this container or for all; empty: the host's."""
    return list(host.Dns or dns.servers)


def extra_hosts(host: HostConfig) -> Iterator[tuple[str, str]]:
    """Names and addresses of ExtraHosts; an address may be HOST_GATEWAY."""
    for entry in host.ExtraHosts or ():
        name, _, address = entry.partition("=" if "=" in entry else ":")
        yield name, address.strip("[]")


def host_file() -> str:
    """The host's resolv.conf(5); where it only names systemd-resolved, the one that this has in its place."""
    text = read_text(_HOST)
    if _all(text, "nameserver") == ["127.0.0.53"]:
        return read_text(_SYSTEMD) or text
    return text


def read_text(path: Path) -> str:
    """The beginning of a file of the host's; empty when it cannot be read. Blocks."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE).decode(errors="replace")
    except OSError:
        return ""


def _reachable(servers: Iterable[str], sandbox: Sandbox) -> list[str]:
    has_v6 = any(end.GlobalIPv6Address for end in sandbox.endpoints.values())
    found = []
    for server in servers:
        try:
            address = ipaddress.ip_address(server)
        except ValueError:
            continue
        if not address.is_loopback and (address.version == 4 or has_v6):
            found.append(server)
    return found or [*FALLBACK, *(FALLBACK_V6 if has_v6 else ())]


def _all(text: str, key: str) -> list[str]:
    words = [line.split() for line in text.splitlines()]
    return [each[1] for each in words if len(each) > 1 and each[0] == key]


def _last(text: str, key: str) -> list[str]:
    """The words of the last line `key …`: it replaces those before."""
    words = [line.split() for line in text.splitlines()]
    return next((each[1:] for each in reversed(words) if each and each[0] == key), [])


def _build(servers: Iterable[str], search: list[str], options: list[str]) -> str:
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(f"{line}\n" for line in lines)
