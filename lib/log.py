"""The daemon's log: one line a record on stderr, for a journal or a file."""

from __future__ import annotations

import logging
import time

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


class Formatter(logging.Formatter):
    """`2014-10-16T21:54:03.123Z info engine: message`, tracebacks below."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        record.where = record.name.removeprefix("windlass.")
        record.level = record.levelname.lower()
        return super().format(record)


def set_up(level: str) -> None:
    """Log ours from `level` on, and everybody's warnings, to stderr. Raises ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"unable to parse logging level: {level}")
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("%(asctime)s %(level)s %(where)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("windlass").setLevel(LEVELS[level])
