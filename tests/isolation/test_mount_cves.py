"""Public bugs of mounts and volumes, each tried on ours. See test_cves.py for what a canary is."""

import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker, Result
from tests.support.swap import swapping
from tests.support.volumes import Entry, special

from .conftest import SECRET

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.volume_fixtures"]

MakeImage = Callable[..., str]


def run(docker: Docker, *words: str) -> Result:
    return docker("run", "--rm", "--network", "none", *words)


def points(docker: Docker, name: str) -> dict[str, Any]:
    return {each["Destination"]: each for each in json.loads(docker.inspect(name, "{{json .Mounts}}"))}


def data(docker: Docker, volume: str) -> Path:
    return Path(docker.ok("volume", "inspect", "--format", "{{.Mountpoint}}", volume))


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bind", "volume", "tmpfs"])
def test_cve_2021_30465_a_target_that_is_swapped_for_a_link(
    docker: Docker, image: str, volume: str, canary: Path, tmp_path: Path, rounds: int, kind: str
) -> None:
    """And CVE-2024-45310: nothing is made on the host either, where the link leads.

    A volume that two containers share; while one starts, the other swaps a folder of its target's way for a link.
    """
    docker.ok("volume", "create", volume)
    shared = data(docker, volume)
    (shared / "way").mkdir()
    (shared / "link").symlink_to(canary)
    (tmp_path / "source").mkdir()
    flag = {
        "bind": ("-v", f"{tmp_path}/source:/v/way/made/target"),
        "volume": ("-v", "/v/way/made/target"),
        "tmpfs": ("--tmpfs", "/v/way/made/target"),
    }[kind]
    outcomes = set()
    with swapping(shared / "way", shared / "link"):
        for _ in range(max(10, rounds * 5)):
            result = run(docker, "-v", f"{volume}:/v", *flag, image, "sh", "-c", f"cat {canary}/secret")
            assert SECRET not in result.out
            assert sorted(canary.iterdir()) == [canary / "secret"]
            outcomes.add(result.code)
    assert outcomes <= {1, 125, 126, 127, 128}, outcomes  # `cat` found nothing, or the start was refused


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/self", "/proc/self/attr", "/proc/sys/kernel", "../../proc/self/attr"]
)
@pytest.mark.parametrize("kind", ["bind", "volume", "tmpfs", "image"])
def test_cve_2023_28642_a_link_that_leads_onto_procfs(
    docker: Docker, make_image: MakeImage, tmp_path: Path, kind: str, target: str
) -> None:
    """And CVE-2019-16884, CVE-2023-27561: by whatever name, nothing is mounted in /proc."""
    config = {"Volumes": {"/way": {}}} if kind == "image" else {}
    tag = make_image({"way": target}, **config)
    flags = {"bind": ["-v", f"{tmp_path}:/way"], "volume": ["-v", "/way"], "tmpfs": ["--tmpfs", "/way"], "image": []}
    result = run(docker, *flags[kind], tag, "cat", "/proc/mounts")
    assert result.code != 0 and "/way" in result.err and "inside /proc" in result.err, result


def test_cve_2023_27561_a_place_is_made_by_a_link_to_proc(docker: Docker, make_image: MakeImage) -> None:
    """A missing folder below it would be made in procfs, which cannot be; no message but that."""
    result = run(docker, "--tmpfs", "/way/new/folder", make_image({"way": "/proc"}), "true")
    assert result.code != 0 and "/way/new/folder" in result.err


def test_cve_2019_16884_volumes_of_an_image_inside_proc(docker: Docker, make_image: MakeImage) -> None:
    for path in ("/proc", "/proc/", "//proc/self", "/x/../proc/self/attr", "proc"):
        result = docker("create", make_image(Volumes={path: {}}))
        assert result.code != 0 and "cannot be mounted because it is inside /proc" in result.err, path


def test_a_volume_of_an_image_on_the_root_is_refused(docker: Docker, make_image: MakeImage) -> None:
    for path in ("/", "", "..", "/a/.."):
        result = docker("create", make_image(Volumes={path: {}}))
        assert result.code != 0 and "cannot be mounted over" in result.err, path


def test_cve_2026_41579_a_place_below_dev_is_a_link(
    docker: Docker, make_image: MakeImage, canary: Path, volume: str
) -> None:
    tag = make_image({"way": str(canary)})
    result = run(docker, "-v", f"{volume}:/way/new", "--tmpfs", "/way/other/more", tag, "ls", str(canary))
    assert SECRET not in result.out and "secret" not in result.out


# -- what an image has at a volume's place ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["canary", "../../../../../..canary", "dotted"])
def test_cve_2022_23648_the_image_asks_for_content_of_the_host(
    docker: Docker, make_image: MakeImage, canary: Path, name: str, target: str
) -> None:
    """Its VOLUME is a link to the host, or has `..` in its name: what is copied is the image's own, or nothing."""
    up = "../" * 12
    path = f"/{up}{canary}" if target == "dotted" else "/way"
    tag = make_image({"way": target.replace("canary", str(canary))}, Volumes={path: {}})
    docker.ok("create", "--name", name, tag)
    (found,) = points(docker, name).values()
    assert os.listdir(found["Source"]) == []
    assert SECRET not in docker("start", "-a", name).out


@pytest.mark.parametrize("part", ["folder", "file"])
def test_cve_2014_9356_links_in_the_content_stay_links(
    docker: Docker, make_image: MakeImage, canary: Path, volume: str, part: str
) -> None:
    """Absolute ones and with `..`: none is followed, neither where it is read nor where it is written."""
    way = str(canary) if part == "folder" else str(canary / "secret")
    content: dict[str, Entry] = {"srv": None, "srv/abs": way, "srv/up": "../" * 12 + way.lstrip("/"), "srv/z": b"z"}
    result = run(docker, "-v", f"{volume}:/srv", make_image(content), "cat", "/srv/z")
    assert result.out == "z"
    assert sorted(os.listdir(data(docker, volume))) == ["abs", "up", "z"]
    assert os.readlink(data(docker, volume) / "abs") == way


def test_what_is_copied_keeps_owners_modes_times_and_links(docker: Docker, make_image: MakeImage, volume: str) -> None:
    content: dict[str, Entry] = {
        "srv": special(tarfile.DIRTYPE, mode=0o2750, uid=70, gid=71, mtime=1000),
        "srv/file": special(mode=0o4755, uid=5, gid=6, mtime=2000, pax_headers={"SCHILY.xattr.user.kept": "yes"}),
        "srv/hard": special(tarfile.LNKTYPE, linkname="srv/file"),
        "srv/fifo": special(tarfile.FIFOTYPE, mode=0o600, uid=7),
        "srv/null": special(tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        "srv/link": special(tarfile.SYMTYPE, linkname="nowhere", uid=8),
    }
    assert run(docker, "-v", f"{volume}:/srv", make_image(content), "true").code == 0
    folder = data(docker, volume)
    found = {path.name: path.lstat() for path in folder.iterdir()}
    top = folder.stat()
    assert (stat.S_IMODE(top.st_mode), top.st_uid, top.st_gid, top.st_mtime) == (0o2750, 70, 71, 1000)
    file = found["file"]
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_mtime) == (0o4755, 5, 6, 2000)
    assert os.getxattr(folder / "file", "user.kept") == b"yes"
    assert (found["hard"].st_ino, file.st_nlink) == (file.st_ino, 2)
    assert stat.S_ISFIFO(found["fifo"].st_mode) and found["fifo"].st_uid == 7
    assert os.readlink(folder / "link") == "nowhere" and found["link"].st_uid == 8
    assert "null" not in found  # devices of an image are none of the host's


def test_cve_2014_9356_a_subpath_that_is_swapped_for_a_link(
    docker: Docker, image: str, volume: str, canary: Path, rounds: int
) -> None:
    """Also CVE-2023-24651's kind: the subpath is resolved once, beneath the volume, whatever it is just then."""
    docker.ok("volume", "create", volume)
    shared = data(docker, volume)
    (shared / "way").mkdir()
    (shared / "link").symlink_to(canary)
    flag = f"--mount=type=volume,source={volume},target=/x,volume-subpath=way"
    with swapping(shared / "way", shared / "link"):
        for _ in range(max(10, rounds * 5)):
            result = run(docker, flag, image, "sh", "-c", "cat /x/secret; touch /x/made")
            assert SECRET not in result.out
            assert sorted(canary.iterdir()) == [canary / "secret"]
