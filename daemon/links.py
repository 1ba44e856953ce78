"""Docker's oldest way for containers to find each other: links on the default bridge (moby: daemon/links).

A link is kept as `ID:ALIAS` in HostConfig.Links of the container that has it, so that it survives renaming, and shown
as `/child:/parent/alias`. In other networks a link is only one more name, and the network subsystem's affair.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from windlass.engine.errors import BadParameter, Conflict, NotFound
from windlass.jobs.container_config import HostConfig

from .container import Container
from .endpoints import BRIDGE, NO_LINKS, is_user_defined, shared_container
from .names import Registry
from .ports import exposed


class Linked(NamedTuple):
    """One link of a container that starts: the alias, the other one, and its address on the default bridge."""

    alias: str
    child: Container
    address: str


def parse_link(text: str) -> tuple[str, str]:
    """Read `NAME[:ALIAS]`, or inspect's `/name:/parent/alias`, as name and alias. Raises BadParameter."""
    name, colon, alias = text.partition(":")
    if not text:
        raise BadParameter("empty string specified for links", key="Links")
    if ":" in alias:
        raise BadParameter(f"bad format for links: {text}", key="Links")
    if name.startswith("/"):
        name, alias = name[1:], posixpath.basename(alias)
    return name, alias if colon else name


def register_links(containers: Registry, host: HostConfig) -> HostConfig:
    """Return `host` with its links by id. Raises BadParameter when there is no such container, Conflict."""
    if not host.Links or is_user_defined(host.NetworkMode):
        return host
    found: dict[str, str] = {}
    for text in host.Links:
        name, alias = parse_link(text)
        id = _child(containers, name).id
        if found.setdefault(alias, id) != id:
            raise Conflict(f"the link alias {alias} is given to two containers", key="Links")
    return msgspec.structs.replace(host, Links=[f"{id}:{alias}" for alias, id in found.items()])


def _child(containers: Registry, name: str) -> Container:
    try:
        child = containers.get(name)
        while shared := shared_container(child.host.NetworkMode):
            child = containers.get(shared)
    except NotFound as exc:
        raise BadParameter(f"could not get container for {name}: {exc.message}", key="Links") from None
    if child.host.NetworkMode == "host":
        raise BadParameter(NO_LINKS.format("host type networking"), key="Links")
    return child


def children(containers: Registry, container: Container) -> Iterator[tuple[str, Container]]:
    """The containers that `container` has links to, by alias; those that are gone are left out."""
    if not container.host.Links or is_user_defined(container.host.NetworkMode):
        return
    for text in container.host.Links:
        id, _, alias = text.partition(":")
        if id in containers:
            yield alias, containers.get(id)


def shown_links(containers: Registry, container: Container) -> list[str] | None:
    """HostConfig.Links as inspect shows them."""
    if is_user_defined(container.host.NetworkMode):
        return container.host.Links
    found = [f"/{child.name}:/{container.name}/{alias}" for alias, child in children(containers, container)]
    return found or None


def resolve_links(containers: Registry, container: Container) -> list[Linked]:
    """Find what a container's links lead to, for its start. Raises Conflict when one of them does not run."""
    found = []
    for alias, child in children(containers, container):
        if child.running is None:
            raise Conflict(
                f"Cannot link to a non running container: /{child.name} AS /{container.name}/{alias}", key="Links"
            )
        found.append(Linked(alias, child, bridge_address(child)))
    return found


def bridge_address(child: Container) -> str:
    """A running container's address on the default bridge. Raises Conflict when it has none."""
    end = child.sandbox.endpoints.get(BRIDGE) if child.sandbox else None
    if end is None:
        raise Conflict(f"container {child.id} not attached to default bridge network", key="Links")
    return end.IPAddress


def host_names(link: Linked) -> str:
    """The names of a link's other end in /etc/hosts: alias, host name, name."""
    return " ".join(dict.fromkeys((link.alias, link.child.config.Hostname, link.child.name)))


# -- the environment -------------------------------------------------------------------------------------------------


def link_environment(parent: str, link: Linked) -> list[str]:
    """The variables that tell the container `parent` about a link (moby: links.ToEnv)."""
    prefix = posixpath.basename(link.alias).upper().replace("-", "_")
    ports = sorted(_ports(link.child), key=lambda port: (port[0], port[1] != "tcp"))
    env = [f"{prefix}_PORT={ports[0][1]}://{link.address}:{ports[0][0]}"] if ports else []
    env += [*_ranges(prefix, link.address, ports)]
    for number, proto in ports:
        key = f"{prefix}_PORT_{number}_{proto.upper()}"
        env += [f"{key}={proto}://{link.address}:{number}", f"{key}_ADDR={link.address}"]
        env += [f"{key}_PORT={number}", f"{key}_PROTO={proto}"]
    env.append(f"{prefix}_NAME=/{parent}/{link.alias}")
    for entry in link.child.config.Env or ():
        key, equals, value = entry.partition("=")
        if equals and key not in ("HOME", "PATH"):
            env.append(f"{prefix}_ENV_{key}={value}")
    return env


def _ports(child: Container) -> Iterable[tuple[int, str]]:
    for port in exposed(child.config.ExposedPorts):
        number, _, proto = port.partition("/")
        yield int(number), proto


def _ranges(prefix: str, address: str, ports: Sequence[tuple[int, str]]) -> Iterator[str]:
    """What Docker says of ports that follow each other: where they start and where they end."""
    first = 0
    while first < len(ports):
        last = first
        while last + 1 < len(ports) and ports[last + 1][0] <= ports[first][0] + last + 1 - first:
            last += 1
        if last > first:
            (number, proto), (end, end_proto) = ports[first], ports[last]
            key = f"{prefix}_PORT_{number}_{proto.upper()}"
            yield from (f"{key}_START={proto}://{address}:{number}", f"{key}_ADDR={address}", f"{key}_PROTO={proto}")
            yield from (f"{key}_PORT_START={number}", f"{key}_END={end_proto}://{address}:{end}")
            yield f"{key}_PORT_END={end}"
        first = last + 1
