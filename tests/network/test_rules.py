"""The packet filter's rules as text: what the text is for is tested in test_reach.py."""

from ipaddress import ip_address, ip_network

import pytest

from windlass.network.rules import (
    LinkRule,
    NetworkRules,
    Port,
    add_link,
    add_port,
    delete_link,
    delete_port,
    remove,
    ruleset,
)

NETWORK = NetworkRules("a" * 64, "wl0", (ip_network("172.30.0.0/16"), ip_network("fd00:30::/64")))


def port(host_ip: str, address: str, routed: bool = False) -> Port:
    return Port("tcp", ip_address(host_ip), 8080, ip_address(address), 80, "wl0", routed)


@pytest.mark.parametrize(
    ("published", "name", "key", "value"),
    [
        (port("0.0.0.0", "172.30.0.2"), "all4", "tcp . 8080", " : 172.30.0.2 . 80"),
        (port("127.0.0.1", "172.30.0.2"), "one4", "127.0.0.1 . tcp . 8080", " : 172.30.0.2 . 80"),
        (port("::", "fd00:30::2"), "all6", "tcp . 8080", " : fd00:30::2 . 80"),
        (port("fd99::1", "fd00:30::2"), "one6", "fd99::1 . tcp . 8080", " : fd00:30::2 . 80"),
        (port("::", "fd00:30::2", routed=True), "open6", "fd00:30::2 . tcp . 80", ""),
    ],
)
def test_a_published_port_is_one_element(published: Port, name: str, key: str, value: str) -> None:
    assert add_port("t", published) == f"add element inet t {name} {{ {key}{value} }}\n"
    assert delete_port("t", published) == f"delete element inet t {name} {{ {key} }}\n"
    assert f"{key}{value}" in ruleset("t", [NETWORK], [published], [])


def test_a_port_is_not_translated_between_families() -> None:
    with pytest.raises(ValueError, match="families differ"):
        add_port("t", port("::", "172.30.0.2"))


def test_a_link_is_one_element() -> None:
    link = "172.30.0.2 . 172.30.0.3 . tcp . 80"
    assert add_link("t", "172.30.0.2", "172.30.0.3", "tcp", 80) == f"add element inet t links4 {{ {link} }}\n"
    assert delete_link("t", "172.30.0.2", "172.30.0.3", "tcp", 80) == f"delete element inet t links4 {{ {link} }}\n"
    assert link in ruleset("t", [NETWORK], [], [LinkRule("172.30.0.2", "172.30.0.3", "tcp", 80)])


def test_links_of_both_families_have_an_order() -> None:
    links = [LinkRule("fd00::2", "fd00::3", "tcp", 80), LinkRule("172.30.0.2", "172.30.0.3", "tcp", 80)]
    assert sorted(links) == links[::-1]


def test_the_table_is_replaced_in_the_transaction_that_makes_it() -> None:
    """No packet may see the time between."""
    assert ruleset("t", [NETWORK], [], []).startswith(remove("t") + "table inet t {")


def test_a_port_given_twice_is_there_once() -> None:
    """The kernel refuses a map with two values for a key."""
    twice = [port("0.0.0.0", "172.30.0.2"), port("0.0.0.0", "172.30.0.2")]
    assert ruleset("t", [NETWORK], twice, []).count("tcp . 8080") == 1


def test_priorities_are_numbers() -> None:
    """nft 1.0.6 refuses names of priorities in output hooks."""
    hooks = [line for line in ruleset("t", [NETWORK], [], []).splitlines() if " priority " in line]
    assert len(hooks) == 5
    assert all(line.split(" priority ")[1].split(";")[0].lstrip("-").isdigit() for line in hooks)
