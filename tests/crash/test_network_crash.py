"""The daemon is killed while networks, endpoints and ports come and go: nothing leaks, and what runs goes on.

Each test has a host (a network namespace) of its own, so whatever is on it is the daemon's. `--rounds N` sets how
often the storm is interrupted; 20 at least.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host, HostedDaemon, addresses, hosted
from tests.support.networks import Server, ask, fetch, until, within
from tests.support.wire import Answer, Wire, output

pytestmark = [pytest.mark.root, pytest.mark.slow]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
LEAST_ROUNDS = 20
WORKERS = 4
HTTPD = "echo {name} > /index.html; exec httpd -f -p 80 -h /"


@pytest.fixture
def daemon() -> Iterator[HostedDaemon]:
    """Return a daemon on a host of its own, to be killed at will; it must leave that host empty."""
    with hosted() as daemon:
        yield daemon


def create(wire: Wire, name: str, network: str = "bridge", port: int = 0, *, script: str = HTTPD, **end: Any) -> Answer:
    bindings = {"80/tcp": [{"HostPort": str(port)}]} if port else {}
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", script.format(name=name)],
        "HostConfig": {"NetworkMode": network, "PortBindings": bindings},
        "NetworkingConfig": {"EndpointsConfig": {network: end}},
    }
    return wire.post("/containers/create", body, name=name)


def run(wire: Wire, name: str, network: str = "bridge", port: int = 0, **more: Any) -> int:
    """Start a container that answers over HTTP with its name; return the pid of its first process."""
    answer = create(wire, name, network, port, **more)
    assert answer.status == 201, answer.body
    answer = wire.post(f"/containers/{name}/start")
    assert answer.status == 204, answer.body
    return int(inspect(wire, name)["State"]["Pid"])


def make_network(wire: Wire, name: str, **more: Any) -> None:
    answer = wire.post("/networks/create", {"Name": name, **more})
    assert answer.status == 201, answer.body


def inspect(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json


def execute(wire: Wire, name: str, *command: str) -> str:
    """Run a command in a container; return what it wrote."""
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
    id = wire.post(f"/containers/{name}/exec", body).json["Id"]
    with wire.hijack(f"/exec/{id}/start", {}) as stream:
        return output(stream.frames())[0].decode()


def query(name: str, pid: int, kind: int = 1) -> bytes:
    """Ask 127.0.0.11 for a name from within a container's namespace, without the daemon; return the whole answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1"
    return ask("127.0.0.11", 53, UDP, pid, b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + question)


def resolves(name: str, address: str, pid: int) -> bool:
    return query(name, pid).endswith(b"\0\4" + socket.inet_aton(address))


class Talk:
    """An established connection to a test's server, from the namespace of a process, to be used again and again."""

    def __init__(self, pid: int, address: str, port: int) -> None:
        self._socket = within(pid, socket.socket)
        self._socket.settimeout(20)
        self._socket.connect((address, port))

    def goes_on(self) -> bool:
        self._socket.sendall(b"still there?\n")
        return bytes(self._socket.recv(4096)) == b"in still there?\n"

    def close(self) -> None:
        self._socket.close()


# -- while the daemon is dead ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_ports_connections_and_names_go_on_without_the_daemon(daemon: HostedDaemon, ending: str) -> None:
    wire, host = daemon.wire, daemon.machine
    make_network(wire, "web")
    pid = run(wire, "shop", "web", 8080, Aliases=["till"])
    client = run(wire, "client", "web")
    run(wire, "plain", port=8081)
    address = inspect(wire, "shop")["NetworkSettings"]["Networks"]["web"]["IPAddress"]
    with Server("0.0.0.0", 81, TCP, pid, tag="in"), Server("0.0.0.0", 7, UDP, pid, tag="in"):
        inner = Talk(client, address, 81)

        def all_is_well() -> bool:
            assert fetch("127.0.0.1", 8080, host.pid) == fetch("::1", 8080, host.pid) == "shop"
            assert fetch(address, 80, client) == "shop" and fetch("127.0.0.1", 8081, host.pid) == "plain"
            assert resolves("shop", address, client) and resolves("till", address, client)
            assert b"\4shop\3web\0" in query(".".join(reversed(address.split("."))) + ".in-addr.arpa", client, 12)
            return inner.goes_on()

        until(lambda: fetch("127.0.0.1", 8080, host.pid) == "shop", "the server")
        until(lambda: fetch("127.0.0.1", 8081, host.pid) == "plain", "the other server")
        assert all_is_well()
        names = ("shop", "client", "plain")
        before = [inspect(wire, name) for name in names]
        networks, links, ports = wire.get("/networks").json, host.links(), host.ports()
        getattr(daemon, ending)()
        assert all_is_well()
        daemon.start()
        assert all_is_well()
        assert [inspect(wire, name) for name in names] == before
        assert (wire.get("/networks").json, host.links(), host.ports()) == (networks, links, ports)
        assert resolves("shop", address, client)
        inner.close()


def test_an_established_connection_to_a_published_port_outlives_every_daemon(daemon: HostedDaemon, rounds: int) -> None:
    wire, host = daemon.wire, daemon.machine
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"PortBindings": {"81/tcp": [{"HostPort": "8181"}]}},
    }
    assert wire.post("/containers/create", body, name="talker").status == 201
    assert wire.post("/containers/talker/start").status == 204
    pid = int(inspect(wire, "talker")["State"]["Pid"])
    with Server("0.0.0.0", 81, TCP, pid, tag="in"):
        talks = [Talk(host.pid, "127.0.0.1", 8181)]
        for _ in range(rounds):
            daemon.kill()
            talks.append(Talk(host.pid, "127.0.0.1", 8181))
            assert all(talk.goes_on() for talk in talks)
            daemon.start()
            talks.append(Talk(host.pid, "127.0.0.1", 8181))
            assert all(talk.goes_on() for talk in talks)
        for talk in talks:
            talk.close()


def test_what_ends_without_the_daemon_gives_its_port_and_its_name_back(daemon: HostedDaemon) -> None:
    wire, host = daemon.wire, daemon.machine
    make_network(wire, "web")
    pid = run(wire, "short", "web", 8080)
    client = run(wire, "client", "web")
    address = inspect(wire, "short")["NetworkSettings"]["Networks"]["web"]["IPAddress"]
    assert resolves("short", address, client) and not host.is_free(8080)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: host.is_free(8080), "the port to be free before there is a daemon again")
    daemon.start()
    until(lambda: host.ports() == set(), "no rule for the port")
    until(lambda: len([kind for kind, _ in host.links().values() if kind == "veth"]) == 1, "the client's veth alone")
    until(lambda: not resolves("short", address, client), "the name to be gone")
    run(wire, "next", "web", 8080)
    until(lambda: fetch("127.0.0.1", 8080, host.pid) == "next", "the next one's answer")


def test_a_helper_that_was_killed_with_the_daemon_is_started_again(daemon: HostedDaemon) -> None:
    """Neither names nor held ports are lost for longer than it takes to start it."""
    wire, host = daemon.wire, daemon.machine
    make_network(wire, "web")
    run(wire, "shop", "web", 8080)
    client = run(wire, "client", "web")
    address = inspect(wire, "shop")["NetworkSettings"]["Networks"]["web"]["IPAddress"]
    for with_daemon in (False, True):
        (helper,) = (pid for pid, command in host.processes().items() if "windlass-net" in command.split()[0])
        if with_daemon:
            daemon.kill()
        os.kill(helper, signal.SIGKILL)
        if with_daemon:
            daemon.start()
        until(lambda: resolves("shop", address, client), "names to resolve again")
        until(lambda: not host.is_free(8080), "the port to be held again")
        until(lambda: fetch("::1", 8080, host.pid) == "shop", "the proxy to carry again")


# -- the storm -------------------------------------------------------------------------------------------------------


class Worker:
    """Somebody who makes and removes containers, connections and networks, whatever the engine says.

    Requests that the daemon's death cuts off are forgotten; an answer of 500 and above is a fault of the engine.
    """

    def __init__(self, daemon: HostedDaemon, number: int, seed: int) -> None:
        self.daemon, self.number, self.random = daemon, number, random.Random(seed)
        self.faults: list[str] = []
        self.names = [f"w{number}-{n}" for n in range(3)]
        self.ports = [20000 + number * 10 + n for n in range(3)]
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            while True:
                self._check(self._step())

    def _check(self, answer: Answer) -> None:
        if answer.status >= 500:
            self.faults.append(f"{answer.status} {answer.body[:300]!r}")

    def _step(self) -> Answer:
        wire, choice = self.daemon.wire, self.random.choice
        name, net, private = choice(self.names), choice(["bridge", "one", "two"]), f"own-{self.number}"
        match self.random.randrange(9):
            case 0 | 1:
                port = self.ports[self.names.index(name)] if self.random.random() < 0.7 else 0
                return create(wire, name, net, port)
            case 2 | 3:
                return wire.post(f"/containers/{name}/start")
            case 4:
                return wire.post(f"/networks/{choice(['one', 'two'])}/connect", {"Container": name})
            case 5:
                return wire.post(f"/networks/{choice(['one', 'two'])}/disconnect", {"Container": name})
            case 6:
                return wire.post(f"/containers/{name}/kill")
            case 7:
                return wire.delete(f"/containers/{name}", force=1)
            case _:
                if self.random.random() < 0.5:
                    return wire.post("/networks/create", {"Name": private})
                return wire.delete(f"/networks/{private}")


def storm(daemon: HostedDaemon, seed: int) -> list[str]:
    """Let the workers loose, kill the daemon at some moment, start it again; return the faults that it answered."""
    workers = [Worker(daemon, number, seed * WORKERS + number) for number in range(WORKERS)]
    for worker in workers:
        worker.thread.start()
    # The moment is chance, and any is right: the test waits for none.
    threading.Event().wait(random.Random(seed).uniform(0.02, 0.6))
    daemon.kill()
    for worker in workers:
        worker.thread.join()
    daemon.start()
    return [fault for worker in workers for fault in worker.faults]


def audit(daemon: HostedDaemon) -> list[str]:
    """Compare what the engine tells with what is on its host; return what does not agree."""
    wire, host = daemon.wire, daemon.machine
    wrong: list[str] = []
    containers = [inspect(wire, each["Id"]) for each in wire.get("/containers/json", all=1).json]
    running = [each for each in containers if each["State"]["Running"]]
    networks = {each["Name"]: each for each in wire.get("/networks").json}
    ends = {each["Id"]: each["NetworkSettings"]["Networks"] for each in running}
    links = host.links()

    for each in containers:
        if not each["State"]["Running"] and each["State"]["Pid"]:
            wrong.append(f"{each['Name']} is not running and has a pid")
    for each in running:
        wrong += audit_container(host, each)
    veths = [name for name, (kind, _) in links.items() if kind == "veth"]
    expected = sum(len(settings) for settings in ends.values())
    if len(veths) != expected:
        wrong.append(f"{len(veths)} veths for {expected} endpoints")
    wrong += [f"veth {name} is on no bridge" for name in veths if not links[name][1]]
    bridges = [name for name, (kind, _) in links.items() if kind == "bridge"]
    if len(bridges) > len(networks) - 2:  # host and none have none
        wrong.append(f"{len(bridges)} bridges for {len(networks) - 2} networks")
    given = [end["IPAddress"] for settings in ends.values() for end in settings.values()]
    if len(set(given)) != len(given):
        wrong.append(f"addresses given twice: {given}")
    published = {("tcp", int(entry["HostPort"])) for each in running for entry in bindings(each)}
    if host.ports() != published:
        wrong.append(f"rules for ports {host.ports()}, published are {published}")
    mine = {20000 + number * 10 + n for number in range(WORKERS) for n in range(3)}
    held = {port for port in mine if not host.is_free(port)}
    if held != {port for _, port in published} & mine:
        wrong.append(f"ports held: {held}, published are {published}")
    told = {name: set(wire.get(f"/networks/{name}").json["Containers"]) for name in networks}
    for name, ids in told.items():
        there = {id for id, settings in ends.items() if name in settings}
        if ids != there and name not in ("host", "none"):
            wrong.append(f"network {name} tells of {len(ids)} containers, {len(there)} are in it")
    return wrong


def audit_container(host: Host, each: Any) -> list[str]:
    """Compare one running container with its namespace; ask its published port."""
    name, pid = each["Name"].strip("/"), each["State"]["Pid"]
    if not Path(f"/proc/{pid}").exists():
        return [f"{name} is running and pid {pid} is not there"]
    given = {end["IPAddress"] for end in each["NetworkSettings"]["Networks"].values()}
    found = {address for interface, address in addresses(pid).items() if interface != "lo"}
    wrong = [] if given == found else [f"{name} has {found}, the engine says {given}"]
    for entry in bindings(each):
        if fetch("127.0.0.1", int(entry["HostPort"]), host.pid) != name:
            wrong.append(f"{name} does not answer at port {entry['HostPort']}")
    return wrong


def bindings(each: Any) -> list[dict[str, str]]:
    return [entry for entries in each["NetworkSettings"]["Ports"].values() for entry in entries or []]


def agrees(daemon: HostedDaemon, seed: int) -> None:
    """Wait until engine and host agree, or tell where they do not."""
    try:
        until(lambda: audit(daemon) == [], "engine and host to agree")
    except AssertionError:
        raise AssertionError(f"after the storm of seed {seed}: {audit(daemon)}; {daemon.log_end()}") from None


def test_engine_and_host_agree_after_every_storm(daemon: HostedDaemon, rounds: int) -> None:
    """And a container that runs through all of them is reached all the time, by old connections and new ones."""
    wire, host = daemon.wire, daemon.machine
    for name in ("one", "two"):
        make_network(wire, name)
    pid = run(wire, "steady", "one", 8080)
    client = run(wire, "client", "one")
    address = inspect(wire, "steady")["NetworkSettings"]["Networks"]["one"]["IPAddress"]
    with Server("0.0.0.0", 81, TCP, pid, tag="in"):
        inner = Talk(client, address, 81)
        until(lambda: fetch("127.0.0.1", 8080, host.pid) == "steady", "the server")
        for seed in range(max(rounds, LEAST_ROUNDS)):
            assert storm(daemon, seed) == [], f"seed {seed}: {daemon.log_end()}"
            assert fetch("127.0.0.1", 8080, host.pid) == "steady"
            assert resolves("steady", address, client) and inner.goes_on()
            agrees(daemon, seed)
        inner.close()
    daemon.remove_containers()
    assert wire.post("/networks/prune").status == 200
    assert audit(daemon) == []
    assert (host.ports(), [name for name, (kind, _) in host.links().items() if kind == "veth"]) == (set(), [])


def test_a_kill_between_create_and_start_takes_nothing(daemon: HostedDaemon) -> None:
    wire, host = daemon.wire, daemon.machine
    make_network(wire, "web")
    assert create(wire, "made", "web", 8080).status == 201
    daemon.kill()
    assert host.is_free(8080)
    daemon.start()
    assert wire.post("/containers/made/start").status == 204
    until(lambda: fetch("127.0.0.1", 8080, host.pid) == "made", "the server")


def test_networks_and_their_addresses_are_kept(daemon: HostedDaemon) -> None:
    wire = daemon.wire
    pools = [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1", "IPRange": "10.77.0.128/25"}]
    make_network(wire, "own", IPAM={"Config": pools}, Labels={"a": "1"}, Internal=True)
    make_network(wire, "other")
    run(wire, "one", "own")
    before = {name: wire.get(f"/networks/{name}").json for name in ("own", "other", "bridge")}
    taken = inspect(wire, "one")["NetworkSettings"]["Networks"]["own"]["IPAddress"]
    daemon.kill()
    daemon.start()
    assert {name: wire.get(f"/networks/{name}").json for name in ("own", "other", "bridge")} == before
    run(wire, "two", "own")
    assert inspect(wire, "two")["NetworkSettings"]["Networks"]["own"]["IPAddress"] != taken
    answer = wire.post("/networks/create", {"Name": "third", "IPAM": {"Config": [{"Subnet": "10.77.0.0/25"}]}})
    assert answer.status == 403
    subnet = before["other"]["IPAM"]["Config"][0]["Subnet"]
    make_network(wire, "third")
    assert wire.get("/networks/third").json["IPAM"]["Config"][0]["Subnet"] != subnet
