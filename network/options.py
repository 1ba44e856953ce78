"""Drivers' options by Docker's names, and how their values are read.

Unknown options are kept and left out of account: they may be another driver's, or a newer Docker's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from windlass.engine.errors import BadParameter

Options = Mapping[str, str]

BRIDGE_NAME = "com.docker.network.bridge.name"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
GATEWAY_MODE = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}
INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"

# Go's strconv.ParseBool
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
MOST_MTU = 65535
LEAST_MTU = 68  # RFC 791: what every host must take


def alias(table: str) -> str:
    """What is written on bridges that a daemon has made, by the name of its table: several may share a host."""
    return f"windlass:{table}"


def refuse(key: str, value: str, reason: str) -> BadParameter:
    return BadParameter(f"failed to parse {key} value: {value} ({reason})", key=key)


def flag(options: Options, key: str, default: bool) -> bool:
    value = options.get(key, "")
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    if key in options:
        raise refuse(key, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
    return default


def mtu(options: Options) -> int:
    """The MTU; 0 where nobody says one."""
    value = options.get(MTU, "")
    if MTU not in options:
        return 0
    if not re.fullmatch(r"[-+]?[0-9]{1,9}", value, re.ASCII):
        raise refuse(MTU, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    number = int(value)
    if number and not LEAST_MTU <= number <= MOST_MTU:
        raise BadParameter(f"invalid MTU number: {number}", key=MTU)
    return number


def address(options: Options, key: str) -> str:
    """An IPv4 address; empty where nobody says one."""
    value = options.get(key, "")
    try:
        return str(ipaddress.IPv4Address(value)) if value else ""
    except ValueError:
        raise refuse(key, value, "nil ip") from None


def device(options: Options, key: str) -> str:
    """A name that a network device may have (kernel: dev_valid_name); empty where nobody says one."""
    value = options.get(key, "")
    if value and (not 0 < len(value.encode()) < 16 or value in (".", "..") or re.search(r"[/:\s\x00-\x1f]", value)):
        raise refuse(key, value, "no name for a network device")
    return value
