"""The interface's limits as the kernel's files take them."""

from __future__ import annotations

import dataclasses

from windlass.execdriver.driver import Resources
from windlass.kernel.cgroup_limits import Limits


def limits(resources: Resources) -> Limits:
    return Limits(**dataclasses.asdict(resources))
