"""Names: which ones a container has in a network, and the zones and hosts that the helper answers from.

A zone is a file a network, a host a file a container, both on the exec root; the helper reads them at each question,
so it needs no daemon to go on answering.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from windlass.jobs.container_config import EndpointSettings
from windlass.jobs.networks import AllocateInterface

from .model import Network
from .networking import Live, Networking
from .records import EndpointRecord


def of(network: Network, params: AllocateInterface, settings: EndpointSettings) -> list[str] | None:
    """The names of a container in a network: its own, its aliases, its short id, its host name. Predefined: none."""
    if network.is_predefined:
        return None
    return list(dict.fromkeys(filter(None, [params.name, *(settings.Aliases or ()), params.id[:12], params.hostname])))


def renamed(endpoint: EndpointRecord, old: str, new: str) -> EndpointRecord:
    """The endpoint of a container that has another name now."""
    listed = endpoint.settings.DNSNames
    if listed is None:
        return endpoint
    names = list(dict.fromkeys(new if name == old else name for name in listed))
    return msgspec.structs.replace(endpoint, settings=msgspec.structs.replace(endpoint.settings, DNSNames=names))


async def publish(net: Networking, network_ids: Iterable[str]) -> None:
    """Write the zones of networks anew, from what the sandboxes have."""
    for id in network_ids:
        network = net.networks.find(id)
        if network is None or network.is_predefined:
            continue
        entries = [
            (name.lower(), address)
            for live in net.sandboxes.values()
            for endpoint in live.record.endpoints
            if endpoint.network_id == id
            for name in endpoint.settings.DNSNames or ()
            for address in (endpoint.settings.IPAddress, endpoint.settings.GlobalIPv6Address)
            if address
        ]
        if entries:
            net.helper.write_zone(id, network.name, entries)
        else:
            net.helper.forget_zone(id)


def publish_links(net: Networking, live: Live) -> None:
    """Write a container's own zone: what it calls the containers that it is linked to."""
    entries = [
        (alias.lower(), address)
        for endpoint in live.record.endpoints
        for name, alias in map(_link, endpoint.settings.Links or ())
        for address in _addresses(net, endpoint.network_id, name)
    ]
    if entries:
        net.helper.write_zone(live.record.id, "links", entries)
    else:
        net.helper.forget_zone(live.record.id)


def publish_host(net: Networking, live: Live) -> None:
    """Write which zones a container sees, and whom the helper asks for the rest."""
    record = live.record
    networks = [network for each in record.endpoints if (network := net.networks.find(each.network_id))]
    zones = [record.id, *(network.id for network in networks if not network.is_predefined)]
    servers = record.nameservers or _host_nameservers()
    net.helper.write_host(record.id, zones, servers, all(network.internal for network in networks))


def _host_nameservers() -> list[str]:
    """Whom the host asks (resolv.conf(5)); the helper is in the host's namespace, so its loopback will do."""
    try:
        words = [line.split() for line in Path("/etc/resolv.conf").read_text(errors="replace").splitlines()]
    except OSError:
        return []
    return [each[1] for each in words if len(each) > 1 and each[0] == "nameserver" and "%" not in each[1]]


def _link(text: str) -> tuple[str, str]:
    name, _, alias = text.partition(":")
    return name.lstrip("/"), (alias or name).lstrip("/")


def _addresses(net: Networking, network_id: str, name: str) -> Iterable[str]:
    for live in net.sandboxes.values():
        if name in (live.record.name, live.record.id, live.record.id[:12]):
            for each in live.record.endpoints:
                if each.network_id == network_id:
                    yield from filter(None, (each.settings.IPAddress, each.settings.GlobalIPv6Address))
