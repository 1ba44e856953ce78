"""The strict parser against h11: what the one takes, the other takes too, and makes the same of it."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.api import fast, slow
from windlass.api.errors import Refused

METHODS = st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "G T", ""])
TARGETS = st.sampled_from(["/", "/_ping", "/v1.41/info?a=b&c", "*", "http://h/x", "/a b", "/%zz", "/\x7f", "/é", "x"])
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "])
NAMES = st.sampled_from(
    ["Host", "host", "Content-Length", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "Expect",
     "X-A", "X-A", "Content-Type", "X B", "X-C ", "", "X\0"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["h", "0", "5", "+5", "5, 5", "-1", " 5 ", "0x5", "5 5", "99999999999999999999", "٥", "chunked", "Chunked",
         "gzip, chunked", "close", "keep-alive, Upgrade", "tcp", "100-continue", "", " ", "\t x \t", "a\0b", "é"]
    ),
    st.text(st.characters(min_codepoint=0, max_codepoint=0xFF), max_size=12),
)  # fmt: skip
ENDS = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\n "])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    text = f"{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}{draw(ENDS)}"
    if draw(st.booleans()):
        text += "Host: h\r\n"
    for _ in range(draw(st.integers(0, 5))):
        text += f"{draw(NAMES)}:{draw(st.sampled_from([' ', '', '  ']))}{draw(VALUES)}{draw(ENDS)}"
    return (text + "\r\n").encode("utf-8", "surrogateescape")


def both(head: bytes) -> None:
    quick = fast.parse(head)
    if quick is None:
        return
    careful, connection = slow.parse(head, 200, 128 << 10)  # a Refused fails the test
    assert quick == careful
    h11_length = 0
    for name, value in h11_headers(head):
        if name == b"content-length":
            h11_length = int(value)
    assert quick.length == h11_length


def h11_headers(head: bytes) -> list[tuple[bytes, bytes]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return list(event.headers)


@settings(max_examples=600, deadline=None)
@given(heads())
def test_what_the_strict_parser_takes_h11_takes_and_reads_alike(head: bytes) -> None:
    both(head)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 80))
def test_a_mutilated_head_is_never_read_in_two_ways(junk: bytes, at: int) -> None:
    good = b"POST /v1.51/containers/create?name=a HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\nX-Y: z\r\n\r\n"
    both(good[:at] + junk + good[at:])
    both(good[:at] + junk + good[at + len(junk) :])


@pytest.mark.parametrize(
    "head",
    [
        b"GET /_ping HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/28.5.2 (linux)\r\n\r\n",
        b"POST /exec/x/start HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 9\r\n\r\n",
        b"DELETE /containers/x?force=1 HTTP/1.1\r\nhost:h\r\nX-A: 1\r\nX-A:2\r\n\r\n",
    ],
)
def test_everyday_requests_take_the_fast_path(head: bytes) -> None:
    assert fast.parse(head) is not None
    both(head)


def test_a_remembered_head_is_the_head_itself() -> None:
    head = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
    assert fast.parse_again(head) is fast.parse_again(head)
    assert fast.parse_again(head) == fast.parse(head)


def test_a_head_with_credentials_is_not_remembered() -> None:
    head = b"GET / HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: e30=\r\n\r\n"
    assert fast.parse_again(head) is not fast.parse_again(head)


@pytest.mark.parametrize("lengths", ["5, 5", "5\r\nContent-Length: 5", "5\r\nContent-Length: 6"])
def test_a_length_that_h11_would_mend_is_refused(lengths: str) -> None:
    with pytest.raises(Refused, match="Content-Length"):
        slow.parse(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {lengths}\r\n\r\n".encode(), 200, 1 << 17)


def test_no_value_makes_the_strict_parser_slow() -> None:
    """Quadratic backtracking over 64 KiB of blanks would take minutes."""
    for value in (b" " * 65000, b"\t " * 32000, b"a " * 32000):
        assert fast.parse(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + value + b"\x80\r\n\r\n") is None
