"""`HostConfig.Sysctls`: only those that belong to a namespace that the container has of its own (runc: validator)."""

from __future__ import annotations

from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import HostConfig

_IPC = frozenset(f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())
_SWAPPED = str.maketrans("./", "/.")


def check_sysctls(host: HostConfig) -> None:
    """Raises BadParameter in runc's words."""
    for given, value in (host.Sysctls or {}).items():
        name = normal_name(given)
        # A part of slashes alone would be "." or ".." as a path.
        if any(not part.strip("/") for part in name.split(".")) or "\0" in given + value:
            raise _refused(f'sysctl "{given}" is not a name')
        if name in _IPC or name.startswith("fs.mqueue."):
            if host.IpcMode == "host":
                raise _refused(f'sysctl "{given}" is not allowed in the hosts ipc namespace')
        elif name.startswith("net."):
            if host.NetworkMode == "host":
                raise _refused(f'sysctl "{given}" not allowed in host network namespace')
        elif name == "kernel.hostname" and host.UTSMode != "host":
            raise _refused(f'sysctl "{given}" is not allowed as it conflicts with the OCI "hostname" field')
        elif name != "kernel.domainname" or host.UTSMode == "host":
            raise _refused(f'sysctl "{given}" is not in a separate kernel namespace')


def normal_name(name: str) -> str:
    """Spell a sysctl with dots between its parts: of `.` and `/` the first one parts it (sysctl.d(5))."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "." else name.translate(_SWAPPED)


def _refused(why: str) -> BadParameter:
    return BadParameter(why, key="Sysctls")
