"""Block I/O: weights, and limits for single devices, which requests name by the path of their node."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from windlass.engine.errors import BadParameter
from windlass.execdriver.driver import DeviceLimit
from windlass.jobs.container_config import HostConfig, ThrottleDevice, WeightDevice

WEIGHTS = range(10, 1001)
THROTTLES = ("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps")
MAXIMUM_RATE = (1 << 64) - 1


def check_blkio(host: HostConfig) -> None:
    """Check weights, rates and devices. Raises BadParameter."""
    if host.BlkioWeight and host.BlkioWeight not in WEIGHTS:
        raise BadParameter("Range of blkio weight is from 10 to 1000", key="BlkioWeight")
    for weighed in host.BlkioWeightDevice or ():
        if weighed.Weight not in WEIGHTS:
            raise BadParameter(
                f"Range of blkio weight is from 10 to 1000: {weighed.Path} has {weighed.Weight}",
                key="BlkioWeightDevice",
            )
    for key in THROTTLES:
        for limited in getattr(host, key) or ():
            if not 0 <= limited.Rate <= MAXIMUM_RATE:
                raise BadParameter(f"invalid rate for device {limited.Path}: {limited.Rate}", key=key)
    for key in ("BlkioWeightDevice", *THROTTLES):
        device_limits(getattr(host, key), key)


def device_limits(devices: list[WeightDevice] | list[ThrottleDevice] | None, key: str) -> tuple[DeviceLimit, ...]:
    """Look the devices up. Raises BadParameter for what is no block device of this host."""
    return tuple(
        (*_numbers(each.Path, key), each.Weight if isinstance(each, WeightDevice) else each.Rate)
        for each in devices or ()
    )


def _numbers(path: str, key: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as exc:
        reason = (getattr(exc, "strerror", None) or str(exc)).lower()
        raise BadParameter(f"{key}: stat {path!r:.200}: {reason}", key=key) from None
    if not stat.S_ISBLK(status.st_mode):
        raise BadParameter(f"{key}: {path!r:.200} is not a block device", key=key)
    return os.major(status.st_rdev), os.minor(status.st_rdev)
