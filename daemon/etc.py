"""/etc/hostname, /etc/hosts and /etc/resolv.conf of a container: files in its folder, bound into it.

They are written anew at each start (Docker does so too), so one that is younger than the last exit tells that the
container was started since: all that is left to know of a run when the host went down under it. A container that
shares another's network gets the other's files; its own are written all the same, for their time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.execdriver.driver import Mount
from windlass.jobs.container_config import EndpointSettings, HostConfig

from .links import host_names
from .resolver import HOST_GATEWAY, extra_hosts, read_text, resolv_conf

if TYPE_CHECKING:
    from .attachment import Attachment

NAMES = ("hostname", "hosts", "resolv.conf")
LOCALHOST = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write(folder: Path, host: HostConfig, attachment: Attachment) -> list[Mount]:
    """Write the three files; return the mounts that put them in place. Blocks. The user's own mounts come after."""
    texts = {
        "hostname": f"{attachment.fqdn}\n",
        "hosts": _hosts(host, attachment),
        "resolv.conf": resolv_conf(host, attachment.sandbox, attachment.dns),
    }
    for file, text in texts.items():
        (folder / file).write_text(text)
    source = attachment.files or folder
    return [Mount(f"/etc/{file}", source=str(source / file), mapped=True) for file in NAMES]


def kept(folder: Path) -> list[Mount]:
    """The mounts that put the files of the last start in place. Blocks."""
    return [Mount(f"/etc/{file}", source=str(folder / file)) for file in NAMES if (folder / file).exists()]


def last_start(folder: Path) -> int:
    """When the files were written last, in nanoseconds; 0 when never."""
    try:
        return (folder / "hosts").stat().st_mtime_ns
    except OSError:
        return 0


def edit_hosts(folder: Path, removed: Iterable[str], added: Iterable[str]) -> None:
    """Change lines of a running container's /etc/hosts, in place: the file is bound into it. Blocks."""
    path, gone = folder / "hosts", set(removed)
    lines = [line for line in path.read_text().splitlines() if line not in gone]
    path.write_text("".join(f"{line}\n" for line in [*lines, *added]))


def set_address(folder: Path, names: str, address: str) -> None:
    """Let `names` have another address in a running container's /etc/hosts, in place. Blocks."""
    lines = (folder / "hosts").read_text().splitlines()
    edit_hosts(folder, [line for line in lines if line.partition("\t")[2] == names], [f"{address}\t{names}"])


def own_lines(endpoint: EndpointSettings, hostname: str, domainname: str) -> list[str]:
    """The lines of /etc/hosts for a container's own addresses in one network."""
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    return [f"{address}\t{names}" for address in (endpoint.IPAddress, endpoint.GlobalIPv6Address) if address]


def _hosts(host: HostConfig, attachment: Attachment) -> str:
    text = LOCALHOST
    if host.NetworkMode == "host":
        text = read_text(Path("/etc/hosts")) or LOCALHOST
    lines = []
    for name, address in extra_hosts(host):
        lines += [f"{each}\t{name}" for each in (attachment.gateways if address == HOST_GATEWAY else (address,))]
    lines += [f"{link.address}\t{host_names(link)}" for link in attachment.links]
    for endpoint in attachment.sandbox.endpoints.values() if attachment.sandbox else ():
        lines += own_lines(endpoint, attachment.hostname, attachment.domainname)
    return text + "".join(f"{line}\n" for line in lines)
