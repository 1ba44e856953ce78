"""`docker logs`: follow, tail, since, until, timestamps, streams."""

import re
from datetime import UTC, datetime

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire, frames, output

pytestmark = pytest.mark.root

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


@pytest.fixture
def counted(docker: Docker, image: str, name: str) -> str:
    """Return a container that has written the lines 1 to 10, and ended."""
    docker.ok("run", "--name", name, "--network", "none", image, "seq", "10")
    return name


def lines(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last + 1)]


def seconds(stamp: str) -> float:
    """Return the Unix time of a log's RFC 3339 stamp with nanoseconds."""
    return datetime.fromisoformat(stamp[:26]).replace(tzinfo=UTC).timestamp()


def test_logs_give_back_every_line(docker: Docker, counted: str) -> None:
    assert docker.ok("logs", counted).splitlines() == lines(1, 10)


@pytest.mark.parametrize(
    ("tail", "expected"), [("3", lines(8, 10)), ("0", []), ("100", lines(1, 10)), ("all", lines(1, 10))]
)
def test_tail_gives_the_last_lines(docker: Docker, counted: str, tail: str, expected: list[str]) -> None:
    assert docker.ok("logs", "--tail", tail, counted).splitlines() == expected


def test_t_puts_a_nanosecond_stamp_before_each_line(docker: Docker, counted: str) -> None:
    found = docker.ok("logs", "-t", counted).splitlines()
    assert [re.sub(f"^{STAMP} ", "", line) for line in found] == lines(1, 10)
    assert all(re.match(STAMP, line) for line in found)


def test_since_and_until_cut_by_time(docker: Docker, image: str, name: str) -> None:
    """The stamps of the log itself are the limits, so the clock of the machine does not matter."""
    script = "for n in 1 2 3 4; do echo $n; sleep 0.3; done"
    docker.ok("run", "--name", name, "--network", "none", image, "sh", "-c", script)
    stamps = [line.split()[0] for line in docker.ok("logs", "-t", name).splitlines()]
    middle = f"{(seconds(stamps[1]) + seconds(stamps[2])) / 2:.6f}"
    assert docker.ok("logs", "--since", middle, name).splitlines() == ["3", "4"]
    assert docker.ok("logs", "--until", middle, name).splitlines() == ["1", "2"]
    assert docker.ok("logs", "--since", stamps[2], name).splitlines() == ["3", "4"]


def test_since_takes_a_duration(docker: Docker, counted: str) -> None:
    assert docker.ok("logs", "--since", "10m", counted).splitlines() == lines(1, 10)
    assert docker.ok("logs", "--until", "10m", counted) == ""


def test_streams_stay_apart(docker: Docker, image: str, name: str) -> None:
    docker("run", "--name", name, "--network", "none", image, "sh", "-c", "echo out; echo err >&2")
    result = docker("logs", name)
    assert (result.out, result.err) == ("out\n", "err\n")


def test_a_terminal_is_logged_with_its_carriage_returns(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "-t", "--name", name, "--network", "none", image, "echo", "hi")
    assert docker("logs", name).raw == b"hi\r\n"


def test_follow_gives_lines_as_they_come_and_ends_with_the_container(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "-di", "--name", name, "--network", "none", image, "sh", "-c", "echo first; read x; echo second")
    with docker.start("logs", "-f", name) as follower:
        assert follower.line() == "first"
        docker.ok("kill", "-s", "CONT", name)  # harmless: the follower goes on
        docker.ok("attach", "--sig-proxy=false", name, input=b"\n")
        assert follower.line() == "second"
        out, err, code = follower.finish()
    assert (out, err, code) == ("", "", 0)


def test_follow_with_tail_starts_at_the_tail(docker: Docker, image: str, name: str) -> None:
    docker.ok("run", "-di", "--name", name, "--network", "none", image, "sh", "-c", "seq 5; read x; seq 6 7")
    with docker.start("logs", "-f", "--tail", "2", name) as follower:
        assert [follower.line(), follower.line()] == ["4", "5"]
        docker.ok("attach", "--sig-proxy=false", name, input=b"\n")
        assert follower.finish() == ("6\n7\n", "", 0)


def test_follow_of_an_ended_container_gives_all_and_ends(docker: Docker, counted: str) -> None:
    assert docker.ok("logs", "-f", counted).splitlines() == lines(1, 10)


def test_logs_span_a_restart(docker: Docker, counted: str) -> None:
    docker.ok("start", "-a", counted)
    assert docker.ok("logs", counted).splitlines() == lines(1, 10) * 2


def test_a_long_line_comes_back_in_one_piece(docker: Docker, image: str, name: str) -> None:
    """The json-file driver cuts at 16 KiB; the reader joins what belongs together."""
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"
    docker("run", "--name", name, "--network", "none", image, "sh", "-c", script)
    assert docker("logs", name).raw == b"x" * 100000 + b"\nend\n"


def test_bytes_that_are_not_utf8_become_replacement_characters(docker: Docker, image: str, name: str) -> None:
    """The json-file driver stores text: U+FFFD stands for each byte that is none."""
    docker("run", "--name", name, "--network", "none", image, "printf", "a\\377b\\n")
    assert docker("logs", name).raw == "a\ufffdb\n".encode()


def test_the_log_file_is_json_lines(docker: Docker, counted: str) -> None:
    """LogPath is read by log shippers; its format is Docker's."""
    template = "{{.HostConfig.LogConfig.Type}} {{.LogPath}}"
    kind, path = docker.inspect(counted, template).split()
    assert kind == "json-file"
    with open(path) as log:  # noqa: PTH123
        first = log.readline()
    assert re.fullmatch(r'\{"log":"1\\n","stream":"stdout","time":"' + STAMP.replace("9", "1,9") + r'"\}\n', first)


def test_logs_of_one_stream_only(wire: Wire, docker: Docker, image: str, name: str) -> None:
    docker("run", "--name", name, "--network", "none", image, "sh", "-c", "echo out; echo err >&2")
    body = wire.get(f"/containers/{name}/logs", stderr=1).body
    assert output(frames(body)) == (b"", b"err\n")


def test_logs_without_a_stream_are_refused(wire: Wire, counted: str) -> None:
    answer = wire.get(f"/containers/{counted}/logs")
    assert answer.status == 400
    assert answer.message == "Bad parameters: you must choose at least one stream"


def test_log_driver_none_keeps_nothing(docker: Docker, image: str, name: str) -> None:
    """dockerd refuses to read; the wording is its own."""
    docker.ok("run", "--name", name, "--network", "none", "--log-driver", "none", image, "echo", "hi")
    result = docker("logs", name)
    assert (result.code, result.out) == (1, "")
    assert "configured logging driver does not support reading" in result.err


def test_logs_of_nobody(docker: Docker) -> None:
    result = docker("logs", "nobody-here")
    assert result.code == 1 and "No such container: nobody-here" in result.err
