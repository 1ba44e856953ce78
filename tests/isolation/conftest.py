"""What tests of isolation share: a way to look from inside, and a program that makes any system call."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Docker, Result
from windlass.kernel.seccomp_tables import numbers

pytestmark = pytest.mark.root

Run = Callable[..., Result]
Sh = Callable[..., str]
Calls = Callable[..., list[int]]
SECRET = "the host's own"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a folder of the host with a secret; afterwards it is as it was."""
    folder = tmp_path / "canary"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "secret").write_text(SECRET)
    before = (folder.stat().st_mode, folder.stat().st_mtime_ns, sorted(folder.iterdir()))
    yield folder
    assert (folder.stat().st_mode, folder.stat().st_mtime_ns, sorted(folder.iterdir())) == before
    assert (folder / "secret").read_text() == SECRET


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build probe.c, statically, so that it runs in any image."""
    program = tmp_path_factory.mktemp("isolation") / "probe"
    libc = ["musl-gcc", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]
    compiler = libc if shutil.which("musl-gcc") else ["cc"]
    source = Path(__file__).with_name("probe.c")
    subprocess.run([*compiler, "-std=gnu11", "-O1", "-Wall", "-static", "-o", program, source], check=True)
    program.chmod(0o755)
    return program


@pytest.fixture
def run(docker: Docker, image: str) -> Run:
    """Return a runner: flags first, then the shell script that the container runs; nothing of it is left."""

    def run(*words: str) -> Result:
        *flags, script = words
        network = () if any("--network" in flag for flag in flags) else ("--network", "none")
        return docker("run", "--rm", *network, *flags, image, "sh", "-c", script)

    return run


@pytest.fixture
def sh(run: Run) -> Sh:
    """Return a runner as `run` whose script must succeed; it returns the output."""

    def sh(*words: str) -> str:
        result = run(*words)
        assert result.code == 0, result
        return result.out

    return sh


@pytest.fixture
def calls(docker: Docker, image: str, probe: Path) -> Calls:
    """Return a caller: `calls("name:arg", "32/name", flags=…)` makes system calls inside and returns their errnos."""

    def number(call: str) -> str:
        words, colon, arguments = call.partition(":")
        bits, slash, name = words.rpartition("/")
        table = "x86" if bits == "32" else "x86_64"
        return f"{bits or '64'}:{name if name.isdecimal() else numbers(table)[name]}{colon}{arguments}"

    def calls(*wanted: str, flags: tuple[str, ...] = ()) -> list[int]:
        mount = ("-v", f"{probe}:/probe:ro")
        out = docker.ok("run", "--rm", "--network=none", *mount, *flags, image, "/probe", *map(number, wanted))
        answers = [-1 if line.startswith("died") else int(line) for line in out.splitlines()]
        assert len(answers) == len(wanted), out
        return answers

    return calls
