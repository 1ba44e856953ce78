"""The network family: Docker's networks and endpoints, and the jobs by which a container gets its namespace.

Three owners meet here. `network/` owns networks and *sandboxes*: what a running container has, namespace, interfaces,
addresses, ports, names. `daemon/` owns what a container is configured to have, since that outlives its runs. The exec
driver only joins the namespace that it is told.

    start    daemon ── allocate_interface ──▶ network      (addresses, veths, ports; answers with a Sandbox)
             daemon ── sandbox_watch ───────▶ network      (the init's pid: its end closes what outlives a daemon)
    exit     daemon ── release_interface ───▶ network
    connect  client ── network_connect ─────▶ network ── endpoint_add ──▶ daemon ── interface_plug ──▶ network
             (the daemon holds the container's lock and keeps the setting; the interface comes only if it runs)
    restart  daemon ── sandboxes_reconcile ─▶ network      (what runs is kept, the rest is taken away)

`name` of a network is its name, full id or unique prefix of an id.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

from .container_config import EndpointSettings, PortBinding

Name = Annotated[str, Meta(description="Network name, id, or unique prefix of an id.")]
ContainerName = Annotated[str, Meta(description="Container name, id, or unique prefix of an id.")]
ContainerId = Annotated[str, Meta(description="Full id of a container.")]
Filters = Annotated[dict[str, list[str] | dict[str, bool]], Meta(description="What to keep, by Docker's filter names.")]
Ports = Annotated[
    dict[str, list[PortBinding] | None],
    Meta(description="Published ports by `PORT/PROTO`; null or [] where a port is only exposed."),
]


# -- what networks look like -----------------------------------------------------------------------------------------


class IPAMConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pool of addresses. Subnet and IPRange in CIDR notation; AuxiliaryAddresses are kept free, by name."""

    Subnet: str = ""
    IPRange: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class IPAM(msgspec.Struct, frozen=True):
    """How a network's addresses are managed: the IPAM driver (`default` only), its options, its pools."""

    Driver: str = "default"
    Options: dict[str, str] | None = None
    Config: list[IPAMConfig] | None = None


class ConfigReference(msgspec.Struct, frozen=True):
    """The config-only network that a network takes its configuration from."""

    Network: str = ""


class NetworkContainer(msgspec.Struct, frozen=True):
    """A running container's end of a network; addresses in CIDR notation."""

    Name: str
    EndpointID: str
    MacAddress: str
    IPv4Address: str
    IPv6Address: str


class NetworkInfo(msgspec.Struct, frozen=True):
    """Everything about one network (Docker API: Network). Containers by their id; empty in lists."""

    Name: str
    Id: str
    Created: Annotated[str, Meta(description="RFC 3339 with nanoseconds.")]
    Scope: str
    Driver: str
    EnableIPv4: bool
    EnableIPv6: bool
    IPAM: IPAM
    Internal: bool
    Attachable: bool
    Ingress: bool
    ConfigFrom: ConfigReference
    ConfigOnly: bool
    Containers: dict[str, NetworkContainer]
    Options: dict[str, str]
    Labels: dict[str, str]


class NetworkCreated(msgspec.Struct, frozen=True):
    """A new network's id, and what was asked for and cannot be had."""

    Id: str
    Warning: str = ""


class NetworksPruned(msgspec.Struct, frozen=True):
    """Names of the networks that were deleted."""

    NetworksDeleted: list[str] | None


class NetworkCreate(Signature[NetworkCreated], frozen=True):
    """Create a network. Raises Conflict when the name is taken, Denied for the names of the predefined ones."""

    NAME: ClassVar[str] = "network_create"
    Name: Annotated[str, Meta(description="Name of the network.")]
    CheckDuplicate: Annotated[bool, Meta(description="Kept for old clients: names are always unique.")] = False
    Driver: Annotated[str, Meta(description="bridge, macvlan, or one that a plugin provides.")] = "bridge"
    Scope: str = ""
    Internal: Annotated[bool, Meta(description="No way in or out but to its own containers and the host.")] = False
    Attachable: bool = False
    Ingress: bool = False
    ConfigOnly: bool = False
    ConfigFrom: ConfigReference | None = None
    IPAM: IPAM | None = None
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    Options: Annotated[dict[str, str] | None, Meta(description="The driver's options.")] = None
    Labels: dict[str, str] | None = None


class Networks(Signature[list[NetworkInfo]], frozen=True):
    """List networks."""

    NAME: ClassVar[str] = "networks"
    READONLY: ClassVar[bool] = True
    filters: Filters = {}


class NetworkInspect(Signature[NetworkInfo], frozen=True):
    """Tell everything about a network, running containers included."""

    NAME: ClassVar[str] = "network_inspect"
    READONLY: ClassVar[bool] = True
    name: Name
    verbose: bool = False
    scope: str = ""


class NetworkDelete(Signature[None], frozen=True):
    """Delete a network. Raises Denied when running containers are in it, or when it is predefined."""

    NAME: ClassVar[str] = "network_delete"
    name: Name


class NetworksPrune(Signature[NetworksPruned], frozen=True):
    """Delete all networks that no container is configured to be in."""

    NAME: ClassVar[str] = "networks_prune"
    filters: Filters = {}


class NetworkWarnings(Signature[list[str]], frozen=True):
    """Tell what other packet filters of the host do to containers' packets, in sentences."""

    NAME: ClassVar[str] = "network_warnings"
    READONLY: ClassVar[bool] = True


class NetworkConnect(Signature[None], frozen=True):
    """Put a container into one more network, at once when it runs."""

    NAME: ClassVar[str] = "network_connect"
    name: Name
    Container: ContainerName
    EndpointConfig: EndpointSettings | None = None


class NetworkDisconnect(Signature[None], frozen=True):
    """Take a container out of a network."""

    NAME: ClassVar[str] = "network_disconnect"
    name: Name
    Container: ContainerName
    Force: Annotated[bool, Meta(description="Also when the container is gone.")] = False


# -- between daemon and network --------------------------------------------------------------------------------------


class Sandbox(msgspec.Struct, frozen=True):
    """What a running container has of the network.

    `namespace` is a path by which the namespace can be joined while this process lives; empty once it runs.
    `endpoints` are by network name, in order, the first having the default route; `names` says that 127.0.0.11
    resolves in it; `host_gateway` is the address that `host-gateway` stands for.
    """

    id: str
    namespace: str = ""
    endpoints: dict[str, EndpointSettings] = {}
    ports: dict[str, list[PortBinding] | None] = {}
    names: bool = False
    host_gateway: str = ""


class AllocateInterface(Signature[Sandbox], frozen=True):
    """Make a container's network namespace with its interfaces, addresses, routes, ports and names.

    Raises NotFound for an unknown network, BadParameter and Conflict for addresses and ports; nothing is left then.
    """

    NAME: ClassVar[str] = "allocate_interface"
    LOCAL: ClassVar[bool] = True
    id: ContainerId
    name: Annotated[str, Meta(description="Name of the container.")] = ""
    hostname: str = ""
    endpoints: Annotated[
        dict[str, EndpointSettings], Meta(description="Settings by network name or id. Empty: the default bridge.")
    ] = {}
    ports: Ports = {}
    exposed: Annotated[list[str], Meta(description="Exposed ports, as `PORT/PROTO`.")] = []
    publish_all: Annotated[bool, Meta(description="Publish the exposed ports too.")] = False
    nameservers: Annotated[
        list[str], Meta(description="Whom 127.0.0.11 asks for what it does not know. Default: the host's.")
    ] = []
    namespace: Annotated[str, Meta(description="Path of a new network namespace to use instead of one of its own.")] = (
        ""
    )
    RequestedIP: Annotated[str, Meta(description="Address on the first network.")] = ""
    RequestedMac: Annotated[str, Meta(description="MAC address on the first network.")] = ""


class ReleaseInterface(Signature[None], frozen=True):
    """Take back what a container had. Its ports and addresses are free when this returns. Nothing there is fine."""

    NAME: ClassVar[str] = "release_interface"
    LOCAL: ClassVar[bool] = True
    id: ContainerId


class SandboxWatch(Signature[None], frozen=True):
    """Tie a container's sandbox to its first process, which has joined the namespace."""

    NAME: ClassVar[str] = "sandbox_watch"
    LOCAL: ClassVar[bool] = True
    id: ContainerId
    pid: int


class SandboxesReconcile(Signature[dict[str, Sandbox]], frozen=True):
    """Keep the sandboxes of the containers that run, and take the others away. Answers what is kept, by id."""

    NAME: ClassVar[str] = "sandboxes_reconcile"
    LOCAL: ClassVar[bool] = True
    running: Annotated[dict[str, int], Meta(description="Pid of the first process, by container id.")]


class SandboxRename(Signature[None], frozen=True):
    """Give a running container another name in the networks that resolve names."""

    NAME: ClassVar[str] = "sandbox_rename"
    LOCAL: ClassVar[bool] = True
    id: ContainerId
    name: str


class InterfacePlug(Signature[Sandbox], frozen=True):
    """Give a running container an interface on one more network."""

    NAME: ClassVar[str] = "interface_plug"
    LOCAL: ClassVar[bool] = True
    id: ContainerId
    name: Annotated[str, Meta(description="Name of the container.")]
    hostname: str
    pid: int
    network: Name
    settings: EndpointSettings = EndpointSettings()


class InterfaceUnplug(Signature[Sandbox], frozen=True):
    """Take a running container's interface on a network away."""

    NAME: ClassVar[str] = "interface_unplug"
    LOCAL: ClassVar[bool] = True
    id: ContainerId
    pid: int
    network: Name


class EndpointAdd(Signature[None], frozen=True):
    """Note that a container is in one more network, and plug it in when it runs. The daemon's."""

    NAME: ClassVar[str] = "endpoint_add"
    LOCAL: ClassVar[bool] = True
    container: ContainerName
    network: Annotated[str, Meta(description="Name of the network.")]
    network_id: str
    settings: EndpointSettings = EndpointSettings()


class EndpointRemove(Signature[None], frozen=True):
    """Note that a container is no longer in a network, and unplug it when it runs. The daemon's."""

    NAME: ClassVar[str] = "endpoint_remove"
    LOCAL: ClassVar[bool] = True
    container: ContainerName
    network: Annotated[str, Meta(description="Name of the network.")]
    network_id: str
    force: bool = False


class EndpointNetworks(Signature[list[str]], frozen=True):
    """List the networks, by name or id as they were given, that containers are configured to be in. The daemon's."""

    NAME: ClassVar[str] = "endpoint_networks"
    LOCAL: ClassVar[bool] = True
    READONLY: ClassVar[bool] = True


# -- Docker 1.3's ----------------------------------------------------------------------------------------------------


class AddressPool(msgspec.Struct, frozen=True):
    """Where subnets are taken from when nobody says one: `size` is the prefix length of each."""

    base: str
    size: int


class InitNetworkdriver(Signature[None], frozen=True):
    """Set up the network driver: default bridge, firewall, forwarding. Runs once."""

    NAME: ClassVar[str] = "init_networkdriver"
    LOCAL: ClassVar[bool] = True
    EnableIptables: Annotated[bool, Meta(description="Keep packet filter rules, in a table of our own.")] = True
    InterContainerCommunication: Annotated[bool, Meta(description="Default bridge: containers reach each other.")] = (
        True
    )
    EnableIpMasq: bool = True
    EnableIpForward: bool = True
    EnableIPv6: Annotated[bool, Meta(description="IPv6 on the default bridge.")] = False
    BridgeIface: Annotated[str, Meta(description="Default bridge; empty: `windlass0`; `none`: no default bridge.")] = ""
    BridgeIP: Annotated[str, Meta(description="Its IPv4 address in CIDR notation.")] = ""
    BridgeIP6: Annotated[str, Meta(description="Its IPv6 address in CIDR notation.")] = ""
    FixedCIDR: Annotated[str, Meta(description="Part of the subnet that addresses are given from.")] = ""
    FixedCIDR6: str = ""
    DefaultGateway: str = ""
    DefaultGateway6: str = ""
    DefaultBindingIP: Annotated[str, Meta(description="Where ports are published when nobody says.")] = ""
    HostGateway: Annotated[list[str], Meta(description="What host-gateway stands for. Default: the bridge's.")] = []
    Mtu: int = 0
    UserlandProxy: bool = True
    Pools: Annotated[list[AddressPool], Meta(description="Empty: Docker's.")] = []


class AllocatedPort(msgspec.Struct, frozen=True):
    """Where a port of a container is published."""

    HostIP: str
    HostPort: int


class AllocatePort(Signature[AllocatedPort], frozen=True):
    """Publish one more port of a running container, until it ends."""

    NAME: ClassVar[str] = "allocate_port"
    id: ContainerId
    HostIP: Annotated[str, Meta(description="Address of the host; empty: the default.")] = ""
    HostPort: Annotated[int, Meta(description="0: a free one.")] = 0
    ContainerPort: int = 0
    Proto: Annotated[str, Meta(description="tcp, udp or sctp.")] = "tcp"


class Link(Signature[None], frozen=True):
    """Let one container reach ports of another where containers cannot reach each other (`--icc=false`), or no more."""

    NAME: ClassVar[str] = "link"
    action: Annotated[str, Meta(description="-I or -D: insert or delete.")]
    ParentIP: str
    ChildIP: str
    Ports: Annotated[list[str], Meta(description="Ports of the child, as `PORT/PROTO`.")] = []
    IgnoreErrors: bool = False
