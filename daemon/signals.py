"""Signals as the Docker API says them: `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`."""

from __future__ import annotations

import re
import signal

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import Config

DEFAULT = signal.SIGTERM
SIGKILL = 9
RTMIN, RTMAX = 34, 64  # as the C libraries leave them to programs
_NUMBER = re.compile(r"[0-9]{1,3}\Z", re.ASCII)
_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?\Z", re.ASCII)
_NAMES = {member.name.removeprefix("SIG"): int(member) for member in signal.Signals} | {"CLD": 17, "IOT": 6, "POLL": 29}


def parse_signal(text: str) -> int:
    """Return the number of a signal. Raises BadParameter: `Invalid signal: NOPE`."""
    if _NUMBER.match(text):
        number = int(text)
    else:
        name = text.upper().removeprefix("SIG")
        number = _NAMES.get(name, 0) or _realtime(name)
    if not 1 <= number <= RTMAX:
        raise BadParameter(f"invalid signal: {text}", key="signal")
    return number


def stop_signal(config: Config) -> int:
    """The signal that asks a container to end."""
    return parse_signal(config.StopSignal) if config.StopSignal else DEFAULT


def _realtime(name: str) -> int:
    match = _REALTIME.match(name)
    if match is None:
        return 0
    base = RTMIN if match[1] == "MIN" else RTMAX
    number = base + int((match[2] or "+") + (match[3] or "0"))
    return number if RTMIN <= number <= RTMAX else 0
