"""Registers the registry family."""

from __future__ import annotations

from functools import partial

from windlass.engine import Engine
from windlass.lib.blobs import Blobs

from . import distribution, login, pull, push, resolve, search
from .downloads import Downloads
from .settings import Settings


def install(engine: Engine, *, blobs: Blobs, settings: Settings) -> None:
    """Install the registry jobs on `engine`."""
    downloads = Downloads(blobs, settings.downloads, settings.attempts)
    engine.register("resolve_image", partial(resolve.resolve_image, settings))
    engine.register("pull", partial(pull.pull, settings, downloads))
    engine.register("push", partial(push.push, settings, blobs))
    engine.register("auth", login.auth)
    engine.register("registry_login", partial(login.registry_login, settings))
    engine.register("search", partial(search.search, settings))
    engine.register("distribution_inspect", partial(distribution.distribution_inspect, settings))
