"""Plugins: a Python module with `install(engine)`, found by entry point, by name, or in a folder.

    [project.entry-points."windlass.handlers"]      windlass daemon --plugin FILE_OR_MODULE      plugins.d/*.py

`install` may be a coroutine function. It runs once; what it registers, wraps and provides is the plugin.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine

GROUP = "windlass.handlers"
Install = Callable[["Engine"], Any]

logger = logging.getLogger("windlass.engine")


class PluginError(Exception):
    """A plugin could not be loaded or installed; `plugin` names it, `__cause__` tells why."""

    def __init__(self, plugin: str, why: str) -> None:
        super().__init__(f"plugin {plugin}: {why}")
        self.plugin = plugin


def find(
    named: Iterable[str] = (), folder: Path | None = None, *, entry_points: bool = True
) -> dict[str, Callable[[], Install]]:
    """List plugins by name, each with a function that loads it: entry points first, then `folder`'s *.py in name
    order, then `named` (files or modules) in the order given. Nothing is imported yet.
    """
    found: dict[str, Callable[[], Install]] = {}
    if entry_points:
        for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
            found[entry.name] = entry.load
    for path in sorted(folder.glob("*.py")) if folder is not None else ():
        found[str(path)] = lambda path=path: _from_file(path)  # type: ignore[misc]
    for name in named:
        found[name] = lambda name=name: load(name)  # type: ignore[misc]
    return found


def load(name: str) -> Install:
    """The `install` of the plugin in file `name` (it has a slash or ends in .py), or in module `name`."""
    if "/" in name or name.endswith(".py"):
        return _from_file(Path(name))
    return _install_of(importlib.import_module(name))


async def install(engine: Engine, plugins: dict[str, Callable[[], Install]], *, tolerant: bool = False) -> list[str]:
    """Load and install `plugins`, in order; return the names of those installed.

    Raises PluginError naming the first that fails; with `tolerant` it is logged and left out instead. What a failed
    plugin had registered before it failed stays.
    """
    installed = []
    for name, loader in plugins.items():
        try:
            result = loader()(engine)
            if inspect.isawaitable(result):
                await result
        except Exception as exc:  # a stranger's code: anything may come
            error = PluginError(name, f"{type(exc).__name__}: {exc}")
            if not tolerant:
                raise error from exc
            logger.error("%s, ignoring", error, exc_info=exc)
        else:
            installed.append(name)
    return installed


def _from_file(path: Path) -> Install:
    module_name = f"windlass_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # msgspec and typing look annotations up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return _install_of(module)


def _install_of(module: Any) -> Install:
    install_ = getattr(module, "install", None)
    if not callable(install_):
        raise TypeError("it has no function install(engine)")
    found: Install = install_
    return found
