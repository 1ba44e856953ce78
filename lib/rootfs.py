"""What a root file system is made of: a graph driver says it, an exec driver mounts it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlay:
    """A root file system of layers: `lower` is topmost first; all are folders of the host. No upper: read-only."""

    lower: tuple[str, ...]
    upper: str
    work: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A root file system that is one folder of the host, made for this container alone."""

    path: str


RootFS = Overlay | Directory
