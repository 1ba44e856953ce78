"""Damaged archives against the unpacker, with the address and undefined-behaviour sanitizers and without its sandbox.

Whatever bytes come, it ends by itself with an answer, and touches nothing outside of its directory.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import windlass.execdriver.native

pytestmark = [pytest.mark.root, pytest.mark.slow]

SOURCES = Path(windlass.execdriver.native.__file__).parent / "c"
FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:exitcode=99", "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"}


@pytest.fixture(scope="module")
def unpacker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("asan") / "unpack_asan"
    ours = Path(__file__).with_name("unpack_asan.c")
    files = [ours, SOURCES / "unpack.c", SOURCES / "unpack_tar.c"]
    built = subprocess.run(["cc", *FLAGS, "-I", SOURCES, "-o", program, *files], capture_output=True, text=True)
    if "cannot find -lasan" in built.stderr or "cannot find -lubsan" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    return program


def seeds(outside: Path) -> list[bytes]:
    """Archives with everything that the format has, and with links that lead to `outside`."""
    return [
        _archive(outside, form, long)
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
        for long in (False, form != tarfile.USTAR_FORMAT)
    ]


def _archive(outside: Path, form: int, long: bool) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, kind, link, data in (
            ("d", tarfile.DIRTYPE, "", b""),
            ("d/f", tarfile.REGTYPE, "", b"x" * 700),
            ("out", tarfile.SYMTYPE, str(outside), b""),
            ("out/canary", tarfile.REGTYPE, "", b"owned"),
            ("up", tarfile.SYMTYPE, "../../../../..", b""),
            (f"up{outside}/canary", tarfile.REGTYPE, "", b"owned"),
            ("h", tarfile.LNKTYPE, "d/f", b""),
            ("p", tarfile.FIFOTYPE, "", b""),
            ("d/.wh.f", tarfile.REGTYPE, "", b""),
            (".wh..wh..opq", tarfile.REGTYPE, "", b""),
            ("n" * (250 if long else 90), tarfile.REGTYPE, "", b"y"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mtime = kind, link, len(data), 1.5
            if form == tarfile.USTAR_FORMAT:
                info.mtime = 1
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {"SCHILY.xattr.user.k": "v" * 20, "comment": "c" * 50}
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def damaged(seed: bytes, dice: random.Random) -> bytes:
    """Change some bytes, most of them in headers, with the checksums made right again half of the time."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 6)):
        block = dice.randrange(len(data) // 512) * 512
        at = block + dice.choice((dice.randrange(512), dice.randrange(100), 124 + dice.randrange(12), 156))
        data[at] = dice.choice((0, 0x80, 0xFF, ord("7"), ord("9"), ord("x"), ord("/"), dice.randrange(256)))
        if dice.random() < 0.5:
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data[: dice.randrange(len(data))] if dice.random() < 0.2 else data)


def test_a_damaged_archive_never_leaves_its_directory_nor_crashes(unpacker: Path, tmp_path: Path, rounds: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    canary = outside / "canary"
    canary.write_text("untouched")
    assert canary.read_text() == "untouched"  # the first reading sets its atime
    before = (canary.stat(), outside.stat())
    dice = random.Random(2014)
    archives = seeds(outside)
    for number in range(100 * rounds):
        data = damaged(dice.choice(archives), dice) if number >= len(archives) else archives[number]
        inside = tmp_path / "inside"
        inside.mkdir()
        done = subprocess.run([unpacker, inside], input=data, capture_output=True, timeout=60, env=ENVIRONMENT)
        assert done.returncode in (0, 1), (number, done.stderr.decode()[-3000:])
        assert done.stdout.startswith(b"ok " if done.returncode == 0 else b"error "), number
        assert (canary.stat(), outside.stat()) == before, number
        assert canary.read_text() == "untouched"
        shutil.rmtree(inside)
