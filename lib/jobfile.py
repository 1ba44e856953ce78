"""Files of jobs, for `windlass job -f deploy.yaml`: a list, run from top to bottom.

- create: {name: web, Image: busybox, Cmd: [sleep, "60"]}     a mapping is the env
- start: web                                                  anything else is the argument
- tag: [busybox, mine]                                        or the arguments
- commands                                                    a job that needs nothing
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MAX_BYTES = 4 << 20


class JobFileError(Exception):
    """The file is no list of jobs; the message says where."""


def read(path: str | Path) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """The jobs in the file: name, arguments, env. Raises JobFileError, or OSError when it cannot be read."""
    import yaml

    with Path(path).open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise JobFileError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        items = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise JobFileError(f"{path}: {' '.join(str(exc).split())}") from None
    if not isinstance(items, list):
        raise JobFileError(f"{path}: a list of jobs is expected, not {type(items).__name__}")
    return [_job(f"{path}, job {number}", item) for number, item in enumerate(items, 1)]


def _job(where: str, item: Any) -> tuple[str, list[Any], dict[str, Any]]:
    if isinstance(item, str):
        return item, [], {}
    if not isinstance(item, dict) or len(item) != 1 or not isinstance(next(iter(item)), str):
        raise JobFileError(f"{where}: a job is NAME: ENV, not {item!r:.60}")
    ((name, given),) = item.items()
    if isinstance(given, dict):
        if wrong := [key for key in given if not isinstance(key, str)]:
            raise JobFileError(f"{where}: a key must be text, not {wrong[0]!r}")
        return name, [], given
    if given is None:
        return name, [], {}
    return name, given if isinstance(given, list) else [given], {}
