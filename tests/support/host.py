"""A host of the test's own: a network namespace with nothing in it but what one daemon makes there.

Everything in it is the daemon's, so what a crash leaves behind can be told exactly: interfaces, rules, sockets and
processes that are there although no container has them.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from .daemon import Daemon
from .images import busybox_rootfs
from .networks import until, within

SIOCGIFADDR = 0x8915  # netdevice(7)
PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp"}  # what nft(8) shows where /etc/protocols is missing
PORT_MAPS = {"all4", "one4", "all6", "one6"}


class Host:
    """A network namespace that lives as long as a process of ours in it; use as a context."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # the namespace is there
        self.pid = self._holder.pid
        self.id = os.readlink(f"/proc/{self.pid}/ns/net")
        self.within(_up)

    def within(self, work: Callable[[], Any]) -> Any:
        return within(self.pid, work)

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs a program in here."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def close(self) -> None:
        self._holder.communicate()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what is there

    def links(self) -> dict[str, tuple[str, str]]:
        """Return kind and master's name of each interface, by name, without the loopback."""

        def look() -> dict[str, tuple[str, str]]:
            with IPRoute() as route:
                links = list(route.get_links())
            names = {link["index"]: link.get("ifname") for link in links}
            return {
                link.get("ifname"): (str(link.get(("linkinfo", "kind")) or ""), names.get(link.get("master"), ""))
                for link in links
                if link.get("ifname") != "lo"
            }

        return dict(self.within(look))

    def ports(self) -> set[tuple[str, int]]:
        """Return the ports that the packet filter translates, as (protocol, port)."""
        found = set()
        for part in self.ruleset():
            for entry in part.get("map", {}).get("elem", []) if part.get("map", {}).get("name") in PORT_MAPS else ():
                *_, protocol, port = entry[0]["concat"]
                found.add((PROTOCOLS.get(str(protocol), str(protocol)), int(port)))
        return found

    def ruleset(self) -> list[dict[str, Any]]:
        """Return the packet filter's tables and what is in them, as nft(8) writes it in JSON."""
        out = subprocess.check_output(self.command("nft", "-j", "list", "ruleset"))
        return [part for part in json.loads(out)["nftables"] if "metainfo" not in part]

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes in here, by pid, without the one that holds it."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended while we looked
                if folder.name != str(self.pid) and os.readlink(folder / "ns/net") == self.id:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def is_free(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
        """Tell whether a program on the host could take a port now."""
        with self.within(lambda: socket.socket(socket.AF_INET, kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed lately does not count
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
            return True


class HostedDaemon(Daemon):
    """A daemon on a host of its own, with an image."""

    def __init__(self, host: Host, *flags: str, **env: str) -> None:
        super().__init__(*flags, **env)
        self.machine = host

    def command(self) -> list[str]:
        return self.machine.command(*super().command())

    def load(self) -> "HostedDaemon":
        answer = self.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", tag="latest")
        assert answer.status == 200, answer.body
        return self


@contextlib.contextmanager
def hosted(*flags: str, **env: str) -> Iterator[HostedDaemon]:
    """Start a daemon on a host of its own; afterwards nothing is on that host that was not there before."""
    with Host() as host:
        daemon = HostedDaemon(host, *flags, **env)
        try:
            daemon.start()
            yield daemon.load()
            if not daemon.answers():
                daemon.start()
        finally:
            daemon.close()
        with contextlib.suppress(AssertionError):  # a namespace takes its interfaces along some time after its end
            until(lambda: not any(left_on(host)), "nothing to be left")
        assert not any(left_on(host)), f"left on the host: {left_on(host)}"


def left_on(host: Host) -> tuple[Any, ...]:
    """Return the interfaces, the rules and the processes on a host."""
    return host.links(), host.ruleset(), host.processes()


def addresses(pid: int) -> dict[str, str]:
    """Return the IPv4 address of each interface in the namespace of a process, by name."""

    def look() -> dict[str, str]:
        found = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # it has none
                    request = struct.pack("256s", name.encode())
                    answer = fcntl.ioctl(any_socket, SIOCGIFADDR, request)
                    found[name] = socket.inet_ntoa(answer[20:24])
        return found

    return dict(within(pid, look))


def _up() -> None:
    with IPRoute() as route:
        (lo,) = route.link_lookup(ifname="lo")
        route.link("set", index=lo, state="up")
