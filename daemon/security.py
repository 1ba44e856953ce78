"""`HostConfig.SecurityOpt`: seccomp, no-new-privileges, system paths, cgroups, and labels that this host may not have.

AppArmor and SELinux are not applied. Where the kernel has neither, dockerd takes the options without a word; here the
answer says that they do nothing. Where it has, they are refused: nobody shall believe in a confinement that is not
there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from windlass.engine.errors import BadParameter, Unsupported
from windlass.engine.params import parse_json
from windlass.jobs.container_config import HostConfig
from windlass.lib import host as machine

Seccomp = dict[str, Any] | Literal["builtin", "unconfined"]

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}  # Go's strconv.ParseBool
# What takes a label's confinement away, by key; where there is none, that is nothing to be told.
_UNCONFINED = {"apparmor": "unconfined", "label": "disable"}
_LABELS = {"apparmor": "AppArmor", "label": "SELinux"}


class Security(NamedTuple):
    """What SecurityOpt says."""

    seccomp: Seccomp = "builtin"
    no_new_privileges: bool = False
    system_paths: bool = True  # masked and read-only paths are covered
    writable_cgroups: bool = False


def check_security(host: HostConfig, warn: Callable[[str], None]) -> None:
    """Check SecurityOpt at create. Raises BadParameter naming the option; Unsupported for labels that the host has."""
    security = parse_security(host)
    if isinstance(security.seccomp, dict):
        _check_profile(security.seccomp)
    if security.writable_cgroups and not host.Privileged:
        if machine.cgroup_version() != 2:
            raise BadParameter("--security-opt writable-cgroups needs cgroup v2", key="SecurityOpt")
        if host.CgroupnsMode == "host":
            raise BadParameter("--security-opt writable-cgroups needs a private cgroup namespace", key="SecurityOpt")
    for option in host.SecurityOpt or ():
        key, value = _split(option)
        if key in _LABELS and value != _UNCONFINED[key]:
            _check_label(key, option, warn)


def parse_security(host: HostConfig) -> Security:
    """Parse SecurityOpt; the last of several options of one kind counts. Raises BadParameter in dockerd's words."""
    found = Security(seccomp="unconfined" if host.Privileged else "builtin")
    for option in host.SecurityOpt or ():
        key, value = _split(option)
        match key:
            case "no-new-privileges":
                found = found._replace(no_new_privileges=_boolean(option, value))
            case "writable-cgroups":
                found = found._replace(writable_cgroups=_boolean(option, value))
            case "seccomp":
                found = found._replace(seccomp=_seccomp(value))
            case "systempaths" if value == "unconfined":
                found = found._replace(system_paths=False)
            case "apparmor" | "label":
                pass
            case _:
                raise BadParameter(f'invalid --security-opt 2: "{option}"', key="SecurityOpt")
    return found


def _split(option: str) -> tuple[str, str]:
    """Part an option at `=`, or at `:` as old clients write it."""
    if option in ("no-new-privileges", "writable-cgroups"):
        return option, "true"
    if option == "disable":
        return "label", option
    mark = "=" if "=" in option else ":"
    key, found, value = option.partition(mark)
    if not found:
        raise BadParameter(f'invalid --security-opt 1: "{option}"', key="SecurityOpt")
    return key, value


def _boolean(option: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise BadParameter(f'invalid --security-opt 2: "{option}"', key="SecurityOpt")
    return _BOOLEANS[value]


def _seccomp(value: str) -> Seccomp:
    if value in ("builtin", "unconfined"):
        return "builtin" if value == "builtin" else "unconfined"
    try:
        profile = parse_json(value, "the seccomp profile")
    except BadParameter as exc:
        raise BadParameter(f"decoding seccomp profile failed: {exc.message}", key="SecurityOpt") from None
    if not isinstance(profile, dict):
        raise BadParameter("decoding seccomp profile failed: it is no JSON object", key="SecurityOpt")
    return profile


def _check_profile(profile: dict[str, Any]) -> None:
    # Late: reading the tables of system calls takes time that a daemon's start-up does not have.
    from windlass.kernel import seccomp

    try:
        seccomp.check_profile(profile)
    except ValueError as exc:
        raise BadParameter(str(exc), key="SecurityOpt") from None


def _check_label(key: str, option: str, warn: Callable[[str], None]) -> None:
    if key in _enabled():
        raise Unsupported(f"--security-opt {option}: {_LABELS[key]} is not supported", key="SecurityOpt")
    warn(f"Your kernel does not support {_LABELS[key]} or it is not enabled. --security-opt {option} discarded.")


@cache
def _enabled() -> frozenset[str]:
    """Which of the two the kernel enforces."""
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    found = {"label"} if Path("/sys/fs/selinux/enforce").exists() else set()
    if apparmor.exists() and apparmor.read_text().strip() == "Y":
        found.add("apparmor")
    return frozenset(found)
