"""The client's HTTP, against servers that say exactly what they are told."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass.client.http import BadHost, Client, HTTPError, parse_host
from windlass.client.session import quoted

Serve = Callable[[bytes], tuple[Client, list[bytes]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a maker of servers that take one request and answer with the bytes given, one piece at a time."""
    threads: list[threading.Thread] = []

    def make(*answer: bytes) -> tuple[Client, list[bytes]]:
        path = tmp_path / f"s{len(threads)}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        seen: list[bytes] = []

        def work() -> None:
            with listener:
                connection, _ = listener.accept()
            with connection, contextlib.suppress(BrokenPipeError):  # a client may leave without a word
                seen.append(connection.recv(65536))
                for piece in answer:
                    connection.sendall(piece)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return Client(f"unix://{path}", timeout=5), seen

    yield make
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize(
    ("host", "parsed"),
    [
        ("unix:///run/w.sock", ("unix", "/run/w.sock")),
        ("unix://", ("unix", "/var/run/windlass.sock")),
        ("tcp://h:2375", ("tcp", ("h", 2375))),
        ("tcp://h", ("tcp", ("h", None))),
        ("tcp://[::1]:2375/", ("tcp", ("::1", 2375))),
        ("tcp://[::1]", ("tcp", ("::1", None))),
        ("https://h:1", ("tcp", ("h", 1))),
        ("h:2375", ("tcp", ("h", 2375))),
        (":2375", ("tcp", ("127.0.0.1", 2375))),
    ],
)
def test_hosts_are_taken_apart(host: str, parsed: object) -> None:
    assert parse_host(host) == parsed


@pytest.mark.parametrize("host", ["ftp://x", "tcp://x:y", "tcp://a/b:1", "npipe:////./pipe/x"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadHost, match="unable to parse host"):
        parse_host(host)


def test_a_body_with_a_length_is_read_to_it(serve: Serve) -> None:
    client, seen = serve(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a"', b":1}xxx")
    assert client.json("GET", "/x") == {"a": 1}
    assert seen[0].startswith(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")


def test_chunks_are_joined_however_they_are_cut(serve: Serve) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nA: b\r\n\r\n"
    client, _ = serve(*(whole[at : at + 1] for at in range(len(whole))))
    assert client.request("GET", "/").read() == b"hello world"


def test_lines_come_as_they_are_written(serve: Serve) -> None:
    client, _ = serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none\ntw", b"o\nthree")
    assert list(client.request("GET", "/").lines()) == [b"one", b"two", b"three"]


def test_interim_answers_are_skipped(serve: Serve) -> None:
    client, _ = serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    with client.request("POST", "/", b"x") as response:
        assert (response.status, response.read()) == (204, b"")


def test_a_stream_of_chunks_is_sent_chunked(serve: Serve) -> None:
    client, seen = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    client.request("POST", "/", iter([b"abc", b"", b"de"])).close()
    assert b"Transfer-Encoding: chunked\r\n" in seen[0]


def test_a_refusal_is_read_though_the_body_was_not_taken(serve: Serve) -> None:
    client, _ = serve(b'HTTP/1.1 413 Too Large\r\nContent-Length: 19\r\n\r\n{"message": "big!"}')
    with client.request("POST", "/", (b"x" * 65536 for _ in range(500))) as response:
        assert response.status == 413
        with pytest.raises(HTTPError, match="big!"):
            response.check()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "No such container: x"}', "No such container: x"),
        (b"plain words\n", "plain words"),
        (b"", "404 Not Found"),
        (b'["odd"]', '["odd"]'),
    ],
)
def test_a_refusal_is_raised_in_the_daemons_words(serve: Serve, body: bytes, message: str) -> None:
    client, _ = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with pytest.raises(HTTPError) as caught:
        client.json("GET", "/x")
    assert (caught.value.status, caught.value.message) == (404, message)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_an_answer_that_is_cut_or_is_none_is_an_os_error(serve: Serve, answer: bytes) -> None:
    client, _ = serve(answer)
    with pytest.raises(OSError):
        client.request("GET", "/").read()


def test_an_upgrade_hands_the_connection_over_with_what_came_early(serve: Serve) -> None:
    client, seen = serve(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: x\r\n\r\nearly")
    sock, early = client.upgrade("/up", "x", b"{}")
    with sock:
        assert early + sock.recv(10) == b"early"
    assert b"Connection: Upgrade\r\nUpgrade: x\r\n" in seen[0]


def test_a_server_that_does_not_upgrade_is_told_of(serve: Serve) -> None:
    client, _ = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(HTTPError, match="does not speak x"):
        client.upgrade("/up", "x")


def test_a_line_break_in_a_head_is_refused(serve: Serve) -> None:
    client, _ = serve(b"")
    with pytest.raises(ValueError, match="line break"):
        client.request("GET", "/x\r\nEvil: 1")


def test_nobody_there_names_the_host(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        Client(f"unix://{tmp_path}/none").connect()


def test_a_job_of_any_name_is_one_segment_of_a_path() -> None:
    assert quoted("a/b?c d%é") == "a%2Fb%3Fc%20d%25%C3%A9"
