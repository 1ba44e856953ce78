"""`docker cp` and the archive routes: what goes in, what comes out, and what is refused in which words."""

import base64
import bz2
import gzip
import io
import json
import lzma
import socket
import stat
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import docker as docker_py
import pytest
import zstandard

from tests.support.cli import Docker
from tests.support.images import Tar
from tests.support.wire import Answer, Wire

pytestmark = pytest.mark.root

HEADER = "X-Docker-Container-Path-Stat"
NEW = ("--network", "none", "-v", "/volume", "--tmpfs", "/tmpfs")


@pytest.fixture(params=["running", "exited", "created"])
def container(docker: Docker, image: str, name: str, request: pytest.FixtureRequest) -> str:
    """Return the name of a container with a volume, in each state that a container may be copied in."""
    if request.param == "created":
        docker.ok("create", "--name", name, *NEW, image, "sleep", "1000")
        return name
    docker.ok("run", "-d", "--name", name, *NEW, image, "sleep", "1000")
    if request.param == "exited":
        docker.ok("stop", "-t", "0", name)
    return name


def ask(wire: Wire, method: str, name: str, path: str, body: bytes | None = None, **query: object) -> Answer:
    target = f"/containers/{name}/archive?{urlencode({'path': path, **query})}"
    return wire.request(method, target, body, headers={"Content-Type": "application/x-tar"})


def put(wire: Wire, name: str, path: str, archive: bytes, **query: object) -> Answer:
    return ask(wire, "PUT", name, path, archive, **query)


def members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return opened.getmembers()


def get(wire: Wire, name: str, path: str) -> list[tarfile.TarInfo]:
    answer = ask(wire, "GET", name, path)
    assert answer.status == 200, answer.body
    return members(answer.body)


def content(wire: Wire, name: str, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(ask(wire, "GET", name, path).body)) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        return file.read()


def one_file(name: str = "file", data: str = "data", **fields: object) -> bytes:
    tar = Tar()
    tar.file(name, data, **fields)  # type: ignore[arg-type]
    return tar.finish()


def stat_of(answer: Answer) -> dict[str, object]:
    found = json.loads(base64.b64decode(answer.headers[HEADER]))
    assert isinstance(found, dict)
    return found


# -- by the CLI ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/root", "/volume", "/etc/"])
def test_a_file_goes_in_and_comes_out(docker: Docker, container: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "in").write_bytes(b"\0binary\xff" * 1000)
    docker.ok("cp", str(tmp_path / "in"), f"{container}:{place}")
    docker.ok("cp", f"{container}:{place}/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_what_was_copied_is_there_when_the_container_runs(docker: Docker, container: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("in the volume")
    docker.ok("cp", str(tmp_path / "script"), f"{container}:/volume/renamed")
    docker("start", container)
    assert docker.ok("exec", container, "cat", "/volume/renamed") == "in the volume"


def tree(folder: Path) -> Path:
    (folder / "tree" / "below").mkdir(parents=True)
    (folder / "tree" / "file").write_text("one")
    (folder / "tree" / "below" / "other").write_text("two")
    (folder / "tree" / "link").symlink_to("file")
    return folder / "tree"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ("tree", "/root", "/root/tree/below/other"),  # an existing folder: into it
        ("tree", "/root/new", "/root/new/below/other"),  # none: as it
        ("tree/.", "/root", "/root/below/other"),  # the content
        ("tree/.", "/root/new", "/root/new/below/other"),
        ("tree/file", "/root/new", "/root/new"),
    ],
)
def test_folders_follow_the_rules_of_cp(
    docker: Docker, wire: Wire, running: str, tmp_path: Path, source: str, target: str, found: str
) -> None:
    tree(tmp_path)
    docker.ok("cp", f"{tmp_path}/{source}", f"{running}:{target}")
    docker.ok("exec", running, "test", "-f", found)
    name = {"tree": "root", "tree/.": "root/."}.get(source)
    if name and target == "/root/new":
        docker.ok("cp", f"{running}:/root/new/.", str(tmp_path / "back"))
        assert names(tmp_path / "back") == ["below", "below/other", "file", "link"]


def test_a_folder_comes_out_below_its_name_or_in_place_of_it(docker: Docker, running: str, tmp_path: Path) -> None:
    docker.ok("exec", running, "sh", "-c", "mkdir -p /tree/below; echo 1 > /tree/below/file; ln -s below /tree/link")
    (tmp_path / "there").mkdir()
    docker.ok("cp", f"{running}:/tree", str(tmp_path / "there"))
    docker.ok("cp", f"{running}:/tree", str(tmp_path / "new"))
    docker.ok("cp", f"{running}:/tree/link/", str(tmp_path / "followed"))
    assert names(tmp_path / "there") == ["tree", "tree/below", "tree/below/file", "tree/link"]
    assert names(tmp_path / "new") == ["below", "below/file", "link"]
    assert names(tmp_path / "followed") == ["file"]


def test_a_link_is_copied_as_a_link_and_with_l_what_it_leads_to(docker: Docker, running: str, tmp_path: Path) -> None:
    docker.ok("exec", running, "sh", "-c", "echo target > /etc/file; ln -s file /etc/link")
    docker.ok("cp", f"{running}:/etc/link", str(tmp_path / "link"))
    docker.ok("cp", "-L", f"{running}:/etc/link", str(tmp_path / "file"))
    assert (tmp_path / "link").readlink() == Path("file")
    assert (tmp_path / "file").read_text() == "target\n"


def test_a_tar_goes_in_and_comes_out_by_a_pipe(docker: Docker, running: str) -> None:
    docker.ok("cp", "-", f"{running}:/root", input=one_file("piped", "through"))
    found = members(docker("cp", f"{running}:/root/piped", "-").raw)
    assert [(each.name, each.size) for each in found] == [("piped", 7)]


def test_the_whole_root_comes_out_without_what_the_kernel_shows(docker: Docker, running: str, tmp_path: Path) -> None:
    docker.ok("cp", f"{running}:/", str(tmp_path / "all"))
    assert (tmp_path / "all" / "bin" / "busybox").is_file()
    assert [names(tmp_path / "all" / kind) for kind in ("proc", "sys")] == [[], []]


def test_owners_are_those_of_the_archive_and_with_a_the_containers_users(
    docker: Docker, image: str, name: str, tmp_path: Path
) -> None:
    docker.ok("run", "-d", "--name", name, "--network", "none", "-u", "nobody", image, "sleep", "1000")
    (tmp_path / "file").write_text("")
    docker.ok("cp", str(tmp_path / "file"), f"{name}:/home/plain")
    docker.ok("cp", "-a", str(tmp_path / "file"), f"{name}:/home/owned")
    assert docker.ok("exec", name, "stat", "-c", "%u:%g", "/home/plain", "/home/owned").split() == [
        "0:0",
        "65534:65534",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{name}:/missing", "-"), "Could not find the file /missing in container {name}"),
        (("{file}", "{name}:/missing/file"), "Could not find the file /missing in container {name}"),
        (("{file}", "{name}:/etc/passwd/file"), "extraction point is not a directory"),
        (("no-such-container:/etc", "-"), "No such container: no-such-container"),
        (("{folder}/nothing", "{name}:/"), "no such file or directory"),
        (("{folder}", "{name}:/etc/passwd"), "cannot copy directory"),
    ],
)
def test_what_is_missing_is_told_in_dockers_words(
    docker: Docker, container: str, tmp_path: Path, words: tuple[str, str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    known = {"name": container, "file": tmp_path / "file", "folder": tmp_path}
    failed = docker("cp", *(word.format(**known) for word in words))
    if docker.cli_version < 28 and message.startswith(("Could not", "No such")):
        message = "No such container:path: "  # whatever the daemon says
    assert (failed.code, message.format(**known) in failed.err) == (1, True), failed


@pytest.mark.parametrize("state", ["run", "create"])
def test_what_is_read_only_is_told_in_dockers_words(
    docker: Docker, image: str, name: str, volume_name: str, tmp_path: Path, state: str
) -> None:
    (tmp_path / "file").write_text("")
    flags = ("-d",) if state == "run" else ()
    mounts = ("-v", f"{volume_name}:/read", "-v", f"{volume_name}:/write")
    docker.ok(state, *flags, "--name", name, "--read-only", "--network", "none", *mounts[:1], f"{mounts[1]}:ro",
              *mounts[2:], image, "sleep", "1000")  # fmt: skip
    docker.ok("cp", str(tmp_path / "file"), f"{name}:/write")
    for place, words in (("/etc", "container rootfs is marked"), ("/read", "mounted volume is marked")):
        failed = docker("cp", str(tmp_path / "file"), f"{name}:{place}")
        assert (failed.code, f"{words} read-only" in failed.err) == (1, True), failed
    docker.ok("cp", f"{name}:/read/file", "-")


@pytest.fixture
def volume_name(docker: Docker, name: str) -> object:
    yield f"{name}-volume"
    docker("rm", "-f", name)
    docker("volume", "rm", f"{name}-volume")


# -- by the API ------------------------------------------------------------------------------------------------------


def test_the_header_tells_what_is_there(docker: Docker, wire: Wire, running: str) -> None:
    docker.ok("exec", running, "sh", "-c", "mkdir -m 1777 /d; echo 123 > /d/f; chmod 4755 /d/f; ln -s d/../d/f /l; "
              "ln -s /gone/x /broken; ln -s loop /loop; mkfifo /p")  # fmt: skip
    rows = {
        "/d": ("d", 1 << 31 | 1 << 20 | 0o777, ""),
        "/d/": ("d", 1 << 31 | 1 << 20 | 0o777, ""),
        "/d/.": (".", 1 << 31 | 1 << 20 | 0o777, ""),
        "/": ("/", 1 << 31 | 0o755, ""),
        "d/f": ("f", 1 << 23 | 0o755, ""),
        "/../../d/f": ("f", 1 << 23 | 0o755, ""),
        "/l": ("l", 1 << 27 | 0o777, "/d/f"),
        "/broken": ("broken", 1 << 27 | 0o777, "/gone/x"),
        "/p": ("p", 1 << 25 | 0o644, ""),
    }
    for path, (name, mode, target) in rows.items():
        answer = ask(wire, "HEAD", running, path)
        found = stat_of(answer)
        assert (answer.status, answer.body) == (200, b"")
        assert (found["name"], found["mode"], found["linkTarget"]) == (name, mode, target), path
        assert stat_of(ask(wire, "GET", running, path)) == found
    assert stat_of(ask(wire, "HEAD", running, "/d/f"))["size"] == 4
    assert ask(wire, "HEAD", running, "/nothing").status == 404
    assert ask(wire, "HEAD", running, "/loop").status == 400


def test_a_link_leads_where_the_kernel_would_follow_it(docker: Docker, wire: Wire, running: str) -> None:
    links = {"/a/c": "b", "/a/b/one": "../c/../x", "/two": "/a/b/one", "/up": "../../../../etc"}
    docker.ok("exec", running, "sh", "-c", "mkdir -p /a/b; " + "; ".join(f"ln -s {b} {a}" for a, b in links.items()))
    for path, target in {"/two": "/a/x", "/up": "/etc", "/a/c": "/a/b"}.items():
        found = stat_of(ask(wire, "HEAD", running, path))
        assert found["linkTarget"] == target, path


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "Could not find the file /nothing in container"),
        ("PUT", "/nothing", 404, "Could not find the file /nothing in container"),
        ("GET", "/etc/passwd/", 400, "Not a directory"),
        ("PUT", "/etc/passwd", 400, "extraction point is not a directory"),
        ("GET", "", 400, "path"),
        ("PUT", "", 400, "path"),
        ("GET", "/\0", 400, "zero byte"),
        ("GET", "/" + "x" * 300, 400, "File name too long"),
        ("GET", "/x" * 3000, 400, "File name too long"),
    ],
)
def test_paths_that_cannot_be_are_the_clients_fault(
    wire: Wire, running: str, method: str, path: str, status: int, message: str
) -> None:
    answer = ask(wire, method, running, path, b"" if method == "PUT" else None)
    assert (answer.status, message in answer.message) == (status, True), answer.body


def test_archives_are_decompressed_by_what_they_begin_with(wire: Wire, container: str) -> None:
    ways: dict[str, Callable[[bytes], bytes]] = {
        "plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }  # fmt: skip
    for name, compress in ways.items():
        assert put(wire, container, "/volume", compress(one_file(name, f"by {name}"))).status == 200
        assert content(wire, container, f"/volume/{name}") == f"by {name}".encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no tar" * 1000, "this is no tar archive"),
        (one_file()[:600], "ends in the middle"),
        (gzip.compress(one_file() * 100)[:-50], "compressed stream"),
        (b"\x1f\x8bnonsense", "compressed stream"),
    ],
)
def test_what_is_no_archive_is_told_so(wire: Wire, running: str, data: bytes, message: str) -> None:
    answer = put(wire, running, "/root", data)
    assert (answer.status, message in answer.message) == (400, True), answer.body


@pytest.mark.parametrize(
    ("there", "comes", "message"),
    [
        ("mkdir /root/x", one_file("x"), 'cannot overwrite directory "/root/x" with non-directory "/root"'),
        ("touch /root/x", one_file("x/y"), "Not a directory"),
    ],
)
def test_no_folder_gives_way_when_the_client_says_so(
    docker: Docker, wire: Wire, running: str, there: str, comes: bytes, message: str
) -> None:
    docker.ok("exec", running, "sh", "-c", there)
    answer = put(wire, running, "/root", comes, noOverwriteDirNonDir="true")
    assert (answer.status, message in answer.message) == (400, True), answer.body


def test_a_folder_does_not_take_the_place_of_a_file_either(docker: Docker, wire: Wire, running: str) -> None:
    tar = Tar()
    tar.folder("x")
    docker.ok("exec", running, "touch", "/root/x")
    answer = put(wire, running, "/root", tar.finish(), noOverwriteDirNonDir="1")
    assert answer.message == 'cannot overwrite non-directory "/root/x" with directory "/root"'
    assert put(wire, running, "/root", tar.finish()).status == 200
    docker.ok("exec", running, "test", "-d", "/root/x")


def test_folders_merge_and_files_are_replaced(docker: Docker, wire: Wire, container: str) -> None:
    first, second = Tar(), Tar()
    first.folder("d", 0o700)
    first.file("d/kept", "kept")
    first.file("d/file", "old")
    second.folder("d", 0o750)
    second.file("d/file", "new", 0o600)
    for tar in (first, second):
        assert put(wire, container, "/volume", tar.finish(), noOverwriteDirNonDir="true").status == 200
    found = {each.name: each for each in get(wire, container, "/volume/d")}
    assert sorted(found) == ["d", "d/file", "d/kept"]
    assert (found["d"].mode, found["d/file"].mode) == (0o750, 0o600)
    assert content(wire, container, "/volume/d/file") == b"new"


def test_the_folder_itself_keeps_what_it_is(docker: Docker, wire: Wire, running: str) -> None:
    tar = Tar()
    tar.folder("./", 0o777)
    assert put(wire, running, "/root", tar.finish()).status == 200
    assert docker.ok("exec", running, "stat", "-c", "%a", "/root") != "777"


def test_a_tar_says_all_that_there_is_to_say_of_a_file(docker: Docker, wire: Wire, running: str) -> None:
    tar, long = Tar(), "d/" + "long" * 50 + "/" + "name" * 40
    tar.folder("d")
    tar.file(long, "long", 0o4755)
    tar.special("d/link", tarfile.SYMTYPE, linkname="x" * 200, mode=0o777)
    tar.special("d/hard", tarfile.LNKTYPE, linkname=long)
    tar.special("d/fifo", tarfile.FIFOTYPE, mode=0o640)
    tar.special("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    tar.special("d/owned", tarfile.DIRTYPE, uid=4000000000, gid=3000000, mode=0o700)
    assert put(wire, running, "/root", tar.finish()).status == 200
    found = {each.name: each for each in get(wire, running, "/root/d")}
    first, second = found["d/hard"], found[long]
    assert (first.type, second.type, second.linkname) == (tarfile.REGTYPE, tarfile.LNKTYPE, "d/hard")
    assert (first.size, first.mode, first.mtime) == (4, 0o4755, 1704067200)
    assert found["d/link"].linkname == "x" * 200
    assert found["d/fifo"].type == tarfile.FIFOTYPE
    assert (found["d/null"].type, found["d/null"].devmajor, found["d/null"].devminor) == (tarfile.CHRTYPE, 1, 3)
    assert (found["d/owned"].uid, found["d/owned"].gid) == (4000000000, 3000000)


def test_the_same_files_give_the_same_bytes(docker: Docker, wire: Wire, running: str) -> None:
    docker.ok("exec", running, "sh", "-c", "mkdir /d; for i in $(seq 300); do echo $i > /d/$i; done")
    first = ask(wire, "GET", running, "/d").body
    assert first == ask(wire, "GET", running, "/d").body
    listed = [each.name for each in members(first)]
    assert listed == sorted(listed)


def test_whiteout_names_are_names_like_others(wire: Wire, running: str) -> None:
    for name in (".wh.file", ".wh..wh..opq", ".wh..wh.plnk"):
        assert put(wire, running, "/root", one_file(name)).status == 200
        assert content(wire, running, f"/root/{name}") == b"data"


def test_the_events_tell_of_both_directions(docker: Docker, wire: Wire, running: str) -> None:
    since = str(time.time())
    put(wire, running, "/root", one_file())
    get(wire, running, "/root/file")
    ask(wire, "HEAD", running, "/root/file")
    ask(wire, "GET", running, "/nothing")
    told = docker.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--filter", f"container={running}",
                     "--format", "{{.Action}}")  # fmt: skip
    assert told.split() == ["extract-to-dir", "archive-path"]


def test_old_clients_copy_by_a_post(engine_host: str, wire: Wire, running: str) -> None:
    old = Wire(engine_host, "1.24")
    answer = old.post(f"/containers/{running}/copy", {"Resource": "/etc/passwd"})
    assert answer.status == 200
    assert [each.name for each in members(answer.body)] == ["passwd"]
    assert old.post(f"/containers/{running}/copy", {"Resource": "/nothing"}).status == 404


def test_docker_py_copies(engine_host: str, container: str) -> None:
    client = docker_py.DockerClient(base_url=engine_host, timeout=60)
    one = client.containers.get(container)
    assert one.put_archive("/volume", one_file("by-python", "docker-py"))
    chunks, found = one.get_archive("/volume/by-python")
    assert (found["name"], found["size"]) == ("by-python", 9)
    assert [each.name for each in members(b"".join(chunks))] == ["by-python"]
    with pytest.raises(docker_py.errors.NotFound):
        one.get_archive("/nothing")
    client.close()


def test_mounts_are_seen_as_the_container_has_them(docker: Docker, image: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "sub" / "file").write_text("bound")
    docker.ok("create", "--name", name, "--network", "none", "-v", f"{tmp_path}/source:/a/b", "-v", "/a/b/sub/c", image)
    docker.ok("cp", str(tmp_path / "source" / "sub" / "file"), f"{name}:/a/b/sub/c/deep")
    assert [each.name for each in tmp_path.rglob("deep")] == []
    docker.ok("cp", f"{name}:/a/b", str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["sub", "sub/c", "sub/c/deep", "sub/file"]


def test_a_sparse_file_is_whole(docker: Docker, wire: Wire, running: str) -> None:
    docker.ok("exec", running, "truncate", "-s", "3M", "/root/sparse")
    assert content(wire, running, "/root/sparse") == bytes(3 << 20)


def test_a_socket_is_left_out(docker: Docker, wire: Wire, image: str, name: str, tmp_path: Path) -> None:
    docker.ok("run", "-d", "--name", name, "--network", "none", "-v", f"{tmp_path}:/d", image, "sleep", "1000")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert [each.name for each in get(wire, name, "/d")] == ["d"]


def test_modes_of_files_on_the_host_are_kept(docker: Docker, running: str, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("")
    (tmp_path / "tool").chmod(0o751)
    docker.ok("cp", str(tmp_path / "tool"), f"{running}:/root/")
    docker.ok("cp", f"{running}:/root/tool", str(tmp_path / "back"))
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o751


def test_folders_in_each_other_are_copied_however_many(docker: Docker, wire: Wire, running: str) -> None:
    path = "/root" + "/d" * 1000
    docker.ok("exec", running, "sh", "-c", f"mkdir -p {path}; cd {path}; touch end")
    assert get(wire, running, "/root/d")[-1].name == path.removeprefix("/root/") + "/end"
