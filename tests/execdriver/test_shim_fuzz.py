"""windlass-shim under the address and undefined-behaviour sanitizers: damaged lists, random output, one whole life."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import ALL, NATIVE, Client, Op, Rec, Shim, Stdio, started

C = NATIVE / "c"
SANITIZE = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
SANITIZE += ["-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
Build = Callable[..., Path]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc, which brings the sanitizers"),
]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Return a compiler of sanitized programs."""
    with harness.folder() as folder:

        def compiled(name: str, *sources: Path) -> Path:
            target = folder / name
            if not target.exists():
                subprocess.run(["gcc", *SANITIZE, "-o", target, *sources], check=True)
            return target

        yield compiled


@pytest.fixture(scope="module")
def sanitized(build: Build) -> Path:
    """Return the whole program, sanitized."""
    return build("windlass-shim", *sorted(C.glob("*.c")))


def environment(report: Path) -> dict[str, str]:
    # Leaks are looked for by ptrace, which a process that is not dumpable refuses.
    return {"ASAN_OPTIONS": f"detect_leaks=0:log_path={report}", "UBSAN_OPTIONS": f"log_path={report}"}


def no_reports(report: Path) -> None:
    found = [path.read_text() for path in report.parent.glob(f"{report.name}.*")]
    assert not found, found[0]


def fuzz_source(name: str) -> Path:
    return Path(__file__).parent / "c" / name


def test_the_parser_stands_damaged_lists(build: Build, tmp_path: Path) -> None:
    program = build("fuzz_oplist", fuzz_source("fuzz_oplist.c"), C / "oplist.c")
    ops = harness.prefix(Path("/folder"), Path("/root"))
    ops.add(Op.CLONE, a=harness.NAMESPACES, b=harness.NONE)
    harness.mounts(ops, Path("/folder"))
    ops.add_raw(Op.SECCOMP, bytes(80), b=10)
    harness.program(ops, ["sh", "-c", "exit 3"])
    (tmp_path / "sample").write_bytes(ops.encode())
    done = subprocess.run([program, tmp_path / "sample", "1", "60000"], check=True, capture_output=True, text=True)
    passed = int(done.stdout.split()[0])
    assert 1000 < passed < 59000


def test_the_encoder_stands_any_bytes(build: Build, tmp_path: Path) -> None:
    program = build("fuzz_log", fuzz_source("fuzz_log.c"), C / "log.c")
    subprocess.run([program, "1", "3000", tmp_path], check=True)
    entries = [json.loads(line) for line in (tmp_path / "log").read_bytes().split(b"\n")[:-1]]
    assert entries
    assert {entry["stream"] for entry in entries} <= {"stdout", "stderr"}


def test_the_reader_stands_damaged_logs(sanitized: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    text = rb"a \u00e9 \ud83d\ude00 \" \\ text\n"
    entry = b'{"log":"%b","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}\n' % text
    for seed in range(25):
        data = bytearray(entry * 400)
        for _ in range(600):
            data[chance.randrange(len(data))] = (
                chance.choice(b'\\"u{}:\n\0\xff') if chance.randrange(2) else chance.randrange(256)
            )
        (tmp_path / "log").write_bytes(data[: chance.randrange(len(data))])
        args = [tmp_path / "log", "2", str(chance.randrange(32) & ~8), str(chance.choice([-1, 5])), str(seed % 2), "0"]
        done = subprocess.run([sanitized, "logs", *args], capture_output=True, env=environment(tmp_path / "report"))
        assert done.returncode == 0, done.stderr
    no_reports(tmp_path / "report")


@pytest.mark.root
def test_a_whole_life_is_clean(sanitized: Path, root: Path, tmp_path: Path) -> None:
    """Start with a session, early input, an exec with a terminal, detach keys, a later daemon, rotation, the end."""
    report = tmp_path / "report"
    with harness.folder() as folder:
        shim = Shim(folder / "c", root, sanitized, environment(report))
        client, runner = Client(), Client()
        stdio = Stdio.STDIN | Stdio.STDIN_ONCE
        control = shim.start(
            ["sh", "-c", "cat; exit 5"], stdio=stdio, log=(5000, 3), clients=[(client, ALL)], early=b"early\n"
        )
        started(control)
        client.sock.sendall(os.urandom(100_000) + b"\nmark\n")
        client.read_until(b"mark\n")
        shim.exec(["sh", "-c", "stty size; cat"], 1, runner, stdio=Stdio.TTY | Stdio.STDIN, size=24 << 16 | 80)
        runner.read_until(b"24 80")
        runner.sock.sendall(b"x\x10\x10\x11")
        assert control.expect(Rec.DETACHED, 1).a == 1
        later = shim.connect()
        later.send(Rec.STATUS)
        harness.close(later.expect(Rec.STATE))
        assert control.ask(Rec.ROTATE).type == Rec.OK
        client.sock.shutdown(1)
        assert control.expect(Rec.EXIT).a == 5
        assert shim.join() == 0
        client.close()
        runner.close()
        shim.end()
        failing = Shim(folder / "f", root, sanitized, environment(report))
        assert failing.start(["nope"]).expect(Rec.FAILED).a == 2
        failing.end()
    no_reports(report)
