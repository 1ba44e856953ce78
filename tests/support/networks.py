"""What tests of networks share: free ports, servers in anybody's namespace, what containers answer.

"The host" is the network namespace that the tests run in, which must be the engine's: to try another engine that
lives in a namespace of its own, run pytest in there (nsenter --net), with WINDLASS_COMPAT_HOST.
"""

import contextlib
import ctypes
import http.client
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cli import Docker

LIMIT = 30.0  # seconds after which what should have happened has not
CLONE_NEWNET = 0x40000000
ANY, ANY6 = "0.0.0.0", "::"
libc = ctypes.CDLL(None, use_errno=True)


def until(true: Callable[[], Any], what: str) -> Any:
    """Look until it is so and return what was seen; fail after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while not (seen := true()):
        assert time.monotonic() < deadline, f"waited {LIMIT} s for: {what}"
        time.sleep(0.02)
    return seen


def free_port(count: int = 1) -> int:
    """Return a port that nobody uses now, and `count` - 1 more after it, below those that connections take."""
    while True:
        first = random.randrange(20000, 32000)
        if all(is_free(port) for port in range(first, first + count)):
            return first


def is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, ANY), (socket.AF_INET6, ANY6)):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                try:
                    probe.bind((address, port))
                except OSError:
                    return False
    return True


def interfaces(pid: int | None = None) -> set[str]:
    """Return the names of the interfaces in this namespace, or in that of a process."""
    return within(pid, lambda: {name for _, name in socket.if_nameindex()})


def within(pid: int | None, work: Callable[[], Any]) -> Any:
    """Do something in the network namespace of a process, on a thread that ends with it."""
    if pid is None:
        return work()
    found: list[Any] = []

    def enter() -> None:
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns to the namespace of {pid}")
        found.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found, f"the work in the namespace of {pid} failed"
    return found[0]


# -- servers


class Server:
    """A server of the test's own in some namespace; it answers a line or a packet with `tag`, a space and what came.

    A socket belongs to the namespace where it was made, whoever uses it later.
    """

    def __init__(self, address: str, port: int, kind: socket.SocketKind, pid: int | None = None, tag: str = "") -> None:
        self.tag, self.seen = tag.encode() + b" ", 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = within(pid, lambda: socket.socket(family, kind))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self._peers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._packets)
        self._thread.start()

    def _packets(self) -> None:
        with contextlib.suppress(OSError):  # shutdown() of an unconnected socket wakes us with one
            while True:
                data, peer = self.socket.recvfrom(65536)
                if not data:
                    return
                self.seen += 1
                answer = self.answer(data)
                if answer is not None:
                    self.socket.sendto(answer, peer)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.socket.accept()
                self._peers.append(peer)
                threading.Thread(target=self._stream, args=(peer,), daemon=True).start()

    def _stream(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := peer.recv(65536):
                self.seen += 1
                peer.sendall(self.tag + data)

    def answer(self, data: bytes) -> bytes | None:
        return self.tag + data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for peer in (*self._peers, self.socket):
            peer.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Resolver(Server):
    """A name server that knows a few names, and says NXDOMAIN to all else (RFC 1035 §4.1)."""

    def __init__(self, address: str, names: dict[str, str], pid: int | None = None) -> None:
        self.names, self.asked = names, []
        super().__init__(address, 53, socket.SOCK_DGRAM, pid)

    asked: list[str]

    def answer(self, data: bytes) -> bytes | None:
        labels, at = [], 12
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name, kind = ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big")
        self.asked.append(name)
        known = name in self.names
        question = data[12 : at + 5]
        record = b""
        if known and kind == 1:
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(self.names[name])
        flags = b"\x81\x80" if known else b"\x81\x83"
        return data[:2] + flags + b"\0\1" + (b"\0\1" if record else b"\0\0") + b"\0\0\0\0" + question + record


def ask(address: str, port: int, kind: socket.SocketKind, pid: int | None = None, data: bytes = b"hello\n") -> bytes:
    """Send something and return the answer; empty when it is refused or when nobody answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with within(pid, lambda: socket.socket(family, kind)) as client, contextlib.suppress(OSError):
        client.settimeout(2)
        client.connect((address, port))
        client.sendall(data)
        return bytes(client.recv(65536))
    return b""


def fetch(address: str, port: int, pid: int | None = None) -> str:
    """GET / and return the body without its last newline; empty when nobody answers."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.sock = within(pid, lambda: socket.socket(family, socket.SOCK_STREAM))
        connection.sock.settimeout(5)
        connection.sock.connect((address, port))
        connection.request("GET", "/")
        return connection.getresponse().read().decode().removesuffix("\n")
    return ""


# -- containers


def serve(docker: Docker, name: str, *flags: str) -> str:
    """Start a container whose port 80 tells its name over HTTP; return its id when it answers."""
    script = f"echo {name} > /index.html; exec httpd -f -p 80 -h /"
    id = docker.ok("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)
    wait_for_http(docker, name)
    return id


def wait_for_http(docker: Docker, name: str) -> None:
    """Wait until the container answers itself."""
    docker.ok("exec", name, "sh", "-c", "until wget -qO /dev/null http://127.0.0.1/; do usleep 20000; done")


def get(docker: Docker, name: str, url: str) -> str:
    """GET from within a container; what came, or nothing."""
    return docker("exec", name, "timeout", "5", "wget", "-qO-", f"http://{url}/").out.strip()


def pid_of(docker: Docker, name: str) -> int:
    return int(docker.inspect(name, "{{.State.Pid}}"))


def address_of(docker: Docker, name: str, network: str = "bridge") -> str:
    """Return a container's IPv4 address on a network."""
    return settings(docker, name)["Networks"][network]["IPAddress"]


def settings(docker: Docker, name: str) -> Any:
    return json.loads(docker.inspect(name, "{{json .NetworkSettings}}"))


def inspect_network(docker: Docker, name: str) -> Any:
    (found,) = json.loads(docker.ok("network", "inspect", name))
    return found


def gateway_of(docker: Docker, network: str = "bridge") -> str:
    """Return the bridge's address; an old engine tells that of its default bridge only once a container is there."""
    if network == "bridge" and docker.is_old:
        flags = ["--rm", "busybox", "ip", "route"]
        return docker.ok("run", *flags).split("default via ")[1].split()[0]
    return str(inspect_network(docker, network)["IPAM"]["Config"][0]["Gateway"])


def lines_of(docker: Docker, name: str, path: str) -> list[str]:
    """Return the lines of a file in a container, without comments and empty ones."""
    text = docker.ok("exec", name, "cat", path)
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def names_asked(docker: Docker, name: str, what: str) -> list[str]:
    """Ask 127.0.0.11 from within a container; return the IPv4 addresses in the order of the answer."""
    out = docker("exec", name, "nslookup", "-type=a", what, "127.0.0.11").out
    answers = out.partition("\n\n")[2]
    return [line.split()[-1] for line in answers.splitlines() if line.startswith("Address")]


def listeners() -> set[str]:
    """Return the local address and port of TCP and UDP sockets of this namespace that wait for peers (proc(5))."""
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        lines = (Path("/proc/thread-self/net") / table).read_text().splitlines()[1:]
        found |= {f"{table} {line.split()[1]}" for line in lines if line.split()[3] == state}
    return found


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
