"""What must be refused, and how: bytes in, allowed statuses out. 0 stands for a connection closed without an answer.

Each case is sent on a connection of its own, against handlers that would answer 200 or 204: so any other status comes
from a check. After all of them the server still answers.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import trio
from msgspec import Meta

from windlass.api.limits import Limits
from windlass.engine import Job, Signature

from .serving import QUICK, Served, request, serving


class Make(Signature[None], frozen=True):
    """A stand-in for `create`."""

    NAME: ClassVar[str] = "create"
    name: str = ""
    Image: str = ""
    Tty: bool = False
    Cmd: list[str] | str | None = None
    Labels: dict[str, str] = {}
    Memory: int = 0
    Ratio: float = 0.0


class Look(Signature[None], frozen=True):
    NAME: ClassVar[str] = "containers"
    all: bool = False
    limit: Annotated[int, Meta(ge=0)] = 0
    size: bool = False
    filters: dict[str, list[str] | dict[str, bool]] = {}


class Size(Signature[None], frozen=True):
    NAME: ClassVar[str] = "resize"
    name: str
    h: int = 0
    w: int = 0


async def make(job: Job[Make]) -> None: ...
async def look(job: Job[Look]) -> None: ...
async def size(job: Job[Size]) -> None: ...
async def anything(job: Job[Any]) -> None: ...


HANDLERS: dict[str, Any] = {"create": make, "containers": look, "resize": size, "container_inspect": anything}
LIMITS = Limits(
    head_time_unix=0.3, idle=1, stall=0.3, linger=0.2, tick=0.05, line=4096, head=8192, json_body=100_000,
    json_tokens=2000,
)  # fmt: skip

OK = b"GET /_ping HTTP/1.1\r\nHost: h\r\n\r\n"


def line(text: str) -> bytes:
    return text.encode("latin-1") + b"\r\nHost: h\r\n\r\n"


def headers(*lines: str) -> bytes:
    return "\r\n".join(["GET /_ping HTTP/1.1", *lines, "", ""]).encode("latin-1")


def post(*lines: str, body: bytes = b"") -> bytes:
    head = ["POST /containers/create HTTP/1.1", "Host: h", "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def json(body: bytes, kind: str = "application/json") -> bytes:
    return request("POST", "/containers/create", body, Content_Type=kind)


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def get(target: str) -> bytes:
    return request("GET", target)


BAD = {400}
REQUEST_LINES: list[tuple[str, bytes, set[int]]] = [
    ("no version", line("GET /_ping"), BAD),
    ("no target", line("GET HTTP/1.1"), BAD),
    ("no method", line("/_ping HTTP/1.1"), BAD),
    ("only blanks", line("   "), BAD),
    ("two blanks", line("GET  /_ping HTTP/1.1"), BAD),
    ("leading blank", line(" GET /_ping HTTP/1.1"), BAD),
    ("trailing blank", line("GET /_ping HTTP/1.1 "), BAD),
    ("tab for a blank", line("GET\t/_ping HTTP/1.1"), BAD),
    ("lower-case method", line("get /_ping HTTP/1.1"), {400, 405}),
    ("unknown method", line("BREW /_ping HTTP/1.1"), {405}),
    ("CONNECT", line("CONNECT h:80 HTTP/1.1"), {400, 405}),
    ("method with a colon", line("GE:T /_ping HTTP/1.1"), BAD),
    ("HTTP/0.9", line("GET /_ping HTTP/0.9"), {400, 505}),
    ("HTTP/1.2", line("GET /_ping HTTP/1.2"), {400, 505}),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    ("HTTP/11", line("GET /_ping HTTP/11"), BAD),
    ("lower-case version", line("GET /_ping http/1.1"), BAD),
    ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
    ("zero bytes", b"\0" * 64, BAD),
    ("an empty line first", b"\r\n" + OK, BAD),
    ("bare LF", b"GET /_ping HTTP/1.1\nHost: h\n\n", BAD),
    ("bare LF in the middle", b"GET /_ping HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", BAD),
    ("bare CR", b"GET /_ping HTTP/1.1\rHost: h\r\n\r\n", BAD),
    ("a target beyond ASCII", "GET /é HTTP/1.1\r\nHost: h\r\n\r\n".encode(), {400, 404}),
    ("a fragment", line("GET /_ping#x HTTP/1.1"), BAD),
    ("no slash", line("GET _ping HTTP/1.1"), BAD),
    ("the star with GET", line("GET * HTTP/1.1"), BAD),
    ("a line too long", line("GET /" + "a" * 5000 + " HTTP/1.1"), {414}),
    ("a line without end", b"GET /" + b"a" * 20000, {414}),
]
HEADERS: list[tuple[str, bytes, set[int]]] = [
    ("no Host", headers("X: y"), BAD),
    ("two Hosts", headers("Host: a", "Host: b"), BAD),
    ("two equal Hosts", headers("Host: a", "Host: a"), BAD),
    ("a blank before the colon", headers("Host : h"), BAD),
    ("a header without colon", headers("Host: h", "nonsense"), BAD),
    ("a header without name", headers("Host: h", ": y"), BAD),
    ("a folded header", headers("Host: h", "X: a", " b"), BAD),
    ("a folded first header", headers(" X: a", "Host: h"), BAD),
    ("a zero byte in a value", headers("Host: h", "X: a\0b"), BAD),
    ("a control byte in a value", headers("Host: h", "X: a\x01b"), BAD),
    ("a CR in a value", headers("Host: h", "X: a\rb"), BAD),
    ("a name with a blank", headers("Host: h", "X Y: a"), BAD),
    ("a name beyond ASCII", headers("Host: h", "X\xe9: a"), BAD),
    ("too many headers", headers("Host: h", *(f"X{i}: y" for i in range(300))), {431}),
    ("a header too long", headers("Host: h", "X: " + "a" * 5000), {431}),
    ("headers too long together", headers("Host: h", *(f"X{i}: " + "a" * 1000 for i in range(20))), {431}),
    ("headers without end", headers("Host: h")[:-2] + b"X: a\r\n" * 3000, {431}),
    ("an unknown expectation", headers("Host: h", "Expect: miracles"), {417}),
    ("two types", post("Content-Type: text/plain", "Content-Length: 2", body=b"{}"), BAD),
]
FRAMING: list[tuple[str, bytes, set[int]]] = [
    ("length and coding", post("Content-Length: 2", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), BAD),
    ("coding and length", post("Transfer-Encoding: chunked", "Content-Length: 2", body=b"0\r\n\r\n"), BAD),
    ("two lengths", post("Content-Length: 2", "Content-Length: 3", body=b"{} "), BAD),
    ("two equal lengths", post("Content-Length: 2", "Content-Length: 2", body=b"{}"), BAD),
    ("a list of lengths", post("Content-Length: 2, 2", body=b"{}"), BAD),
    ("a signed length", post("Content-Length: +2", body=b"{}"), BAD),
    ("a negative length", post("Content-Length: -2", body=b"{}"), BAD),
    ("a hexadecimal length", post("Content-Length: 0x2", body=b"{}"), BAD),
    ("a length with a blank", post("Content-Length: 1 2", body=b"{}"), BAD),
    ("an empty length", post("Content-Length:", body=b"{}"), BAD),
    ("a length beyond 64 bits", post("Content-Length: 99999999999999999999", body=b"{}"), BAD),
    ("a length with an underscore", post("Content-Length: 1_0", body=b"{}"), BAD),
    ("a length of Arabic digits", post("Content-Length: \xb2", body=b"{}"), BAD),
    ("another coding", post("Transfer-Encoding: gzip", body=b"{}"), {400, 501}),
    ("a coding on top", post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), {400, 501}),
    ("two codings", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400, 501}),
    ("an identity coding", post("Transfer-Encoding: identity", body=b"{}"), {400, 501}),
    ("a disguised coding", post("Transfer-Encoding: xchunked", body=b"{}"), {400, 501}),
    ("a coding on HTTP/1.0", b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    ("a body too long", json(b"{" + b" " * 200_000 + b"}"), {413}),
    ("a promise too long", post("Content-Length: 999999999999", body=b"{"), {413}),
]  # fmt: skip
CHUNKS: list[tuple[str, bytes, set[int]]] = [
    ("no size", chunked(b"\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a size that is no number", chunked(b"zz\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a negative size", chunked(b"-2\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a signed size", chunked(b"+2\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a size with 0x", chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a size with a blank first", chunked(b" 2\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a size beyond 64 bits", chunked(b"fffffffffffffffffffffff\r\n{}\r\n0\r\n\r\n"), BAD),
    ("a bare LF after the size", chunked(b"2\n{}\r\n0\r\n\r\n"), BAD),
    ("a bare LF after the data", chunked(b"2\r\n{}\n0\r\n\r\n"), BAD),
    ("a chunk longer than its size", chunked(b"2\r\n{}}\r\n0\r\n\r\n"), BAD),
    ("a chunk shorter than its size", chunked(b"5\r\n{}\r\n0\r\n\r\n"), BAD),
    ("no last chunk", chunked(b"2\r\n{}\r\n"), BAD),
    ("a trailer that is none", chunked(b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n"), BAD),
    ("an extension without end", chunked(b"2;" + b"a" * 20000), {400, 431}),
    ("chunks too long together", chunked(b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(40))), {413}),
]
JSON: list[tuple[str, bytes, set[int]]] = [
    ("no JSON", json(b"hello"), BAD),
    ("half an object", json(b'{"Image":'), BAD),
    ("a comma too many", json(b'{"Image":"a",}'), BAD),
    ("single quotes", json(b"{'Image':'a'}"), BAD),
    ("two values", json(b"{}{}"), BAD),
    ("something after", json(b"{} x"), BAD),
    ("a list", json(b"[]"), BAD),
    ("a string", json(b'"x"'), BAD),
    ("a number", json(b"7"), BAD),
    ("NaN", json(b'{"Ratio":NaN}'), BAD),
    ("Infinity", json(b'{"Ratio":-Infinity}'), BAD),
    ("a key twice", json(b'{"Image":"a","Image":"b"}'), BAD),
    ("a key twice in two cases", json(b'{"Image":"a","image":"b"}'), BAD),
    ("a key twice, deep", json(b'{"Labels":{"a":"b","a":"c"}}'), BAD),
    ("a huge integer", json(b'{"Memory":' + b"9" * 5000 + b"}"), BAD),
    ("an integer beyond 64 bits", json(b'{"Memory":18446744073709551616}'), BAD),
    ("a huge float", json(b'{"Memory":1e400}'), BAD),
    ("deep nesting", json(b'{"Labels":' + b"[" * 5000 + b"]" * 5000 + b"}"), {400, 413}),
    ("nesting of 300", json(b'{"Labels":' + b"[" * 300 + b"]" * 300 + b"}"), BAD),
    ("many values", json(b'{"Cmd":[' + b'"",' * 3000 + b'""]}'), {413}),
    ("bad UTF-8", json(b'{"Image":"\xff\xfe"}'), BAD),
    ("UTF-16", json('{"Image":"a"}'.encode("utf-16")), BAD),
    ("a lone surrogate", json(b'{"Image":"\\ud800"}'), BAD),
    ("a raw control byte", json(b'{"Image":"a\x01"}'), BAD),
    ("a bad escape", json(b'{"Image":"\\x41"}'), BAD),
    ("the wrong type", json(b"{}", "text/plain"), BAD),
    ("a form", json(b"Image=a", "application/x-www-form-urlencoded"), BAD),
    ("no type", b"POST /containers/create HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", BAD),
    ("a number for text", json(b'{"Image":7}'), BAD),
    ("text for a boolean", json(b'{"Tty":"true"}'), BAD),
    ("a number for a boolean", json(b'{"Tty":1}'), BAD),
    ("a boolean for a number", json(b'{"Memory":true}'), BAD),
    ("text for a number", json(b'{"Memory":"7"}'), BAD),
    ("a fraction for an integer", json(b'{"Memory":1.5}'), BAD),
    ("numbers in a list of text", json(b'{"Cmd":["a",1]}'), BAD),
    ("a list for an object", json(b'{"Labels":["a"]}'), BAD),
    ("a number in a map of text", json(b'{"Labels":{"a":1}}'), BAD),
]
PARAMETERS: list[tuple[str, bytes, set[int]]] = [
    ("a boolean that is none", get("/containers/json?all=maybe"), BAD),
    ("a boolean of 2", get("/containers/json?all=2"), BAD),
    ("an integer that is none", get("/containers/json?limit=ten"), BAD),
    ("an integer with a blank", get("/containers/json?limit=%205"), BAD),
    ("an integer with an underscore", get("/containers/json?limit=1_0"), BAD),
    ("an integer of Arabic digits", get("/containers/json?limit=%D9%A3"), BAD),
    ("an integer with a fraction", get("/containers/json?limit=1.5"), BAD),
    ("a hexadecimal integer", get("/containers/json?limit=0x10"), BAD),
    ("a huge integer", get("/containers/json?limit=" + "9" * 400), BAD),
    ("an exponent", get("/containers/json?limit=1e3"), BAD),
    ("an integer out of range", get("/containers/json?limit=-1"), BAD),
    ("an integer twice", get("/containers/json?limit=1&limit=2"), BAD),
    ("a boolean twice", get("/containers/json?all=1&all=0"), BAD),
    ("filters that are no JSON", get("/containers/json?filters=x"), BAD),
    ("filters that are half JSON", get("/containers/json?filters=%7B"), BAD),
    ("filters that are a list", get("/containers/json?filters=%5B%5D"), BAD),
    ("filters of text", get("/containers/json?filters=%7B%22a%22%3A%22b%22%7D"), BAD),
    ("filters of numbers", get("/containers/json?filters=%7B%22a%22%3A%5B1%5D%7D"), BAD),
    ("a filter twice", get("/containers/json?filters=%7B%22a%22%3A%5B%5D%2C%22a%22%3A%5B%5D%7D"), BAD),
    ("a broken escape in the query", get("/containers/json?all=%zz"), BAD),
    ("half an escape in the query", get("/containers/json?all=%4"), BAD),
    ("bad UTF-8 in the query", get("/containers/json?filters=%ff"), BAD),
    ("a zero byte in the query", get("/containers/json?filters=a%00b"), BAD),
    ("too many fields", get("/containers/json?" + "a=1&" * 500), BAD),
    ("a broken escape in the path", get("/containers/%zz/json"), BAD),
    ("bad UTF-8 in the path", get("/containers/%ff/json"), BAD),
    ("a zero byte in the path", get("/containers/a%00b/json"), BAD),
    ("a line end in the path", get("/containers/a%0d%0ab/json"), BAD),
    ("a slash in a name", get("/containers/a%2fb/json"), {404}),
    ("dots in the path", get("/containers/../../etc/passwd"), {301, 404}),
    ("dots in disguise", get("/containers/%2e%2e/json"), {301, 404}),
    ("dots for a name", get("/containers/..%2f..%2fetc/json"), {301, 404}),
    ("two slashes", get("//containers/json"), {301, 404}),
    ("an empty name", get("/containers//json"), {301, 404}),
    ("an unknown path", get("/nothing"), {404}),
    ("the root", get("/"), {404}),
    ("a slash too many", get("/containers/json/"), {301, 404}),
    ("a version too new", get("/v1.99/containers/json"), BAD),
    ("a version from the future", get("/v2.0/_ping"), BAD),
    ("a version too old", get("/v1.14/containers/json"), BAD),
    ("a version of zero", get("/v0.0/containers/json"), BAD),
    ("a version with three parts", get("/v1.2.3/containers/json"), {404}),
    ("a version with letters", get("/v1.x/containers/json"), {404}),
    ("a huge version", get("/v1.99999999999/containers/json"), {400, 404}),
    ("a version alone", get("/v1.41"), {404}),
    ("another method", request("DELETE", "/version"), {405}),
    ("PUT on the ping", request("PUT", "/_ping"), {405}),
    ("TRACE", request("TRACE", "/_ping"), {405}),
    ("a resize that is none", request("POST", "/containers/a/resize?h=x&w=1"), BAD),
    ("another upgrade", request("POST", "/engine/v1/jobs/create", Connection="Upgrade", Upgrade="websocket"), BAD),
    ("a deadline that is none", request("POST", "/engine/v1/jobs/create", {}, X_Windlass_Deadline="soon"), BAD),
    ("a deadline of zero", request("POST", "/engine/v1/jobs/create", {}, X_Windlass_Deadline="0"), BAD),
    ("a deadline that is not finite", request("POST", "/engine/v1/jobs/create", {}, X_Windlass_Deadline="inf"), BAD),
    ("an unknown job", request("POST", "/engine/v1/jobs/nonsense", {}), {404}),
    ("an unknown key", request("POST", "/engine/v1/jobs/create", {"env": {"Imagf": "a"}}), BAD),
    ("an ill-typed key", request("POST", "/engine/v1/jobs/create", {"env": {"Tty": 1}}), BAD),
    ("an unknown part", request("POST", "/engine/v1/jobs/create", {"enc": {}}), BAD),
    ("args that are no list", request("POST", "/engine/v1/jobs/create", {"args": "a"}), BAD),
    ("too many args", request("POST", "/engine/v1/jobs/resize", {"args": ["a", 1, 2, 3]}), BAD),
    ("a local job", request("POST", "/engine/v1/jobs/serveapi", {"args": ["tcp://0.0.0.0:1"]}), {403}),
    ("a job id that is none", request("DELETE", "/engine/v1/jobs/x"), BAD),
    ("a job that does not run", request("DELETE", "/engine/v1/jobs/99999"), {404}),
]

CASES = [
    pytest.param(data, allowed, id=f"{family}: {name}")
    for family, cases in (
        ("request line", REQUEST_LINES), ("headers", HEADERS), ("framing", FRAMING), ("chunks", CHUNKS),
        ("json", JSON), ("parameters", PARAMETERS),
    )
    for name, data, allowed in cases
]  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, HANDLERS, limits=LIMITS) as served:
        yield served


@pytest.mark.parametrize(("data", "allowed"), CASES)
async def test_bad_input_is_refused(served: Served, data: bytes, allowed: set[int]) -> None:
    async with await served.connect() as client:
        status = await send_and_read(client, data)
        assert status in allowed
    assert (await served.ask("GET", "/_ping")).body == b"OK"


async def send_and_read(client: Any, data: bytes) -> int:
    try:
        await client.send(data)
        answer = await client.answer()
    except (EOFError, trio.BrokenResourceError):
        return 0
    if answer.status >= 400:
        assert list(answer.json) == ["message"] or "code" in answer.json
        text = answer.body.decode().lower()
        assert "traceback" not in text and ".py" not in text
    return answer.status


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 130
    assert len(REQUEST_LINES) >= 25 and len(HEADERS) >= 16 and len(FRAMING) >= 14
    assert len(CHUNKS) >= 12 and len(JSON) >= 23 and len(PARAMETERS) >= 45


async def test_the_same_requests_without_the_fault_are_answered(tmp_path: Path) -> None:
    """So that no case of the table is refused for a reason that is not its own."""
    async with serving(tmp_path, HANDLERS, limits=QUICK) as served:
        good = [
            OK,
            json(b'{"Image":"a","Tty":true,"Cmd":["a"],"Labels":{"a":"b"},"Memory":7,"Unknown":null,"Cpu":1}'),
            json(b'{"image":"a"}'),
            json(b""),
            chunked(b"2\r\n{}\r\n0\r\n\r\n"),
            chunked(b"2;ext=1\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"),
            get("/containers/json?all=True&limit=5&filters=%7B%22a%22%3A%5B%22b%22%5D%7D&unknown=1"),
            get("/containers/json?all=&limit=&filters="),
            get("/containers/json?filters=%7B%22a%22%3A%7B%22b%22%3Atrue%7D%7D"),
            get("/v1.15/containers/json"),
            get("http://localhost/containers/json"),
            get("/containers/a%20b/json"),
            request("POST", "/engine/v1/jobs/create", {"env": {"Image": "a"}}, X_Windlass_Deadline="1.5"),
        ]
        for data in good:
            async with await served.connect() as client:
                await client.send(data)
                assert (await client.answer()).status in (200, 201), data
