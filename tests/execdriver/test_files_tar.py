"""The tar that the shim writes of a container's files, read by Python's tarfile and by GNU tar; with the sanitizers."""

import io
import os
import random
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
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("asan") / "files_asan"
    files = [Path(__file__).parent / "c" / "files_asan.c", SOURCES / "files_walk.c", SOURCES / "files_tar.c"]
    built = subprocess.run(["cc", *FLAGS, "-I", SOURCES, "-o", program, *files], capture_output=True, text=True)
    if "cannot find -lasan" in built.stderr or "cannot find -lubsan" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path, *words: str, data: bytes = b"", code: int = 0) -> bytes:
    done = subprocess.run([program, *words], input=data, capture_output=True, env=ENVIRONMENT)
    assert done.returncode == code, done.stderr
    return done.stdout


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {each.name: each for each in tar}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with names, sizes and times at every border of the format."""
    top = tmp_path / "tree"
    top.mkdir()
    for length in (1, 94, 95, 96, 99, 100, 101, 155, 254, 255):
        (top / ("n" * length)).write_bytes(b"x" * length)
    for length in (1, 99, 100, 101, 4000):
        (top / f"link{length}").symlink_to("t" * length)
    for size in (0, 511, 512, 513, 256 << 10, (256 << 10) + 1):
        (top / f"size{size}").write_bytes(os.urandom(size))
    for number, seconds in enumerate((0, -1, -(10**10), 2**33, 2**33 - 1, 2**34)):
        (top / f"time{number}").write_text("")
        os.utime(top / f"time{number}", (seconds, seconds))
    deep = top
    for _ in range(20):
        deep /= "deep" * 20
    deep.mkdir(parents=True)
    (deep / "end").write_text("end")
    (top / "new\nline").write_text("")
    (top / os.fsdecode(b"\xff\xfe not utf-8")).write_text("")
    os.setxattr(top / "n", "user.value", bytes(range(256)) * 4)
    os.setxattr(top / "n", "user.another", b"=\n=")
    os.mkfifo(top / "fifo")
    os.chown(top / "n", 2**21, 2**32 - 2)
    return top


def test_another_reader_finds_the_same_files(program: Path, tree: Path) -> None:
    found = members(run(program, "get", str(tree), "top"))
    # os.walk does not mind a link that leads nowhere, for being too long.
    below = [Path(folder, name) for folder, folders, names in os.walk(tree) for name in (*folders, *names)]
    there = {str(Path("top", path.relative_to(tree))) for path in below} | {"top"}
    assert set(found) == there
    for name, each in found.items():
        path = tree / Path(name).relative_to("top")
        info = path.lstat()
        assert (each.mode, each.uid, each.gid) == (info.st_mode & 0o7777, info.st_uid, info.st_gid), name
        assert int(each.mtime) == int(info.st_mtime_ns // 10**9), name
        if each.isreg():
            assert each.size == info.st_size
        if each.issym():
            assert each.linkname == str(path.readlink())
    headers = found["top/n"].pax_headers
    assert headers["SCHILY.xattr.user.another"] == "=\n="
    assert headers["SCHILY.xattr.user.value"].encode("utf-8", "surrogateescape") == bytes(range(256)) * 4


def test_gnu_tar_unpacks_the_same_content(program: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    data = run(program, "get", str(tree), "top")
    subprocess.run(["tar", "-x", "-C", tmp_path / "out", "--warning=no-timestamp"], input=data, check=True)
    subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "out" / "top", "-x", "fifo"], check=True)


def test_lists_of_any_length_are_taken_in_any_pieces(program: Path, tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"file{number}").write_text("")
    items = [f"{'-' if number % 3 else '+'}/file{number}" for number in range(3000)]
    argv = [program, "list", tmp_path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdin is not None and process.stdout is not None
        data, source = "\0".join([*items, ""]).encode(), random.Random(1)
        listed = tmp_path.with_suffix(".tar")
        while data:
            size = source.randint(1, 9000)
            process.stdin.write(data[:size])
            process.stdin.flush()
            data = data[size:]
        process.stdin.close()
        listed.write_bytes(process.stdout.read())
        assert process.wait() == 0
    found = members(listed.read_bytes())
    assert set(found) == {item[2:] if item[0] == "+" else f".wh.{item[2:]}" for item in items}


@pytest.mark.parametrize(
    "data",
    [b"+/no-end", b"+no-slash\0", b"+/\0", b"+\0", b"\0", b"-/" + b"x" * 20000 + b"\0", b"+/" + b"x/" * 9000 + b"\0"],
)
def test_lists_that_cannot_be_are_refused(program: Path, tmp_path: Path, data: bytes) -> None:
    run(program, "list", str(tmp_path), data=data, code=1)


def test_no_name_of_a_list_leads_through_a_link_or_out(program: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    (tmp_path / "root" / "up").symlink_to("..")
    for path in (b"/link/secret", b"/up/secret"):
        assert members(run(program, "list", str(tmp_path / "root"), data=b"+" + path + b"\0")) == {}
    run(program, "list", str(tmp_path / "root"), data=b"+/../secret\0", code=1)
