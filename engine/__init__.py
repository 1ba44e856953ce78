"""The engine: names, handlers and jobs. It imports the standard library, trio and msgspec, and knows nobody."""

from . import errors, events, streams
from .engine import Engine, Handler, Wrapper
from .events import Aux, Output, Progress, Warning
from .introspect import Cancel, Commands, Describe, Jobs
from .job import Job, Peer
from .portal import Portal
from .shutdown import ShutdownReport
from .signature import Args, Signature, result_type

__all__ = [
    "Args", "Aux", "Cancel", "Commands", "Describe", "Engine", "Handler", "Job", "Jobs", "Output", "Peer", "Portal",
    "Progress", "ShutdownReport", "Signature", "Warning", "Wrapper", "errors", "events", "result_type", "streams",
]  # fmt: skip
