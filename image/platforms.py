"""Platforms that clients ask for: `OS[/ARCH[/VARIANT]]`, or a JSON object as the API has it since 1.48."""

from __future__ import annotations

from typing import Any, NamedTuple

from windlass.engine.errors import BadParameter, NotFound
from windlass.engine.params import parse_json

from . import config
from .store import Image


class Platform(NamedTuple):
    """A platform; an empty part fits everything."""

    os: str
    architecture: str
    variant: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)

    def fits(self, other: Platform) -> bool:
        """True when something made for `other` is what is asked for."""
        return all(not mine or not theirs or mine == theirs for mine, theirs in zip(self, other, strict=True))


def parse(text: str) -> Platform | None:
    """What a client asks for; None when it does not care. Raises BadParameter."""
    if not text:
        return None
    if not text.startswith("{"):
        architecture, variant = config.platform_of(text)
        return Platform("linux", architecture if "/" in text else "", variant)
    found = of(parse_json(text, "platform"))
    if not found.os or not found.architecture:
        raise BadParameter("invalid platform: it must have os and architecture", key="platform")
    return found


def of(value: Any) -> Platform:
    """The platform in an image's configuration or in a descriptor; empty parts for what it does not tell."""
    parts = [value.get(key) for key in ("os", "architecture", "variant")] if isinstance(value, dict) else []
    if not parts or not all(part is None or isinstance(part, str) for part in parts):
        return Platform("", "", "")
    return Platform(*(part or "" for part in parts))


def check(image: Image, name: str, wanted: Platform | None) -> None:
    """Raise NotFound, in Docker's words, when `image` is not for the platform that is asked for."""
    found = of(image.config)
    if wanted is not None and not wanted.fits(found):
        raise NotFound(
            f"image with reference {name} was found but its platform ({found}) does not match the specified platform"
            f" ({wanted})"
        )
