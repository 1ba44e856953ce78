"""Networks by the docker CLI: `docker network …`, `docker run --network`, names, links, ports.

One module, since it is one table of what a user may say about networks; its chapters are marked.
"""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.networks import (
    ANY,
    Server,
    address_of,
    ask,
    fetch,
    free_port,
    gateway_of,
    get,
    pid_of,
    serve,
    settings,
    within,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.network_fixtures"]

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
Names = Callable[[], str]


def refused(docker: Docker, *arguments: str) -> str:
    """Run a command that must fail; return what it says."""
    result = docker(*arguments)
    assert result.code != 0, result
    return result.err.strip()


# -- ports -----------------------------------------------------------------------------------------------------------


def published(docker: Docker, name: str) -> set[str]:
    """Return what `docker port` says; IPv6 addresses are in brackets by all but the oldest clients."""
    return {bracketed(line) for line in docker.ok("port", name).splitlines()}


def bracketed(line: str) -> str:
    return re.sub(r"(^| )(:[0-9a-f:]*):(\d+)$", r"\1[\2]:\3", line)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-p", "{0}:80"], ["80/tcp -> 0.0.0.0:{0}", "80/tcp -> [::]:{0}"]),
        (["-p", "127.0.0.1:{0}:80"], ["80/tcp -> 127.0.0.1:{0}"]),
        (["-p", "[::1]:{0}:80"], ["80/tcp -> [::1]:{0}"]),
        (["-p", "{0}:80/udp"], ["80/udp -> 0.0.0.0:{0}", "80/udp -> [::]:{0}"]),
        (["-p", "127.0.0.1:{0}:80", "-p", "127.0.0.1:{1}:80"], ["80/tcp -> 127.0.0.1:{0}", "80/tcp -> 127.0.0.1:{1}"]),
        (["-p", "127.0.0.1:{0}-{1}:80-81"], ["80/tcp -> 127.0.0.1:{0}", "81/tcp -> 127.0.0.1:{1}"]),
        (
            ["-p", "127.0.0.1:{0}:80", "-p", "127.0.0.1:{0}:80/udp"],
            ["80/tcp -> 127.0.0.1:{0}", "80/udp -> 127.0.0.1:{0}"],
        ),
    ],
    ids=lambda value: " ".join(value) if value[0] == "-p" else "",
)
def test_port_says_what_was_published(docker: Docker, name: str, flags: list[str], expected: list[str]) -> None:
    first = free_port(2)
    ports = [first, first + 1]
    words = [flag.format(*ports) for flag in flags]
    docker.ok("run", "-d", "--name", name, *words, "busybox", "sleep", "1000")
    found = published(docker, name)
    assert found == {line.format(*ports) for line in expected}
    bindings = settings(docker, name)["Ports"]
    assert sum(map(len, bindings.values())) == len(found)
    assert bracketed(docker.ok("port", name, expected[0].split()[0]).splitlines()[0]) in {
        line.split()[-1] for line in found
    }


def test_a_random_port_is_chosen_for_each(docker: Docker, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "-p", "127.0.0.1::80", "-p", "81", "busybox", "sleep", "1000")
    found = published(docker, name)
    assert any(re.fullmatch(r"80/tcp -> 127\.0\.0\.1:[1-9]\d*", line) for line in found)
    assert any(re.fullmatch(r"81/tcp -> 0\.0\.0\.0:[1-9]\d*", line) for line in found)


def test_a_range_of_host_ports_gives_one_that_is_free(docker: Docker, new_name: Names) -> None:
    first = free_port(2)
    found = []
    for _ in range(2):
        name = new_name()
        docker.ok("run", "-d", "--name", name, "-p", f"127.0.0.1:{first}-{first + 1}:80", "busybox", "sleep", "1000")
        found += published(docker, name)
    assert sorted(found) == [f"80/tcp -> 127.0.0.1:{first}", f"80/tcp -> 127.0.0.1:{first + 1}"]


def test_publish_all_publishes_what_is_exposed(docker: Docker, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "-P", "--expose", "80", "--expose", "90-91/udp", "busybox", "sleep", "1000")
    bindings = settings(docker, name)["Ports"]
    assert set(bindings) == {"80/tcp", "90/udp", "91/udp"}
    assert all(re.fullmatch(r"[1-9]\d*", entry["HostPort"]) for entries in bindings.values() for entry in entries)


def test_what_an_image_exposes_is_published_with_p(docker: Docker, tag: str, name: str) -> None:
    docker.ok("import", "-c", "EXPOSE 80 53/udp", "-", tag, input=busybox())
    docker.ok("run", "-d", "--name", name, "-P", tag, "sleep", "1000")
    assert set(settings(docker, name)["Ports"]) == {"80/tcp", "53/udp"}


def busybox() -> bytes:
    from tests.support.images import busybox_rootfs

    return busybox_rootfs()


def test_an_exposed_port_is_shown_and_not_published(docker: Docker, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--expose", "80", "busybox", "sleep", "1000")
    assert settings(docker, name)["Ports"] == {"80/tcp": None}
    assert docker.ok("ps", "--filter", f"name={name}", "--format", "{{.Ports}}") == "80/tcp"
    assert docker.ok("port", name) == ""
    message = refused(docker, "port", name, "80")
    assert "80" in message and name in message


def test_ps_shows_ports(docker: Docker, name: str) -> None:
    port = free_port(2)
    flags = ["-p", f"{port}:80", "-p", f"127.0.0.1:{port + 1}:81/udp", "--expose", "90"]
    docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    shown = ["ps", "-a", "--filter", f"name={name}", "--format", "{{.Ports}}"]
    found = docker.ok(*shown).replace(":::", "[::]:").split(", ")
    assert sorted(found) == sorted(
        [f"0.0.0.0:{port}->80/tcp", f"[::]:{port}->80/tcp", f"127.0.0.1:{port + 1}->81/udp", "90/tcp"]
    )
    docker.ok("stop", "-t", "0", name)
    assert docker.ok(*shown) == ""
    docker.ok("start", name)
    assert f"0.0.0.0:{port}->80/tcp" in docker.ok(*shown)


@pytest.mark.parametrize("user_defined", [False, True], ids=["bridge", "user-defined"])
def test_a_published_port_is_reached_from_everywhere(
    docker: Docker, network: str, host_address: str, new_name: Names, user_defined: bool
) -> None:
    """127.0.0.1, [::1], an address of the host; from the container itself and from its neighbour by that address."""
    name, neighbour, port = new_name(), new_name(), free_port()
    flags = ["--network", network] if user_defined else []
    serve(docker, name, "-p", f"{port}:80", *flags)
    docker.ok("run", "-d", "--name", neighbour, *flags, "busybox", "sleep", "1000")
    gateway = gateway_of(docker, network if user_defined else "bridge")
    for address in ("127.0.0.1", "::1", host_address, gateway):
        assert fetch(address, port) == name, address
    for client in (name, neighbour):
        for address in (host_address, gateway):
            assert get(docker, client, f"{address}:{port}") == name, (client, address)
    assert address_of(docker, name, network if user_defined else "bridge") != host_address


def test_a_published_port_is_reached_from_another_network(
    docker: Docker, network: str, host_address: str, new_name: Names
) -> None:
    name, stranger, port = new_name(), new_name(), free_port()
    serve(docker, name, "-p", f"{port}:80")
    docker.ok("run", "-d", "--name", stranger, "--network", network, "busybox", "sleep", "1000")
    assert get(docker, stranger, f"{host_address}:{port}") == name


def test_a_published_udp_port_answers_from_where_it_was_asked(docker: Docker, host_address: str, name: str) -> None:
    port = free_port()
    docker.ok("run", "-d", "--name", name, "-p", f"{port}:7/udp", "busybox", "sleep", "1000")
    with Server(ANY, 7, UDP, pid_of(docker, name), tag="in"):
        for address in ("127.0.0.1", "::1", host_address):
            assert ask(address, port, UDP) == b"in hello\n", address


def test_a_port_on_the_loopback_is_on_no_other_address(docker: Docker, host_address: str, name: str) -> None:
    port = free_port()
    serve(docker, name, "-p", f"127.0.0.1:{port}:80")
    assert fetch("127.0.0.1", port) == name
    assert fetch("::1", port) == fetch(host_address, port) == fetch(gateway_of(docker), port) == ""
    assert get(docker, name, f"{host_address}:{port}") == ""


def test_a_port_on_one_address_is_on_no_other(docker: Docker, host_address: str, name: str) -> None:
    port = free_port()
    serve(docker, name, "-p", f"{host_address}:{port}:80")
    assert fetch(host_address, port) == name
    assert fetch("127.0.0.1", port) == fetch("::1", port) == ""


def test_a_port_is_of_one_container_until_that_stops(docker: Docker, new_name: Names) -> None:
    one, two, port = new_name(), new_name(), free_port()
    serve(docker, one, "-p", f"{port}:80")
    result = docker("run", "-d", "--name", two, "-p", f"{port}:80", "busybox", "httpd", "-f", "-p", "80")
    assert result.code == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in result.err
    assert "driver failed programming external connectivity on endpoint" in result.err
    assert docker.inspect(two, "{{.State.Status}} {{.State.Pid}}") == "created 0"
    assert fetch("127.0.0.1", port) == one
    docker.ok("stop", "-t", "0", one)
    docker.ok("start", two)
    assert published(docker, two) >= {f"80/tcp -> 0.0.0.0:{port}"}


def test_a_port_on_every_address_clashes_with_one_on_some(docker: Docker, new_name: Names) -> None:
    one, two, three, port = new_name(), new_name(), new_name(), free_port()
    docker.ok("run", "-d", "--name", one, "-p", f"127.0.0.1:{port}:80", "busybox", "sleep", "1000")
    docker.ok("run", "-d", "--name", three, "-p", f"127.0.0.2:{port}:80", "busybox", "sleep", "1000")
    message = refused(docker, "run", "-d", "--name", two, "-p", f"{port}:80", "busybox", "sleep", "1000")
    words = "bind: address already in use" if docker.is_old else f":{port} failed: port is already allocated"
    assert words in message


def test_a_port_of_another_program_is_not_taken(docker: Docker, new_name: Names) -> None:
    name = new_name()
    with Server(ANY, 0, TCP, tag="host") as server:
        message = refused(docker, "run", "-d", "--name", name, "-p", f"{server.port}:80", "busybox", "sleep", "1000")
        assert "address already in use" in message
        assert ask("127.0.0.1", server.port, TCP) == b"host hello\n"
    docker.ok("start", name)


def test_one_of_two_ports_that_is_taken_leaves_the_other_free(docker: Docker, new_name: Names) -> None:
    name, port = new_name(), free_port()
    with Server(ANY, 0, TCP) as server:
        flags = ["-p", f"{port}:80", "-p", f"{server.port}:81"]
        refused(docker, "run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
        with Server(ANY, port, TCP, tag="mine"):
            assert ask("127.0.0.1", port, TCP) == b"mine hello\n"


@pytest.mark.parametrize("flag", ["70000:80", "80:70000", "80:0x50", "1-2:3-5", "x:80", "1.2.3.4.5::80"])
def test_a_port_that_is_none_is_refused(docker: Docker, name: str, flag: str) -> None:
    assert "invalid" in refused(docker, "run", "--name", name, "-p", flag, "busybox", "true").lower()
    assert docker("inspect", name).code == 1


def test_ports_are_free_after_rm(docker: Docker, name: str) -> None:
    port = free_port()
    for _ in range(3):
        docker.ok("run", "-d", "--name", name, "-p", f"{port}:80", "busybox", "sleep", "1000")
        docker.ok("rm", "-f", name)
    with Server(ANY, port, TCP, tag="free"):
        assert ask("127.0.0.1", port, TCP) == b"free hello\n"


def test_the_hosts_loopback_is_out_of_reach(docker: Docker, name: str) -> None:
    """Not through the gateway, and not by a container that sends 127.0.0.1 out through its interface."""
    docker.ok("run", "-d", "--name", name, "--cap-add", "NET_ADMIN", "busybox", "sleep", "1000")
    pid, gateway = pid_of(docker, name), gateway_of(docker)
    with Server("127.0.0.1", 0, TCP, tag="host") as server:
        assert ask("127.0.0.1", server.port, TCP) == b"host hello\n"
        assert ask(gateway, server.port, TCP, pid) == b""
        within(pid, lambda: Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1"))
        docker.ok("exec", name, "sh", "-c", f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via {gateway}")
        assert ask("127.0.0.1", server.port, TCP, pid) == b""
        assert server.seen == 1
