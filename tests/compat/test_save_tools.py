"""What other tools make of an archive that windlass saved, and windlass of theirs: skopeo and umoci, from Debian."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.images import Tar, busybox_rootfs, docker_archive, oci_layout
from tests.support.packages import skopeo, umoci

pytestmark = pytest.mark.root


def upper() -> bytes:
    """A layer that adds, changes and deletes."""
    tar = Tar()
    tar.folder("test")
    tar.file("test/program", b"\0\1\2" * 50_000, mode=0o4755)
    tar.link("test/link", "../bin/busybox")
    tar.file("etc/group", "root:x:0:\n", mode=0o600)
    tar.file("bin/.wh.vi", "")
    return tar.finish()


def copy(source: str, target: str) -> None:
    argv, environment = skopeo()
    done = subprocess.run([*argv, "copy", source, target], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["plain", "gzip"])
def saved(request: pytest.FixtureRequest, docker: Docker, tag: str, tmp_path: Path) -> Path:
    """An archive that was saved, of layers that came plain or compressed."""
    docker.ok("load", input=oci_layout([busybox_rootfs(), upper()], tag, request.param))
    docker.ok("save", "-o", str(tmp_path / "saved.tar"), tag)
    return tmp_path / "saved.tar"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_was_saved(docker: Docker, saved: Path, tag: str, tmp_path: Path, form: str) -> None:
    name = tag if form == "docker-archive" else tag.rpartition(":")[2]
    copy(f"{form}:{saved}:{name}", f"oci:{tmp_path}/copy:again")
    index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    manifest = blob(tmp_path / "copy", index["manifests"][0]["digest"])
    config = blob(tmp_path / "copy", manifest["config"]["digest"])
    found = json.loads(docker.ok("inspect", tag))[0]
    assert config["rootfs"]["diff_ids"] == found["RootFS"]["Layers"]
    if form == "oci-archive":  # the other is converted by skopeo, which writes the configuration anew
        assert manifest["config"]["digest"] == found["Id"]


def blob(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes())


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded(docker: Docker, new_tag: Callable[[], str], tmp_path: Path, form: str) -> None:
    first, second = new_tag(), new_tag()
    (tmp_path / "one.tar").write_bytes(docker_archive([busybox_rootfs(), upper()], first))
    copy(f"docker-archive:{tmp_path}/one.tar:{first}", f"{form}:{tmp_path}/two.tar:{second}")
    out = docker.ok("load", "-i", str(tmp_path / "two.tar"))
    assert out.endswith(f"Loaded image: {second}")
    assert docker.ok("run", "--rm", "--network", "none", second, "cat", "/etc/group") == "root:x:0:"


def test_umoci_unpacks_what_was_saved_byte_for_byte(docker: Docker, saved: Path, tag: str, tmp_path: Path) -> None:
    """Compared with what a container sees, told by the tar in it."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    subprocess.run(["tar", "-xf", saved, f"--one-top-level={layout}"], check=True)
    image = f"{layout}:{tag.rpartition(':')[2]}"
    done = subprocess.run([umoci(), "unpack", "--image", image, bundle], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    folders = ["bin", "etc", "home", "root", "test", "tmp", "usr", "var"]
    command = ["tar", "-c", "-C", "/", *folders]
    seen = of_tar(docker("run", "--rm", "--network", "none", tag, *command).raw)
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):  # the container's own
        seen.pop(name, None)
    found = of_folder(bundle / "rootfs", folders)
    assert found.pop("etc")[1:] == seen.pop("etc")[1:]
    assert found == seen and len(found) > 50


def of_tar(data: bytes) -> dict[str, tuple[Any, ...]]:
    """By name: content, mode, owner, time."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for info in tar:
            same = tar.getmember(info.linkname) if info.islnk() else info
            file = tar.extractfile(same) if same.isreg() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else same.linkname
            found[info.name] = (content, 0o777 if info.issym() else same.mode, same.uid, same.gid)
        return found


def of_folder(root: Path, folders: list[str]) -> dict[str, tuple[Any, ...]]:
    found = {}
    for path in [root / each for each in folders] + [path for each in folders for path in (root / each).rglob("*")]:
        info = path.lstat()
        content = ""
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(root))] = (content, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    return found
