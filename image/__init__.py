"""Images: their configurations, names and layers, and the jobs that bring them, list them and take them away."""

from .install import install

__all__ = ["install"]
