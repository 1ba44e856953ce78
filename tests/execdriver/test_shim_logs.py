"""`windlass-shim logs`: json-file logs read into a descriptor; tail, time, frames, rotation, follow."""

import os
import select
import struct
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import SHIM
from tests.execdriver.test_shim_log import awkward, docker_string, pieces

STDOUT, STDERR, TIMESTAMPS, FOLLOW, FRAMES = 1, 2, 4, 8, 16
BOTH = STDOUT | STDERR
SECOND = 10**9
START = 1_700_000_000


def entry(text: str, stream: str = "stdout", second: int = 0, fraction: str = "") -> str:
    time = datetime.fromtimestamp(START + second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f'{{"log":{docker_string(text)},"stream":"{stream}","time":"{time}{fraction}Z"}}\n'


def logs(path: Path, flags: int = BOTH, *, files: int = 1, tail: int = -1, since: int = 0, until: int = 0) -> bytes:
    args = [SHIM, "logs", path, str(files), str(flags), str(tail), str(since), str(until)]
    return subprocess.run(args, check=True, capture_output=True, timeout=20).stdout


def numbered(path: Path, first: int, last: int) -> None:
    path.write_text("".join(entry(f"{i}\n", second=i) for i in range(first, last + 1)))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "c-json.log"


@pytest.fixture
def rotated(log: Path) -> Path:
    """Return a log of 1..300 in three files."""
    numbered(Path(f"{log}.2"), 1, 100)
    numbered(Path(f"{log}.1"), 101, 200)
    numbered(log, 201, 300)
    return log


def lines(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(first, last + 1))


def test_streams_are_chosen_and_framed(log: Path) -> None:
    log.write_text(entry("a\n") + entry("b\n", "stderr") + entry("c"))
    assert logs(log) == b"a\nb\nc"
    assert logs(log, STDOUT) == b"a\nc"
    assert logs(log, STDERR) == b"b\n"
    framed = b"".join(struct.pack(">BxxxI", n, len(t)) + t for n, t in ((1, b"a\n"), (2, b"b\n"), (1, b"c")))
    assert logs(log, BOTH | FRAMES) == framed


@pytest.mark.parametrize("seed", range(3))
def test_any_text_comes_out_as_it_went_in(log: Path, seed: int) -> None:
    texts = pieces(awkward(seed))
    log.write_text("".join(map(entry, texts)))
    assert logs(log) == "".join(texts).encode()


def test_escapes_that_other_writers_use_are_read(log: Path) -> None:
    log.write_text(
        r'{"log":"\ud83d\ude00 \/ \b\f\t \u00e9 \ud800 x\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}' "\n"
    )
    assert logs(log) == "😀 / \b\f\t é � x\n".encode()


def test_attributes_between_stream_and_time_are_passed_over(log: Path) -> None:
    log.write_text('{"log":"a\\n","stream":"stderr","attrs":{"time":"x"},"time":"2026-01-01T00:00:01.5Z"}\n')
    assert logs(log, BOTH | TIMESTAMPS) == b"2026-01-01T00:00:01.500000000Z a\n"
    assert logs(log, STDOUT) == b""


def test_timestamps_have_nine_digits(log: Path) -> None:
    log.write_text(entry("a\n", fraction=".1") + entry("b\n") + entry("c\n", fraction=".123456789"))
    digits = [line.split(b".")[1] for line in logs(log, BOTH | TIMESTAMPS).splitlines()]
    assert digits == [b"100000000Z a", b"000000000Z b", b"123456789Z c"]


@pytest.mark.parametrize("tail", [0, 1, 99, 100, 101, 200, 250, 300, 1000])
def test_the_tail_goes_back_through_rotated_files(rotated: Path, tail: int) -> None:
    assert logs(rotated, files=3, tail=tail) == lines(max(1, 301 - tail), 300)


def test_only_so_many_files_are_read_as_are_kept(rotated: Path) -> None:
    assert logs(rotated, files=3) == lines(1, 300)
    assert logs(rotated, files=2) == lines(101, 300)


def test_times_bound_what_is_read(rotated: Path) -> None:
    since, until = (START + 150) * SECOND, (START + 160) * SECOND
    assert logs(rotated, files=3, since=since, until=until) == lines(150, 160)
    assert logs(rotated, files=3, since=since + 1) == lines(151, 300)
    assert logs(rotated, files=3, until=until - 1) == lines(1, 159)


def test_torn_and_foreign_lines_are_passed_over(log: Path) -> None:
    log.write_text(
        '{"log":"torn\n' + entry("a\n") + "nonsense\n" + "x" * 2_000_000 + "\n" + entry("b\n") + '{"log":"half'
    )
    assert logs(log) == b"a\nb\n"


def test_a_log_that_is_not_there_is_an_error(log: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        logs(log)


class Follower:
    """A reader that follows, with the pipe that tells it of the end."""

    def __init__(self, path: Path, *, files: int = 3, tail: int = -1, until: int = 0) -> None:
        end, self.end = os.pipe()
        self.out, out = os.pipe()
        args = [str(SHIM), "logs", str(path), str(files), str(BOTH | FOLLOW), str(tail), "0", str(until)]
        actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, end, 3)]
        self.pid = os.posix_spawn(SHIM, args, {}, file_actions=actions)
        os.close(end)
        os.close(out)

    def read(self, size: int) -> bytes:
        """Read exactly so much, or up to the end."""
        data = b""
        while len(data) < size and (part := os.read(self.out, size - len(data))):
            data += part
        return data

    def is_quiet(self, patience: float = 0.15) -> bool:
        return not select.select([self.out], [], [], patience)[0]

    def join(self) -> None:
        for fd in (self.end, self.out):
            if fd >= 0:
                os.close(fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def follower(log: Path) -> Iterator[Follower]:
    numbered(log, 1, 5)
    follower = Follower(log)
    assert follower.read(10) == lines(1, 5)
    yield follower
    follower.join()


def test_following_shows_what_is_added(follower: Follower, log: Path) -> None:
    with log.open("a") as file:
        for i in range(6, 50):
            file.write(entry(f"{i}\n"))
            file.flush()
            assert follower.read(len(f"{i}\n")) == b"%d\n" % i
    assert follower.is_quiet()


def test_half_a_line_is_not_shown(follower: Follower, log: Path) -> None:
    text = entry("6\n")
    with log.open("a") as file:
        file.write(text[:20])
        file.flush()
        assert follower.is_quiet()
        file.write(text[20:])
    assert follower.read(2) == b"6\n"


def test_following_goes_over_several_rotations_at_once(follower: Follower, log: Path) -> None:
    for first in (6, 16):
        os.rename(log, f"{log}.1") if first == 6 else (os.rename(f"{log}.1", f"{log}.2"), os.rename(log, f"{log}.1"))
        numbered(log, first, first + 9)
    assert follower.read(len(lines(6, 25))) == lines(6, 25)


def test_following_goes_on_when_the_only_file_is_emptied(follower: Follower, log: Path) -> None:
    os.truncate(log, 0)
    with log.open("a") as file:
        file.write(entry("new\n"))
    assert follower.read(4) == b"new\n"


def test_the_end_of_the_container_ends_following_after_the_last_line(follower: Follower, log: Path) -> None:
    with log.open("a") as file:
        file.write(entry("last\n"))
    os.close(follower.end)
    follower.end = -1
    assert follower.read(100) == b"last\n"


def test_a_client_that_goes_ends_following(follower: Follower) -> None:
    os.close(follower.out)
    follower.out = -1
    harness.eventually(lambda: os.waitid(os.P_PID, follower.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))


def test_the_until_time_ends_following(log: Path) -> None:
    numbered(log, 1, 5)
    follower = Follower(log, until=(START + 3) * SECOND)
    assert follower.read(100) == lines(1, 3)
    follower.join()


def test_following_from_the_tail_shows_only_what_comes(log: Path) -> None:
    numbered(log, 1, 5)
    follower = Follower(log, tail=0)
    assert follower.is_quiet()
    with log.open("a") as file:
        file.write(entry("6\n"))
    assert follower.read(2) == b"6\n"
    follower.join()


@pytest.mark.root
def test_nothing_is_lost_while_the_shim_writes_and_rotates(shim: harness.Shim) -> None:
    control = shim.start(["sh", "-c", "seq 1 30000; sleep 0.05; seq 30001 60000"], log=(400_000, 20))
    harness.started(control)
    follower = Follower(shim.folder / "log", files=20)
    expected = lines(1, 60000)
    assert follower.read(len(expected)) == expected
    control.expect(harness.Rec.EXIT)
    follower.join()
