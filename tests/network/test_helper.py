"""The helper, with real sockets: it holds and carries ports, answers names, and outlives its daemon."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

import windlass.execdriver.native
from tests.network import dns_wire as dns
from windlass.network.helper import Helper

pytestmark = pytest.mark.root

PROGRAM = str(Path(windlass.execdriver.native.__file__).with_name("windlass-net"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that nobody may reach into, but for what the helper has been given."""
    with tempfile.TemporaryDirectory(prefix="windlass-net-") as name:  # 0700
        yield Path(name) / "net"


@pytest.fixture
async def helper(folder: Path) -> AsyncIterator[Helper]:
    helper = Helper(folder, PROGRAM)
    await helper.ensure()
    yield helper
    await helper.stop()


def listening(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(10)
    return sock


def bound(host: str = "127.0.0.1", kind: int = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.bind((host, 0))
    sock.settimeout(10)
    return sock


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def run(function, *args):
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


def pid_of(helper: Helper) -> int:
    for line in Path(f"/proc/self/fdinfo/{helper._pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise AssertionError


async def test_it_is_nobody_and_may_do_nothing(helper: Helper) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid_of(helper)}/status").read_text().splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert os.getsid(pid_of(helper)) == pid_of(helper)


async def test_a_held_port_is_taken_until_it_is_released(helper: Helper) -> None:
    with bound(kind=socket.SOCK_STREAM) as sock:
        port = sock.getsockname()[1]
        await helper.hold("one", "tcp", "127.0.0.1", port, sock)
    assert await helper.ids() == {"one"}
    assert not is_free(port)
    await helper.release_port("one", "tcp", "127.0.0.1", port)
    assert is_free(port)
    assert await helper.ids() == set()


async def test_a_later_daemon_finds_the_helper_and_what_it_has(helper: Helper, folder: Path) -> None:
    with bound(kind=socket.SOCK_STREAM) as sock:
        port = sock.getsockname()[1]
        await helper.hold("one", "tcp", "127.0.0.1", port, sock)
    later = Helper(folder, PROGRAM)
    assert not await later.ensure()
    assert pid_of(later) == pid_of(helper)
    assert await later.ids() == {"one"}
    await later.release("one")
    assert is_free(port)
    later.close()


async def test_a_helper_that_died_is_told_once_and_started_again(helper: Helper) -> None:
    os.kill(pid_of(helper), signal.SIGKILL)
    with trio.fail_after(10):
        await helper.died()
    assert not helper.is_alive
    assert await helper.ensure()
    with trio.move_on_after(0.1) as scope:
        await helper.died()
    assert scope.cancelled_caught
    assert await helper.ids() == set()


async def test_everything_ends_with_the_watched_process(helper: Helper) -> None:
    process = subprocess.Popen(["sleep", "100"])  # noqa: ASYNC220  # watched by its pidfd
    pidfd = os.pidfd_open(process.pid)
    with bound(kind=socket.SOCK_STREAM) as sock:
        port = sock.getsockname()[1]
        await helper.hold("one", "tcp", "127.0.0.1", port, sock)
    await helper.watch("one", pidfd)
    process.kill()
    process.wait()
    os.close(pidfd)
    with trio.fail_after(10):
        while await helper.ids():
            await trio.sleep(0.01)
    assert is_free(port)


async def test_what_makes_no_sense_is_refused(helper: Helper) -> None:
    with bound() as udp, bound(kind=socket.SOCK_STREAM) as unlistened:
        for request, fds in [
            ("", []),
            ("dance one", []),
            ("watch one", []),
            ("hold ../one tcp 127.0.0.1 1", [udp]),
            ("hold one tcp 127.0.0.1", [udp]),
            ("dns one", [udp, unlistened]),
            ("dns one", [udp]),
            ("proxy one tcp ::1 1 127.0.0.1 1", [unlistened]),
            ("proxy one udp ::1 1 localhost 1", [udp]),
            ("proxy one sctp ::1 1 127.0.0.1 1", [udp]),
            ("hold one tcp 127.0.0.1 1", [udp, udp]),
            ("hold one tcp 127.0.0.1 1", [udp, udp, udp, udp]),
            ("list " + "x " * 300, []),
        ]:
            if request:
                with pytest.raises(OSError):
                    await helper._ask(request, *(fd.fileno() for fd in fds))
    assert await helper.ids() == set()
    descriptors = os.listdir(f"/proc/{pid_of(helper)}/fd")
    assert len(descriptors) <= 8


async def test_many_are_listed(helper: Helper) -> None:
    ids = {f"{number:064x}" for number in range(1500)}
    with bound() as sock:
        for id in ids:
            await helper.hold(id, "udp", "::", 1, sock)
    assert await helper.ids() == ids


# -- ports --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def proxied(helper: Helper, target: socket.socket, proto: str) -> AsyncIterator[tuple[str, int]]:
    sock = listening("::1") if proto == "tcp" else bound("::1")
    with sock:
        port = sock.getsockname()[1]
        await helper.proxy("one", proto, "::1", port, *target.getsockname()[:2], sock)
    yield "::1", port


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


async def test_a_tcp_proxy_carries_much_both_ways_and_half_an_end(helper: Helper) -> None:
    data = random.Random(1).randbytes(3_000_000)

    def serve() -> None:
        with target.accept()[0] as sock:
            sock.settimeout(20)
            sock.sendall(read_all(sock)[::-1])

    with listening() as target:
        async with proxied(helper, target, "tcp") as address, trio.open_nursery() as nursery:
            nursery.start_soon(run, serve)
            with await run(socket.create_connection, address, 10) as client:
                await run(client.sendall, data)
                client.shutdown(socket.SHUT_WR)
                assert await run(read_all, client) == data[::-1]


async def test_a_tcp_proxy_holds_back_a_sender_that_is_not_read(helper: Helper) -> None:
    with listening() as target:
        async with proxied(helper, target, "tcp") as address:
            with await run(socket.create_connection, address, 10) as client, target.accept()[0] as server:
                client.setblocking(False)
                sent = 0
                with trio.fail_after(30):
                    while True:  # until nobody takes anything for a while
                        try:
                            sent += client.send(b"x" * 65536)
                        except BlockingIOError:
                            with trio.move_on_after(0.3):
                                await trio.lowlevel.wait_writable(client)
                                continue
                            break
                client.close()
                server.settimeout(10)
                assert len(await run(read_all, server)) == sent


async def test_a_tcp_proxy_says_that_nobody_is_there(helper: Helper) -> None:
    with bound(kind=socket.SOCK_STREAM) as target:
        async with proxied(helper, target, "tcp") as address:
            with pytest.raises(ConnectionResetError), await run(socket.create_connection, address, 10) as client:
                await run(client.recv, 1)


async def test_a_released_proxy_cuts_its_connections(helper: Helper) -> None:
    with listening() as target:
        async with proxied(helper, target, "tcp") as address:
            with await run(socket.create_connection, address, 10) as client, target.accept()[0]:
                await helper.release("one")
                assert await run(client.recv, 1) == b""


async def test_a_udp_proxy_keeps_its_clients_apart(helper: Helper) -> None:
    with bound() as target, bound("::1") as one, bound("::1") as two:
        async with proxied(helper, target, "udp") as address:
            one.sendto(b"one", address)
            two.sendto(b"two", address)
            for _ in range(2):
                data, source = await run(target.recvfrom, 100)
                target.sendto(b"for " + data, source)
            assert await run(one.recvfrom, 100) == (b"for one", (*address, 0, 0))
            assert await run(two.recvfrom, 100) == (b"for two", (*address, 0, 0))


async def test_a_udp_proxy_has_no_more_than_its_sessions(helper: Helper) -> None:
    with bound() as target:
        async with proxied(helper, target, "udp") as address:
            sources = set()
            for _ in range(300):
                with bound("::1") as client:
                    client.sendto(b"x", address)
                    sources.add((await run(target.recvfrom, 100))[1])
            assert len(os.listdir(f"/proc/{pid_of(helper)}/fd")) < 256 + 20


# -- names --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def resolver(helper: Helper) -> AsyncIterator[tuple[Helper, tuple[str, int], tuple[str, int]]]:
    with bound() as udp, listening() as tcp:
        await helper.dns("web", udp, tcp)
        addresses = udp.getsockname(), tcp.getsockname()
    helper.write_zone(
        "n1",
        "blue",
        [("web", "10.1.0.2"), ("web", "fd00::2"), ("db", "10.1.0.3"), ("db", "10.1.0.4"), ("v6", "fd00::6")],
    )
    helper.write_zone(
        "n2", "Red", [("db", "10.2.0.3"), ("far", "10.2.0.9"), *(("many", f"10.3.0.{n}") for n in range(1, 60))]
    )
    helper.write_host("web", ["n1", "n2"], [], False)
    yield helper, *addresses


Resolver = tuple[Helper, tuple[str, int], tuple[str, int]]


async def ask(resolver: Resolver, name: str, kind: int = dns.A, **more: int) -> dns.Message:
    return await run(dns.ask, resolver[1], dns.query(name, kind, **more))


async def ask_tcp(resolver: Resolver, name: str, kind: int = dns.A) -> dns.Message:
    return await run(dns.ask_tcp, resolver[2], dns.query(name, kind))


async def test_names_have_addresses_of_the_family_that_is_asked_for(resolver: Resolver) -> None:
    for name in ("web", "WeB", "web.blue", "WEB.Blue"):
        answer = await ask(resolver, name)
        assert (answer.rcode, answer.name, answer.answers) == (0, name, ["10.1.0.2"])
        assert answer.ttls == [600]
    assert (await ask(resolver, "web", dns.AAAA)).answers == ["fd00::2"]
    assert (await ask(resolver, "far.red")).answers == ["10.2.0.9"]
    assert (await ask_tcp(resolver, "web")).answers == ["10.1.0.2"]


async def test_the_first_network_that_has_a_name_answers(resolver: Resolver) -> None:
    orders = {tuple((await ask(resolver, "db")).answers) for _ in range(60)}
    assert orders == {("10.1.0.3", "10.1.0.4"), ("10.1.0.4", "10.1.0.3")}
    assert (await ask(resolver, "db.red")).answers == ["10.2.0.3"]


async def test_a_name_without_such_an_address_is_known_all_the_same(resolver: Resolver) -> None:
    for name, kind in (("db", dns.AAAA), ("v6", dns.A), ("web", 16), ("web", 255)):
        answer = await ask(resolver, name, kind)
        assert (answer.rcode, answer.answers) == (0, [])


async def test_addresses_have_names(resolver: Resolver) -> None:
    assert (await ask(resolver, "3.0.1.10.in-addr.arpa", dns.PTR)).answers == ["db.blue"]
    assert (await ask(resolver, "9.0.2.10.IN-ADDR.arpa", dns.PTR)).answers == ["far.Red"]
    assert (await ask(resolver, dns.reverse("fd00::6"), dns.PTR)).answers == ["v6.blue"]
    assert (await ask(resolver, "9.9.9.10.in-addr.arpa", dns.PTR)).rcode == dns.SERVFAIL


async def test_what_does_not_fit_is_truncated_and_whole_over_tcp(resolver: Resolver) -> None:
    answer = await ask(resolver, "many")
    assert answer.truncated
    assert len(answer.raw) <= 512
    whole = await ask(resolver, "many", edns=1400)
    assert (whole.truncated, len(whole.answers)) == (False, 59)
    assert len((await ask_tcp(resolver, "many")).answers) == 59


async def test_without_a_server_others_names_fail(resolver: Resolver) -> None:
    assert (await ask(resolver, "example.com")).rcode == dns.SERVFAIL
    assert (await ask_tcp(resolver, "example.com")).rcode == dns.SERVFAIL


async def test_nonsense_is_answered_as_such(resolver: Resolver) -> None:
    good = dns.query("web", dns.A)
    assert (await run(dns.ask, resolver[1], good[:2] + b"\x28" + good[3:])).rcode == dns.NOTIMP
    assert (await run(dns.ask, resolver[1], good[:-3])).rcode == dns.FORMERR
    assert (await run(dns.ask, resolver[1], good[:5] + b"\x02" + good[6:])).rcode == dns.FORMERR
    with bound() as client:
        client.settimeout(0.2)
        client.sendto(good[:2] + b"\x81" + good[3:], resolver[1])  # an answer
        client.sendto(b"xx", resolver[1])
        with pytest.raises(TimeoutError):
            client.recv(100)


def upstream(server: socket.socket, *edits) -> list[bytes]:
    """Answer one question per edit, by what that makes of the right answer. Return the questions."""
    seen = []
    for edit in edits:
        question, client = server.recvfrom(4096)
        seen.append(question)
        for answer in edit(dns.response(question, "192.0.2.7")):
            server.sendto(answer, client)
    return seen


async def test_others_names_are_asked_of_the_servers(resolver: Resolver) -> None:
    with bound() as server, bound() as dead:
        port = dead.getsockname()[1]
        dead.close()
        servers = [f"127.0.0.1 {port}", f"127.0.0.1 {server.getsockname()[1]}"]
        resolver[0].write_host("web", ["n1"], servers, False)
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                asked = await run(
                    upstream,
                    server,
                    lambda right: [b"zz" + right[2:], right[:12] + b"\x03foo" + right[16:], right],
                )
                assert asked[0][2:] == query[2:]

            query = dns.query("wWw.Example.com", dns.A)
            nursery.start_soon(serve)
            answer = await run(dns.ask, resolver[1], query)
        assert (answer.id, answer.name, answer.answers) == (dns.Message(query).id, "wWw.Example.com", ["192.0.2.7"])


async def test_a_silent_and_a_failing_server_are_passed_over(resolver: Resolver) -> None:
    with bound() as silent, bound() as failing, bound() as server:
        resolver[0].write_host(
            "web", [], [f"127.0.0.1 {each.getsockname()[1]}" for each in (silent, failing, server)], False
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, upstream, failing, lambda right: [right[:3] + b"\x82" + right[4:]])
            nursery.start_soon(run, upstream, server, lambda right: [right])
            assert (await ask(resolver, "example.com")).answers == ["192.0.2.7"]


async def test_a_long_answer_is_truncated_for_who_takes_no_more(resolver: Resolver) -> None:
    with bound() as server:
        resolver[0].write_host("web", [], [f"127.0.0.1 {server.getsockname()[1]}"], False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, upstream, server, *[lambda right: [right + bytes(900)]] * 2)
            answer = await ask(resolver, "example.com")
            assert (answer.truncated, answer.answers, len(answer.raw)) == (True, [], 29)
            assert len((await ask(resolver, "example.com", edns=1232)).raw) > 900


async def test_an_internal_network_asks_nobody(resolver: Resolver) -> None:
    with bound() as server:
        resolver[0].write_host("web", ["n1"], [f"127.0.0.1 {server.getsockname()[1]}"], True)
        assert (await ask(resolver, "example.com")).rcode == dns.SERVFAIL
        assert (await ask(resolver, "web")).answers == ["10.1.0.2"]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(100)


async def test_a_question_over_tcp_is_passed_on_over_tcp(resolver: Resolver) -> None:
    def serve() -> None:
        with server.accept()[0] as sock:
            size = struct.unpack("!H", sock.recv(2))[0]
            answer = dns.response(sock.recv(size), "192.0.2.7") + bytes(30000)
            sock.sendall(struct.pack("!H", len(answer)) + answer)

    with listening() as server, bound(kind=socket.SOCK_STREAM) as dead:
        resolver[0].write_host("web", [], [f"127.0.0.1 {each.getsockname()[1]}" for each in (dead, server)], False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, serve)
            answer = await ask_tcp(resolver, "example.com")
    assert answer.answers == ["192.0.2.7"]
    assert len(answer.raw) > 30000


async def test_a_flood_of_questions_has_an_end(resolver: Resolver) -> None:
    with bound() as silent, bound() as client:
        resolver[0].write_host("web", ["n1"], [f"127.0.0.1 {silent.getsockname()[1]}"], False)
        for number in range(500):
            client.sendto(dns.query(f"x{number}.example.com", dns.A), resolver[1])
            if number % 50 == 49:  # no more than the socket's queue holds
                await ask(resolver, "web")
        assert (await ask(resolver, "web")).answers == ["10.1.0.2"]
        assert len(os.listdir(f"/proc/{pid_of(resolver[0])}/fd")) < 120
