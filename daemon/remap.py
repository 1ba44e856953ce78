"""User namespaces: whose ranges of ids the users of containers are, after subuid(5) and subgid(5).

The daemon's `--userns-remap` is for all containers that do not say `host`. A container that says `auto` gets, for each
run, a range that no other running one has, out of those of the user `windlass`: what breaks out of it is a stranger to
the other containers too (moby#28593).

`default` is the user `dockremap`, as in Docker, which also makes that user; here it has to be there. Files on disk
keep the ids that they have in the container: only the mounts map them, so layers are shared by all containers,
whatever their mapping (Linux 6.15: overlayfs takes layers whose owners are mapped, by descriptor).
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable, Set
from pathlib import Path
from typing import NamedTuple

from windlass.engine.errors import BadParameter, Conflict, Unsupported
from windlass.execdriver.driver import IdMap
from windlass.jobs.container_config import HostConfig

DEFAULT_USER = "dockremap"
POOL_USER = "windlass"  # a name in the files; there need not be such a user
SLICE = 65_536  # ids that a container of `auto` gets: those that images use
SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
_NEEDED = (6, 15)
_KEY = "userns-remap"
_RANGE = re.compile(r"([^:]+):([0-9]{1,10}):([0-9]{1,10})\Z", re.ASCII)


class Remap(NamedTuple):
    """Who the users and groups of containers are on the host."""

    uids: IdMap
    gids: IdMap


def load_remap(text: str, subuid: Path = SUBUID, subgid: Path = SUBGID) -> Remap:
    """Look up USER[:GROUP] of `--userns-remap`. Raises BadParameter naming what is missing, Unsupported."""
    _check_kernel()
    user_text, colon, group_text = text.partition(":")
    if user_text == "default" and not colon:
        user_text = DEFAULT_USER
    user = _user(user_text)
    group = _group(group_text) if colon else user
    return Remap(_ranges(subuid, user), _ranges(subgid, group))


def load_pool(subuid: Path = SUBUID, subgid: Path = SUBGID) -> list[Remap]:
    """List the mappings that containers of `auto` can have. Raises BadParameter when there is none, Unsupported."""
    _check_kernel()
    owner = (POOL_USER, POOL_USER)
    starts = [
        [start for _, first, count in _ranges(path, owner) for start in range(first, first + count - SLICE + 1, SLICE)]
        for path in (subuid, subgid)
    ]
    found = [Remap(((0, uid, SLICE),), ((0, gid, SLICE),)) for uid, gid in zip(*starts, strict=False)]
    if not found:
        raise BadParameter(f"userns: the ranges of {POOL_USER} are shorter than {SLICE}", key="UsernsMode")
    return found


def choose(pool: Iterable[Remap], used: Set[int]) -> Remap:
    """Choose a mapping whose first user is not in use. Raises Conflict when all are."""
    for each in pool:
        if each.uids[0][1] not in used:
            return each
    raise Conflict(f"every range of ids that {SUBUID} gives to {POOL_USER} is in use by a running container")


def first_user(pid: int) -> int:
    """Who the root of a process's user namespace is outside; -1 when the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    except (OSError, IndexError):
        return -1


def is_mapped(host: HostConfig, remap: Remap | None) -> bool:
    """True for a container that has a user namespace, the daemon's mapping being `remap`."""
    return host.UsernsMode == "auto" or (remap is not None and host.UsernsMode != "host")


def check_remap(host: HostConfig, remap: Remap | None) -> None:
    """Refuse what does not go together with a user namespace. Raises BadParameter in dockerd's words."""
    if not is_mapped(host, remap):
        return
    if host.Privileged:
        raise BadParameter(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode",
            key="Privileged",
        )
    for field, what in (("NetworkMode", "host's network"), ("PidMode", "host PID"), ("IpcMode", "host IPC")):
        if getattr(host, field) == "host":
            raise BadParameter(f"cannot share the {what} namespace when user namespaces are enabled", key=field)


def _check_kernel() -> None:
    release = os.uname().release
    if tuple(map(int, re.findall(r"\d+", release)[:2])) < _NEEDED:
        raise Unsupported(f"{_KEY} needs Linux {'.'.join(map(str, _NEEDED))}, this is {release}", key=_KEY)


def _user(text: str) -> tuple[str, str]:
    """Name and number of a user, by either."""
    try:
        found = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        raise BadParameter(f"{_KEY}: there is no user {text!r}", key=_KEY) from None
    return found.pw_name, str(found.pw_uid)


def _group(text: str) -> tuple[str, str]:
    try:
        found = grp.getgrgid(int(text)) if text.isdecimal() else grp.getgrnam(text)
    except (KeyError, OverflowError):
        raise BadParameter(f"{_KEY}: there is no group {text!r}", key=_KEY) from None
    return found.gr_name, str(found.gr_gid)


def _ranges(path: Path, owner: tuple[str, str]) -> IdMap:
    """The owner's ranges, one after the other from 0 on inside."""
    found: list[tuple[int, int, int]] = []
    inside = 0
    for line in path.read_text().splitlines() if path.exists() else ():
        match = _RANGE.match(line.strip())
        if match and match[1] in owner and int(match[3]):
            found.append((inside, int(match[2]), int(match[3])))
            inside += int(match[3])
    if not found:
        example = f"{owner[0]}:100000:65536"
        raise BadParameter(f"{_KEY}: {path} has no range for {owner[0]}; a line such as {example} gives one", key=_KEY)
    return tuple(found)
