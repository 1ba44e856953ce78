"""How a registry wants to be told who asks: Basic, or Bearer with a token from an authorization server.

Source: https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/; RFC 9110, section 11.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from windlass.engine.errors import JobError
from windlass.engine.params import parse_json
from windlass.jobs.registry import Credentials

CLIENT = "windlass"
_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in, out of WWW-Authenticate. `scheme` is lower case."""

    scheme: str
    parameters: dict[str, str]


class Token(msgspec.Struct, frozen=True):
    """An authorization server's answer; the text is under the one key or the other."""

    token: str = ""
    access_token: str = ""
    refresh_token: str = ""


def challenges(headers: list[str]) -> list[Challenge]:
    """What the headers offer, the better first: a token before a password."""
    found = []
    for header in headers:
        marks = [*_SCHEME.finditer(header)]
        for mark, after in zip(marks, [*marks[1:], None], strict=True):
            text = header[mark.end() : after.start() if after else None]
            pairs = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(text)}
            found.append(Challenge(mark[1].lower(), pairs))
    return sorted(found, key=lambda challenge: challenge.scheme != "bearer")


def basic(credentials: Credentials) -> str:
    """The value of Authorization for a user and a password."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def parse_token(body: bytes, realm: str) -> Token:
    """The token in an authorization server's answer. Raises JobError."""
    try:
        value: Any = parse_json(body, "the token")
        token = msgspec.convert({key: text for key, text in value.items() if text is not None}, Token)
    except (JobError, AttributeError, msgspec.ValidationError):
        raise JobError(f"{realm:.200}: the authorization server's answer is no token") from None
    text = token.token or token.access_token
    if not text or not text.isascii() or not text.isprintable():
        raise JobError(f"{realm:.200}: authorization server did not include a token in the response")
    return token
