"""Network settings of the daemon that cannot be are refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from windlass.lib.config import ConfigError, make


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bridge": "br0", "bip": "10.1.0.1/24"}, "You specified -b & --bip, mutually exclusive options"),
        ({"iptables": False, "icc": False}, "You specified --iptables=false with --icc=false"),
        ({"mtu": 67}, "mtu: 67 is not between 68 and 65535"),
        ({"mtu": -1}, "mtu: -1 is not between"),
        ({"ip": "localhost"}, "ip: localhost is not an ip address"),
        ({"default_gateway": "::1"}, "default-gateway: ::1 is not an ipv4 address"),
        ({"default_gateway_v6": "1.2.3.4"}, "default-gateway-v6: 1.2.3.4 is not an ipv6 address"),
        ({"dns": ["192.0.2.1", "x"]}, "dns: x is not an ip address"),
        ({"host_gateway_ips": [""]}, "host-gateway-ips:  is not an ip address"),
        ({"dns_search": ["a b"]}, "dns-search: 'a b' is not one word"),
        ({"bip": "10.1.0.1"}, "bip: invalid CIDR address: 10.1.0.1"),
        ({"bip": "10.1.0.0/24"}, "bip: 10.1.0.0 is the network's own address"),
        ({"bip6": "10.1.0.1/24"}, "bip6: invalid CIDR address"),
        ({"fixed_cidr": "10.1.0.0/33"}, "fixed-cidr: invalid CIDR address: 10.1.0.0/33"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(settings)
    assert words in str(caught.value)


def test_settings_that_can_be_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"bip": "10.1.0.1/24", "fixed-cidr": "10.1.0.128/25", "dns": ["192.0.2.1"], "mtu": 1400}')
    config = make({"dns": ["::1"], "ip": "127.0.0.1", "bip6": "fd00::1/64"}, file)
    assert (config.bip, config.dns, config.mtu) == ("10.1.0.1/24", ["192.0.2.1", "::1"], 1400)
