"""A volume's record."""

from __future__ import annotations

import msgspec

LOCAL = "local"


class Volume(msgspec.Struct, frozen=True):
    """What a volume was created as. Durable."""

    name: str
    driver: str
    created_ns: int
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
