"""`--userns-remap`: whose ranges of ids the users of containers are, after subuid(5) and subgid(5).

`default` is the user `dockremap`, as in Docker, which also makes that user; here it has to be there. Files on disk
keep the ids that they have in the container: only the mounts map them, so layers are shared by all containers,
whatever their mapping (Linux 6.15: overlayfs takes layers whose owners are mapped, by descriptor).
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path
from typing import NamedTuple

from windlass.engine.errors import BadParameter, Unsupported
from windlass.execdriver.driver import IdMap
from windlass.jobs.container_config import HostConfig

DEFAULT_USER = "dockremap"
_NEEDED = (6, 15)
_KEY = "userns-remap"
_RANGE = re.compile(r"([^:]+):([0-9]{1,10}):([0-9]{1,10})\Z", re.ASCII)


class Remap(NamedTuple):
    """Who the users and groups of containers are on the host."""

    uids: IdMap
    gids: IdMap


def load_remap(text: str, subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")) -> Remap:
    """Look up USER[:GROUP]. Raises BadParameter naming what is missing, Unsupported on an older kernel."""
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if version < _NEEDED:
        raise Unsupported(f"{_KEY} needs Linux {'.'.join(map(str, _NEEDED))}, this is {os.uname().release}", key=_KEY)
    user_text, colon, group_text = text.partition(":")
    if user_text == "default" and not colon:
        user_text = DEFAULT_USER
    user = _user(user_text)
    group = _group(group_text) if colon else user
    return Remap(_ranges(subuid, user), _ranges(subgid, group))


def check_remap(host: HostConfig, remap: Remap | None) -> None:
    """Refuse what does not go together with a user namespace. Raises BadParameter in dockerd's words."""
    if remap is None or host.UsernsMode == "host":
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
