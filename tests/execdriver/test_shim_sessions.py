"""Sessions of windlass-shim: frames, stdin and its end, terminals, detach keys, slow clients."""

import os
import re
import socket
import time

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import ALL, Attach, Client, NewShim, Rec, Shim, Stdio, started

pytestmark = pytest.mark.root
OUTPUT = Attach.STDOUT | Attach.STDERR
KEYS = b"\x10\x11"


def test_a_session_before_the_start_gets_the_first_byte_in_frames(shim: Shim) -> None:
    client = Client()
    control = shim.start(["sh", "-c", "echo out; echo err >&2"], clients=[(client, ALL)])
    assert harness.frames(client.read_all()) == {1: b"out\n", 2: b"err\n"}
    started(control)
    detached = control.expect(Rec.DETACHED)
    assert (detached.a, detached.b) == (2, 1)
    client.close()


def test_a_raw_session_gets_plain_bytes_of_the_streams_it_asked_for(shim: Shim) -> None:
    raw, errors = Client(), Client()
    shim.start(
        ["sh", "-c", "echo out; echo err >&2"],
        clients=[(raw, Attach.STDOUT | Attach.RAW), (errors, Attach.STDERR | Attach.RAW)],
    )
    assert (raw.read_all(), errors.read_all()) == (b"out\n", b"err\n")
    raw.close()
    errors.close()


def test_a_client_may_be_a_tcp_connection(shim: Shim) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client()
        client.close()
        client.sock = socket.create_connection(server.getsockname())
        client.other = server.accept()[0]
    shim.start(["cat"], stdio=6, clients=[(client, ALL | Attach.RAW)])
    client.sock.sendall(b"over tcp")
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read_all() == b"over tcp"
    client.close()


def test_a_half_closed_client_ends_stdin_and_still_gets_the_output(shim: Shim) -> None:
    client = Client()
    shim.start(["sh", "-c", "cat; echo done"], stdio=Stdio.STDIN | Stdio.STDIN_ONCE, clients=[(client, ALL)])
    client.sock.sendall(b"hello\n")
    client.sock.shutdown(socket.SHUT_WR)
    assert harness.frames(client.read_all())[1] == b"hello\ndone\n"
    client.close()


def test_without_stdin_once_a_client_that_goes_leaves_stdin_open(shim: Shim) -> None:
    first, second = Client(), Client()
    control = shim.start(["sh", "-c", "cat; echo done"], stdio=Stdio.STDIN, clients=[(first, ALL)])
    started(control)
    first.sock.sendall(b"one\n")
    first.read_until(b"one\n")
    first.close()
    assert control.expect(Rec.DETACHED).a == 0
    shim.attach(second, number=2)
    second.sock.sendall(b"two\n")
    second.read_until(b"two\n")
    control.ask(Rec.STDIN_CLOSE)
    assert harness.frames(second.read_all())[1] == b"done\n"
    second.close()


def test_input_that_came_early_goes_first_and_more_than_a_pipe_holds_arrives(shim: Shim) -> None:
    early = os.urandom(300_000)
    late = os.urandom(3_000_000)
    client = Client()
    stdio = Stdio.STDIN | Stdio.STDIN_ONCE
    shim.start(["sh", "-c", "sleep 0.1; cat"], stdio=stdio, log=None, clients=[(client, ALL | Attach.RAW)], early=early)
    pid = os.fork()
    if pid == 0:
        client.sock.sendall(late)
        client.sock.shutdown(socket.SHUT_WR)
        os._exit(0)
    got = client.read_all()
    os.waitpid(pid, 0)
    assert got == early + late
    client.close()


def test_input_that_a_closed_stdin_cannot_take_does_not_stop_the_shim(shim: Shim) -> None:
    client = Client()
    control = shim.start(
        ["sh", "-c", "exec <&-; echo closed; sleep 0.2; exit 3"], stdio=Stdio.STDIN, clients=[(client, ALL)]
    )
    client.read_until(b"closed")
    client.sock.sendall(b"x" * 100_000)
    assert control.expect(Rec.EXIT).a == 3
    client.read_all()
    client.close()


def test_a_client_that_closes_at_once_has_its_input_read(shim: Shim) -> None:
    """As `echo hi | docker run -i`: the client is gone before the container has read a byte."""
    client = Client()
    control = shim.start(
        ["sh", "-c", "sleep 0.1; wc -c"], stdio=Stdio.STDIN | Stdio.STDIN_ONCE, clients=[(client, Attach.STDIN)]
    )
    client.sock.sendall(b"x" * 150_000)
    client.close()
    control.expect(Rec.EXIT)
    assert '"150000\\n"' in (shim.folder / "log").read_text()


@pytest.mark.slow
def test_a_slow_client_stops_the_container_and_loses_nothing(shim: Shim) -> None:
    client = Client()
    control = shim.start(["sh", "-c", "seq 1 200000; exit 3"], clients=[(client, OUTPUT)])
    started(control)
    time.sleep(0.3)
    size = (shim.folder / "log").stat().st_size
    time.sleep(0.2)
    assert (shim.folder / "log").stat().st_size == size, "the container is not stopped"
    data = harness.frames(client.read_all())[1]
    assert data == b"".join(b"%d\n" % i for i in range(1, 200_001))
    assert control.expect(Rec.EXIT).a == 3
    client.close()


def test_the_end_does_not_wait_for_a_slow_client_which_still_gets_everything(shim: Shim) -> None:
    """What is in the pipe when the container ends: the log has it at EXIT, the client when it reads."""
    client = Client()
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        client.other.setsockopt(socket.SOL_SOCKET, option, 4096)
    control = shim.start(["sh", "-c", "seq 1 10000; exit 3"], clients=[(client, OUTPUT)])
    assert control.expect(Rec.EXIT).a == 3
    assert (shim.folder / "log").read_text().count("\n") == 10000
    assert harness.frames(client.read_all())[1].endswith(b"\n10000\n")
    assert control.expect(Rec.DETACHED).a == 2
    client.close()
    assert shim.join() == 0


def test_a_stuck_client_that_goes_lets_the_container_run_on(shim: Shim) -> None:
    client = Client()
    control = shim.start(["sh", "-c", "seq 1 200000; exit 3"], clients=[(client, OUTPUT)])
    started(control)
    time.sleep(0.1)
    client.close()
    assert control.expect(Rec.EXIT).a == 3
    assert control.expect(Rec.DETACHED).a == 0


def test_two_sessions_get_the_same(shim: Shim) -> None:
    clients = [Client(), Client()]
    shim.start(["seq", "1", "5000"], clients=[(client, OUTPUT) for client in clients])
    first, second = (harness.frames(client.read_all())[1] for client in clients)
    assert first == second == b"".join(b"%d\n" % i for i in range(1, 5001))
    for client in clients:
        client.close()


def test_a_session_goes_on_when_the_daemon_dies(shim: Shim) -> None:
    client = Client()
    control = shim.start(["cat"], stdio=Stdio.STDIN | Stdio.STDIN_ONCE, clients=[(client, ALL | Attach.RAW)])
    started(control)
    control.close()
    client.sock.sendall(b"still here\n")
    assert client.read_until(b"\n") == b"still here\n"
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read_all() == b""
    client.close()
    assert shim.join() == 0
    assert shim.exit_file[0] == 0


def test_a_terminal_is_a_terminal_with_a_size_and_a_console(shim: Shim) -> None:
    client = Client()
    script = "tty; stty size; test -c /dev/console && echo console; cat </dev/null >/dev/tty && echo own; exit 6"
    control = shim.start(
        ["sh", "-c", script], stdio=Stdio.TTY | Stdio.STDIN, size=33 << 16 | 99, clients=[(client, ALL)]
    )
    assert client.read_all() == b"/dev/pts/0\r\n33 99\r\nconsole\r\nown\r\n"
    started(control)
    assert control.expect(Rec.EXIT).a == 6
    client.close()


def test_a_terminal_is_resized(shim: Shim) -> None:
    client = Client()
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    control = shim.start(["sh", "-c", script], stdio=Stdio.TTY, clients=[(client, ALL)])
    client.read_until(b"ready")
    assert control.ask(Rec.RESIZE, a=50 << 16 | 120).type == Rec.OK
    client.read_until(b"50 120")
    client.close()


def test_control_c_reaches_the_terminals_program(shim: Shim) -> None:
    client = Client()
    control = shim.start(
        ["sh", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"], stdio=3, clients=[(client, ALL)]
    )
    client.read_until(b"ready")
    client.sock.sendall(b"\x03")
    assert control.expect(Rec.EXIT).a == 5
    client.close()


def test_the_end_of_a_terminals_client_does_not_close_the_terminal(shim: Shim) -> None:
    first, second = Client(), Client()
    control = shim.start(["cat"], stdio=Stdio.TTY | Stdio.STDIN | Stdio.STDIN_ONCE, clients=[(first, ALL)])
    started(control)
    first.sock.sendall(b"one\n")
    first.read_until(b"one\r\none\r\n")
    first.close()
    control.expect(Rec.DETACHED)
    shim.attach(second, number=2)
    second.sock.sendall(b"two\n")
    second.read_until(b"two\r\ntwo\r\n")
    second.close()


@pytest.mark.parametrize(
    ("typed", "echoed"),
    [
        ([b"ab\x10\x11"], b"ab"),
        ([b"ab\x10", b"\x11ignored"], b"ab"),
        ([b"\x10\x10\x11"], b"^P"),
        ([b"a\x10b\x10", b"c\x10\x11"], b"a^Pb^Pc"),
    ],
)
def test_detach_keys_end_the_session_and_everything_else_gets_through(
    shim: Shim, typed: list[bytes], echoed: bytes
) -> None:
    client = Client()
    control = shim.start(["sleep", "100"], stdio=Stdio.TTY | Stdio.STDIN, clients=[(client, ALL)], keys=KEYS)
    started(control)
    for part in typed:
        client.sock.sendall(part)
        time.sleep(0.02)
    detached = control.expect(Rec.DETACHED)
    assert (detached.a, detached.b) == (1, 1)
    client.read_all()
    harness.eventually((shim.folder / "log").exists)
    shown = re.sub(rb'.*"log":"(.*?)".*', rb"\1", (shim.folder / "log").read_bytes())
    assert shown == b"" or echoed in shown
    assert control.ask(Rec.SIGNAL, a=0).type == Rec.OK
    client.close()


def test_detach_keys_mean_nothing_without_a_terminal(shim: Shim) -> None:
    client = Client()
    shim.start(["cat"], stdio=Stdio.STDIN | Stdio.STDIN_ONCE, clients=[(client, ALL | Attach.RAW)], keys=KEYS)
    client.sock.sendall(KEYS)
    client.sock.shutdown(socket.SHUT_WR)
    assert client.read_all() == KEYS
    client.close()


def test_many_sessions_come_and_go(new_shim: NewShim) -> None:
    """No descriptor of the shim is left by sessions that have ended."""
    shim = new_shim()
    control = shim.start(["cat"], stdio=Stdio.STDIN)
    started(control)
    before = len(os.listdir(f"/proc/{shim.pid}/fd"))
    for number in range(300):
        client = Client()
        shim.attach(client, number=number)
        client.sock.sendall(b"x\n")
        client.read_until(b"x\n")
        client.close()
        assert control.expect(Rec.DETACHED).b == number
    assert len(os.listdir(f"/proc/{shim.pid}/fd")) == before


@pytest.mark.slow
def test_a_client_that_never_closes_keeps_the_shim_for_two_seconds_only(shim: Shim) -> None:
    client = Client()
    control = shim.start(["echo", "hi"], clients=[(client, OUTPUT)])
    control.expect(Rec.EXIT)
    assert harness.frames(client.read_all())[1] == b"hi\n"
    assert shim.join(patience=4) == 0
    client.close()
