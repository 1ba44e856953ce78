"""What the process that reads a stranger's archive could do, if the archive took it over: write into the layer."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suites.graphdriver import tar
from tests.support.shim import FILES

pytestmark = pytest.mark.root

# CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETFCAP
WORKER_CAPS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31
BROKER_CAPS = 1 << 21  # SYS_ADMIN, for trusted.overlay.opaque


@pytest.fixture
def unpacking(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An unpacker that has read half of its archive."""
    (tmp_path / "layer").mkdir()
    data = tar(("a", b"x" * 5000))
    pipe = subprocess.PIPE
    with subprocess.Popen([FILES, "unpack", tmp_path / "layer", "overlay"], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        process.stdin.write(data[:2000])
        process.stdin.flush()
        wait_for(lambda: (tmp_path / "layer/a").exists())
        yield process


def wait_for(condition: object) -> None:
    until = time.monotonic() + 5
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


def worker(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_neither_process_can_do_more_than_it_must(unpacking: subprocess.Popen[bytes]) -> None:
    for pid, expected in ((worker(unpacking), WORKER_CAPS), (unpacking.pid, BROKER_CAPS)):
        found = status(pid)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(found[name], 16) == expected, name
        assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
        assert found["NoNewPrivs"] == "1"
    assert status(worker(unpacking))["Seccomp"] == "2"


def test_the_layer_is_its_whole_world(unpacking: subprocess.Popen[bytes]) -> None:
    root = Path(f"/proc/{worker(unpacking)}/root")
    assert [path.name for path in root.iterdir()] == ["a"]
    mounts = Path(f"/proc/{worker(unpacking)}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1
    assert {"nosuid", "nodev", "noexec"} <= set(mounts[0].split()[5].split(","))
    for name in ("mnt", "net", "ipc", "uts"):
        theirs, ours = (os.readlink(f"/proc/{pid}/ns/{name}") for pid in (worker(unpacking), "self"))
        assert theirs != ours


def test_it_holds_nothing_open_but_its_pipes_and_the_layer(unpacking: subprocess.Popen[bytes]) -> None:
    folder = Path(f"/proc/{worker(unpacking)}/fd")
    targets = sorted(os.readlink(link) for link in folder.iterdir() if link.name != "2")  # 2 is the daemon's log
    kinds = [target.partition(":")[0] for target in targets]
    assert kinds.count("pipe") == 2 and kinds.count("socket") == 1
    assert {target for target in targets if target.startswith("/")} <= {"/", "/a"}


def test_a_cut_stream_ends_it_with_an_answer(unpacking: subprocess.Popen[bytes]) -> None:
    out, _ = unpacking.communicate()
    assert out == b"error 0 a: the archive ends in the middle of a file\n"
    assert unpacking.returncode == 1


def test_the_worker_dies_with_the_broker(unpacking: subprocess.Popen[bytes]) -> None:
    pid = worker(unpacking)
    unpacking.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or status(pid)["State"].startswith("Z"))


def test_the_broker_speaks_for_a_worker_that_was_killed(unpacking: subprocess.Popen[bytes]) -> None:
    os.kill(worker(unpacking), 9)
    out, _ = unpacking.communicate()
    assert out == b"error 0 sandbox: the unpacker was killed by signal 9\n"
