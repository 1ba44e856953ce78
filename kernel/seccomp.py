"""Seccomp filters for containers: the profile that we ship, and profiles in Docker's form compiled to BPF.

Where we are stricter than libseccomp, with which Docker compiles the same profiles, and why:

- Arguments are compared in the width that the kernel uses (`seccomp_tables.argument_mask`): socket(1 << 32 | AF_ALG)
  is AF_ALG to the kernel, and so to us.
- The x32 ABI answers ENOSYS, whatever the profile says of SCMP_ARCH_X32.
- On 32-bit x86, `socket` and its kin are those calls alone: libseccomp also lets `socketcall` through where a profile
  names, say, `bind`. Name `socketcall` or `ipc` to allow them.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from .seccomp_bpf import assemble
from .seccomp_profile import read
from .seccomp_tables import MACHINES

_KEPT = 64
_filters: OrderedDict[tuple[bytes, frozenset[str], str, tuple[int, int]], bytes] = OrderedDict()


def builtin() -> dict[str, Any]:
    """Return a copy of the profile that containers get by default, in Docker's form (`data/seccomp.json`)."""
    profile: dict[str, Any] = json.loads(files(__package__).joinpath("data/seccomp.json").read_bytes())
    return profile


def compile_profile(
    profile: Mapping[str, Any],
    capabilities: frozenset[str],
    *,
    kernel: tuple[int, int] | None = None,
    machine: str | None = None,
) -> bytes:
    """Compile a profile to the bytes of a `struct sock_filter` array, little endian, for one container.

    `capabilities` is the bounding set, as CAP_… names; `kernel` and `machine` (`uname -m`) are the running ones by
    default. Filters are kept in memory, so the same question costs the hash of the profile (0.1 ms) the second time.
    Raises ValueError naming the unknown action, operator, architecture or ill-typed key, or the length, where the
    kernel's 4096 instructions do not suffice; unknown system calls are skipped, as runc does.
    """
    uname = os.uname()
    machine = machine or uname.machine
    if machine not in MACHINES:
        raise ValueError(f"seccomp: no system call numbers for {machine}, only for {', '.join(MACHINES)}")
    kernel = kernel or _version(uname.release)
    key = (_digest(profile), capabilities, machine, kernel)
    if key in _filters:
        _filters.move_to_end(key)
        return _filters[key]
    filter_ = _filters[key] = assemble(read(profile, capabilities, machine, kernel))
    if len(_filters) > _KEPT:
        _filters.popitem(last=False)
    return filter_


def check_profile(profile: Mapping[str, Any]) -> None:
    """Raise the ValueError that `compile_profile` would raise on this machine, but for that of the length."""
    uname = os.uname()
    read(profile, frozenset(), uname.machine, _version(uname.release))


def _digest(profile: Mapping[str, Any]) -> bytes:
    # Ten times faster than json.dumps; version 2 writes equal objects equally, whoever else refers to them.
    return hashlib.sha256(marshal.dumps(dict(profile), 2)).digest()


def _version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
