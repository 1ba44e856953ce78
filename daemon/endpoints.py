"""Which networks a container is to be in: checked at create and connect, one setting for each (moby: runconfig).

`NetworkMode` is the first network, or what stands in the place of networks: `none`, `host`, `container:X`. That the
networks are there is asked when the container starts, as dockerd does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import msgspec

from windlass.engine import Engine
from windlass.engine.errors import BadParameter, JobError
from windlass.jobs.container_config import EndpointIPAMConfig, EndpointSettings, HostConfig, NetworkingConfig
from windlass.jobs.containers import Create
from windlass.jobs.networks import NetworkInspect

from .container import Container
from .ports import parse_port

BRIDGE = "bridge"
PREDEFINED = (BRIDGE, "host", "none")
SHARED_NETWORK = (
    "container sharing network namespace with another container or host cannot be connected to any other network"
)
ONLY_HOST = "container cannot be disconnected from host network or connected to host network"
NO_NETWORK = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
NO_ADDRESS = "user specified IP address is supported on user defined networks only"
NO_ALIAS = "network-scoped alias is supported only for containers in user defined networks"
NO_LINKS = "conflicting options: {} can't be used with links. This would result in undefined behavior"
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}\Z", re.ASCII)


def network_name(mode: str) -> str:
    """The network that `NetworkMode` names; the default one's is `bridge`."""
    return BRIDGE if mode in ("", "default") else mode


def shared_container(mode: str) -> str:
    """The container whose network `container:X` shares; empty for every other mode."""
    return mode.removeprefix("container:") if mode.startswith("container:") else ""


def is_user_defined(name: str) -> bool:
    return network_name(name) not in PREDEFINED and not shared_container(name)


def has_sandbox(container: Container) -> bool:
    """True when the network subsystem gives a container its namespace at the start."""
    return is_connectable(container) and bool(endpoints(container))


def is_connectable(container: Container) -> bool:
    """True for a container with a namespace of its own that networks can be joined from."""
    mode = container.host.NetworkMode
    return not (container.config.NetworkDisabled or mode in ("none", "host") or shared_container(mode))


def endpoints(container: Container) -> dict[str, EndpointSettings]:
    """The networks that a container is configured to be in, by name or id as they were given."""
    given = container.definition.networking.EndpointsConfig or {}
    return {name: settings or EndpointSettings() for name, settings in given.items()}


# -- create ----------------------------------------------------------------------------------------------------------


def check_network_mode(params: Create, warn: Callable[[str], None]) -> None:
    """Refuse what does not go together with the NetworkMode. Raises BadParameter in dockerd's words."""
    host = params.HostConfig
    mode = host.NetworkMode
    if mode.partition(":")[0] == "container":
        _check_shared(params, host, mode)
    elif ":" in mode:
        raise BadParameter(f"Invalid network mode: {mode}", key="NetworkMode")
    if mode == "host" and host.Links:
        raise BadParameter(NO_LINKS.format("host type networking"), key="Links")
    if host.UTSMode == "host" and params.Hostname:
        raise BadParameter("conflicting options: hostname and the UTS mode", key="Hostname")
    if mode in ("host", "none") and params.MacAddress:
        raise BadParameter("conflicting options: mac-address and the network mode", key="MacAddress")
    if mode == "host" and host.PortBindings:
        warn("Published ports are discarded when using host network mode")


def _check_shared(params: Create, host: HostConfig, mode: str) -> None:
    if not shared_container(mode):
        raise BadParameter("Invalid network mode: invalid container format container:<name|id>", key="NetworkMode")
    if host.Links:
        raise BadParameter(NO_LINKS.format("container type network"), key="Links")
    conflicts = {
        "hostname": params.Hostname,
        "dns": host.Dns,
        "custom host-to-IP mapping": host.ExtraHosts,
        "mac-address": params.MacAddress,
    }
    for what, given in conflicts.items():
        if given:
            raise BadParameter(f"conflicting options: {what} and the network mode", key="NetworkMode")
    for what, is_given in (
        ("publishing", bool(host.PortBindings) or host.PublishAllPorts),
        ("exposing", bool(params.ExposedPorts)),
    ):
        if is_given:
            raise BadParameter(
                f"conflicting options: port {what} and the container type network mode", key="NetworkMode"
            )


async def main_network(engine: Engine, params: Create) -> str:
    """The network that NetworkMode means, by the word for it in EndpointsConfig: one may say its name, one its id."""
    mode, given = network_name(params.HostConfig.NetworkMode), params.NetworkingConfig.EndpointsConfig or {}
    if not given or mode in given or not is_user_defined(mode):
        return mode
    try:
        network = await engine.call(NetworkInspect(name=mode))
    except JobError:
        return mode
    return next((name for name in (network.Name, network.Id) if name in given), mode)


def settle_networks(params: Create, host: HostConfig, mode: str) -> NetworkingConfig:
    """Make one entry per network of EndpointsConfig, the first being `mode`, the main one. Raises BadParameter."""
    given = {
        network_name(name): check_endpoint(name, settings or EndpointSettings())
        for name, settings in (params.NetworkingConfig.EndpointsConfig or {}).items()
    }
    if shared_container(mode):
        if given:
            raise BadParameter(SHARED_NETWORK, key="NetworkingConfig")
        return NetworkingConfig()
    others = [name for name in given if name != mode]
    if mode == "none" and others or mode != "none" and "none" in others:
        raise BadParameter(NO_NETWORK, key="NetworkingConfig")
    if mode == "host" and others or mode != "host" and "host" in others:
        raise BadParameter(SHARED_NETWORK, key="NetworkingConfig")
    first = _main_endpoint(mode, given.pop(mode, EndpointSettings()), params, host)
    return NetworkingConfig({mode: first, **given})


def _main_endpoint(mode: str, settings: EndpointSettings, params: Create, host: HostConfig) -> EndpointSettings:
    """Put what was said for the container as a whole into its first network: MAC address, links."""
    if params.MacAddress:
        if settings.MacAddress not in ("", params.MacAddress):
            raise BadParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty",
                key="MacAddress",
            )
        settings = msgspec.structs.replace(settings, MacAddress=check_mac(params.MacAddress))
    if is_user_defined(mode) and host.Links and not settings.Links:
        settings = msgspec.structs.replace(settings, Links=host.Links)
    return settings


# -- one endpoint ----------------------------------------------------------------------------------------------------


def check_endpoint(network: str, settings: EndpointSettings) -> EndpointSettings:
    """Return what is asked for of `settings`, without what only a running container has. Raises BadParameter."""
    wanted = settings.IPAMConfig or EndpointIPAMConfig()
    if not is_user_defined(network):
        if wanted.IPv4Address or wanted.IPv6Address:
            raise BadParameter(NO_ADDRESS, key="IPAMConfig")
        if settings.Aliases:
            raise BadParameter(NO_ALIAS, key="Aliases")
    _check_address(wanted.IPv4Address, 4)
    _check_address(wanted.IPv6Address, 6)
    for address in wanted.LinkLocalIPs or ():
        if not _is_address(address):
            raise BadParameter(f"invalid link-local IP address: {address}", key="IPAMConfig")
    return EndpointSettings(
        IPAMConfig=settings.IPAMConfig,
        Links=settings.Links,
        Aliases=settings.Aliases,
        MacAddress=check_mac(settings.MacAddress),
        DriverOpts=settings.DriverOpts,
        GwPriority=settings.GwPriority,
    )


def check_mac(text: str) -> str:
    """Return `text` when it is empty or the MAC address of one interface. Raises BadParameter."""
    if text and (not _MAC.match(text) or int(text[:2], 16) & 1 or not text.strip("0:-")):
        raise BadParameter(f"invalid MAC address: {text}", key="MacAddress")
    return text


def _check_address(text: str, version: int) -> None:
    if text and not _is_address(text, version):
        raise BadParameter(f"invalid IPv{version} address: {text}", key="IPAMConfig")


def _is_address(text: str, version: int = 0) -> bool:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version in (0, found.version)


# -- ports, names ----------------------------------------------------------------------------------------------------


def check_resolver(host: HostConfig) -> None:
    """Check the addresses of HostConfig that are written into the container's files. Raises BadParameter."""
    for server in host.Dns or ():
        if not _is_address(server):
            raise BadParameter(f"{server} is not an ip address", key="Dns")
    for key, words in (("DnsSearch", host.DnsSearch), ("DnsOptions", host.DnsOptions)):
        for word in words or ():
            if not word or any(character.isspace() for character in word):
                raise BadParameter(f"invalid {key}: {word!r}", key=key)
    for entry in host.ExtraHosts or ():
        alias, mark, address = entry.partition("=" if "=" in entry else ":")
        if not alias or not mark or not address or any(character.isspace() for character in entry):
            raise BadParameter(f'bad format for add-host: "{entry}"', key="ExtraHosts")
        if address != "host-gateway" and not _is_address(address.strip("[]")):
            raise BadParameter(f'invalid IP address in add-host: "{address}"', key="ExtraHosts")


def check_ports(params: Create) -> None:
    """Check all ports of a request. Raises BadParameter."""
    for port in params.ExposedPorts or {}:
        parse_port(port)
    for port, bindings in (params.HostConfig.PortBindings or {}).items():
        if len(parse_port(port)) != 1:
            raise BadParameter(f'invalid port specification: "{port}"', key="PortBindings")
        for binding in bindings or ():
            _check_host_port(binding.HostPort)
            if binding.HostIp and not _is_address(binding.HostIp.strip("[]")):
                raise BadParameter(f"invalid IP address: {binding.HostIp}", key="PortBindings")


def _check_host_port(text: str) -> None:
    match = re.match(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z", text, re.ASCII)
    if text and (match is None or not int(match[1]) <= int(match[2] or match[1]) <= 65535):
        raise BadParameter(f'invalid port specification: "{text}"', key="PortBindings")
