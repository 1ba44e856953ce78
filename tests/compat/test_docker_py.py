"""The same runs through docker-py, which hijacks, streams and reads errors in its own way."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker as docker_py
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from tests.support.images import busybox_rootfs, docker_archive, layer

pytestmark = pytest.mark.root

NONE = {"network_mode": "none"}


@pytest.fixture(scope="module")
def client(engine_host: str, image: str) -> Iterator[Any]:
    """Return a docker-py client that has negotiated its version with the engine."""
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture
def sleeper(client: Any, image: str, name: str) -> Any:
    """Return a running container."""
    return client.containers.run(image, ["sleep", "60"], name=name, detach=True, **NONE)


def test_ping_version_and_info(client: Any) -> None:
    assert client.ping() is True
    assert client.version()["Os"] == "linux"
    assert client.info()["OSType"] == "linux"


def test_run_returns_the_output(client: Any, image: str) -> None:
    assert client.containers.run(image, ["echo", "hi"], remove=True, **NONE) == b"hi\n"


def test_run_raises_on_a_bad_exit_code(client: Any, image: str, name: str) -> None:
    with pytest.raises(ContainerError) as caught:
        client.containers.run(image, ["sh", "-c", "echo why >&2; exit 3"], name=name, **NONE)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"why\n")


def test_run_detached_and_its_life(client: Any, image: str, name: str) -> None:
    container = client.containers.run(image, ["sleep", "60"], name=name, detach=True, **NONE)
    assert container.name == name
    container.reload()
    assert (container.status, container.image.tags) == ("running", [f"{image}:latest"])
    assert container in client.containers.list(filters={"name": name})
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(NotFound, match="No such container"):
        client.containers.get(name)


def test_stop_start_restart(client: Any, sleeper: Any) -> None:
    sleeper.restart(timeout=0)
    sleeper.reload()
    assert sleeper.status == "running"
    sleeper.stop(timeout=0)
    sleeper.reload()
    assert (sleeper.status, sleeper.attrs["State"]["ExitCode"]) == ("exited", 137)
    sleeper.start()
    sleeper.reload()
    assert sleeper.status == "running"


def test_wait_gives_the_exit_code(client: Any, image: str, name: str) -> None:
    container = client.containers.run(image, ["sh", "-c", "exit 9"], name=name, detach=True, **NONE)
    assert container.wait()["StatusCode"] == 9
    assert container.wait(condition="not-running")["StatusCode"] == 9


def test_exec_run(client: Any, sleeper: Any) -> None:
    """What is written waits a moment: docker-py reads the socket under a buffer, and loses what came with the head."""
    late = "usleep 100000; "
    assert tuple(sleeper.exec_run(["sh", "-c", f"{late}echo out; exit 4"])) == (4, b"out\n")
    code, (out, err) = sleeper.exec_run(["sh", "-c", f"{late}echo out; echo err >&2"], demux=True)
    assert (code, out, err) == (0, b"out\n", b"err\n")
    assert sleeper.exec_run(["sh", "-c", f"{late}pwd"], workdir="/tmp", user="nobody").output == b"/tmp\n"
    assert sleeper.exec_run(["sh", "-c", f"{late}echo $A"], environment={"A": "1"}).output == b"1\n"


def test_exec_run_streams(client: Any, sleeper: Any) -> None:
    _, stream = sleeper.exec_run(["seq", "3"], stream=True)
    assert b"".join(stream) == b"1\n2\n3\n"


def test_exec_run_on_a_socket_takes_input(client: Any, sleeper: Any) -> None:
    _, holder = sleeper.exec_run(["head", "-n1"], stdin=True, socket=True, tty=True)
    raw = getattr(holder, "_sock", holder)
    raw.settimeout(20)
    raw.sendall(b"typed\n")
    seen = b""
    while data := raw.recv(4096):
        seen += data
    assert seen == b"typed\r\ntyped\r\n"
    holder.close()


def test_exec_resize_and_inspect(client: Any, sleeper: Any) -> None:
    id = client.api.exec_create(sleeper.id, ["sh", "-c", "read x; stty size"], stdin=True, tty=True)["Id"]
    holder = client.api.exec_start(id, socket=True, tty=True)
    raw = getattr(holder, "_sock", holder)
    raw.settimeout(20)
    client.api.exec_resize(id, height=31, width=71)
    raw.sendall(b"\n")
    seen = b""
    while data := raw.recv(4096):
        seen += data
    assert b"31 71" in seen
    assert client.api.exec_inspect(id)["ExitCode"] == 0
    holder.close()


def test_logs(client: Any, image: str, name: str) -> None:
    container = client.containers.run(image, ["seq", "5"], name=name, detach=True, **NONE)
    container.wait()
    assert container.logs() == b"1\n2\n3\n4\n5\n"
    assert container.logs(tail=2) == b"4\n5\n"
    assert container.logs(since=int(time.time()) + 100) == b""
    assert container.logs(timestamps=True).split(b"\n")[0].endswith(b"Z 1")


def test_logs_stream_while_it_runs(client: Any, image: str, name: str) -> None:
    script = "echo one; read x; echo two"
    container = client.containers.run(image, ["sh", "-c", script], name=name, detach=True, stdin_open=True, **NONE)
    stream = container.logs(stream=True, follow=True)
    assert next(stream) == b"one\n"
    holder = container.attach_socket(params={"stdin": 1, "stream": 1})
    getattr(holder, "_sock", holder).sendall(b"\n")
    assert next(stream) == b"two\n"
    assert list(stream) == []
    holder.close()


def test_attach_socket(client: Any, image: str, name: str) -> None:
    container = client.containers.create(image, ["head", "-n1"], name=name, stdin_open=True, tty=True, **NONE)
    holder = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    raw = getattr(holder, "_sock", holder)
    raw.settimeout(20)
    container.start()
    raw.sendall(b"hello\n")
    seen = b""
    while data := raw.recv(4096):
        seen += data
    assert seen == b"hello\r\nhello\r\n"
    holder.close()


def test_attach_streams_frames(client: Any, image: str, name: str) -> None:
    container = client.containers.create(image, ["sh", "-c", "echo out; echo err >&2"], name=name, **NONE)
    stream = container.attach(stream=True, stdout=True, stderr=True, demux=True)
    container.start()
    parts = list(stream)
    assert b"".join(out for out, _ in parts if out) == b"out\n"
    assert b"".join(err for _, err in parts if err) == b"err\n"


def test_resize(client: Any, image: str, name: str) -> None:
    container = client.containers.run(
        image, ["sh", "-c", "read x; stty size"], name=name, detach=True, tty=True, stdin_open=True, **NONE
    )
    container.resize(height=17, width=55)
    holder = container.attach_socket(params={"stdin": 1, "stream": 1})
    getattr(holder, "_sock", holder).sendall(b"\n")
    container.wait()
    assert b"17 55" in container.logs()
    holder.close()


def test_rename(client: Any, sleeper: Any, new_name: Callable[[], str]) -> None:
    new = new_name()
    sleeper.rename(new)
    assert client.containers.get(new).id == sleeper.id


def test_events(client: Any, image: str, name: str) -> None:
    began = int(time.time())
    stream = client.events(decode=True, since=began, filters={"container": name})
    client.containers.run(image, ["true"], name=name, **NONE)
    seen: list[str] = []
    for event in stream:
        seen.append(event["Action"])
        if event["Action"] == "die":
            break
    stream.close()
    assert [action for action in seen if action in ("create", "start", "die")] == ["create", "start", "die"]


def test_options_reach_the_container(client: Any, image: str, name: str) -> None:
    container = client.containers.create(
        image,
        ["true"],
        name=name,
        environment={"A": "1"},
        labels={"b": "2"},
        mem_limit="64m",
        nano_cpus=500_000_000,
        working_dir="/tmp",
        user="nobody",
        hostname="ship",
        read_only=True,
        cap_drop=["ALL"],
        tmpfs={"/scratch": "size=64k"},
        ulimits=[docker_py.types.Ulimit(name="nofile", soft=64, hard=128)],
        **NONE,
    )
    container.reload()
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert ("A=1" in config["Env"], config["Labels"], config["WorkingDir"]) == (True, {"b": "2"}, "/tmp")
    assert (config["User"], config["Hostname"]) == ("nobody", "ship")
    assert (host["Memory"], host["NanoCpus"], host["ReadonlyRootfs"]) == (64 << 20, 500_000_000, True)
    assert (host["CapDrop"], host["Tmpfs"]) == (["ALL"], {"/scratch": "size=64k"})
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 64, "Hard": 128}]


def test_import_an_image(client: Any, tag: str) -> None:
    repository, _, version = tag.partition(":")
    client.api.import_image_from_data(busybox_rootfs(), repository=repository, tag=version, changes=["CMD echo made"])
    assert client.containers.run(tag, remove=True, **NONE) == b"made\n"


def test_load_tag_list_and_remove_images(client: Any, new_tag: Callable[[], str]) -> None:
    first, second = new_tag(), new_tag()
    (loaded,) = client.images.load(docker_archive([layer(mark=first)], first))
    assert loaded.tags == [first]
    assert loaded.tag(*second.split(":")) is True
    loaded.reload()
    assert sorted(loaded.tags) == sorted([first, second])
    assert loaded in client.images.list(name=second.partition(":")[0])
    assert loaded.history()[0]["CreatedBy"] == "layer 0"
    client.images.remove(loaded.id, force=True)
    with pytest.raises(ImageNotFound):
        client.images.get(first)


def test_load_from_a_file(client: Any, tag: str) -> None:
    (loaded,) = client.images.load(io.BytesIO(docker_archive([layer(mark="file")], tag)))
    assert loaded.tags == [tag]


def test_errors_are_of_the_right_class(client: Any, image: str, sleeper: Any) -> None:
    with pytest.raises(ImageNotFound, match="No such image: compat/nowhere:latest"):
        client.containers.create("compat/nowhere", ["true"])
    with pytest.raises(APIError, match="is already in use by container") as caught:
        client.containers.create(image, ["true"], name=sleeper.name)
    assert caught.value.status_code == 409
    with pytest.raises(APIError) as caught:
        sleeper.remove()
    assert caught.value.status_code == 409
    with pytest.raises(NotFound):
        client.containers.get("nobody-here")
    with pytest.raises(APIError) as caught:
        sleeper.kill(signal="NOPE")
    assert caught.value.status_code == 400


def test_a_missing_command_is_an_api_error(client: Any, image: str, name: str) -> None:
    with pytest.raises(APIError, match="executable file not found") as caught:
        client.containers.run(image, ["no-such-command"], name=name, **NONE)
    assert caught.value.status_code == 400
