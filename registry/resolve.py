"""Job `resolve_image`: where an image is to be had.

A registry is *insecure* when its HOST[:PORT] is in the list, or when every address that its name has is in one of the
list's CIDR blocks; loopback is always. What was looked up is what is connected to: the name is not asked again, so
that an answer that changes in between opens nothing (CVE-2026-92543). An insecure registry is tried over TLS without
a check of its certificate, then over plain HTTP; no other registry is ever spoken to in plain text.
"""

from __future__ import annotations

import ipaddress
import re

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.registry import Credentials, Endpoint, Resolution, ResolveImage
from windlass.lib import reference
from windlass.lib.reference import DEFAULT_DOMAIN, OFFICIAL

from . import proxies
from .credentials import for_host, parse_auth
from .settings import Settings

LOOPBACK = ("127.0.0.0/8", "::1/128")
HUB = "registry-1.docker.io"  # where docker.io's images are


async def resolve_image(settings: Settings, job: Job[ResolveImage]) -> Resolution:
    """Tell where an image is to be had."""
    params = job.params
    ref = reference.parse(params.name)
    host, path = ref.domain, ref.path
    endpoints = [] if params.push else [mirror(settings, url, path) for url in settings.mirrors.get(host, [])]
    credentials = for_host(parse_auth(params.auth), host)
    if host == DEFAULT_DOMAIN and settings.default:
        host, path = settings.default, path.removeprefix(OFFICIAL)
        credentials = for_host(parse_auth(params.auth), host)
    endpoints += await origins(settings, host, path, credentials)
    return Resolution(endpoints, params.platform)


def mirror(settings: Settings, url: str, path: str) -> Endpoint:
    """The mirror at `url`, whose path, if it has one, comes before the image's. It never sees credentials."""
    found = re.fullmatch(r"(https?://[^/?#@\s]+)(/[^?#\s]*)?", url)
    if found is None:
        raise BadParameter(f"invalid mirror: {url:.200}: it is http[s]://HOST[:PORT][/PATH]", key="registry-mirrors")
    prefix = (found[2] or "").strip("/")
    verify = found[1].partition("://")[2] not in settings.insecure
    return Endpoint(found[1], f"{prefix}/{path}" if prefix else path, verify=verify, is_mirror=True)


async def origins(
    settings: Settings, host: str, path: str = "", credentials: Credentials | None = None
) -> list[Endpoint]:
    """The endpoints of the registry `host`, which is HOST[:PORT]: one, or two when it is insecure."""
    name = HUB if host == DEFAULT_DOMAIN else host
    addresses = [] if proxies.find(f"https://{name}") else await _look_up(name)
    secure = Endpoint(f"https://{name}", path, addresses, credentials=credentials)
    if not is_insecure(settings, host, addresses):
        return [secure]
    plain = addresses if proxies.find(f"http://{name}") is None else []
    return [
        Endpoint(secure.url, path, addresses, verify=False, credentials=credentials),
        Endpoint(f"http://{name}", path, plain, credentials=credentials),
    ]


def is_insecure(settings: Settings, host: str, addresses: list[str]) -> bool:
    """True when `host` is listed, or when all of its `addresses` are in blocks that are."""
    if host in settings.insecure:
        return True
    blocks = [_block(text) for text in (*LOOPBACK, *settings.insecure) if "/" in text]
    found = [ipaddress.ip_address(address) for address in addresses]
    return bool(found) and all(any(address in block for block in blocks) for address in found)


def _block(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadParameter(f"invalid insecure registry: {text:.200}", key="insecure-registries") from None


async def _look_up(name: str) -> list[str]:
    """The addresses of HOST[:PORT], each once, in the resolver's order; none when there are none."""
    host, _, port = name.rpartition(":") if re.search(r":[0-9]+\Z", name) else (name, "", "443")
    try:
        found = await trio.socket.getaddrinfo(host.strip("[]"), port, type=trio.socket.SOCK_STREAM)
    except OSError:  # it fails again, and says why, when it is connected to
        return []
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))
