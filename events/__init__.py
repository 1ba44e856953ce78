"""What happened, told to whoever listens."""

from .events import Events, install

__all__ = ["Events", "install"]
