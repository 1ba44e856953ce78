"""Ports of containers: as they are written, as the network subsystem takes them, as inspect and lists show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import HostConfig, PortBinding

Ports = Mapping[str, list[PortBinding] | None]
PROTOCOLS = ("tcp", "udp", "sctp")
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-zA-Z]+))?\Z", re.ASCII)


def parse_port(text: str) -> list[str]:
    """Read `80`, `80/udp`, `8000-8010/tcp` as `PORT/PROTO`, each on its own. Raises BadParameter."""
    match = _PORT.match(text)
    if match is None:
        raise BadParameter(f'invalid port specification: "{text}"', key="Ports")
    first, last, proto = int(match[1]), int(match[2] or match[1]), (match[3] or "tcp").lower()
    if not 0 < first <= last <= 65535:
        raise BadParameter(f'invalid port specification: "{text}"', key="Ports")
    if proto not in PROTOCOLS:
        raise BadParameter(f"Invalid proto: {match[3]}", key="Ports")
    return [f"{port}/{proto}" for port in range(first, last + 1)]


def exposed(ports: Iterable[str] | None) -> list[str]:
    """The ports of `ExposedPorts`; what an image has there that is no port is left out."""
    found: list[str] = []
    for text in ports or ():
        try:
            found += parse_port(text)
        except BadParameter:
            continue
    return list(dict.fromkeys(found))


def published(host: HostConfig) -> dict[str, list[PortBinding] | None]:
    """The ports of `PortBindings`, each with its protocol."""
    return {parse_port(port)[0]: bindings for port, bindings in (host.PortBindings or {}).items()}


def listed(ports: Ports) -> list[dict[str, Any]]:
    """The ports of a running container as a list of containers shows them."""
    found: list[dict[str, Any]] = []
    for spec, bindings in ports.items():
        port, _, proto = spec.partition("/")
        line = {"PrivatePort": int(port), "Type": proto}
        if not bindings:
            found.append(line)
        for binding in bindings or ():
            found.append({"IP": binding.HostIp, "PublicPort": int(binding.HostPort), **line})
    return found
