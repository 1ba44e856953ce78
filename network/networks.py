"""The jobs on networks themselves: create, list, inspect, delete, prune; statuses and words are dockerd's."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_network

import msgspec
import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Denied, JobError, NotFound, Unsupported
from windlass.jobs.events import Log
from windlass.jobs.networks import (
    IPAM,
    ConfigReference,
    EndpointNetworks,
    NetworkCreate,
    NetworkCreated,
    NetworkDelete,
    NetworkInfo,
    NetworkInspect,
    Networks,
    NetworksPrune,
    NetworksPruned,
    NetworkWarnings,
)
from windlass.kernel.nft import NftError
from windlass.lib import filters, timestamp

from .ipam import check_config, check_overlap, resolve
from .model import PREDEFINED, Network
from .networking import Networking
from .predefined import new_id, shown_options

logger = logging.getLogger("windlass.network")

FILTERS = frozenset(("driver", "id", "label", "name", "scope", "type", "dangling"))
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


async def network_create(net: Networking, job: Job[NetworkCreate]) -> NetworkCreated:
    """Create a network."""
    params = job.params
    _check_name(params.Name)
    _check_kind(params)
    await net.up()
    net.networks.check_name(params.Name)
    network = _configured(net, params)
    if not network.config_only:
        driver = net.drivers.get(network.driver)
        if driver is None:
            raise NotFound(
                f'could not find plugin {network.driver} in v1 plugin registry: plugin "{network.driver}" not found'
            )
        network = driver.check(network, list(net.networks))
        if driver.has_addresses:
            routes = await net.thread.run(net.netlink.routes)
            network = _with_subnets(net, network, [*net.networks.taken(), *routes])
    with net.networks.hold(network), trio.CancelScope(shield=True):
        async with AsyncExitStack() as undo:
            # The row comes before the device and goes after it: a crash leaves no device that nobody knows.
            undo.push_async_callback(net.store.forget_network, network.id)
            await net.store.put_network(network)
            net.networks.add(network)
            undo.callback(net.networks.remove, network)
            if not network.config_only:
                undo.push_async_callback(net.drivers[network.driver].delete, net, network)
                undo.push_async_callback(net.unmake, network)
                await net.make(network)
            undo.pop_all()
    await _tell(net, network, "create")
    return NetworkCreated(Id=network.id, Warning=_left_out(params, network))


async def networks(net: Networking, job: Job[Networks]) -> list[NetworkInfo]:
    """List networks."""
    await net.up()
    wanted = _parse(job.params.filters, FILTERS)
    used = set(await net.engine.call(EndpointNetworks())) if "dangling" in wanted else set()
    chosen = [each for each in net.networks if _fits(net, each, wanted, used)]
    return [_info(each, {}) for each in sorted(chosen, key=lambda each: each.created_ns, reverse=True)]


async def network_warnings(net: Networking, job: Job[NetworkWarnings]) -> list[str]:
    """Tell what other packet filters of the host do to containers' packets, in sentences."""
    await net.up()
    if not net.settings.EnableIptables:
        return []
    try:
        return await net.firewall.warnings()
    except NftError as exc:
        return [f"the packet filter cannot be read: {exc}"]


async def network_inspect(net: Networking, job: Job[NetworkInspect]) -> NetworkInfo:
    """Tell everything about a network, running containers included."""
    await net.up()
    if job.params.scope not in ("", "local"):
        raise NotFound(f"network {job.params.name} not found")
    network = net.networks.get(job.params.name)
    return _info(network, net.active(network.id))


async def network_delete(net: Networking, job: Job[NetworkDelete]) -> None:
    """Delete a network."""
    await net.up()
    network = net.networks.get(job.params.name)
    if network.is_predefined:
        raise Denied(f"{network.name} is a pre-defined network and cannot be removed")
    await _delete(net, network)


async def networks_prune(net: Networking, job: Job[NetworksPrune]) -> NetworksPruned:
    """Delete all networks that no container is configured to be in."""
    await net.up()
    wanted = _parse(job.params.filters, frozenset(("label", "label!", "until")))
    used = set(await net.engine.call(EndpointNetworks()))
    until = _until(wanted.get("until", []))
    deleted = []
    for network in list(net.networks):
        busy = network.is_predefined or net.networks.is_used(network) or net.active(network.id)
        if busy or used & {network.name, network.id} or network.created_ns >= until:
            continue
        spared = wanted.get("label!")
        if spared and filters.has_labels(network.labels, spared):
            continue
        if filters.has_labels(network.labels, wanted.get("label", [])):
            try:
                await _delete(net, network)
            except (OSError, JobError) as exc:
                logger.warning("network %s could not be deleted, going on: %s", network.name, exc)
            else:
                deleted.append(network.name)
    with suppress(JobError):
        await net.engine.call(Log(action="prune", id="", type="network", attributes={"reclaimed": "0"}))
    return NetworksPruned(deleted or None)


async def _delete(net: Networking, network: Network) -> None:
    """Delete a network; when that fails it stays. Raises NotFound, Denied. Nobody else runs before it is held."""
    if network.id not in net.networks:
        raise NotFound(f"network {network.name} not found")
    if net.networks.is_used(network) and network.config_only:
        raise Denied(f"configuration network {network.name} is in use")
    if net.active(network.id) or net.networks.is_used(network):
        raise Denied(f"error while removing network: network {network.name} id {network.id} has active endpoints")
    net.networks.remove(network)
    with net.networks.hold(network), trio.CancelScope(shield=True):
        async with AsyncExitStack() as undo:
            undo.callback(net.networks.add, network)
            await net.unmake(network)
            if not network.config_only:
                # Also where this daemon has made nothing: one before it may have.
                await net.drivers[network.driver].delete(net, network)
            await net.store.forget_network(network.id)
            undo.pop_all()
    await _tell(net, network, "destroy")


# -- checking --------------------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if not name.strip():
        raise BadParameter("network name cannot be empty", key="Name")
    if name in (*PREDEFINED, "default"):
        raise Denied(f"operation is not permitted on predefined {name} network ", name=name)
    if name.startswith("container:") or not NAME.fullmatch(name) or len(name) > 255:
        raise BadParameter(f'invalid network name "{name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed', key="Name")


def _check_kind(params: NetworkCreate) -> None:
    if params.Ingress or params.Scope == "swarm" or params.Driver == "overlay":
        raise Unsupported("networks of swarms are not supported: this engine runs on one host", key="Scope")
    if params.Scope not in ("", "local"):
        raise BadParameter(f"invalid scope: {params.Scope}", key="Scope")
    if params.IPAM and params.IPAM.Driver not in ("", "default"):
        raise BadParameter(f"Invalid ipam driver: {params.IPAM.Driver}", key="IPAM")
    if params.ConfigOnly and params.ConfigFrom and params.ConfigFrom.Network:
        raise Denied("a configuration network cannot depend on another configuration network", key="ConfigFrom")


def _configured(net: Networking, params: NetworkCreate) -> Network:
    """The network that is asked for; with ConfigFrom, what that has decided. Raises BadParameter, Denied."""
    ipam = params.IPAM or IPAM()
    config = [each for each in ipam.Config or [] if each.Subnet or each.IPRange or each.Gateway]
    check_config(config)
    resolved = [resolve(each) for each in config]
    for number, each in enumerate(resolved):
        check_overlap(ip_network(each.Subnet), [ip_network(other.Subnet) for other in resolved[:number]])
    network = Network(
        id=new_id(),
        name=params.Name,
        driver=params.Driver or "bridge",
        created_ns=time.time_ns(),
        ipam=IPAM("default", ipam.Options, resolved),
        has_own_subnets=bool(resolved),
        enable_ipv4=params.EnableIPv4 is not False,
        enable_ipv6=bool(params.EnableIPv6),
        internal=params.Internal,
        attachable=params.Attachable,
        config_only=params.ConfigOnly,
        options=params.Options or {},
        labels=params.Labels or {},
    )
    if params.ConfigFrom and params.ConfigFrom.Network:
        return _from_config(net, network, params.ConfigFrom.Network)
    if not network.enable_ipv4 and not network.enable_ipv6:
        raise BadParameter("IPv4 or IPv6 must be enabled", key="EnableIPv4")
    return network


def _from_config(net: Networking, network: Network, name: str) -> Network:
    source = net.networks.get(name)
    if not source.config_only:
        raise Denied(f"{name} is not a configuration network", key="ConfigFrom")
    if network.has_own_subnets or network.options or network.internal or network.attachable:
        raise Denied(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    return msgspec.structs.replace(
        network, config_from=source.name, ipam=source.ipam, has_own_subnets=source.has_own_subnets,
        enable_ipv4=source.enable_ipv4, enable_ipv6=source.enable_ipv6, internal=source.internal,
        attachable=source.attachable, options=source.options, labels={**source.labels, **network.labels},
    )  # fmt: skip


def _with_subnets(net: Networking, network: Network, taken: list[object]) -> Network:
    """The network with a subnet for each family: those asked for, and free ones."""
    asked = list(network.ipam.Config or ())
    configs = []
    for version, wanted in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
        own = [each for each in asked if (":" in each.Subnet) == (version == 6)]
        if len(own) > 1:
            raise Denied(f"{network.driver} driver doesn't support multiple subnets", key="IPAM")
        if not wanted:
            if own and version == 4:
                raise BadParameter("IPv4 is not enabled, and there is an IPv4 subnet", key="IPAM")
            continue
        configs += own or [net.networks.space.choose(version, taken)]  # type: ignore[arg-type]
    return msgspec.structs.replace(network, ipam=msgspec.structs.replace(network.ipam, Config=configs))


def _left_out(params: NetworkCreate, network: Network) -> str:
    """What was asked for and is not there: IPv6 subnets of a network without IPv6, as dockerd leaves them out too."""
    asked = (params.IPAM.Config if params.IPAM else None) or []
    if network.config_only or network.enable_ipv6:
        return ""
    return "\n".join(f"IPv6 is not enabled: {each.Subnet} is left out" for each in asked if ":" in each.Subnet)


# -- showing ---------------------------------------------------------------------------------------------------------


def _info(network: Network, containers: Mapping[str, object]) -> NetworkInfo:
    return NetworkInfo(
        Name=network.name,
        Id=network.id,
        Created=timestamp.text(network.created_ns),
        Scope="local",
        Driver=network.driver,
        EnableIPv4=network.enable_ipv4,
        EnableIPv6=network.enable_ipv6,
        IPAM=network.ipam,
        Internal=network.internal,
        Attachable=network.attachable,
        Ingress=False,
        ConfigFrom=ConfigReference(network.config_from),
        ConfigOnly=network.config_only,
        Containers=dict(containers),  # type: ignore[arg-type]
        Options=shown_options(network),
        Labels=dict(network.labels),
    )


async def _tell(net: Networking, network: Network, action: str) -> None:
    attributes = {"name": network.name, "type": network.driver}
    with suppress(JobError):
        await net.engine.call(Log(action=action, id=network.id, type="network", attributes=attributes))


# -- filters ---------------------------------------------------------------------------------------------------------


def _parse(given: Mapping[str, list[str] | dict[str, bool]], known: frozenset[str]) -> dict[str, list[str]]:
    wanted = {}
    for name, values in given.items():
        if name not in known:
            raise BadParameter(f"invalid filter '{name}'", key="filters")
        wanted[name] = values if isinstance(values, list) else [value for value, on in values.items() if on]
    for value in wanted.get("dangling", []):
        if value not in ("true", "false", "1", "0"):
            raise BadParameter(f"invalid filter 'dangling={value}'", key="filters")
    for value in wanted.get("type", []):
        if value not in ("builtin", "custom"):
            raise BadParameter(f"invalid filter 'type={value}'", key="filters")
    return {name: values for name, values in wanted.items() if values}


def _fits(net: Networking, network: Network, wanted: dict[str, list[str]], used: set[str]) -> bool:
    is_dangling = not network.is_predefined and not used & {network.name, network.id} and not net.active(network.id)
    tests: dict[str, Callable[[list[str]], bool]] = {
        "driver": lambda values: network.driver in values,
        "id": lambda values: any(filters.search(value, network.id) for value in values),
        "name": lambda values: any(filters.search(value, network.name) for value in values),
        "scope": lambda values: "local" in values,
        "type": lambda values: ("builtin" if network.is_predefined else "custom") in values,
        "label": lambda values: filters.has_labels(network.labels, values),
        "dangling": lambda values: is_dangling == (values[0] in ("true", "1")),
    }
    return all(tests[name](values) for name, values in wanted.items())


def _until(values: list[str]) -> int:
    """The moment of a filter `until`, in nanoseconds."""
    if not values:
        return time.time_ns() + 1
    if len(values) > 1:
        raise BadParameter("more than one until filter specified", key="filters")
    try:
        return filters.until(values[0])
    except ValueError as exc:
        raise BadParameter(f"invalid filter 'until={values[0]:.100}': {exc}", key="filters") from None
