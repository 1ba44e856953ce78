"""Cases with networks: runs and starts on the default bridge, ports, many at once, bytes a second.

Throughput is told against a bridge and veths made by hand in a namespace without any rule, measured in the same
sample, forth and back (ours, plain, plain, ours): only what the engine's rules cost is left.
"""

import contextlib
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cases import Case, Samples, create, remove
from peers import IMAGE, MARK, Peer
from wire import Refused, Wire

now = time.perf_counter
MANY = 50
SECONDS = 1  # of each stream
PORT = 5201
ONE_PORT = {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "0"}]}}
PLAIN_NAMES = ("a", "b")
TOOLS = {"iperf3": "iperf3", "ip": "iproute2", "nsenter": "util-linux"}  # program → Debian's package


def make(peer: Peer, host: dict[str, Any], *command: str) -> str:
    """Create a container with this HostConfig; return its id."""
    body = {"Image": IMAGE, "Cmd": list(command), "Labels": MARK, "HostConfig": host}
    return str(peer.wire.post("/containers/create", body)["Id"])


def start(peer: Peer, id: str) -> float:
    """Start a container; return the milliseconds until the answer."""
    began = now()
    peer.wire.post(f"/containers/{id}/start")
    return (now() - began) * 1e3


def run_on_the_bridge(peer: Peer) -> Samples:
    """Take a container of `true` through its whole life on the default bridge."""
    began = now()
    id = make(peer, {"NetworkMode": "bridge"}, "true")
    peer.wire.post(f"/containers/{id}/start")
    code = peer.wire.post(f"/containers/{id}/wait")["StatusCode"]
    remove(peer, id)
    span = now() - began
    assert code == 0, f"{peer.name}: true ended with {code}"
    return {"run on the bridge, ms": span * 1e3}


def start_with_a_port(peer: Peer) -> Samples:
    """Start without a network, on the bridge, and with one port: what the network costs is the difference."""
    ids = [
        create(peer, "sleep", "1000"),
        make(peer, {"NetworkMode": "bridge"}, "sleep", "1000"),
        make(peer, ONE_PORT, "sleep", "1000"),
    ]
    try:
        none, bridge, port = (start(peer, id) for id in ids)
    finally:
        for id in ids:
            remove(peer, id)
    return {
        "start with one port, ms": port,
        "- on the bridge, no port, ms": bridge,
        "- without network, ms": none,
        "- what bridge and port add, ms": port - none,
    }


def start_many(peer: Peer) -> Samples:
    """Start containers with a port each, all at once, each over a connection of its own, until the last answer."""
    ids = [make(peer, ONE_PORT, "sleep", "1000") for _ in range(MANY)]
    wires = [Wire(peer.socket) for _ in ids]
    try:
        for wire in wires:
            wire.get("/version")  # connected
        with ThreadPoolExecutor(MANY) as pool:
            began = now()
            jobs = [pool.submit(wire.post, f"/containers/{id}/start") for wire, id in zip(wires, ids, strict=True)]
            for job in jobs:
                job.result()
            span = now() - began
    finally:
        for id in ids:
            remove(peer, id)
    return {f"{MANY} starts at once, a port each, ms": span * 1e3}


# -- bytes a second --------------------------------------------------------------------------------------------------


def namespace(pid: int) -> list[str]:
    """Return the words before a command that run it in the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def stream(client: list[str], server: list[str], address: str) -> float:
    """Send for a while from one namespace to another; return seconds per GiB that arrived."""
    listen = [*server, "iperf3", "-s", "-1", "-p", str(PORT), "--forceflush"]
    with subprocess.Popen(listen, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout is not None
        while "listening" not in (line := serving.stdout.readline()):
            assert line, "the iperf3 server ended at once"
        send = [*client, "iperf3", "-c", address, "-p", str(PORT), "-t", str(SECONDS), "-J"]
        found = json.loads(subprocess.run(send, capture_output=True, text=True).stdout)
        if "error" in found:
            serving.kill()  # -1 lets it end after one client, and it has had none
    if "error" in found:
        raise Refused(f"iperf3: {found['error']}")
    return 8 * 2**30 / float(found["end"]["sum_received"]["bits_per_second"])


@contextlib.contextmanager
def plain_bridge() -> Iterator[tuple[list[str], dict[str, list[str]], dict[str, str]]]:
    """Make a bridge with two veths in a namespace without rules: host, ends by name, their addresses by name."""
    with contextlib.ExitStack() as stack:
        pids = [stack.enter_context(_holder()) for _ in range(3)]
        host = pids[0]
        addresses = {name: f"10.222.0.{number}" for number, name in enumerate(PLAIN_NAMES, start=2)}
        script = ["link set lo up", "link add br0 type bridge", "addr add 10.222.0.1/24 dev br0", "link set br0 up"]
        for name, pid in zip(PLAIN_NAMES, pids[1:], strict=True):
            script += [f"link add v{name} type veth peer name eth0 netns {pid}", f"link set v{name} master br0 up"]
        _ip(host, script)
        for name, pid in zip(PLAIN_NAMES, pids[1:], strict=True):
            _ip(pid, ["link set lo up", f"addr add {addresses[name]}/24 dev eth0", "link set eth0 up"])
        ends = {name: namespace(pid) for name, pid in zip(PLAIN_NAMES, pids[1:], strict=True)}
        yield namespace(host), ends, addresses


@contextlib.contextmanager
def _holder() -> Iterator[int]:
    """Keep a network namespace by a process in it; give its pid."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()


def _ip(pid: int, script: list[str]) -> None:
    for line in script:
        subprocess.run([*namespace(pid), "ip", *line.split()], check=True)


def throughput(peer: Peer) -> Samples:
    """Compare what goes through the engine's bridge with what goes through a plain one."""
    if missing := [package for program, package in TOOLS.items() if shutil.which(program) is None]:
        raise Refused(f"missing: apt-get install {' '.join(missing)}")
    ids = [make(peer, {"NetworkMode": "bridge"}, "sleep", "1000") for _ in range(2)]
    try:
        for id in ids:
            peer.wire.post(f"/containers/{id}/start")
        told = [peer.wire.get(f"/containers/{id}/json") for id in ids]
        one, two = (namespace(each["State"]["Pid"]) for each in told)
        address = str(told[1]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])
        host = namespace(peer.pid())
        with plain_bridge() as (plain_host, ends, addresses):
            across = compare(lambda: stream(one, two, address), lambda: stream(ends["a"], ends["b"], addresses["b"]))
            inwards = compare(lambda: stream(host, two, address), lambda: stream(plain_host, ends["b"], addresses["b"]))
    finally:
        for id in ids:
            remove(peer, id)
    return {
        "container to container, s/GiB": across[0],
        "- of a plain bridge, ×": across[0] / across[1],
        "host to container, s/GiB": inwards[0],
        "- of a plain bridge's, ×": inwards[0] / inwards[1],
    }


def compare(ours: Callable[[], float], plain: Callable[[], float]) -> tuple[float, float]:
    """Measure forth and back, so that drift hits both alike; return the means."""
    samples = [ours(), plain(), plain(), ours()]
    return statistics.mean(samples[::3]), statistics.mean(samples[1:3])


CASES = [
    Case(
        "bridge",
        "create+start+wait+remove of `true` on the default bridge",
        20,
        run_on_the_bridge,
        {"run on the bridge, ms": "≤ 0.083 of dockerd"},
    ),
    Case(
        "port",
        "start with one port",
        20,
        start_with_a_port,
        {"start with one port, ms": "≤ 0.067 of dockerd", "- what bridge and port add, ms": "≤ 4 ms when quiet"},
    ),
    Case(
        "many",
        f"{MANY} containers with a port each, started at once",
        5,
        start_many,
        {f"{MANY} starts at once, a port each, ms": "≤ 0.1 of dockerd"},
    ),
    Case(
        "throughput",
        "TCP through the default bridge, beside a bridge and veths without rules",
        5,
        throughput,
        {"- of a plain bridge, ×": "≤ 1.05", "- of a plain bridge's, ×": "≤ 1.05"},
    ),
]
