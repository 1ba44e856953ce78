"""windlass: a container engine you can program.

with windlass.open() as engine:                                  # an engine in this process
with windlass.connect("unix:///var/run/windlass.sock") as engine:  # an engine in a daemon
    engine.job("create", "web", Image="busybox", Cmd=["true"]).run()
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs 12 ms
if TYPE_CHECKING:
    from typing import Any

    from windlass.builtins import open as open
    from windlass.client.remote import connect as connect
    from windlass.engine import Engine as Engine
    from windlass.lib.version import VERSION as __version__

__all__ = ["Engine", "__version__", "connect", "open"]

_WHERE = {
    "open": ("windlass.builtins", "open"),
    "connect": ("windlass.client.remote", "connect"),
    "Engine": ("windlass.engine", "Engine"),
    "__version__": ("windlass.lib.version", "VERSION"),
}


def __getattr__(name: str) -> Any:
    """Resolve the public names on first use: the command line imports this package and must start fast."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _WHERE[name]
    return getattr(importlib.import_module(module), attribute)
