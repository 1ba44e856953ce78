"""Public bugs of `docker cp`, `commit` and `export`, each tried on ours. See test_cves.py for what a canary is.

An archive comes from a stranger, and so does what a container has made of its files; a client names only paths.
"""

import bz2
import contextlib
import gzip
import http.client
import io
import lzma
import os
import socket
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.cli import Docker
from tests.support.images import Tar, busybox_rootfs, docker_archive
from tests.support.shim import FILES
from tests.support.swap import swapping
from tests.support.wire import Answer, Wire

from .conftest import SECRET

pytestmark = pytest.mark.root

States = ("running", "exited", "created")


def ask(wire: Wire, method: str, name: str, path: str, body: bytes | None = None) -> Answer:
    target = f"/containers/{name}/archive?{urlencode({'path': path})}"
    return wire.request(method, target, body, headers={"Content-Type": "application/x-tar"})


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.fixture(params=States)
def container(docker: Docker, image: str, name: str, request: pytest.FixtureRequest) -> str:
    """Return the name of a container, in each state."""
    flags = ("--name", name, "--network", "none", "-v", "/volume")
    if request.param == "created":
        docker.ok("create", *flags, image, "sleep", "1000")
    else:
        docker.ok("run", "-d", *flags, image, "sleep", "1000")
    if request.param == "exited":
        docker.ok("stop", "-t", "0", name)
    return name


# -- archives --------------------------------------------------------------------------------------------------------

Corpus = Callable[[Tar, Path], None]


def file(tar: Tar, name: str) -> None:
    tar.file(name, "overwritten", 0o666)


def link_to(tar: Tar, name: str, target: Path | str) -> None:
    tar.link(name, str(target))


def hard(tar: Tar, name: str, target: Path | str) -> None:
    tar.special(name, tarfile.LNKTYPE, linkname=str(target))


def symlink_absolute(tar: Tar, canary: Path) -> None:
    link_to(tar, "way", canary)
    file(tar, "way/secret")


def symlink_upwards(tar: Tar, canary: Path) -> None:
    link_to(tar, "way", "../" * 30 + str(canary)[1:])
    file(tar, "way/secret")


def symlink_chain(tar: Tar, canary: Path) -> None:
    for number in range(20):
        link_to(tar, f"l{number}", f"l{number + 1}")
    link_to(tar, "l20", canary)
    file(tar, "l0/secret")


def symlink_in_place_of_a_file(tar: Tar, canary: Path) -> None:
    link_to(tar, "secret", canary / "secret")
    file(tar, "secret")


def hard_link_absolute(tar: Tar, canary: Path) -> None:
    hard(tar, "linked", canary / "secret")


def hard_link_upwards(tar: Tar, canary: Path) -> None:
    hard(tar, "linked", "../" * 30 + str(canary)[1:] + "/secret")


def hard_link_through_a_symlink(tar: Tar, canary: Path) -> None:
    link_to(tar, "way", canary)
    hard(tar, "linked", "way/secret")


def cve_2021_41089_hard_link_and_mode(tar: Tar, canary: Path) -> None:
    link_to(tar, "way", canary / "secret")
    hard(tar, "linked", "way")
    tar.file("linked", "overwritten", 0o4777)


def cve_2021_41089_a_folder_over_a_symlink(tar: Tar, canary: Path) -> None:
    link_to(tar, "way", canary)
    tar.folder("way", 0o4777)


def name_upwards(tar: Tar, canary: Path) -> None:
    file(tar, "../" * 30 + str(canary)[1:] + "/secret")


def name_absolute(tar: Tar, canary: Path) -> None:
    file(tar, str(canary / "secret"))


def cve_2025_4517_realpath_overflow(tar: Tar, canary: Path) -> None:
    """Python's tarfile: a chain so long that realpath(3) gives up and leaves the rest unresolved."""
    part, path = "d" * 240, ""
    for step in "abcdefghijklmnop":
        tar.folder(path + part)
        link_to(tar, path + step, part)
        path += f"{step}/"
    link_to(tar, path + "l" * 250, "../" * 16)
    link_to(tar, "escape", path + "l" * 250 + "/" + "../" * 20 + str(canary)[1:])
    hard(tar, "linked", "escape/secret")
    file(tar, "escape/secret")


CORPUS: list[Corpus] = [
    symlink_absolute, symlink_upwards, symlink_chain, symlink_in_place_of_a_file, hard_link_absolute, hard_link_upwards,
    hard_link_through_a_symlink, cve_2021_41089_hard_link_and_mode, cve_2021_41089_a_folder_over_a_symlink,
    name_upwards, name_absolute, cve_2025_4517_realpath_overflow,
]  # fmt: skip


@pytest.mark.parametrize("place", ["/root", "/volume"])
@pytest.mark.parametrize("spoil", CORPUS, ids=lambda spoil: spoil.__name__)
def test_cve_2026_17106_an_archive_ends_in_the_container(
    wire: Wire, container: str, canary: Path, spoil: Corpus, place: str
) -> None:
    """And CVE-2014-6407, CVE-2014-9356: whatever links it makes, nothing of the host is written, linked or seen."""
    tar = Tar()
    spoil(tar, canary)
    answer = ask(wire, "PUT", container, place, tar.finish())
    assert answer.status in (200, 400, 404), answer.body
    for path in (place, "/", str(canary)):
        assert SECRET.encode() not in ask(wire, "GET", container, path).body


@pytest.mark.parametrize("field", ["size", "uid"])
def test_cve_2025_8194_negative_numbers_are_refused(wire: Wire, container: str, field: str) -> None:
    tar = Tar()
    tar.file("file", "data")
    data = bytearray(tar.finish())
    at, width = {"size": (124, 12), "uid": (108, 8)}[field]
    data[at : at + width] = b"\xff" * (width - 1) + b"\xfe"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    answer = ask(wire, "PUT", container, "/root", bytes(data))
    assert (answer.status, "out of range" in answer.message) == (400, True), answer.body


def test_an_archive_larger_than_its_place_is_told(docker: Docker, wire: Wire, image: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, "--network", "none", "--tmpfs", "/small:size=1m", image, "sleep", "1000")
    tar = Tar()
    tar.file("large", bytes(8 << 20))
    answer = ask(wire, "PUT", name, "/small", gzip.compress(tar.finish()))
    assert (answer.status, "No space left on device" in answer.message) == (500, True), answer.body
    assert wire.get("/_ping").status == 200


def test_an_archive_without_an_end_is_left_by_its_sender(docker: Docker, wire: Wire, running: str) -> None:
    """Who goes away takes the helper along, and what came until then stays."""
    tar = Tar()
    tar.file("file", bytes(1 << 20))
    target = f"/containers/{running}/archive?path=/root"
    with contextlib.closing(raw(wire)) as sock:
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: d\r\nContent-Length: 999999999\r\n\r\n".encode())
        sock.sendall(tar.finish()[: 1 << 20])
        until(lambda: docker("exec", running, "test", "-f", "/root/file").code == 0)
    until(lambda: not helpers())
    docker.ok("exec", running, "test", "-f", "/root/file")


def raw(wire: Wire) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(wire.path)
    return sock


def tried(wire: Wire, name: str) -> int:
    """The status of a copy that may break off when the container goes: 0 then."""
    try:
        return ask(wire, "GET", name, "/etc").status
    except http.client.HTTPException:
        return 0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def helpers() -> list[int]:
    """Processes that look at a container's files."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and (folder / "cmdline").read_bytes().startswith(b"windlass-shim\0files\0"):
                found.append(int(folder.name))
    return found


# -- programs and libraries of the container -------------------------------------------------------------------------


def test_cve_2019_14271_nothing_of_the_container_is_run_or_loaded(
    docker: Docker, wire: Wire, new_tag: Callable[[], str], name: str
) -> None:
    """And CVE-2026-41567, CVE-2014-9357: decompressors, tar and libnss are there, and tell when they are used."""
    tag, tar = new_tag(), Tar()
    for program in ("gzip", "gunzip", "unpigz", "xz", "unxz", "bzip2", "zstd", "tar", "docker-untar", "docker-tar"):
        for folder in ("bin", "usr/bin", "usr/local/bin", "sbin"):
            tar.file(f"{folder}/{program}", "#!/bin/busybox sh\necho used > /TATTLE\n", 0o755)
    tar.file("etc/nsswitch.conf", "passwd: files evil\n")
    tar.file("etc/ld.so.preload", "/lib/evil.so\n")
    for library in ("libnss_files.so.2", "libnss_evil.so.2", "evil.so", "libc.so.6"):
        tar.file(f"lib/x86_64-linux-gnu/{library}", "no library", 0o755)
    archive = docker_archive([busybox_rootfs(), tar.finish()], tag)
    wire.post("/images/load", archive, headers={"Content-Type": "application/x-tar"})
    docker.ok("run", "-d", "--name", name, "--network", "none", "-u", "nobody", tag, "/bin/busybox", "sleep", "1000")
    content = Tar()
    content.file("file", "data")
    for compress in (bytes, gzip.compress, lzma.compress, bz2.compress):
        answer = ask(wire, "PUT", name, "/root", compress(content.finish()))
        assert answer.status == 200, answer.body
    docker.ok("cp", "-a", str(Path(__file__)), f"{name}:/root/")
    assert ask(wire, "GET", name, "/root").status == 200
    assert wire.get(f"/containers/{name}/export").status == 200
    assert "TATTLE" not in docker.ok("diff", name)


# -- races -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(docker: Docker, name: str, canary: Path) -> Iterator[Path]:
    """Give a volume of the container's as the host has it, with a folder and a link that change places all the time."""
    volume = f"{name}-volume"
    docker.ok("volume", "create", volume)
    folder = Path(docker.ok("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
    for way in ("way", "other"):
        (folder / way).mkdir()
        (folder / way / "secret").write_text("the container's")
    (folder / "link").symlink_to(canary)
    yield folder
    docker("rm", "-f", name)
    docker("volume", "rm", volume)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "created"])
def test_cve_2018_15664_a_folder_that_is_swapped_for_a_link(
    docker: Docker, wire: Wire, image: str, name: str, shared: Path, canary: Path, rounds: int, state: str
) -> None:
    """The container swaps a folder of the path for a link to the host's canary, while it is copied, both ways."""
    flags = ("--name", name, "--network", "none", "-v", f"{name}-volume:/v")
    docker.ok(*(("run", "-d") if state == "running" else ("create",)), *flags, image, "sleep", "1000")
    tar = Tar()
    tar.file("secret", "overwritten", 0o666)
    seen = set()
    with swapping(shared / "way", shared / "link"):
        for _ in range(max(30, rounds * 20)):
            for path in ("/v/way/secret", "/v/way", "/v", "/v/way/."):
                answer = ask(wire, "GET", name, path)
                assert SECRET.encode() not in answer.body
                seen.add(answer.status)
            seen.add(ask(wire, "PUT", name, "/v/way", tar.finish()).status)
    assert seen <= {200, 404, 400}
    assert 200 in seen


@pytest.mark.slow
def test_cve_2026_41568_the_place_of_a_mount_that_is_swapped_for_a_link(
    docker: Docker, wire: Wire, image: str, name: str, shared: Path, canary: Path, rounds: int
) -> None:
    """And CVE-2026-42306: the mounts of a stopped container are made for a copy, while their place is swapped.

    Nothing is made on the host where the link leads, nothing is mounted there, and no mount is left.
    """
    volume = f"{name}-volume"
    docker.ok("create", "--name", name, "--network", "none", "-v", f"{volume}:/v", "-v", "/v/way/made/target", image)
    tar = Tar()
    tar.file("file", "data")
    before, seen = mounts(), set()
    with swapping(shared / "way", shared / "link"):
        for _ in range(max(30, rounds * 20)):
            seen.add(ask(wire, "PUT", name, "/v/way/made/target", tar.finish()).status)
            answer = ask(wire, "GET", name, "/v/way/made/target")
            assert SECRET.encode() not in answer.body
            seen.add(answer.status)
    assert 200 in seen
    assert mounts() == before


@pytest.mark.slow
def test_a_file_that_is_swapped_for_a_fifo_a_device_or_a_link(
    docker: Docker, wire: Wire, image: str, name: str, shared: Path, canary: Path, rounds: int
) -> None:
    """A FIFO would hold a copy up for ever, a device act when it is opened: neither is read, and no link followed."""
    docker.ok("run", "-d", "--name", name, "--network", "none", "-v", f"{name}-volume:/v", image, "sleep", "1000")
    folder = shared / "way"
    for kind in ("fifo", "device", "symlink"):
        (folder / kind).write_text("a file")
    os.mkfifo(folder / "a")
    os.mknod(folder / "b", stat.S_IFCHR | 0o666, os.makedev(1, 8))
    (folder / "c").symlink_to(canary / "secret")
    with contextlib.ExitStack() as races:
        for one, other in (("fifo", "a"), ("device", "b"), ("symlink", "c")):
            races.enter_context(swapping(folder / one, folder / other))
        for _ in range(max(30, rounds * 20)):
            answer = ask(wire, "GET", name, "/v/way")
            assert answer.status == 200
            assert SECRET.encode() not in answer.body
            with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
                assert all(each.size < 100 for each in tar)


def test_a_container_that_goes_while_it_is_copied_hurts_nobody(
    docker: Docker, wire: Wire, image: str, new_name: Callable[[], str], rounds: int
) -> None:
    """Starts, ends and removals in between give an answer that can be understood, and leave nothing."""
    before = mounts()
    tar = Tar()
    tar.file("file", "data")
    for _ in range(rounds):
        name = new_name()
        docker.ok("create", "--name", name, "--network", "none", "-v", "/volume", image, "sleep", "1000")
        with docker.start("start", name) as start, docker.start("export", "-o", os.devnull, name) as export:
            for _ in range(5):
                assert ask(wire, "PUT", name, "/volume", tar.finish()).status in (200, 409)
                assert ask(wire, "GET", name, "/etc").status in (200, 409)
            with docker.start("rm", "-f", "-v", name) as removal:
                while (status := tried(wire, name)) != 404:
                    assert status in (0, 200, 409)
                assert removal.finish()[2] == 0
            start.finish()
            export.finish()
    until(lambda: not helpers())
    assert mounts() == before


# -- what the helper can do ------------------------------------------------------------------------------------------


def test_the_helper_can_do_no_more_than_it_must(tmp_path: Path) -> None:
    """Were it taken over by an archive, it could write files there, and nothing else."""
    (tmp_path / "place").mkdir()
    tar = Tar()
    tar.file("file", bytes(5000))
    pipe = subprocess.PIPE
    argv = [FILES, "files", "folder", tmp_path / "place", "put", "/", "-", "-1", "-1"]
    with subprocess.Popen(argv, stdin=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        process.stdin.write(tar.finish()[:2000])
        process.stdin.flush()
        until(lambda: (tmp_path / "place" / "file").exists())
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        spaces = {kind: Path(f"/proc/{process.pid}/ns/{kind}").readlink() for kind in ("mnt", "net", "ipc", "uts")}
        seen = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        process.kill()
    for name in ("CapEff", "CapPrm", "CapBnd"):  # CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETFCAP
        assert int(status[name], 16) == 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31, name
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapInh"], 16)) == ("1", "2", 0)
    assert all(link != Path(f"/proc/self/ns/{kind}").readlink() for kind, link in spaces.items())
    assert len(seen) == 1
    assert {"nosuid", "nodev", "noexec"} <= set(seen[0].split()[5].split(","))
