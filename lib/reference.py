"""Names of images: Docker's reference grammar.

    busybox  ─▶  docker.io/library/busybox:latest        localhost:5000/a/b@sha256:…
    └ familiar   └ domain  └ path          └ tag

Source: https://github.com/distribution/reference (reference.go, normalize.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library/"
NAME_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")


class InvalidReference(ValueError):
    """A name that is none; the message is Docker's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed name. `tag` and `digest` are empty where the text had none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The full name without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        rest = self.path.removeprefix(OFFICIAL)
        short = self.path if "/" in rest else rest
        # `docker.io/a.b/c` stays as it is: `a.b/c` would be another registry's
        return short if _split_domain(short)[0] == DEFAULT_DOMAIN else self.repository

    @property
    def familiar(self) -> str:
        """The whole reference as people write it."""
        text = self.familiar_name + (f":{self.tag}" if self.tag else "")
        return text + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """The same with the tag `latest`, where it has neither tag nor digest."""
        return self if self.tag or self.digest else Reference(self.domain, self.path, "latest")


def parse(text: str) -> Reference:
    """Parse a name as people or machines write it. Raises InvalidReference."""
    if _HEX.match(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.match(digest):
        raise InvalidReference("invalid reference format")
    name, tag = _split_tag(rest)
    domain, path = _split_domain(name)
    if path.lower() != path:
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _DOMAIN.match(domain) or not _PATH.match(path) or (tag is not None and not _TAG.match(tag)):
        raise InvalidReference("invalid reference format")
    if len(f"{domain}/{path}") > NAME_MAX:
        raise InvalidReference(f"repository name must not be more than {NAME_MAX} characters")
    return Reference(domain, path, tag or "", digest)


def is_tag(text: str) -> bool:
    return bool(_TAG.match(text))


def is_digest(text: str) -> bool:
    return bool(_DIGEST.match(text))


def _split_tag(text: str) -> tuple[str, str | None]:
    slash, colon = text.rfind("/"), text.rfind(":")
    return (text[:colon], text[colon + 1 :]) if colon > slash else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain in ("index.docker.io", DEFAULT_DOMAIN):
        return DEFAULT_DOMAIN, path if "/" in path else OFFICIAL + path
    return domain, path
