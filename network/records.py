"""What is kept of a sandbox on the exec root, so that the next daemon knows what a running container has.

The record is written before anything of it is made: it is the intent, and what a crash leaves is found by it.
"""

from __future__ import annotations

import msgspec

from windlass.jobs.container_config import EndpointSettings, PortBinding
from windlass.jobs.networks import Sandbox


class EndpointRecord(msgspec.Struct, frozen=True):
    """A container's end of one network. `interface` is its name inside, `host_name` that of the veth's other end.

    `settings` are filled in: addresses, gateways, names.
    """

    network_id: str
    network: str
    endpoint_id: str
    interface: str
    host_name: str
    settings: EndpointSettings


class PortRecord(msgspec.Struct, frozen=True):
    """A published port. `proxied`: the helper carries it, since the kernel cannot translate between families."""

    proto: str
    host_ip: str
    host_port: int
    address: str
    port: int
    bridge: str
    proxied: bool = False


class SandboxRecord(msgspec.Struct, frozen=True):
    """Everything that one container has. `pid` is its first process, 0 until that runs.

    `changing` names interfaces that are coming or going while it runs: after a crash they may be there or not."""

    id: str
    name: str
    hostname: str
    endpoints: list[EndpointRecord]
    ports: list[PortRecord] = []
    exposed: list[str] = []
    nameservers: list[str] = []
    names: bool = False
    host_gateway: str = ""
    pid: int = 0
    changing: list[str] = []


def view(record: SandboxRecord, namespace: str = "") -> Sandbox:
    """The sandbox as the daemon, and then clients, see it."""
    ports: dict[str, list[PortBinding] | None] = dict.fromkeys(record.exposed)
    for port in record.ports:
        bindings = ports.get(f"{port.port}/{port.proto}") or []
        ports[f"{port.port}/{port.proto}"] = [*bindings, PortBinding(port.host_ip, str(port.host_port))]
    return Sandbox(
        id=record.id,
        namespace=namespace,
        endpoints={each.network: each.settings for each in record.endpoints},
        ports=ports,
        names=record.names,
        host_gateway=record.host_gateway,
    )
