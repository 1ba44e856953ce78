"""What is measured. A case takes one sample of one peer; the runner alternates the peers."""

import secrets
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from peers import IMAGE, MARK, Peer, pss

Samples = dict[str, float]
now = time.perf_counter


@dataclass(frozen=True)
class Case:
    """A measurement: `sample` returns metrics of one round; lower is better for all of them."""

    name: str
    what: str
    rounds: int
    sample: Callable[[Peer], Samples]
    goals: dict[str, str] = field(default_factory=dict)  # metric → what the project asks for, in words


def create(peer: Peer, *command: str) -> str:
    body = {"Image": IMAGE, "Cmd": list(command), "Labels": MARK, "HostConfig": {"NetworkMode": "none"}}
    return str(peer.wire.post(f"/containers/create?name=bench-{secrets.token_hex(6)}", body)["Id"])


def remove(peer: Peer, id: str) -> None:
    peer.wire.delete(f"/containers/{id}?force=1&v=1")


@contextmanager
def sleeper(peer: Peer) -> Iterator[str]:
    """Keep a container running while it is used."""
    id = create(peer, "sleep", "1000")
    peer.wire.post(f"/containers/{id}/start")
    try:
        yield id
    finally:
        remove(peer, id)


def run(peer: Peer) -> Samples:
    """Take a container of `true` through its whole life, over one kept connection."""
    began = now()
    id = create(peer, "true")
    created = now()
    peer.wire.post(f"/containers/{id}/start")
    started = now()
    code = peer.wire.post(f"/containers/{id}/wait")["StatusCode"]
    waited = now()
    remove(peer, id)
    removed = now()
    assert code == 0, f"{peer.name}: true ended with {code}"
    spans = {
        "run, ms": removed - began,
        "- create, ms": created - began,
        "- start, ms": started - created,
        "- wait, ms": waited - started,
        "- remove, ms": removed - waited,
    }
    return {name: span * 1e3 for name, span in spans.items()}


def execute(peer: Peer) -> Samples:
    """exec `true` in a running container: create, start, read to the end, ask for the exit code."""
    with sleeper(peer) as id:
        spans = []
        for _ in range(5):
            began = now()
            body = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
            exec_id = peer.wire.post(f"/containers/{id}/exec", body)["Id"]
            peer.wire.drain(f"/exec/{exec_id}/start", {"Detach": False, "Tty": False})
            code = peer.wire.get(f"/exec/{exec_id}/json")["ExitCode"]
            spans.append(now() - began)
            assert code == 0, f"{peer.name}: exec true ended with {code}"
        return {"exec true, ms": statistics.median(spans) * 1e3}


def kill(peer: Peer) -> Samples:
    """SIGKILL until `wait` has answered."""
    with sleeper(peer) as id:
        began = now()
        peer.wire.post(f"/containers/{id}/kill")
        peer.wire.post(f"/containers/{id}/wait")
        return {"kill until wait answers, ms": (now() - began) * 1e3}


def startup(peer: Peer) -> Samples:
    """Stop it, empty its roots, start it: exec until the first `_ping` on roots that are empty."""
    peer.stop()
    span = peer.start(fresh=True)
    peer.prepare()
    return {"exec to first _ping, ms": span * 1e3}


def memory(peer: Peer, containers: int = 10) -> Samples:
    """Memory at rest, after it has worked; then that of one container's supervisor."""
    run(peer)
    time.sleep(1)
    idle = pss(peer.processes())
    ids = [create(peer, "sleep", "1000") for _ in range(containers)]
    try:
        for id in ids:
            peer.wire.post(f"/containers/{id}/start")
        payloads = [peer.wire.get(f"/containers/{id}/json")["State"]["Pid"] for id in ids]
        shims = pss(peer.supervisors(payloads)) / containers
    finally:
        for id in ids:
            remove(peer, id)
    return {"daemon idle, PSS, MiB": idle / 2**20, "supervisor of a container, of 10, PSS, KiB": shims / 2**10}


def pings(peer: Peer, kept: int = 2000, new: int = 500) -> Samples:
    """`_ping` by one client, on a kept connection and on new ones: the median. Bare sockets, since a client library
    would take longer than the engines."""
    with connect(peer) as client:
        spans = [ping(client) for _ in range(kept)]
    fresh = []
    for _ in range(new):
        began = now()
        with connect(peer) as client:
            ping(client)
        fresh.append(now() - began)
    return {
        "_ping p50, kept connection, µs": statistics.median(spans) * 1e6,
        "_ping p50, new connection, µs": statistics.median(fresh) * 1e6,
    }


def connect(peer: Peer) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(peer.socket)
    return client


def ping(client: socket.socket) -> float:
    began = now()
    client.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = client.recv(4096)
    while not answer.endswith(b"\r\n\r\nOK"):
        answer += client.recv(4096)
    return now() - began


# Twenty of `docker run`'s options, of every kind.
OPTIONS: dict[str, object] = {
    "Memory": 256 << 20,
    "MemorySwap": 512 << 20,
    "MemoryReservation": 128 << 20,
    "PidsLimit": 100,
    "NanoCpus": 10**9,
    "CpuShares": 512,
    "CpusetCpus": "0",
    "OomScoreAdj": 100,
    "ShmSize": 16 << 20,
    "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
    "Sysctls": {"kernel.msgmax": "10000"},
    "CapAdd": ["NET_ADMIN"],
    "CapDrop": ["MKNOD"],
    "GroupAdd": ["30"],
    "SecurityOpt": ["no-new-privileges"],
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/hole", "CgroupPermissions": "rw"}],
    "Tmpfs": {"/scratch": "size=1m"},
    "ReadonlyRootfs": True,
    "Init": True,
    "ExtraHosts": ["other:192.0.2.1"],
}


def options(peer: Peer) -> Samples:
    """A default run, and one with OPTIONS: both until they are removed; the order changes from run to run."""
    bodies: dict[str, dict[str, object]] = {"plain": {}, "options": OPTIONS}
    spans: dict[str, list[float]] = {name: [] for name in bodies}
    for names in (("plain", "options"), ("options", "plain")):
        for name in names:
            spans[name].append(whole_life(peer, bodies[name]))
    plain, loaded = (statistics.mean(each) for each in spans.values())
    return {
        "default run, ms": plain * 1e3,
        "run with 20 options, ms": loaded * 1e3,
        "- of the default, ×": loaded / plain,
    }


def whole_life(peer: Peer, host: dict[str, object]) -> float:
    began = now()
    body = {"Image": IMAGE, "Cmd": ["true"], "Labels": MARK, "HostConfig": {"NetworkMode": "none"} | host}
    id = str(peer.wire.post(f"/containers/create?name=bench-{secrets.token_hex(6)}", body)["Id"])
    peer.wire.post(f"/containers/{id}/start")
    code = peer.wire.post(f"/containers/{id}/wait")["StatusCode"]
    remove(peer, id)
    assert code == 0, f"{peer.name}: true ended with {code}"
    return now() - began


CASES = [
    Case("run", "create+start+wait+remove of `true`, network none", 20, run, {"run, ms": "≤ 0.1 of dockerd"}),
    Case(
        "options",
        "a default run beside one with 20 options, network none",
        20,
        options,
        {"run with 20 options, ms": "≤ 0.1 of dockerd"},
    ),
    Case("exec", "exec `true` in a running container", 10, execute, {"exec true, ms": "≤ 0.067 of dockerd"}),
    Case("kill", "kill a running container", 10, kill, {"kill until wait answers, ms": "≤ 0.05 of dockerd"}),
    Case("ping", "`_ping`", 5, pings, {"_ping p50, kept connection, µs": "≤ 1.6 of dockerd"}),
    Case(
        "memory",
        "memory at rest",
        3,
        memory,
        {"daemon idle, PSS, MiB": "≤ 50 MiB", "supervisor of a container, of 10, PSS, KiB": "≤ 40 KiB"},
    ),
    Case("startup", "start on empty roots", 5, startup, {"exec to first _ping, ms": "≤ 0.33 of dockerd"}),
]
