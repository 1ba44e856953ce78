"""Volumes of the local driver with options: what they name is mounted while a container uses it, and no longer."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.volume_fixtures"]

Names = Callable[[], str]


def create(docker: Docker, name: str, **options: str) -> Path:
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    docker.ok("volume", "create", *words, name)
    return Path(docker.ok("volume", "inspect", "--format", "{{.Mountpoint}}", name))


def run(docker: Docker, *words: str) -> str:
    return docker.ok("run", "--rm", "--network", "none", *words)


def test_a_tmpfs_is_shared_while_it_is_used(docker: Docker, image: str, new_name: Names, volume: str) -> None:
    path = create(docker, volume, type="tmpfs", device="tmpfs", o="size=64k,mode=0750,uid=5,noexec")
    assert not os.path.ismount(path)
    one, two = new_name(), new_name()
    for name in (one, two):
        docker.ok("run", "-d", "--name", name, "--network", "none", "-v", f"{volume}:/x", image, "sleep", "1000")
    assert os.path.ismount(path)
    (line,) = (each for each in docker.ok("exec", one, "cat", "/proc/mounts").splitlines() if " /x " in each)
    assert {"size=64k", "mode=750", "uid=5", "noexec"} <= set(line.split()[3].split(","))
    docker.ok("exec", one, "touch", "/x/file")
    assert docker.ok("exec", two, "ls", "/x") == "file"
    docker.ok("rm", "-f", one)
    assert os.path.ismount(path)
    docker.ok("rm", "-f", two)
    assert not os.path.ismount(path)


def test_a_bind_device_is_the_folder_of_the_host(docker: Docker, image: str, volume: str, tmp_path: Path) -> None:
    path = create(docker, volume, type="none", device=str(tmp_path), o="bind")
    run(docker, "-v", f"{volume}:/x", image, "touch", "/x/file")
    assert os.listdir(tmp_path) == ["file"] and os.listdir(path) == []
    docker.ok("volume", "rm", volume)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.usefixtures("modern")
def test_removing_never_touches_what_is_mounted_there(docker: Docker, volume: str, tmp_path: Path) -> None:
    """Even where it was not us who mounted it."""
    (tmp_path / "file").touch()
    path = create(docker, volume)
    subprocess.run(["mount", "--bind", tmp_path, path], check=True)
    docker.ok("volume", "rm", volume)
    assert os.listdir(tmp_path) == ["file"] and not path.parent.exists()


def test_a_read_only_bind_device(docker: Docker, image: str, volume: str, tmp_path: Path) -> None:
    create(docker, volume, type="none", device=str(tmp_path), o="bind,ro")
    result = docker("run", "--rm", "-v", f"{volume}:/x", image, "touch", "/x/file")
    assert "Read-only file system" in result.err


def test_a_device_that_cannot_be_mounted_is_told(
    docker: Docker, image: str, name: str, volume: str, tmp_path: Path
) -> None:
    path = create(docker, volume, type="none", device=f"{tmp_path}/nosuch", o="bind")
    result = docker("create", "--name", name, "-v", f"{volume}:/x", image, "true")
    if result.code == 0:  # the image has nothing there to be copied
        result = docker("start", name)
    assert result.code and "failed to mount local volume: mount" in result.err
    assert f"{tmp_path}/nosuch:{path}" in result.err and "no such file or directory" in result.err
    assert not os.path.ismount(path)
    assert docker.ok("ps", "-aq", "--filter", f"name={name}", "--filter", "status=running") == ""


def test_options_are_given_by_mount_too(docker: Docker, image: str, volume: str) -> None:
    flag = f"--mount=type=volume,source={volume},target=/x,volume-label=a=1,volume-driver=local"
    flag += ',volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=64k,mode=700"'
    assert "size=64k,mode=700" in run(docker, flag, image, "grep", " /x ", "/proc/mounts")
    shown = docker.ok("volume", "inspect", "--format", "{{json .Options}} {{json .Labels}}", volume)
    assert shown == '{"device":"tmpfs","o":"size=64k,mode=700","type":"tmpfs"} {"a":"1"}'


def load(daemon: Daemon) -> Wire:
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", tag="latest")
    assert answer.status == 200, answer.body
    return daemon.wire


def test_what_is_mounted_is_found_again_by_the_next_daemon(new_daemon: Callable[..., Daemon]) -> None:
    """And unmounted, when its container has ended meanwhile."""
    daemon = new_daemon()
    wire = load(daemon)
    options = {"type": "tmpfs", "device": "tmpfs"}
    paths = {}
    for name in ("stays", "ends"):
        answer = wire.post("/volumes/create", {"Name": name, "DriverOpts": options})
        assert answer.status == 201
        paths[name] = answer.json["Mountpoint"]
        script = "sleep 1000" if name == "stays" else "while [ ! -e /x/stop ]; do usleep 1000; done"
        host = {"NetworkMode": "none", "Binds": [f"{name}:/x"]}
        body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host}
        assert wire.post("/containers/create", body, name=name).status == 201
        assert wire.post(f"/containers/{name}/start").status == 204
    daemon.kill()
    Path(paths["ends"], "stop").touch()
    pid_gone(daemon, wire)
    daemon.start()
    assert wire.post("/containers/ends/wait").json["StatusCode"] == 0
    assert wire.delete("/containers/ends").status == 204
    assert (os.path.ismount(paths["stays"]), os.path.ismount(paths["ends"])) == (True, False)
    assert wire.delete("/containers/stays", force=1).status == 204
    assert not os.path.ismount(paths["stays"])


def pid_gone(daemon: Daemon, wire: Wire) -> None:
    """Wait until a container's exit is on record, which needs no daemon."""
    while not any(daemon.exec_root.glob("containers/*/exit")):
        os.sched_yield()
