"""Checks a HostConfig, and fills in what dockerd would: errors, refusals by name, warnings.

What a user would rely on and we cannot do is refused with 501 and its name; the table below is the whole truth about
that. `limits.py` has the resources, `mount_spec.py` the mounts.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from windlass.engine.errors import BadParameter, Unsupported
from windlass.jobs.container_config import HostConfig, LogSettings, RestartRule
from windlass.jobs.containers import Create
from windlass.kernel import caps

from .devices import check_devices
from .endpoints import check_network_mode, check_ports, check_resolver, network_name
from .limits import check_limits, host_support
from .log_config import check_log
from .mount_spec import check_mounts
from .namespaces import check_namespaces
from .security import check_security
from .sysctls import check_sysctls

SHM_SIZE = 64 << 20

# Fields whose meaning is not built, and that nobody can do without once they ask for them.
REFUSED: dict[str, str] = {
    "Cgroup": "another container's cgroup",
}


def check_host(params: Create, warn: Callable[[str], None]) -> HostConfig:
    """Return the request's HostConfig with defaults filled in.

    Raises BadParameter for what makes no sense, Unsupported for what is not built.
    """
    host = params.HostConfig
    _refuse(host)
    check_namespaces(host)
    check_network_mode(params, warn)
    check_ports(params)
    check_resolver(host)
    check_restart(host)
    _check_capabilities(host)
    check_security(host, warn)
    check_devices(host)
    check_sysctls(host)
    _check_annotations(host)
    check_mounts(host, params)
    check_log(host)
    host = check_limits(host, warn, host_support())
    return _with_defaults(host)


def _refuse(host: HostConfig) -> None:
    for field, what in REFUSED.items():
        if getattr(host, field):
            raise Unsupported(f"HostConfig.{field}: {what} cannot be used yet", key=field)


def check_restart(host: HostConfig) -> None:
    policy = host.RestartPolicy
    if policy.Name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise BadParameter(
            f"invalid restart policy: unknown policy '{policy.Name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            key="RestartPolicy",
        )
    if policy.MaximumRetryCount < 0 or (policy.MaximumRetryCount and policy.Name != "on-failure"):
        raise BadParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure', and cannot be negative",
            key="RestartPolicy",
        )
    if host.AutoRemove and policy.Name not in ("", "no"):
        raise BadParameter("can't create 'AutoRemove' container with restart policy", key="RestartPolicy")


def _check_capabilities(host: HostConfig) -> None:
    for key, given in (("CapAdd", host.CapAdd), ("CapDrop", host.CapDrop)):
        for name in given or ():
            if name.upper() != "ALL":
                _check_capability(key, capability(name))


def _check_capability(key: str, name: str) -> None:
    if name not in caps.NAMES:
        raise BadParameter(f'invalid {key}: unknown capability: "{name}"', key=key)
    if name not in caps.own():
        raise BadParameter(
            f"invalid {key}: capability not supported by your kernel or not available in the current environment: "
            f'"{name}"',
            key=key,
        )


def _check_annotations(host: HostConfig) -> None:
    if "" in (host.Annotations or {}):
        raise BadParameter(
            "invalid Annotations: the empty string is not permitted as an annotation key", key="Annotations"
        )


def capability(name: str) -> str:
    """Spell a capability as the kernel does: `net_admin` is CAP_NET_ADMIN."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def capabilities(host: HostConfig) -> frozenset[str]:
    """What the container's processes may have; never more than the daemon has itself."""
    if host.Privileged:
        return caps.own()
    added = {capability(name) for name in host.CapAdd or () if name.upper() != "ALL"}
    dropped = {capability(name) for name in host.CapDrop or () if name.upper() != "ALL"}
    add_all = any(name.upper() == "ALL" for name in host.CapAdd or ())
    drop_all = any(name.upper() == "ALL" for name in host.CapDrop or ())
    base = caps.own() if add_all else frozenset() if drop_all else caps.DEFAULT & caps.own()
    return frozenset((base - dropped) | added)


def _with_defaults(host: HostConfig) -> HostConfig:
    """Fill in what inspect shows when nothing was said."""
    replace = msgspec.structs.replace
    log = LogSettings(host.LogConfig.Type or "json-file", host.LogConfig.Config)
    policy = RestartRule(host.RestartPolicy.Name or "no", host.RestartPolicy.MaximumRetryCount)
    return replace(
        host,
        LogConfig=log,
        RestartPolicy=policy,
        NetworkMode=network_name(host.NetworkMode),
        IpcMode=host.IpcMode or "private",
        ShmSize=host.ShmSize or SHM_SIZE,
        Runtime=host.Runtime or "windlass",
    )
