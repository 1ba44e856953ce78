"""`HostConfig.SecurityOpt`: seccomp, no-new-privileges, system paths, and labels that this host has none of."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from windlass.engine.errors import BadParameter, Unsupported
from windlass.engine.params import parse_json
from windlass.jobs.container_config import HostConfig

Seccomp = dict[str, Any] | Literal["builtin", "unconfined"]


class Security(NamedTuple):
    """What SecurityOpt says."""

    seccomp: Seccomp = "builtin"
    no_new_privileges: bool = False
    system_paths: bool = True  # masked and read-only paths are covered


def parse_security(host: HostConfig) -> Security:
    """Parse SecurityOpt. Raises BadParameter: `invalid --security-opt`, Unsupported for labels."""
    found = Security(seccomp="unconfined" if host.Privileged else "builtin")
    for option in host.SecurityOpt or ():
        key, value = _split(option)
        match key, value:
            case "no-new-privileges", ("" | "true" | "false"):
                found = found._replace(no_new_privileges=value != "false")
            case "seccomp", ("unconfined" | "builtin"):
                found = found._replace(seccomp="unconfined" if value == "unconfined" else "builtin")
            case "seccomp", _:
                found = found._replace(seccomp=_profile(value))
            case "systempaths", "unconfined":
                found = found._replace(system_paths=False)
            case ("apparmor", "unconfined") | ("label", "disable"):
                pass  # there is no such confinement here
            case (("apparmor" | "label"), _):
                raise Unsupported(f"--security-opt {option}: {key} is not available on this host", key="SecurityOpt")
            case _:
                raise BadParameter(f'invalid --security-opt 2: "{option}"', key="SecurityOpt")
    return found


def _split(option: str) -> tuple[str, str]:
    """Part an option at `=`, or at `:` as old clients write it."""
    mark = "=" if "=" in option else ":"
    key, _, value = option.partition(mark)
    return key, value


def _profile(text: str) -> dict[str, Any]:
    profile = parse_json(text, "the seccomp profile")
    if not isinstance(profile, dict):
        raise BadParameter("opening seccomp profile failed: it is no JSON object", key="SecurityOpt")
    return profile
