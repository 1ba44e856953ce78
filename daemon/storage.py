"""`--storage-opt size=…`: how much a container may write, where the file system can count it."""

from __future__ import annotations

from windlass.engine.errors import BadParameter, Unsupported
from windlass.graphdriver.driver import Driver
from windlass.jobs.container_config import HostConfig

from .log_config import parse_size

SMALLEST = 1 << 20  # bytes: less does not hold what every container has written at its start


def layer_size(host: HostConfig, graph: Driver) -> int:
    """Bytes that the container's layer may take, 0 for no limit. Raises BadParameter, Unsupported."""
    size = 0
    for key, value in (host.StorageOpt or {}).items():
        if key.lower() != "size":
            raise BadParameter(f"Unknown option {key}", key="StorageOpt")
        size = parse_size(value, key="StorageOpt")
        if size < SMALLEST:
            raise BadParameter(f"invalid size: '{value}': a container needs 1 MiB", key="StorageOpt")
    if size and not graph.can_limit_size():
        raise Unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option", key="StorageOpt"
        )
    return size
