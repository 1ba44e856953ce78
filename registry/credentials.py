"""Credentials as clients send them, and to which host they belong."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import urlsplit

import msgspec

from windlass.engine.errors import BadParameter, JobError
from windlass.engine.params import parse_json
from windlass.jobs.registry import Credentials
from windlass.lib.reference import DEFAULT_DOMAIN

HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


class Sent(msgspec.Struct, frozen=True):
    """The JSON in X-Registry-Auth."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return f"<Sent for {self.serveraddress}>"


def parse_auth(text: str) -> Sent:
    """What X-Registry-Auth says. Raises BadParameter, which does not repeat it."""
    if not text.strip():
        return Sent()
    try:
        data = base64.urlsafe_b64decode(text.strip().replace("+", "-").replace("/", "_") + "==")
        value: Any = parse_json(data, "X-Registry-Auth")
        value = {} if value is None else value
        return msgspec.convert({k.lower(): v for k, v in value.items() if v is not None}, Sent)
    except (binascii.Error, ValueError, AttributeError, JobError, msgspec.ValidationError):
        raise BadParameter("invalid X-Registry-Auth header: it is base64url of a JSON object", key="auth") from None


def for_host(sent: Sent, host: str) -> Credentials | None:
    """The credentials in `sent` when there are any and they are for `host`, or say no host at all."""
    if sent.serveraddress and host_of(sent.serveraddress) != host_of(host):
        return None
    username, password = sent.username, sent.password
    if sent.auth and not username:
        username, password = _split(sent.auth)
    if not (username or sent.identitytoken or sent.registrytoken):
        return None
    return Credentials(username, password, sent.identitytoken, sent.registrytoken)


def host_of(address: str) -> str:
    """HOST[:PORT] of a server's address, however it is written; Docker Hub's many names are one."""
    host = urlsplit(address if "://" in address else f"//{address}").netloc.rpartition("@")[2].lower()
    return DEFAULT_DOMAIN if host in HUB_NAMES or not host else host


def _split(auth: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except ValueError:
        raise BadParameter("invalid X-Registry-Auth header: `auth` is no base64", key="auth") from None
    return user, password
