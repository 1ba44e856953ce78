"""Networks by their jobs, with the drivers as they are and a host that only records."""

import errno
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
import trio

from tests.network.world import BRIDGE, World
from windlass.engine.errors import BadParameter, Conflict, Denied, JobError, NotFound
from windlass.jobs.networks import (
    IPAM,
    ConfigReference,
    IPAMConfig,
    NetworkCreate,
    Networks,
    NetworksPrune,
)
from windlass.network.netlink import Link

# -- create


async def test_a_network_has_a_free_subnet_and_a_bridge_with_its_gateway(world: World) -> None:
    made = await world.create(Options={f"{BRIDGE}.name": "br7"}, Labels={"a": "b"})
    assert IPAM("default", None, [IPAMConfig("172.18.0.0/16", "", "172.18.0.1")]) == made.IPAM
    assert (made.Scope, made.Driver, made.EnableIPv4, made.EnableIPv6) == ("local", "bridge", True, False)
    assert (made.Options, made.Labels) == ({f"{BRIDGE}.name": "br7"}, {"a": "b"})
    assert world.host.devices["br7"].alias == "windlass:windlass"
    assert world.host.given["br7"] == [ip_interface("172.18.0.1/16")]
    assert world.events == [("create", made.Id, {"name": "web", "type": "bridge"})]


async def test_subnets_of_networks_and_of_the_host_are_avoided(world: World) -> None:
    world.host.taken = [ip_network("172.16.0.0/13")]
    assert [(await world.create(name)).IPAM.Config[0].Subnet for name in ("a", "b")] == [  # type: ignore[index]
        "172.24.0.0/16", "172.25.0.0/16",
    ]  # fmt: skip


async def test_ipv6_without_a_subnet_is_a_64_of_the_daemons_own_prefix(make: Callable[..., Any]) -> None:
    prefixes = set()
    for name in ("a", "b"):
        world = await make()
        made = await world.create(name, EnableIPv6=True)
        subnet = ip_network(made.IPAM.Config[1].Subnet)
        assert subnet.prefixlen == 64 and made.IPAM.Config[1].Gateway == str(subnet[1])
        prefixes.add(subnet.supernet(new_prefix=48))
    assert len(prefixes) == 1


async def test_a_network_without_ipv4_has_no_ipv4_subnet(world: World) -> None:
    made = await world.create(EnableIPv4=False, EnableIPv6=True)
    assert [":" in each.Subnet for each in made.IPAM.Config or ()] == [True]
    with pytest.raises(BadParameter, match="IPv4 or IPv6 must be enabled"):
        await world.create("none-at-all", EnableIPv4=False)


async def test_an_ipv6_subnet_without_ipv6_is_left_out_and_said(world: World) -> None:
    ipam = IPAM(Config=[IPAMConfig("10.1.0.0/24"), IPAMConfig("fd00:1::/64")])
    created = await world.engine.call(NetworkCreate(Name="web", IPAM=ipam))
    assert "fd00:1::/64 is left out" in created.Warning
    assert [each.Subnet for each in (await world.inspect("web")).IPAM.Config or ()] == ["10.1.0.0/24"]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"Name": ""}, BadParameter, "empty"),
        ({"Name": " \t"}, BadParameter, "empty"),
        ({"Name": "a\nb"}, BadParameter, "invalid network name"),
        ({"Name": "container:x"}, BadParameter, "invalid network name"),
        ({"Name": "bridge"}, Denied, "operation is not permitted on predefined bridge network"),
        ({"Name": "default"}, Denied, "operation is not permitted on predefined default network"),
        ({"Driver": "nope"}, NotFound, 'plugin "nope" not found'),
        ({"Driver": "host"}, Denied, 'only one instance of "host" network is allowed'),
        ({"Driver": "null"}, Denied, 'only one instance of "null" network is allowed'),
        ({"Driver": "overlay"}, JobError, "swarm"),
        ({"Scope": "swarm"}, JobError, "swarm"),
        ({"Scope": "odd"}, BadParameter, "scope"),
        ({"Ingress": True}, JobError, "swarm"),
        ({"IPAM": IPAM(Driver="nope")}, JobError, "nope"),
        ({"IPAM": IPAM(Config=[IPAMConfig("10.1.0.7/24")])}, BadParameter, "it should be 10.1.0.0/24"),
        (
            {"IPAM": IPAM(Config=[IPAMConfig("10.1.0.0/24"), IPAMConfig("10.2.0.0/24")])},
            Denied,
            "bridge driver doesn't support multiple subnets",
        ),
        ({"Options": {"com.docker.network.driver.mtu": "x"}}, BadParameter, "failed to parse com.docker.network"),
        ({"Options": {"com.docker.network.driver.mtu": "-1"}}, BadParameter, "invalid MTU number: -1"),
        ({"Options": {f"{BRIDGE}.enable_icc": "yes"}}, BadParameter, 'ParseBool: parsing "yes"'),
        ({"Options": {f"{BRIDGE}.host_binding_ipv4": "x"}}, BadParameter, "nil ip"),
        ({"Options": {f"{BRIDGE}.name": "sixteen-bytes-16"}}, BadParameter, "no name for a network device"),
        ({"Options": {f"{BRIDGE}.gateway_mode_ipv4": "x"}}, BadParameter, "unknown gateway mode x"),
        ({"Options": {f"{BRIDGE}.gateway_mode_ipv4": "isolated"}}, BadParameter, "for an internal network"),
        ({"Options": {f"{BRIDGE}.name": "eth0"}}, Conflict, "device eth0 is there and is no bridge"),
        ({"Driver": "macvlan"}, BadParameter, "parent"),
        ({"Driver": "macvlan", "Options": {"parent": "nope"}}, BadParameter, "parent interface was not found"),
        ({"Driver": "macvlan", "Options": {"parent": "lo"}}, BadParameter, "loopback"),
        ({"Driver": "macvlan", "Options": {"parent": "eth0", "macvlan_mode": "x"}}, BadParameter, "macvlan mode"),
        ({"ConfigFrom": ConfigReference("nope")}, NotFound, "nope"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_cannot_be_is_refused_and_leaves_nothing(
    world: World, values: dict[str, Any], error: type[JobError], words: str
) -> None:
    with pytest.raises(error) as caught:
        await world.engine.call(NetworkCreate(**{"Name": "web", **values}))
    assert words in caught.value.message
    assert (await world.names(), set(world.host.devices), world.events) == ({"bridge", "host", "none"}, {"eth0"}, [])
    await world.create("web", IPAMConfig("10.1.0.0/24"))


async def test_names_and_subnets_that_others_have_are_refused(world: World) -> None:
    await world.create("web", IPAMConfig("10.1.0.0/24"))
    with pytest.raises(Conflict, match="^network with name web already exists$"):
        await world.create("web")
    with pytest.raises(Denied, match="Pool overlaps with other one on this address space"):
        await world.create("other", IPAMConfig("10.1.0.128/25"))
    with pytest.raises(Denied, match="same bridge name"):
        await world.create("third", Options={f"{BRIDGE}.name": world.net.bridge})


async def test_of_networks_made_at_once_each_has_a_subnet_and_one_has_the_name(world: World) -> None:
    subnets, refused = [], []

    async def create(name: str) -> None:
        try:
            subnets.append((await world.create(name)).IPAM.Config[0].Subnet)  # type: ignore[index]
        except Conflict as exc:
            refused.append(exc.message)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c", "d", "same", "same", "same"):
            nursery.start_soon(create, name)
    assert len(set(subnets)) == len(subnets) == 5
    assert refused == ["network with name same already exists"] * 2


async def test_what_the_host_refuses_is_undone(world: World) -> None:
    world.host.failure = OSError(errno.EPERM, "not you")
    with pytest.raises(JobError):
        await world.create("web", IPAMConfig("10.1.0.0/24"))
    world.host.failure = None
    assert await world.names(name=["web"]) == set()
    assert "web" not in await world.net.store.load_networks()
    await world.create("web", IPAMConfig("10.1.0.0/24"))


async def test_rules_that_fail_leave_no_bridge(world: World) -> None:
    async def fail() -> None:
        raise OSError(errno.ENOBUFS, "no room for rules")

    world.net.refresh_rules = fail  # type: ignore[method-assign]
    with pytest.raises(JobError):
        await world.create("web")
    assert (set(world.host.devices), await world.names(name=["web"])) == ({"eth0"}, set())


async def test_an_unknown_option_is_kept(world: World) -> None:
    given = {f"{BRIDGE}.from_the_future": "1"}
    assert (await world.create(Options=given)).Options == given


async def test_a_bridge_of_somebody_elses_is_used_and_left(world: World) -> None:
    world.host.devices["br0"] = Link(7, "br0", "bridge", "", 0)
    await world.create(Options={f"{BRIDGE}.name": "br0"})
    assert world.host.devices["br0"].alias == ""
    await world.delete("web")
    assert "br0" in world.host.devices


async def test_a_bridge_of_another_daemons_is_refused(world: World) -> None:
    world.host.devices["br0"] = Link(7, "br0", "bridge", "windlass:other", 0)
    with pytest.raises(Conflict, match="another daemon's"):
        await world.create(Options={f"{BRIDGE}.name": "br0"})


async def test_a_bridge_keeps_its_mac_address(world: World) -> None:
    made = await world.create(Options={f"{BRIDGE}.name": "br7"})
    assert world.host.macs["br7"].replace(":", "") == "0242" + made.Id[:8]


@pytest.mark.parametrize(
    ("options", "internal", "has_address"),
    [
        ({}, True, True),
        ({f"{BRIDGE}.inhibit_ipv4": "true"}, False, False),
        ({f"{BRIDGE}.gateway_mode_ipv4": "isolated"}, True, False),
    ],
    ids=str,
)
async def test_a_bridge_has_the_gateway_unless_it_shall_not(
    world: World, options: dict[str, str], internal: bool, has_address: bool
) -> None:
    await world.create(Internal=internal, Options={f"{BRIDGE}.name": "br7", **options})
    assert bool(world.host.given["br7"]) == has_address


async def test_an_internal_macvlan_needs_no_parent(world: World) -> None:
    made = await world.create(Driver="macvlan", Internal=True)
    assert f"dm-{made.Id[:12]}" in world.host.devices
    await world.delete("web")
    assert set(world.host.devices) == {"eth0"}


async def test_macvlans_may_share_a_parent_but_for_passthru(world: World) -> None:
    for name in ("a", "b"):
        await world.create(name, Driver="macvlan", Options={"parent": "eth0"})
    with pytest.raises(Denied, match="passthru"):
        await world.create("c", Driver="macvlan", Options={"parent": "eth0", "macvlan_mode": "passthru"})
    await world.delete("a")
    assert "eth0" in world.host.devices


# -- configurations to copy


async def test_a_configuration_is_copied_and_kept_while_in_use(world: World) -> None:
    options = {f"{BRIDGE}.enable_icc": "false"}
    source = await world.create("source", IPAMConfig("10.1.0.0/24"), ConfigOnly=True, Options=options)
    assert source.ConfigOnly and set(world.host.devices) == {"eth0"}
    made = await world.create("web", ConfigFrom=ConfigReference("source"))
    assert (made.ConfigFrom.Network, made.Options) == ("source", options)
    assert made.IPAM.Config == [IPAMConfig("10.1.0.0/24", "", "10.1.0.1")]
    with pytest.raises(Denied, match="is in use"):
        await world.delete("source")
    await world.delete("web")
    await world.delete("source")


async def test_what_has_a_configuration_takes_no_other(world: World) -> None:
    await world.create("source", ConfigOnly=True)
    for values in ({"Options": {"a": "b"}}, {"ConfigOnly": True}):
        with pytest.raises(Denied):
            await world.create("web", ConfigFrom=ConfigReference("source"), **values)
    await world.create("plain")
    with pytest.raises(Denied, match="not a configuration network"):
        await world.create("web", ConfigFrom=ConfigReference("plain"))


# -- inspect, list


async def test_a_network_is_found_by_name_id_and_unique_prefix(world: World) -> None:
    made = await world.create()
    for word in ("web", made.Id, made.Id[:12]):
        assert (await world.inspect(word)).Id == made.Id
    for word in ("nobody", "", made.Id + "0"):
        with pytest.raises(NotFound, match=f"^network {word} not found$"):
            await world.inspect(word)


async def test_an_ambiguous_prefix_is_refused_and_a_name_goes_before_a_prefix(world: World) -> None:
    ids = [(await world.create(f"n{number}")).Id for number in range(17)]
    first = next(id[0] for id in ids if sum(other[0] == id[0] for other in ids) > 1)
    with pytest.raises(BadParameter, match=rf"network {first} is ambiguous \(\d+ matches found based on ID prefix\)"):
        await world.inspect(first)
    named = await world.create(first)
    assert (await world.inspect(first)).Id == named.Id


async def test_inspect_tells_who_is_in_and_lists_do_not(world: World) -> None:
    made = await world.create()
    world.connect(made)
    assert (await world.inspect("web")).Containers["c1"].IPv4Address == "10.1.0.2/24"
    (listed,) = await world.engine.call(Networks(filters={"name": ["web"]}))
    assert listed.Containers == {}


async def test_the_predefined_networks_are_there_and_stay_the_same(make: Callable[..., Any]) -> None:
    before = {each.Name: each for each in await (await make()).engine.call(Networks())}
    after = {each.Name: each for each in await (await make()).engine.call(Networks())}
    assert before == after and set(before) == {"bridge", "host", "none"}
    assert before["none"].Driver == "null" and before["host"].IPAM.Config == []
    assert before["bridge"].IPAM.Config == [IPAMConfig("172.17.0.0/16", "", "172.17.0.1")]
    assert before["bridge"].Options == {
        f"{BRIDGE}.default_bridge": "true",
        f"{BRIDGE}.enable_icc": "true",
        f"{BRIDGE}.enable_ip_masquerade": "true",
        f"{BRIDGE}.host_binding_ipv4": "0.0.0.0",
        f"{BRIDGE}.name": "windlass0",
        "com.docker.network.driver.mtu": "1500",
    }


async def test_filters(world: World) -> None:
    made = await world.create("web-1", Labels={"a": "b"})
    await world.create("web-2")
    all_of_them = {"bridge", "host", "none", "web-1", "web-2"}
    cases: list[tuple[dict[str, list[str]], set[str]]] = [
        ({"name": ["web"]}, {"web-1", "web-2"}),
        ({"name": ["^web-1$", "^no"]}, {"web-1", "none"}),
        ({"name": ["(web"]}, set()),
        ({"id": [made.Id[:20]]}, {"web-1"}),
        ({"driver": ["host", "null"]}, {"host", "none"}),
        ({"label": ["a"]}, {"web-1"}),
        ({"label": ["a=b", "c"]}, set()),
        ({"type": ["builtin"]}, {"bridge", "host", "none"}),
        ({"type": ["custom"], "name": ["2"]}, {"web-2"}),
        ({"scope": ["local"]}, all_of_them),
        ({"scope": ["swarm"]}, set()),
        ({"dangling": ["1"]}, {"web-1", "web-2"}),
        ({"name": []}, all_of_them),
    ]
    for filters, found in cases:
        assert await world.names(**filters) == found, filters
    world.configured = ["web-1"]
    assert await world.names(dangling=["true"]) == {"web-2"}
    assert "web-1" in await world.names(dangling=["false"])


@pytest.mark.parametrize("filters", [{"odd": ["1"]}, {"type": ["odd"]}, {"dangling": ["maybe"]}], ids=str)
async def test_unknown_filters_are_refused(world: World, filters: dict[str, Any]) -> None:
    with pytest.raises(BadParameter, match="invalid filter"):
        await world.names(**filters)


# -- delete, prune


async def test_a_deleted_network_leaves_nothing(make: Callable[..., Any]) -> None:
    world = await make()
    made = await world.create("web", IPAMConfig("10.1.0.0/24"))
    await world.delete("web")
    assert set(world.host.devices) == {"eth0"}
    assert world.events[-1] == ("destroy", made.Id, {"name": "web", "type": "bridge"})
    assert "web" not in await (await make()).names()
    await world.create("web", IPAMConfig("10.1.0.0/24"))


async def test_a_bridge_that_an_earlier_daemon_made_goes_with_its_network(make: Callable[..., Any]) -> None:
    await (await make()).create("web")
    world = await make()
    await world.delete("web")
    assert set(world.host.devices) == {"eth0"}


async def test_networks_that_are_in_use_or_predefined_are_kept(world: World) -> None:
    made = await world.create()
    for name in ("bridge", "host", "none"):
        with pytest.raises(Denied, match=f"^{name} is a pre-defined network and cannot be removed$"):
            await world.delete(name)
    world.connect(made)
    words = f"^error while removing network: network web id {made.Id} has active endpoints$"
    with pytest.raises(Denied, match=words):
        await world.delete("web")
    world.running.clear()
    with world.net.networks.using(world.net.networks.get("web")), pytest.raises(Denied, match=words):
        await world.delete("web")


async def test_a_network_that_cannot_be_deleted_stays(world: World) -> None:
    await world.create("web", IPAMConfig("10.1.0.0/24"))
    world.host.failure = OSError(errno.EBUSY, "busy")
    with pytest.raises(JobError):
        await world.delete("web")
    world.host.failure = None
    assert "web" in await world.names()
    await world.delete("web")
    assert set(world.host.devices) == {"eth0"}


async def test_of_two_who_delete_at_once_one_finds_nothing(world: World) -> None:
    await world.create("web")
    missing = []

    async def delete() -> None:
        try:
            await world.delete("web")
        except NotFound as exc:
            missing.append(exc.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(delete)
        nursery.start_soon(delete)
    assert missing == ["network web not found"]


async def test_prune_deletes_what_nobody_is_configured_to_be_in(world: World) -> None:
    ids = {name: (await world.create(name, Labels={name: ""})).Id for name in ("used", "running", "free", "kept")}
    world.configured = ["used"]
    world.connect(await world.inspect("running"))
    pruned = await world.engine.call(NetworksPrune(filters={"label!": ["kept"]}))
    assert pruned.NetworksDeleted == ["free"]
    assert world.events[-2:] == [
        ("destroy", ids["free"], {"name": "free", "type": "bridge"}),
        ("prune", "", {"reclaimed": "0"}),
    ]
    for until in ("1h", "2001-01-01T00:00:00Z", "1000000000"):
        assert (await world.engine.call(NetworksPrune(filters={"until": [until]}))).NetworksDeleted is None
    assert (await world.engine.call(NetworksPrune(filters={"until": ["0s"]}))).NetworksDeleted == ["kept"]


@pytest.mark.parametrize("filters", [{"name": ["a"]}, {"until": ["soon"]}, {"until": ["1h", "2h"]}], ids=str)
async def test_prune_refuses_filters_that_it_has_not(world: World, filters: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        await world.engine.call(NetworksPrune(filters=filters))


async def test_prune_goes_on_after_one_that_cannot_be_deleted(world: World) -> None:
    for name in ("a", "b"):
        await world.create(name)
    world.host.failure = OSError(errno.EBUSY, "busy")
    assert (await world.engine.call(NetworksPrune())).NetworksDeleted is None
    world.host.failure = None
    assert await world.names(type=["custom"]) == {"a", "b"}
