"""Checks what a configuration says of networks, before anything is made: each mistake is a sentence that names its key.

What depends on the host, subnets that overlap or devices that are not there, is the network driver's to refuse.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Config

_INTERFACES = {"bip": 4, "bip6": 6}
_SUBNETS = {"fixed_cidr": 4, "fixed_cidr_v6": 6}
_GATEWAYS = {"default_gateway": 4, "default_gateway_v6": 6}
_MTU = range(68, 65536)  # RFC 791: every link carries 68 bytes


def mistakes(config: Config) -> Iterator[str]:
    """What is wrong with the network settings, one sentence each, in dockerd's words where it has some."""
    if config.bridge and (config.bip or config.bip6):
        yield "You specified -b & --bip, mutually exclusive options. Please specify only one"
    if not config.iptables and not config.icc:
        yield (
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. "
            "Please set --icc or --iptables to true"
        )
    if config.mtu and config.mtu not in _MTU:
        yield f"mtu: {config.mtu} is not between {_MTU.start} and {_MTU.stop - 1}"
    yield from _addresses(config)
    yield from _subnets(config)


def _addresses(config: Config) -> Iterator[str]:
    for key, version in (_GATEWAYS | {"ip": 0}).items():
        text = getattr(config, key)
        if text and not _is_address(text, version):
            yield f"{_key(key)}: {text} is not an ip{f'v{version}' if version else ''} address"
    for key in ("dns", "host_gateway_ips"):
        for text in getattr(config, key):
            if not _is_address(text):
                yield f"{_key(key)}: {text} is not an ip address"
    for key in ("dns_opts", "dns_search"):
        for text in getattr(config, key):
            if not text or text.split() != [text]:
                yield f"{_key(key)}: {text!r} is not one word"


def _subnets(config: Config) -> Iterator[str]:
    for key, version in (_INTERFACES | _SUBNETS).items():
        text = getattr(config, key)
        if not text:
            continue
        address, slash, _ = text.partition("/")
        try:
            found = ipaddress.ip_interface(text)
        except ValueError:
            yield f"{_key(key)}: invalid CIDR address: {text}"
            continue
        if not slash or found.version != version:
            yield f"{_key(key)}: invalid CIDR address: {text}"
        elif key in _INTERFACES and found.ip == found.network.network_address and found.network.num_addresses > 2:
            yield f"{_key(key)}: {address} is the network's own address, not one for the bridge"


def _is_address(text: str, version: int = 0) -> bool:
    try:
        return ipaddress.ip_address(text).version == version or not version
    except ValueError:
        return False


def _key(field: str) -> str:
    return field.replace("_", "-")
