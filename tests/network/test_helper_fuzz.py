"""The helper under the address and undefined-behaviour sanitizers: whatever a container sends, it lives on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import windlass.execdriver.native
from tests.network import dns_wire as dns
from tests.network.test_helper import bound, listening, pid_of
from windlass.network.helper import Helper

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc, which brings the sanitizers"),
]
C = Path(windlass.execdriver.native.__file__).parent / "c"
SANITIZE = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
SANITIZE += ["-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def compiled(name: str, *sources: Path) -> Path:
        target = tmp_path_factory.mktemp("asan") / name
        subprocess.run(["gcc", *SANITIZE, "-o", target, *sources], check=True)
        return target

    return compiled


def fill(helper: Helper, servers: list[str]) -> None:
    entries = [
        ("web", "10.1.0.2"),
        ("v6", "fd00::6"),
        ("db", "10.1.0.3"),
        *(("many", f"10.3.0.{n}") for n in range(200)),
    ]
    helper.write_zone("n1", "blue", entries)
    helper.write_host("box", ["n1", "none"], servers, False)


def test_the_reader_stands_damaged_messages(build: Build, tmp_path: Path) -> None:
    ours = Path(__file__).parent / "c" / "fuzz_net_dns.c"
    program = build("fuzz_net_dns", ours, C / "net_dns_message.c", C / "net_dns_names.c")
    fill(Helper(tmp_path, ""), ["192.0.2.1", "nonsense", "192.0.2.2 99999"])
    done = subprocess.run([program, "1", "100000"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read, found = map(int, done.stdout.split())
    assert 20_000 < read < 95_000
    assert found > 10_000


def damaged(dice: random.Random) -> bytes:
    name = dice.choice(["web", "many", "example.com", "v6.blue", "3.0.1.10.in-addr.arpa"])
    data = bytearray(dns.query(name, dice.choice([1, 12, 28, 255]), edns=dice.choice([0, 1232])))
    for _ in range(dice.randrange(4)):
        data[dice.randrange(len(data))] = dice.choice([0, 63, 192, 255, dice.randrange(256)])
    return bytes(data[: dice.randrange(len(data)) if dice.random() < 0.2 else None])


def flood(
    dice: random.Random, udp: tuple[str, int], tcp: tuple[str, int], upstream: socket.socket, rounds: int
) -> None:
    """Send damaged questions over both, and damaged answers to what arrives upstream."""
    upstream.setblocking(False)
    clients = []
    with bound() as client:
        for _ in range(rounds):
            client.sendto(damaged(dice), udp)
            try:
                question, asker = upstream.recvfrom(4096)
                answer = bytearray(dns.response(question, "192.0.2.1") + bytes(dice.choice([0, 0, 2000])))
                answer[dice.randrange(min(len(answer), 40))] = dice.randrange(256)
                upstream.sendto(answer[: dice.choice([11, 12, 20, 60000])], asker)
            except (OSError, ValueError):
                pass
            if dice.random() < 0.05:
                clients.append(socket.create_connection(tcp))
                message = damaged(dice)
                data = (
                    struct.pack("!H", max(0, len(message) + dice.choice([0, 0, 0, 5, -1, 60000 - len(message)])))
                    + message
                )
                with contextlib.suppress(OSError):
                    clients[-1].sendall((data * 3)[: dice.choice([1, len(data) + 1, len(data) * 3])])
            if len(clients) > dice.randrange(1, 30):
                clients.pop(dice.randrange(len(clients))).close()
    for each in clients:
        each.close()


async def test_the_helper_stands_hostile_containers(build: Build, tmp_path: Path) -> None:
    program = build("windlass-shim", *sorted(C.glob("*.c")))
    tmp_path.chmod(0o700)
    helper = Helper(tmp_path / "net", str(program))
    try:
        await helper.ensure()
        await withstand(helper)
    finally:
        with trio.CancelScope(shield=True):
            await helper.stop()


async def withstand(helper: Helper) -> None:
    pid, dice = pid_of(helper), random.Random(7)
    with bound() as upstream, bound() as target, listening() as tcp_target:
        fill(helper, [f"127.0.0.1 {upstream.getsockname()[1]}"])
        for number in range(4):
            with bound() as udp, listening() as tcp, listening("::1") as port, bound("::1") as udp_port:
                await helper.dns("box", udp, tcp)
                await helper.proxy("box", "tcp", "::1", 1, *tcp_target.getsockname(), port)
                await helper.proxy("box", "udp", "::1", 1, *target.getsockname(), udp_port)
                places = udp.getsockname(), tcp.getsockname()
                port_at, udp_at = port.getsockname(), udp_port.getsockname()
            await trio.to_thread.run_sync(flood, dice, *places, upstream, 2500)
            await trio.to_thread.run_sync(batter, dice, port_at, udp_at, tcp_target, target)
            if number % 2:
                await helper.release("box")
        assert helper.is_alive
        await helper.release("box")
        assert await helper.ids() == set()
        assert pid_of(helper) == pid
        assert len(os.listdir(f"/proc/{pid}/fd")) < 10


def batter(dice: random.Random, tcp: tuple, udp: tuple, tcp_target: socket.socket, target: socket.socket) -> None:
    """Open, fill, half-close and reset connections at both ends, in any order."""
    tcp_target.settimeout(5)
    ends: list[socket.socket] = []
    for _ in range(150):
        ends += [socket.create_connection(tcp[:2]), tcp_target.accept()[0]]
        for end in dice.sample(ends, 2):
            end.setblocking(False)
            try:
                match dice.randrange(4):
                    case 0:
                        end.send(bytes(300_000))
                    case 1:
                        end.shutdown(socket.SHUT_WR)
                    case 2:
                        end.recv(100_000)
                    case 3:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        ends.remove(end)
                        end.close()
            except OSError:
                pass
        with bound("::1") as client:
            client.sendto(bytes(dice.choice([0, 1, 60000])), udp[:2])
            data, source = target.recvfrom(65536)
            target.sendto(data, source)
    for end in ends:
        end.close()
