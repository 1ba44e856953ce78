"""Capabilities (capabilities(7)): names, masks, and which of them a container gets.

A mask has bit n set for the capability with number n. Names are spelled with CAP_, in capitals.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

# In the order of their numbers, <linux/capability.h>.
_ALL = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""

# What Docker gives by default: moby v28.5.2, oci/caps/defaults.go.
_DEFAULT = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE
"""

NAMES = tuple(f"CAP_{name}" for name in _ALL.split())
DEFAULT = frozenset(f"CAP_{name}" for name in _DEFAULT.split())


def mask(names: Iterable[str]) -> int:
    """Return the mask of the named capabilities. Raises ValueError naming the unknown one."""
    bits = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"unknown capability {name!r}")
        bits |= 1 << NAMES.index(name)
    return bits


def names(bits: int) -> frozenset[str]:
    """Return the names of the capabilities in a mask; numbers newer than this table are left out."""
    return frozenset(name for number, name in enumerate(NAMES) if bits >> number & 1)


@cache
def own() -> frozenset[str]:
    """Return what this process may give away: its permitted set, as far as its bounding set.

    This, and not every capability that the kernel knows, is what a privileged container gets: a host may have taken
    some from the daemon already (a virtual machine without CAP_SYS_RESOURCE, a container).
    """
    fields = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return names(int(fields["CapPrm"], 16) & int(fields["CapBnd"], 16))
