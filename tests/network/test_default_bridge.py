"""The default bridge, as the daemon's settings and the host let it be; and what an earlier daemon has left."""

from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from tests.network.world import World
from windlass.engine.errors import BadParameter, Conflict, Denied
from windlass.jobs.networks import (
    InitNetworkdriver,
    IPAMConfig,
)
from windlass.network.netlink import Link


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"BridgeIP": "10.9.0.5/24"}, IPAMConfig("10.9.0.0/24", "", "10.9.0.5")),
        ({"FixedCIDR": "10.9.0.0/24"}, IPAMConfig("10.9.0.0/24", "", "10.9.0.1")),
        (
            {"BridgeIP": "10.9.0.1/16", "FixedCIDR": "10.9.1.0/24"},
            IPAMConfig("10.9.0.0/16", "10.9.1.0/24", "10.9.0.1"),
        ),
        (
            {"BridgeIP": "10.9.0.1/24", "DefaultGateway": "10.9.0.254"},
            IPAMConfig("10.9.0.0/24", "", "10.9.0.1", {"DefaultGatewayIPv4": "10.9.0.254"}),
        ),
    ],
    ids=str,
)
async def test_the_default_bridge_is_as_configured(
    make: Callable[..., Any], settings: dict[str, Any], config: IPAMConfig
) -> None:
    world = await make(InitNetworkdriver(EnableIptables=False, **settings))
    assert (await world.inspect("bridge")).IPAM.Config == [config]
    assert (await (await make()).inspect("bridge")).IPAM.Config[0].Subnet == "172.17.0.0/16"


async def test_the_default_bridge_avoids_the_hosts_routes_and_then_stays(make: Callable[..., Any]) -> None:
    first = await make(InitNetworkdriver(EnableIptables=False, EnableIPv6=True))
    before = (await first.inspect("bridge")).IPAM
    first.host.taken = [ip_network("172.17.0.0/16")]
    first.host.devices["windlass0"] = Link(9, "windlass0", "bridge", "windlass:windlass", 0)
    first.host.given["windlass0"] = [ip_interface("172.17.0.1/16")]
    settings = InitNetworkdriver(EnableIptables=False, EnableIPv6=True)
    assert before == (await (await make(settings)).inspect("bridge")).IPAM
    del first.host.devices["windlass0"], first.host.given["windlass0"]
    moved = (await (await make(settings)).inspect("bridge")).IPAM
    assert [each.Subnet for each in moved.Config] == ["172.18.0.0/16", before.Config[1].Subnet]


async def test_a_bridge_made_by_somebody_else_keeps_its_address(make: Callable[..., Any]) -> None:
    world = await make()
    world.host.devices["br0"] = Link(7, "br0", "bridge", "", 0)
    world.host.given["br0"] = [ip_interface("10.7.0.3/24")]
    world = await make(InitNetworkdriver(EnableIptables=False, BridgeIface="br0"))
    assert (await world.inspect("bridge")).IPAM.Config == [IPAMConfig("10.7.0.0/24", "", "10.7.0.3")]


async def test_there_may_be_no_default_bridge(make: Callable[..., Any]) -> None:
    world = await make(InitNetworkdriver(EnableIptables=False, BridgeIface="none"))
    assert await world.names() == {"host", "none"}
    with pytest.raises(Denied):
        await world.create("bridge")


@pytest.mark.parametrize(
    "settings",
    [
        {"BridgeIP": "10.9.0.1"},
        {"BridgeIP": "x"},
        {"BridgeIP": "fd00::1/64"},
        {"BridgeIP": "10.9.0.1/24", "FixedCIDR": "10.8.0.0/24"},
        {"DefaultGateway": "10.9.0.1"},
        {"BridgeIP": "10.9.0.0/24"},
    ],
    ids=str,
)
async def test_bad_settings_are_refused(make: Callable[..., Any], settings: dict[str, Any]) -> None:
    with pytest.raises((BadParameter, Conflict)):
        await make(InitNetworkdriver(EnableIptables=False, **settings))


async def test_a_network_of_a_driver_that_is_gone_keeps_its_name(make: Callable[..., Any]) -> None:
    world = await make()
    made = await world.create("web", IPAMConfig("10.1.0.0/24"))
    await world.net.store.put_network(_of_driver(world, made.Id, "gone"))
    world = await make()
    assert "web" not in await world.names()
    with pytest.raises(Conflict):
        await world.create("web")
    with pytest.raises(Denied, match="Pool overlaps"):
        await world.create("other", IPAMConfig("10.1.0.0/24"))


def _of_driver(world: World, id: str, driver: str) -> Any:
    return msgspec.structs.replace(world.net.networks.get(id), driver=driver)
