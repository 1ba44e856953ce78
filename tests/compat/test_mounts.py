"""Mounts of `docker run` by `-v`, `--mount` and `--tmpfs`: binds, tmpfs, images, subpaths, refusals."""

import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.volumes import Entry
from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.volume_fixtures"]

Names = Callable[[], str]
MakeImage = Callable[..., str]


def run(docker: Docker, *words: str) -> str:
    return docker.ok("run", "--rm", "--network", "none", *words)


def refused(docker: Docker, *words: str) -> str:
    result = docker("run", "--rm", "--network", "none", *words)
    assert result.code != 0, result
    return result.err.strip()


def mounts(docker: Docker, name: str) -> dict[str, Any]:
    return {each["Destination"]: each for each in json.loads(docker.inspect(name, "{{json .Mounts}}"))}


def options(docker: Docker, place: str, *words: str) -> set[str]:
    """Return the options of the mount on `place` as the container sees them."""
    for line in run(docker, *words, "cat", "/proc/mounts").splitlines():
        if line.split()[1] == place:
            return set(line.split()[3].split(","))
    raise AssertionError(f"nothing is mounted on {place}")


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A folder with a mount in it, on a mount of its own that is private."""
    top = tmp_path / "top"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", top], check=True)
    subprocess.run(["mount", "--make-private", top], check=True)
    (top / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", top / "below"], check=True)
    yield top
    subprocess.run(["umount", "-R", top], check=True)


# -- binds -----------------------------------------------------------------------------------------------------------

BINDS = ["-v={}:/x", "--mount=type=bind,source={},target=/x"]


@pytest.mark.parametrize("flag", BINDS)
def test_a_folder_and_a_file_can_be_bound(docker: Docker, image: str, tmp_path: Path, flag: str) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    run(docker, flag.format(tmp_path), image, "sh", "-c", "echo new >/x/file")
    assert run(docker, flag.format(file), image, "cat", "/x") == file.read_text().strip() == "new"


def test_a_socket_can_be_bound(docker: Docker, image: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert run(
            docker, "-v", f"{tmp_path}/s:/var/run/some.sock", image, "sh", "-c", "test -S /run/some.sock; echo $?"
        )


@pytest.mark.parametrize("flag", ["-v={}:/x:ro", "--mount=type=bind,source={},target=/x,readonly"])
@pytest.mark.usefixtures("modern")
def test_read_only_is_recursive(docker: Docker, image: str, nested: Path, flag: str) -> None:
    words = (flag.format(nested), image, "sh", "-c", "touch /x/a; touch /x/below/a")
    assert refused(docker, *words).count("Read-only file system") == 2


@pytest.mark.parametrize(
    ("flag", "below"),
    [
        ("bind-recursive=writable", "rw"),
        ("bind-recursive=readonly,bind-propagation=rprivate", "ro"),
        ("bind-recursive=enabled", "ro"),
    ],
)
@pytest.mark.usefixtures("modern", "modern_cli")
def test_bind_recursive(docker: Docker, image: str, nested: Path, flag: str, below: str) -> None:
    words = (f"--mount=type=bind,source={nested},target=/x,readonly,{flag}", image)
    assert "ro" in options(docker, "/x", *words)
    assert below in options(docker, "/x/below", *words)


@pytest.mark.usefixtures("modern_cli")
def test_bind_recursive_disabled_leaves_out_what_is_mounted_below(docker: Docker, image: str, nested: Path) -> None:
    (nested / "below/file").touch()
    words = [image, "ls", "/x/below"]
    assert run(docker, f"--mount=type=bind,source={nested},target=/x", *words) == "file"
    assert run(docker, f"--mount=type=bind,source={nested},target=/x,bind-recursive=disabled", *words) == ""


def test_a_missing_source_is_made_for_v_and_refused_for_mount(docker: Docker, image: str, tmp_path: Path) -> None:
    missing = tmp_path / "a/b"
    said = refused(docker, f"--mount=type=bind,source={missing},target=/x", image)
    assert f'invalid mount config for type "bind": bind source path does not exist: {missing}' in said
    assert not missing.exists()
    run(docker, "-v", f"{missing}:/x", image, "touch", "/x/file")
    assert (missing / "file").exists()


@pytest.mark.usefixtures("modern")
def test_create_mountpoint(wire: Wire, image: str, name: str, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": f"{tmp_path}/made", "Target": "/x", "BindOptions": {"CreateMountpoint": True}}
    body = {"Image": image, "Cmd": ["true"], "HostConfig": {"Mounts": [mount], "NetworkMode": "none"}}
    assert wire.post("/containers/create", body, name=name).status == 201
    assert wire.post(f"/containers/{name}/start").status == 204
    assert (tmp_path / "made").is_dir()
    assert wire.get(f"/containers/{name}/json").json["HostConfig"]["Mounts"] == [mount]


def test_a_source_that_is_gone_at_the_start_is_named(docker: Docker, image: str, name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    docker.ok("create", "--name", name, f"--mount=type=bind,source={source},target=/x", image, "true")
    source.rmdir()
    result = docker("start", name)
    assert result.code
    assert f'invalid mount config for type "bind": bind source path does not exist: {source}' in result.err


def test_a_folder_on_a_file_is_refused_and_named(docker: Docker, image: str, tmp_path: Path) -> None:
    said = refused(docker, "-v", f"{tmp_path}:/etc/passwd", image, "true")
    assert "Are you trying to mount a directory onto a file (or vice-versa)?" in said and str(tmp_path) in said


def test_mounts_below_mounts_come_after_them(docker: Docker, image: str, tmp_path: Path, volume: str) -> None:
    """In whatever order they are given."""
    (tmp_path / "file").touch()
    words = ["-v", f"{tmp_path}:/a/b/c", "--tmpfs", "/a/b", "-v", f"{volume}:/a", image]
    assert run(docker, *words, "ls", "/a", "/a/b", "/a/b/c") == "/a:\nb\n\n/a/b:\nc\n\n/a/b/c:\nfile"


def test_labels_of_selinux_and_consistency_are_kept_without_effect(
    docker: Docker, image: str, name: str, tmp_path: Path
) -> None:
    docker.ok("create", "--name", name, "-v", f"{tmp_path}:/x:Z,cached,ro", image)
    assert mounts(docker, name)["/x"] == {
        "Type": "bind", "Source": str(tmp_path), "Destination": "/x", "Mode": "Z,cached,ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip


# -- propagation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(nested: Path) -> Path:
    subprocess.run(["mount", "--make-rshared", nested], check=True)
    return nested


def mount_inside(docker: Docker, name: str, place: str) -> bool:
    docker.ok("exec", name, "sh", "-c", f"mkdir -p {place} && mount -t tmpfs tmpfs {place}")
    return any(line.split()[1] == place for line in docker.ok("exec", name, "cat", "/proc/mounts").splitlines())


def is_mounted(path: Path) -> bool:
    return os.path.ismount(path)


@pytest.mark.parametrize(
    ("propagation", "out", "into"),
    [
        ("", False, False),
        ("private", False, False),
        ("rprivate", False, False),
        ("slave", False, True),
        ("rslave", False, True),
        ("shared", True, True),
        ("rshared", True, True),
    ],
)
@pytest.mark.parametrize("by_mount", [False, True], ids=["v", "mount"])
def test_propagation(
    docker: Docker, image: str, name: str, shared: Path, propagation: str, out: bool, into: bool, by_mount: bool
) -> None:
    """`out`: the host sees what the container mounts, `into`: the other way round."""
    if by_mount:
        option = f",bind-propagation={propagation}" if propagation else ""
        flags = ["--mount", f"type=bind,source={shared},target=/x{option}"]
    else:
        flags = ["-v", f"{shared}:/x" + (f":{propagation}" if propagation else "")]
    flags += ["--network", "none", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]
    docker.ok("run", "-d", "--name", name, *flags, image, "sleep", "1000")
    assert mounts(docker, name)["/x"]["Propagation"] == (propagation or "rprivate")
    assert mount_inside(docker, name, "/x/inner")
    assert is_mounted(shared / "inner") == out
    (shared / "outer").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "outer"], check=True)
    assert (" /x/outer " in docker.ok("exec", name, "cat", "/proc/mounts")) == into


@pytest.mark.parametrize("below", [False, True])
def test_the_data_root_is_a_slave_by_default(docker: Docker, image: str, name: str, below: bool) -> None:
    """Whether the host can have it so or not: what is unmounted there is not to be kept by a container."""
    root = Path(docker.ok("info", "--format", "{{.DockerRootDir}}"))
    docker.ok("create", "--name", name, "-v", f"{root / 'containers' if below else root.parent}:/x:ro", image, "true")
    assert mounts(docker, name)["/x"]["Propagation"] == "rslave"
    docker.ok("start", "-a", name)


@pytest.mark.parametrize(("propagation", "kind"), [("shared", "a shared mount"), ("rslave", "a shared or slave mount")])
def test_propagation_is_refused_where_the_source_has_none(
    docker: Docker, image: str, nested: Path, propagation: str, kind: str
) -> None:
    said = refused(docker, "-v", f"{nested}/below:/x:{propagation}", image, "true")
    assert f"path {nested}/below is mounted on {nested}/below but it is not {kind}" in said


# -- tmpfs -----------------------------------------------------------------------------------------------------------


def test_tmpfs_has_dockers_defaults(docker: Docker, image: str) -> None:
    assert {"rw", "nosuid", "nodev", "noexec"} <= options(docker, "/x", "--tmpfs", "/x", image)
    assert {"rw", "nosuid", "nodev", "noexec"} <= options(docker, "/x", "--mount=type=tmpfs,target=/x", image)


def test_tmpfs_options(docker: Docker, image: str) -> None:
    found = options(docker, "/x", "--tmpfs", "/x:size=64k,mode=1750,uid=5,gid=6,exec,ro,suid,nr_inodes=10", image)
    assert {"size=64k", "mode=1750", "uid=5", "gid=6", "ro", "nodev", "nr_inodes=10"} <= found
    assert not {"noexec", "nosuid"} & found
    words = "--mount=type=tmpfs,target=/x,tmpfs-size=128k,tmpfs-mode=0700,readonly"
    assert {"size=128k", "mode=700", "ro"} <= options(docker, "/x", words, image)


@pytest.mark.usefixtures("modern")
def test_tmpfs_options_of_the_api(docker: Docker, wire: Wire, image: str, name: str) -> None:
    settings = {"SizeBytes": 65536, "Mode": 0o700, "Options": [["exec"]]}
    mount = {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": settings}
    body = {"Image": image, "Cmd": ["cat", "/proc/mounts"], "HostConfig": {"Mounts": [mount], "NetworkMode": "none"}}
    assert wire.post("/containers/create", body, name=name).status == 201
    assert mounts(docker, name)["/x"] == {
        "Type": "tmpfs", "Source": "", "Destination": "/x", "Mode": "", "RW": True, "Propagation": ""
    }  # fmt: skip
    (line,) = (each for each in docker.ok("start", "-a", name).splitlines() if each.split()[1] == "/x")
    assert {"size=64k", "mode=700"} <= set(line.split()[3].split(",")) and "noexec" not in line


def test_a_tmpfs_has_the_mode_of_what_it_covers(docker: Docker, make_image: MakeImage) -> None:
    image = make_image({"srv": None})
    assert run(docker, "--tmpfs", "/srv", "--tmpfs", "/new", image, "stat", "-c", "%a", "/srv", "/new") == "755\n1777"


# -- images and subpaths ---------------------------------------------------------------------------------------------

CONTENT: dict[str, Entry] = {"srv": None, "srv/file": b"hello", "srv/out": "/etc", "srv/in": "deep", "srv/deep/f": b"f"}


@pytest.mark.usefixtures("modern")
def test_an_image_is_mounted_read_only(docker: Docker, image: str, name: str, make_image: MakeImage) -> None:
    other = make_image(CONTENT)
    flag = f"--mount=type=image,source={other},target=/image"
    assert run(docker, flag, image, "cat", "/image/srv/file") == "hello"
    assert "Read-only" in refused(docker, flag, image, "touch", "/image/x")
    docker.ok("create", "--name", name, flag, image, "cat", "/image/srv/file")
    id = docker.ok("image", "inspect", "--format", "{{.Id}}", other)
    assert mounts(docker, name)["/image"] == {
        "Type": "image", "Name": other, "Source": id, "Destination": "/image", "Mode": "", "RW": False,
        "Propagation": "",
    }  # fmt: skip
    assert "is using its referenced image" in docker("rmi", other).err
    docker.ok("rmi", "-f", other)
    assert docker.ok("start", "-a", name) == "hello"


@pytest.mark.usefixtures("modern", "modern_cli")
def test_the_subpath_of_an_image(docker: Docker, image: str, make_image: MakeImage) -> None:
    flag = f"--mount=type=image,source={make_image(CONTENT)},target=/x,image-subpath="
    assert run(docker, f"{flag}srv/deep", image, "ls", "/x") == "f"
    assert run(docker, f"{flag}srv/in/f", image, "cat", "/x") == "f"
    assert "invalid cross-device link" in refused(docker, f"{flag}srv/out", image, "true").lower()
    assert "no such file or directory" in refused(docker, f"{flag}nosuch", image, "true")


@pytest.mark.usefixtures("modern")
def test_an_image_that_is_not_there(wire: Wire, image: str) -> None:
    mount = {"Type": "image", "Source": "no/such", "Target": "/x"}
    answer = wire.post("/containers/create", {"Image": image, "HostConfig": {"Mounts": [mount]}})
    assert (answer.status, answer.message) == (404, "No such image: no/such:latest")


@pytest.mark.usefixtures("modern", "modern_cli")
def test_the_subpath_of_a_volume(docker: Docker, image: str, name: str, volume: str) -> None:
    script = "mkdir -p /v/a/b; echo hello >/v/a/b/file; ln -s a/b /v/link; ln -s /etc /v/out; ln -s ../.. /v/up"
    run(docker, "-v", f"{volume}:/v", image, "sh", "-c", script)
    flag = f"--mount=type=volume,source={volume},target=/x,volume-subpath="
    assert run(docker, f"{flag}a/b", image, "cat", "/x/file") == "hello"
    assert run(docker, f"{flag}a/b/file", image, "cat", "/x") == "hello"
    assert run(docker, f"{flag}link", image, "cat", "/x/file") == "hello"
    run(docker, f"{flag}a", image, "touch", "/x/new")
    assert "Read-only" in refused(docker, f"{flag}a,readonly", image, "touch", "/x/other")
    for outside in ("out", "up", "up/x"):
        assert "error mounting" in refused(docker, f"{flag}{outside}", image, "true")
    assert "no such file or directory" in refused(docker, f"{flag}nosuch", image, "true")
    assert run(docker, "-v", f"{volume}:/v", image, "ls", "/v/a") == "b\nnew"


# -- refusals --------------------------------------------------------------------------------------------------------

CONFIG = 'invalid mount config for type "{}": '
ROOT = "invalid specification: destination can't be '/'"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Binds": ["/tmp:/x", "/tmp:/x/"]}, "Duplicate mount point: /x"),
        ({"Binds": ["/tmp:/x"], "Mounts": [{"Type": "tmpfs", "Target": "/x"}]}, "Duplicate mount point: /x"),
        ({"Binds": ["/tmp:/x"], "Tmpfs": {"/x": ""}}, "Duplicate mount point: /x"),
        ({"Binds": ["/tmp:/x:what"]}, "invalid mode: what"),
        ({"Binds": ["/tmp:/x:ro,rw"]}, "invalid mode: ro,rw"),
        ({"Binds": ["/tmp:/x:shared,slave"]}, "invalid mode: shared,slave"),
        ({"Binds": ["/tmp:/x:ro:more"]}, "invalid volume specification: '/tmp:/x:ro:more'"),
        ({"Binds": [":/x"]}, "invalid volume specification: ':/x'"),
        ({"Binds": ["/x:ro"]}, "invalid volume specification: '/x:ro'"),
        ({"Binds": ["/tmp:/"]}, ROOT),
        ({"Binds": ["/tmp:x"]}, "invalid mount path: 'x' mount path must be absolute"),
        ({"Binds": ["name:/x:shared"]}, 'for type "volume": field BindOptions must not be specified'),
        ({"Binds": ["/tmp:/x:nocopy"]}, 'for type "bind": field VolumeOptions must not be specified'),
        ({"Binds": ["a:/x"]}, "create a: volume name is too short"),
        ({"Binds": ["../up:/x"]}, "includes invalid characters for a local volume name"),
        ({"Binds": ["/tmp:/proc"]}, '"/proc" cannot be mounted because it is inside /proc'),
        ({"Binds": ["/tmp:/a/../proc/self"]}, '"/proc/self" cannot be mounted because it is inside /proc'),
        ({"Mounts": [{"Type": "what", "Target": "/x"}]}, CONFIG.format("what") + "mount type unknown"),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp"}]}, CONFIG.format("bind") + "field Target must not be empty"),
        ({"Mounts": [{"Type": "bind", "Target": "/x"}]}, CONFIG.format("bind") + "field Source must not be empty"),
        ({"Mounts": [{"Type": "bind", "Source": "tmp", "Target": "/x"}]}, "mount path must be absolute"),
        ({"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]}, "bind source path does not exist"),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/"}]}, CONFIG.format("bind") + ROOT),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {}}]},
         CONFIG.format("bind") + "field VolumeOptions must not be specified"),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": {"Propagation": "what"}}]},
         CONFIG.format("bind") + "invalid propagation mode: what"),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/x",
                      "BindOptions": {"ReadOnlyNonRecursive": True, "ReadOnlyForceRecursive": True}}]},
         "mount options conflict"),
        ({"Mounts": [{"Type": "volume", "Target": "/x", "ReadOnly": True}]},
         CONFIG.format("volume") + "must not set ReadOnly mode when using anonymous volumes"),
        ({"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}}]},
         CONFIG.format("volume") + "must not set Subpath when using anonymous volumes"),
        ({"Mounts": [{"Type": "volume", "Source": "name", "Target": "/x", "VolumeOptions": {"Subpath": "a/../../b"}}]},
         CONFIG.format("volume") + "subpath must be a relative path within the volume"),
        ({"Mounts": [{"Type": "volume", "Source": "name", "Target": "/x", "VolumeOptions": {"Subpath": "/a"}}]},
         CONFIG.format("volume") + "subpath must be a relative path within the volume"),
        ({"Mounts": [{"Type": "volume", "Source": "name", "Target": "/x", "BindOptions": {}}]},
         CONFIG.format("volume") + "field BindOptions must not be specified"),
        ({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/x"}]},
         CONFIG.format("tmpfs") + "field Source must not be specified"),
        ({"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["size", "1"]]}}]},
         CONFIG.format("tmpfs") + "invalid option: size"),
        ({"Mounts": [{"Type": "image", "Target": "/x"}]}, CONFIG.format("image") + "field Source must not be empty"),
        ({"Mounts": [{"Type": "image", "Source": "x", "Target": "/x", "ImageOptions": {"Subpath": ".."}}]},
         CONFIG.format("image") + "subpath must be a relative path"),
        ({"Tmpfs": {"/x": "what=1"}}, 'invalid tmpfs option ["what" "1"]'),
        ({"Tmpfs": {"/x": "what"}}, 'invalid tmpfs option ["what"]'),
        ({"Tmpfs": {"x": ""}}, "mount path must be absolute"),
        ({"VolumesFrom": ["no-such"]}, "No such container: no-such"),
        ({"VolumesFrom": [""]}, "volumes-from specification cannot be an empty string"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("modern")
def test_what_cannot_be_is_a_400_and_leaves_nothing(
    wire: Wire, image: str, name: str, host: dict[str, object], message: str
) -> None:
    volumes = wire.get("/volumes").json
    answer = wire.post("/containers/create", {"Image": image, "HostConfig": host}, name=name)
    assert (answer.status, message in answer.message) == (400, True), answer.body
    assert wire.get(f"/containers/{name}/json").status == 404
    assert wire.get("/volumes").json == volumes


def test_a_device_node_is_bound_as_it_is(docker: Docker, image: str) -> None:
    assert stat.S_ISCHR(Path("/dev/zero").stat().st_mode)
    assert run(docker, "-v", "/dev/zero:/dev/null0", image, "sh", "-c", "test -c /dev/null0 && echo yes") == "yes"


def test_a_source_that_cannot_be_made_is_named(docker: Docker, image: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused(docker, "-v", f"{tmp_path}/file/below:/x", image, "true")
    assert f"error while creating mount source path '{tmp_path}/file/below': mkdir {tmp_path}/file/below" in said


@pytest.mark.usefixtures("modern")
def test_an_image_with_too_many_volumes_is_refused_and_leaves_none(
    docker: Docker, image: str, make_image: MakeImage
) -> None:
    before = docker.ok("volume", "ls", "-q")
    many = make_image(Volumes={f"/v{number}": {} for number in range(1000)})
    assert "a container can have 96 mounts, not 1000" in refused(docker, many, "true")
    assert docker.ok("volume", "ls", "-q") == before
    flags = [word for number in range(96) for word in ("--tmpfs" if number % 2 else "-v", f"/v{number}")]
    assert run(docker, *flags, image, "grep", "-c", " /v[0-9]* ", "/proc/mounts") == "96"


def test_a_read_only_root_does_not_make_its_mounts_read_only(docker: Docker, image: str, volume: str) -> None:
    """Places that are missing are made all the same: the root becomes read-only last."""
    words = ["--read-only", "-v", f"{volume}:/a/b", "-v", "/c", "--tmpfs", "/d", image]
    assert run(docker, *words, "sh", "-c", "touch /a/b/x /c/x /d/x; touch /x || echo refused").endswith("refused")
