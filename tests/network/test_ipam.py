"""Addresses and subnets: who has which, and what is refused."""

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.errors import BadParameter, Conflict, Denied
from windlass.jobs.networks import AddressPool, IPAMConfig
from windlass.network.ipam import Pool, check_config, check_overlap, choose, make_pool, new_ula, parse_pools, resolve


def pool(subnet: str, gateway: str = "", range: str = "", **auxiliary: str) -> Pool:
    config = IPAMConfig(subnet, range, gateway, auxiliary or None)
    return make_pool(resolve(config), "web (123)")


def test_addresses_are_given_in_order_and_not_given_again_at_once() -> None:
    addresses = pool("10.1.0.0/29")
    first = addresses.allocate()
    addresses.release(first)
    assert str(addresses.gateway) == "10.1.0.1"
    assert [str(addresses.allocate()) for _ in range(4)] == ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    assert addresses.allocate() == first == ip_address("10.1.0.2")


def test_an_empty_pool_says_whose_it_is() -> None:
    addresses = pool("10.1.0.0/30")
    addresses.allocate()
    with pytest.raises(Conflict) as caught:
        addresses.allocate()
    assert caught.value.message == "no available IPv4 addresses on this network's address pools: web (123)"


def test_a_range_bounds_what_is_given_and_not_what_may_be_asked_for() -> None:
    addresses = pool("10.1.0.0/24", "10.1.0.1", "10.1.0.128/30", router="10.1.0.129")
    assert str(addresses.allocate(IPv4Address("10.1.0.9"))) == "10.1.0.9"
    assert {str(addresses.allocate()) for _ in range(3)} == {"10.1.0.128", "10.1.0.130", "10.1.0.131"}
    with pytest.raises(Conflict):
        addresses.allocate()


@pytest.mark.parametrize("text", ["10.1.0.0", "10.1.0.255", "10.1.0.1", "10.1.0.7", "10.1.0.8"])
def test_what_is_not_free_is_refused(text: str) -> None:
    """The network's own, broadcast, gateway, an auxiliary, one that a running container has."""
    addresses = pool("10.1.0.0/24", router="10.1.0.7")
    addresses.reserve(ip_address("10.1.0.8"))
    with pytest.raises(Denied, match="^Address already in use$"):
        addresses.allocate(ip_address(text))


def test_an_address_of_another_subnet_is_refused() -> None:
    words = "^Invalid address 10.2.0.1: It does not belong to any of this network's subnets$"
    with pytest.raises(BadParameter, match=words):
        pool("10.1.0.0/24").allocate(ip_address("10.2.0.1"))


def test_what_a_container_kept_over_a_restart_is_not_given() -> None:
    """Also of a subnet that the network has no more."""
    addresses = pool("10.1.0.0/29")
    addresses.reserve(ip_address("10.1.0.2"))
    addresses.reserve(ip_address("192.0.2.1"))
    assert (str(addresses.allocate()), len(addresses)) == ("10.1.0.3", 2)


def test_a_large_pool_costs_nothing() -> None:
    for subnet, third in (("10.0.0.0/8", "10.0.0.3"), ("fd00:1::/64", "fd00:1::3")):
        addresses = pool(subnet)
        assert [str(addresses.allocate()) for _ in range(2)][1] == third


def test_a_subnet_of_two_addresses_has_no_broadcast_address() -> None:
    addresses = pool("10.1.0.0/31")
    assert {str(addresses.gateway), str(addresses.allocate())} == {"10.1.0.0", "10.1.0.1"}


def test_containers_may_have_another_gateway_than_the_host() -> None:
    addresses = pool("10.1.0.0/24", "10.1.0.1", DefaultGatewayIPv4="10.1.0.254")
    assert (str(addresses.host), str(addresses.gateway)) == ("10.1.0.1", "10.1.0.254")


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 15), st.integers(0, 15).map(lambda number: -1 - number)), max_size=40)
)
def test_no_address_is_given_twice(steps: list[int | None]) -> None:
    """None: any; n: that one; -1 - n: given back."""
    addresses, have = pool("10.1.0.0/28"), set[str]()
    for step in steps:
        if step is not None and step < 0:
            addresses.release(ip_address(f"10.1.0.{-1 - step}"))
            have.discard(f"10.1.0.{-1 - step}")
            continue
        try:
            got = str(addresses.allocate(None if step is None else ip_address(f"10.1.0.{step}")))
        except (Conflict, Denied):
            assert step is not None or len(have) == 13
            continue
        assert got not in have | {"10.1.0.0", "10.1.0.1", "10.1.0.15"}
        have.add(got)


# -- subnets


def test_dockers_pools_are_taken_in_order() -> None:
    taken = [ip_network("172.17.0.0/16")]
    for _ in range(15):
        taken.append(choose(parse_pools(()), taken))
    assert [str(each) for each in (taken[1], taken[14], taken[15])] == [
        "172.18.0.0/16", "172.31.0.0/16", "192.168.0.0/20",
    ]  # fmt: skip


def test_host_routes_are_avoided() -> None:
    routes = [ip_network("172.16.0.0/12"), ip_network("192.168.0.7/32"), ip_network("fd00::/8")]
    assert str(choose(parse_pools(()), routes)) == "192.168.16.0/20"


def test_configured_pools_end_with_dockers_words() -> None:
    pools = parse_pools([AddressPool("10.9.0.0/24", 25)])
    taken = [choose(pools, [])]
    taken.append(choose(pools, taken))
    assert [str(each) for each in taken] == ["10.9.0.0/25", "10.9.0.128/25"]
    with pytest.raises(BadParameter, match="all predefined address pools have been fully subnetted"):
        choose(pools, taken)


def test_many_small_subnets_of_a_large_base_are_found_at_once() -> None:
    pools = parse_pools([AddressPool("10.0.0.0/8", 32)])
    assert str(choose(pools, [ip_network("10.0.0.0/9")])) == "10.128.0.0/32"


@pytest.mark.parametrize(("base", "size"), [("10.0.0.1/8", 24), ("10.0.0.0/24", 8), ("10.0.0.0/24", 33), ("x", 1)])
def test_bad_pools_are_refused(base: str, size: int) -> None:
    with pytest.raises(BadParameter, match="^invalid (base pool|pools size)"):
        parse_pools([AddressPool(base, size)])


def test_a_ula_is_a_48_of_fd() -> None:
    one, other = ip_network(new_ula()), ip_network(new_ula())
    assert one != other and one.prefixlen == 48 and one.subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["10.1.0.0/24", "10.1.0.128/25", "10.0.0.0/8"])
def test_overlaps_are_denied(other: str) -> None:
    with pytest.raises(Denied, match="^Pool overlaps with other one on this address space$"):
        check_overlap(ip_network("10.1.0.0/24"), [ip_network("fd00::/8"), ip_network(other)])


# -- configurations


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (IPAMConfig("nonsense"), "invalid subnet nonsense: invalid CIDR block notation"),
        (IPAMConfig("10.1.0.0"), "invalid subnet 10.1.0.0: invalid CIDR block notation"),
        (IPAMConfig("10.1.0.0/255.255.0.0"), "invalid CIDR block notation"),
        (IPAMConfig(Gateway="10.1.0.1"), "invalid subnet : invalid CIDR block notation"),
        (IPAMConfig("10.1.0.7/24"), "invalid subnet 10.1.0.7/24: it should be 10.1.0.0/24"),
        (IPAMConfig("0.0.0.0/0"), "invalid subnet 0.0.0.0/0"),
        (IPAMConfig("127.0.0.0/8"), "invalid subnet 127.0.0.0/8"),
        (IPAMConfig("ff00::/8"), "invalid subnet ff00::/8"),
        (IPAMConfig("10.1.0.0/24", "x"), "invalid ip-range x: invalid CIDR block notation"),
        (IPAMConfig("10.1.0.0/24", "fd00::/64"), "invalid ip-range fd00::/64: parent subnet is an IPv4 block"),
        (IPAMConfig("10.1.0.0/24", "10.1.0.0/16"), "CIDR block is bigger than its parent subnet 10.1.0.0/24"),
        (IPAMConfig("10.1.0.0/24", "10.1.0.1/25"), "invalid ip-range 10.1.0.1/25: it should be 10.1.0.0/25"),
        (IPAMConfig("10.1.0.0/24", "10.2.0.0/25"), "parent subnet 10.1.0.0/24 doesn't contain ip-range"),
        (IPAMConfig("10.1.0.0/24", Gateway="x"), "invalid gateway x: invalid address"),
        (IPAMConfig("fd00::/64", Gateway="fd00::1%lo"), "invalid gateway fd00::1%lo: invalid address"),
        (IPAMConfig("10.1.0.0/24", Gateway="fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (
            IPAMConfig("10.1.0.0/24", Gateway="10.2.0.1"),
            "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address",
        ),
        (IPAMConfig("10.1.0.0/24", AuxiliaryAddresses={"a": "10.2.0.1"}), "invalid auxiliary address a: parent subnet"),
    ],
    ids=str,
)
def test_bad_configurations_are_named(config: IPAMConfig, words: str) -> None:
    with pytest.raises(BadParameter) as caught:
        check_config([config])
    assert caught.value.message.startswith("invalid network config:\n") and words in caught.value.message


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(BadParameter) as caught:
        check_config([IPAMConfig("10.1.0.7/24", Gateway="x"), IPAMConfig("y")])
    assert caught.value.message.count("\n* invalid ") == 3


@pytest.mark.parametrize(
    "config",
    [
        IPAMConfig("10.1.0.0/24", Gateway="10.1.0.7", AuxiliaryAddresses={"a": "10.1.0.7"}),
        IPAMConfig("10.1.0.0/24", AuxiliaryAddresses={"a": "10.1.0.7", "b": "10.1.0.7"}),
        IPAMConfig("10.1.0.0/24", Gateway="10.1.0.0"),
        IPAMConfig("10.1.0.0/24", Gateway="10.1.0.255"),
    ],
    ids=str,
)
def test_an_address_with_two_owners_is_refused(config: IPAMConfig) -> None:
    check_config([config])
    with pytest.raises(Conflict, match="Address already in use"):
        resolve(config)


def test_a_subnet_without_a_free_address_for_the_gateway_is_refused() -> None:
    with pytest.raises(Conflict, match=r"no available IPv4 addresses .*: 10\.1\.0\.0/32"):
        resolve(IPAMConfig("10.1.0.0/32", AuxiliaryAddresses={"a": "10.1.0.0"}))
