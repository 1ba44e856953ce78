"""What the daemon's configuration says of registries."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """`mirrors` are URLs by the host that they stand for; `insecure` are HOST[:PORT] and CIDR blocks."""

    mirrors: dict[str, list[str]] = field(default_factory=dict)
    insecure: list[str] = field(default_factory=list)
    default: str = ""  # the registry of names without one; empty: Docker Hub
    certificates: Path = Path("/etc/docker/certs.d")
    downloads: int = 3  # at a time
    uploads: int = 5
    attempts: int = 5  # in a row without a byte
