"""/etc/hostname, /etc/hosts and /etc/resolv.conf of a container: files in its folder, bound into it.

They are written anew at each start (Docker does so too), so one that is younger than the last exit tells that the
container was started since: all that is left to know of a run when the host went down under it.
"""

from __future__ import annotations

from pathlib import Path

from windlass.execdriver.driver import Mount
from windlass.jobs.container_config import HostConfig

NAMES = ("hostname", "hosts", "resolv.conf")
LOCALHOST = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
MAX_RESOLV_CONF = 64 << 10


def write(folder: Path, hostname: str, domainname: str, host: HostConfig) -> list[Mount]:
    """Write the three files; return the mounts that put them in place. Blocks. The user's own mounts come after."""
    name = f"{hostname}.{domainname}" if domainname else hostname
    texts = {"hostname": f"{name}\n", "hosts": _hosts(host), "resolv.conf": _resolv_conf(host)}
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [Mount(f"/etc/{file}", source=str(folder / file)) for file in NAMES]


def last_start(folder: Path) -> int:
    """When the files were written last, in nanoseconds; 0 when never."""
    try:
        return (folder / "hosts").stat().st_mtime_ns
    except OSError:
        return 0


def _hosts(host: HostConfig) -> str:
    lines = LOCALHOST
    if host.NetworkMode == "host":
        lines = _read(Path("/etc/hosts")) or LOCALHOST
    for entry in host.ExtraHosts or ():
        alias, _, address = entry.partition("=" if "=" in entry else ":")
        if address != "host-gateway":
            lines += f"{address.strip('[]')}\t{alias}\n"
    return lines


def _resolv_conf(host: HostConfig) -> str:
    """The host's file, with what HostConfig replaces; nameservers of the host's loopback are out of reach."""
    lines = _read(Path("/etc/resolv.conf")).splitlines()
    replaced = {"nameserver": host.Dns, "search": host.DnsSearch, "options": host.DnsOptions}
    kept = [line for line in lines if not (line.split() and replaced.get(line.split()[0]))]
    if host.NetworkMode not in ("host", "none"):
        kept = [line for line in kept if not line.startswith(("nameserver 127.", "nameserver ::1"))]
    kept += [f"nameserver {server}" for server in host.Dns or ()]
    if host.DnsSearch and host.DnsSearch != ["."]:
        kept.append("search " + " ".join(host.DnsSearch))
    if host.DnsOptions:
        kept.append("options " + " ".join(host.DnsOptions))
    return "".join(f"{line}\n" for line in kept)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_RESOLV_CONF).decode(errors="replace")
    except OSError:
        return ""
