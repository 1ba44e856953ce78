"""The log that windlass-shim writes: Docker's json-file, byte for byte, and its rotation."""

import codecs
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import Client, NewShim, Rec, Shim, started

pytestmark = pytest.mark.root
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")

CHARACTERS = [0x7F, 0x80, 0x7FF, 0x800, 0x2028, 0x2029, 0xFFFF, 0x10000, 0x10FFFF]
NO_CHARACTERS = [b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xe2\x80", b"\xff"]
LENGTHS = [15, 16, 17, 100, 16383, 16384, 16385, 40000]


def one_by_one(error: UnicodeError) -> tuple[str, int]:
    """As Go decodes: each byte that is no part of a character is replaced alone."""
    assert isinstance(error, UnicodeDecodeError)
    return "�", error.start + 1


codecs.register_error("one-by-one", one_by_one)


def pieces(data: bytes) -> list[str]:
    """What Docker makes of a stream: a piece a line, or every 16 KB."""
    out = []
    while data:
        end = data.find(b"\n", 0, 16384)
        end = end + 1 if end >= 0 else 16384
        out.append(data[:end].decode(errors="one-by-one"))
        data = data[end:]
    return out


def docker_string(text: str) -> str:
    """A JSON string as Docker's own encoder writes it (moby daemon/logger/jsonfilelog/jsonlog/jsonlogbytes.go)."""
    special = {"\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\", "�": "�"}
    out = []
    for char in text:
        if char in special:
            out.append(special[char])
        elif char < " " or char in "<>&\u2028\u2029":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def awkward(seed: int) -> bytes:
    """Random bytes that like borders: every UTF-8 length, broken characters, escapes, long lines."""
    chance = random.Random(seed)
    parts: list[bytes] = []
    for _ in range(4000):
        kind = chance.randrange(9)
        if kind == 0:
            parts.append(chance.randbytes(chance.randrange(40)))
        elif kind == 1:
            parts.append(
                chr(chance.choice([0x7F, 0x80, 0x7FF, 0x800, 0x2028, 0x2029, 0xFFFF, 0x10000, 0x10FFFF])).encode()
            )
        elif kind == 2:
            parts.append(
                chance.choice(
                    [b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xe2\x80", b"\xff"]
                )
            )
        elif kind == 3:
            parts.append(chance.choice([b'"', b"\\", b"<", b">", b"&", b"\t", b"\r", b"\0", b"\x1f", b"\x7f"]))
        elif kind == 4:
            parts.append(
                b"x" * chance.choice([15, 16, 17, 100, 16383, 16384, 16385, 40000])
                if not chance.randrange(60)
                else b"y"
            )
        elif kind == 5:
            parts.append(b"\n")
        else:
            parts.append(bytes(chance.choices(b"abcdefgh ijkl", k=chance.randrange(60))))
    return b"".join(parts)


def lines_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def feed(shim: Shim, data: bytes, chunks: int = 1) -> None:
    """Let the container write `data` to stdout, in so many writes, without a newline of its own."""
    (shim.folder / "upper/data").write_bytes(data)
    block = max(1, -(-len(data) // chunks))
    control = shim.start(["dd", "if=/data", f"bs={block}", "status=none"])
    started(control)
    assert control.expect(Rec.EXIT).a == 0


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_are_logged_as_docker_logs_them(shim: Shim, seed: int) -> None:
    data = awkward(seed)
    feed(shim, data, chunks=random.Random(seed).choice([1, 3, 50, 500]))
    lines = lines_of(shim.folder / "log")
    assert [line["log"] for line in lines] == pieces(data)
    assert {line["stream"] for line in lines} == {"stdout"}


def test_an_entry_has_dockers_spelling(shim: Shim) -> None:
    text = '<a> & "b" \\ \t \x01 é � \u2028 😀\x7f\r\n'
    feed(shim, text.encode())
    line = (shim.folder / "log").read_text()
    log, _, rest = line.partition(',"stream":"stdout","time":"')
    assert log == '{"log":' + docker_string(text)
    assert rest.endswith('"}\n')
    assert TIME.fullmatch(rest[:-3])


def test_times_go_up_strictly(shim: Shim) -> None:
    control = shim.start(["seq", "1", "20000"])
    started(control)
    control.expect(Rec.EXIT)

    def nanoseconds(time: str) -> tuple[str, str]:
        whole, _, fraction = time.rstrip("Z").partition(".")
        return whole, fraction.ljust(9, "0")

    times = [nanoseconds(line["time"]) for line in lines_of(shim.folder / "log")]
    assert all(a < b for a, b in zip(times, times[1:], strict=False))


def test_a_last_line_without_a_newline_is_kept(shim: Shim) -> None:
    feed(shim, b"one\ntwo")
    assert [line["log"] for line in lines_of(shim.folder / "log")] == ["one\n", "two"]


def test_both_streams_keep_their_own_unfinished_lines(shim: Shim) -> None:
    script = "printf a; printf b >&2; sleep 0.05; echo c; echo d >&2"
    control = shim.start(["sh", "-c", script])
    started(control)
    control.expect(Rec.EXIT)
    assert {(line["stream"], line["log"]) for line in lines_of(shim.folder / "log")} == {
        ("stdout", "ac\n"),
        ("stderr", "bd\n"),
    }


def test_a_full_log_is_rotated_and_only_so_many_files_are_kept(shim: Shim) -> None:
    control = shim.start(["seq", "1", "20000"], log=(100_000, 3))
    started(control)
    control.expect(Rec.EXIT)
    files = sorted(path.name for path in shim.folder.glob("log*"))
    assert files == ["log", "log.1", "log.2"]
    for name in ("log.1", "log.2"):
        assert 100_000 <= (shim.folder / name).stat().st_size < 100_200
    numbers = [int(line["log"]) for name in ("log.2", "log.1", "log") for line in lines_of(shim.folder / name)]
    assert numbers == list(range(numbers[0], 20001))


def test_one_file_alone_is_emptied(shim: Shim) -> None:
    control = shim.start(["seq", "1", "20000"], log=(100_000, 1))
    started(control)
    control.expect(Rec.EXIT)
    assert [path.name for path in shim.folder.glob("log*")] == ["log"]
    assert lines_of(shim.folder / "log")[-1]["log"] == "20000\n"
    assert (shim.folder / "log").stat().st_size < 100_200


def test_the_log_is_rotated_when_asked(shim: Shim) -> None:
    client = Client()
    control = shim.start(["cat"], stdio=6, log=(0, 2), clients=[(client, 7)])
    started(control)
    client.sock.sendall(b"one\n")
    client.read_until(b"one\n")
    assert control.ask(Rec.ROTATE).type == Rec.OK
    client.sock.sendall(b"two\n")
    client.read_until(b"two\n")
    assert [lines_of(shim.folder / name)[0]["log"] for name in ("log.1", "log")] == ["one\n", "two\n"]
    client.close()


def test_a_restarted_container_appends_and_a_torn_line_stays_alone(new_shim: NewShim) -> None:
    shim = new_shim()
    (shim.folder / "log").write_text('{"log":"half')
    feed(shim, b"whole\n")
    first, second = (shim.folder / "log").read_text().splitlines()
    assert first == '{"log":"half'
    assert json.loads(second)["log"] == "whole\n"


def test_a_full_disk_drops_lines_and_counts_them_and_never_stops_the_container(shim: Shim) -> None:
    full = shim.folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "windlass-test", full], check=True)
    try:
        ops = harness.prefix(shim.folder, shim.root, log=None)
        ops.add(harness.Op.LOG, full / "log", a=harness.Log.JSON, c=1)
        ops.add(harness.Op.CLONE, a=harness.NAMESPACES, b=harness.NONE)
        harness.mounts(ops, shim.folder)
        harness.program(ops, ["sh", "-c", "seq 1 5000; echo done; exec sleep 100"])
        control = shim.spawn(ops.encode())
        control.send(Rec.GO)
        started(control)

        def dropped() -> int:
            control.send(Rec.STATUS)
            return int.from_bytes(harness.close(control.expect(Rec.STATE)).data[4:8], "little")

        harness.eventually(lambda: len(lines_of(full / "log")) + dropped() == 5001)
        assert dropped() > 0
        control.ask(Rec.SIGNAL, a=9)
        shim.join()
    finally:
        subprocess.run(["umount", full], check=True)
