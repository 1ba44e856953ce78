"""Volumes by the docker CLI: `docker volume …`, `-v NAME:…`, VOLUME of images, `rm -v`, prune."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.volumes import Entry
from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest_plugins = ["tests.support.volume_fixtures"]

Names = Callable[[], str]
ANONYMOUS = "com.docker.volume.anonymous"


def inspect_volume(docker: Docker, name: str) -> Any:
    (found,) = json.loads(docker.ok("volume", "inspect", name))
    return found


def mounts(docker: Docker, name: str) -> dict[str, Any]:
    """Return the mounts of a container by their places."""
    return {each["Destination"]: each for each in json.loads(docker.inspect(name, "{{json .Mounts}}"))}


def run(docker: Docker, *words: str) -> str:
    return docker.ok("run", "--rm", "--network", "none", *words)


def refused(docker: Docker, *words: str) -> str:
    result = docker(*words)
    assert result.code != 0, result
    return result.err.strip()


# -- docker volume ---------------------------------------------------------------------------------------------------


def test_create_prints_the_name_and_inspect_tells_everything(docker: Docker, volume: str) -> None:
    assert docker.ok("volume", "create", "--label", "a=1", "--label", "b", volume) == volume
    found = inspect_volume(docker, volume)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.pop("CreatedAt"))
    path = Path(found.pop("Mountpoint"))
    assert path.is_dir() and path.parts[-3:] == ("volumes", volume, "_data")
    labels = {"a": "1", "b": ""}
    assert found == {"Name": volume, "Driver": "local", "Labels": labels, "Options": None, "Scope": "local"}


def test_create_again_keeps_what_is_there(docker: Docker, volume: str) -> None:
    docker.ok("volume", "create", "--label", "a=1", volume)
    before = inspect_volume(docker, volume)
    assert docker.ok("volume", "create", "--label", "a=2", volume) == volume
    assert inspect_volume(docker, volume) == before


@pytest.mark.usefixtures("modern")
def test_create_without_a_name_makes_an_anonymous_one(docker: Docker) -> None:
    name = docker.ok("volume", "create")
    try:
        assert re.fullmatch("[0-9a-f]{64}", name)
        assert inspect_volume(docker, name)["Labels"] == {ANONYMOUS: ""}
    finally:
        docker.ok("volume", "rm", name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "create a: volume name is too short, names should be at least two alphanumeric characters"),
        (["a/b"], 'create a/b: "a/b" includes invalid characters for a local volume name, only'),
        (["..x"], "includes invalid characters for a local volume name"),
        (["-d", "nosuch", "xx"], 'create xx: error looking up volume plugin nosuch: plugin "nosuch" not found'),
        (["-o", "what=x", "xx"], 'create xx: invalid option: "what"'),
        (["-o", "type=tmpfs", "xx"], 'create xx: missing required option: "device"'),
        (["-o", "o=ro", "xx"], 'create xx: missing required option: "device"'),
        (["-o", "size=1g", "xx"], "create xx: quota size requested but no quota support"),
    ],
)
def test_create_refuses(docker: Docker, words: list[str], message: str) -> None:
    assert message in refused(docker, "volume", "create", *words)
    assert words[-1] not in docker.ok("volume", "ls", "-q").splitlines()


def test_a_volume_that_is_not_there(docker: Docker) -> None:
    assert "no such volume" in refused(docker, "volume", "inspect", "nosuch").lower()
    assert "no such volume" in refused(docker, "volume", "rm", "nosuch").lower()
    assert docker.wire.delete("/volumes/nosuch").json["message"] == "get nosuch: no such volume"
    docker.ok("volume", "rm", "-f", "nosuch")


def test_rm_takes_the_content_and_the_name_is_free(docker: Docker, image: str, volume: str) -> None:
    run(docker, "-v", f"{volume}:/data", image, "sh", "-c", "mkdir -p /data/a/b && echo x >/data/a/b/c")
    folder = Path(inspect_volume(docker, volume)["Mountpoint"]).parent
    assert docker.ok("volume", "rm", volume) == volume
    assert not folder.exists()
    assert run(docker, "-v", f"{volume}:/data", image, "ls", "/data") == ""


def test_a_volume_in_use_cannot_be_removed(docker: Docker, image: str, new_name: Names, volume: str) -> None:
    ids = [docker.ok("create", "--name", new_name(), "-v", f"{volume}:/data", image) for _ in range(2)]
    for force in ([], ["-f"]):
        said = refused(docker, "volume", "rm", *force, volume)
        assert f"remove {volume}: volume is in use - [{', '.join(sorted(ids))}]" in said
    docker.ok("rm", ids[0])
    assert f"volume is in use - [{ids[1]}]" in refused(docker, "volume", "rm", volume)
    docker.ok("rm", ids[1])
    docker.ok("volume", "rm", volume)


@pytest.mark.usefixtures("modern")
def test_ls_and_its_filters(docker: Docker, image: str, name: str, new_volume: Names) -> None:
    one, two = new_volume(), new_volume()
    docker.ok("volume", "create", "--label", f"mark={one}", "--label", "kind", one)
    docker.ok("create", "--name", name, "-v", f"{two}:/data", image)

    def listed(*filters: str) -> set[str]:
        words = [word for each in filters for word in ("--filter", each)]
        return set(docker.ok("volume", "ls", "-q", *words).splitlines()) & {one, two}

    assert listed() == listed("driver=local") == {one, two}
    assert listed("driver=other") == set()
    assert listed("dangling=true") == listed("dangling=1") == {one}
    assert listed("dangling=false") == {two}
    assert listed(f"label=mark={one}") == listed(f"label=mark={one}", "label=kind") == {one}
    assert listed(f"label=mark={two}") == set()
    assert listed(f"name={one[4:]}") == listed(f"name=^{one}$") == {one}
    assert listed(f"name={one}", f"name={two}") == {one, two}
    assert "invalid filter 'what'" in refused(docker, "volume", "ls", "--filter", "what=x")
    assert "invalid filter 'dangling=" in refused(docker, "volume", "ls", "--filter", "dangling=perhaps")
    assert re.search(rf"local +{one}", docker.ok("volume", "ls"))


@pytest.mark.usefixtures("modern")
def test_prune_takes_anonymous_ones_that_nobody_has(docker: Docker, image: str, name: str, new_volume: Names) -> None:
    named, mark = new_volume(), new_volume()
    docker.ok("volume", "create", "--label", f"mark={mark}", named)
    free = json.loads(docker.wire.post("/volumes/create", {"Labels": {"mark": mark}}).body)["Name"]
    spared = json.loads(docker.wire.post("/volumes/create", {"Labels": {"mark": mark, "keep": ""}}).body)["Name"]
    docker.ok("create", "--name", name, "-v", "/data", image)
    (held,) = (each["Name"] for each in mounts(docker, name).values())
    Path(inspect_volume(docker, free)["Mountpoint"], "file").write_bytes(b"x" * 1000)
    words = ["volume", "prune", "-f", "--filter", f"label=mark={mark}", "--filter", "label!=keep"]
    said = docker.ok(*words)
    assert free in said and "Total reclaimed space: 1kB" in said
    left = set(docker.ok("volume", "ls", "-q").splitlines())
    assert {spared, held} <= left and free not in left
    assert (named in left) == (docker.cli_version >= 23)  # older ones speak an API where prune takes those too
    docker.ok("volume", "prune", *(["-a"] if docker.cli_version >= 23 else []), "-f", "--filter", f"label=mark={mark}")
    assert {named, spared} & set(docker.ok("volume", "ls", "-q").splitlines()) == set()
    assert "invalid filter 'what'" in refused(docker, "volume", "prune", "-f", "--filter", "what=x")


# -- docker run -v ---------------------------------------------------------------------------------------------------


def test_what_is_written_into_a_named_volume_stays(docker: Docker, image: str, volume: str) -> None:
    run(docker, "-v", f"{volume}:/data", image, "sh", "-c", "echo hello >/data/file")
    assert run(docker, "-v", f"{volume}:/other", image, "cat", "/other/file") == "hello"
    assert Path(inspect_volume(docker, volume)["Mountpoint"], "file").read_text() == "hello\n"


def test_two_containers_share_a_volume(docker: Docker, image: str, running: str, new_name: Names, volume: str) -> None:
    other = new_name()
    docker.ok("run", "-d", "--name", other, "--network", "none", "-v", f"{volume}:/data", image, "sleep", "1000")
    assert run(docker, "-v", f"{volume}:/data:ro", image, "ls", "/data") == ""
    docker.ok("exec", other, "touch", "/data/file")
    assert run(docker, "-v", f"{volume}:/data:ro", image, "ls", "/data") == "file"
    assert "Read-only" in refused(docker, "run", "--rm", "-v", f"{volume}:/data:ro", image, "touch", "/data/x")


def test_inspect_and_ps_show_a_named_volume(docker: Docker, image: str, name: str, volume: str) -> None:
    docker.ok("create", "--name", name, "-v", f"{volume}:/data", "-v", f"{volume}:/again:ro,nocopy", image)
    found = mounts(docker, name)
    source = inspect_volume(docker, volume)["Mountpoint"]
    shown = {"Type": "volume", "Name": volume, "Source": source, "Driver": "local", "Propagation": ""}
    assert found == {
        "/data": {**shown, "Destination": "/data", "Mode": "z", "RW": True},
        "/again": {**shown, "Destination": "/again", "Mode": "ro,nocopy", "RW": False},
    }
    binds = json.loads(docker.inspect(name, "{{json .HostConfig.Binds}}"))  # in the order of a Go map
    assert sorted(binds) == [f"{volume}:/again:ro,nocopy", f"{volume}:/data"]
    for value in (volume, "/data"):
        assert docker.ok("ps", "-a", "--filter", f"volume={value}", "--format", "{{.Names}}") == name
    assert docker.ok("ps", "-a", "--filter", "volume=/nosuch", "--filter", f"name={name}", "-q") == ""
    assert docker.ok("ps", "-a", "--no-trunc", "--filter", f"name={name}", "--format", "{{.Mounts}}").startswith(volume)


@pytest.mark.usefixtures("modern")
def test_rm_v_removes_anonymous_volumes_and_no_others(docker: Docker, image: str, new_name: Names, volume: str) -> None:
    def anonymous(name: str) -> str:
        docker.ok("create", "--name", name, "-v", "/cache", "-v", f"{volume}:/data", image)
        found = mounts(docker, name)["/cache"]["Name"]
        assert inspect_volume(docker, found)["Labels"] == {ANONYMOUS: ""}
        return str(found)

    kept, removed = new_name(), new_name()
    staying, going = anonymous(kept), anonymous(removed)
    docker.ok("rm", kept)
    docker.ok("rm", "-v", removed)
    left = docker.ok("volume", "ls", "-q").splitlines()
    assert staying in left and volume in left and going not in left
    docker.ok("volume", "rm", staying)


def test_run_rm_removes_anonymous_volumes_and_no_others(docker: Docker, image: str, volume: str) -> None:
    before = set(docker.ok("volume", "ls", "-q").splitlines())
    run(docker, "-v", "/cache", "-v", f"{volume}:/data", image, "touch", "/cache/x", "/data/x")
    assert set(docker.ok("volume", "ls", "-q").splitlines()) == before | {volume}


def test_volumes_from(docker: Docker, image: str, new_name: Names, volume: str) -> None:
    store, user = new_name(), new_name()
    docker.ok("create", "--name", store, "-v", "/cache", "-v", f"{volume}:/data", image)
    run(docker, "--volumes-from", store, image, "sh", "-c", "echo 1 >/cache/x; echo 2 >/data/x")
    assert run(docker, "--volumes-from", f"{store}:ro", image, "cat", "/cache/x", "/data/x") == "1\n2"
    for place in ("/cache", "/data"):
        words = ["run", "--rm", "--volumes-from", f"{store}:ro", image, "touch", f"{place}/y"]
        assert "Read-only" in refused(docker, *words)
    docker.ok("create", "--name", user, "--volumes-from", store, "-v", "/data", image)
    assert mounts(docker, user)["/cache"]["Name"] == mounts(docker, store)["/cache"]["Name"]
    # What the first one wanted anonymously is kept as long as anybody has it.
    cache = mounts(docker, store)["/cache"]["Name"]
    docker.ok("rm", "-v", store)
    assert cache in docker.ok("volume", "ls", "-q").splitlines()
    docker.ok("rm", "-v", user)
    assert cache not in docker.ok("volume", "ls", "-q").splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "No such container: nosuch"),
        ("busybox:what", "invalid mode: what"),
        ("busybox:nocopy", "invalid mode: nocopy"),
        ("busybox:shared", "invalid mode: shared"),
    ],
)
def test_volumes_from_refuses(docker: Docker, image: str, text: str, message: str) -> None:
    assert message in refused(docker, "create", "--volumes-from", text, image)


# -- VOLUME and what the image has there -----------------------------------------------------------------------------

MakeImage = Callable[..., str]
CONTENT: dict[str, Entry] = {"srv": None, "srv/file": b"from the image", "srv/link": "file", "srv/deep/er/x": b"x"}


def test_a_volume_of_the_image_is_anonymous_and_has_its_content(
    docker: Docker, name: str, make_image: MakeImage
) -> None:
    image = make_image(CONTENT, Volumes={"/srv": {}})
    docker.ok("create", "--name", name, image, "cat", "/srv/link")
    (found,) = mounts(docker, name).values()
    assert re.fullmatch("[0-9a-f]{64}", found["Name"])
    assert (found["Destination"], found["Mode"], found["RW"]) == ("/srv", "", True)
    assert Path(found["Source"], "deep/er/x").read_bytes() == b"x"
    assert docker.ok("start", "-a", name) == "from the image"


def test_a_new_named_volume_gets_the_content_and_one_with_content_keeps_its_own(
    docker: Docker, volume: str, make_image: MakeImage
) -> None:
    image = make_image(CONTENT)
    assert run(docker, "-v", f"{volume}:/srv", image, "cat", "/srv/file") == "from the image"
    run(docker, "-v", f"{volume}:/srv", image, "sh", "-c", "rm -r /srv/*; echo own >/srv/own")
    assert run(docker, "-v", f"{volume}:/srv", image, "ls", "/srv") == "own"


@pytest.mark.parametrize("flag", ["-v={}:/srv:nocopy", "--mount=type=volume,source={},target=/srv,volume-nocopy"])
def test_nocopy(docker: Docker, volume: str, make_image: MakeImage, flag: str) -> None:
    assert run(docker, flag.format(volume), make_image(CONTENT), "ls", "/srv") == ""


def test_a_volume_over_a_file_is_refused_and_leaves_nothing(docker: Docker, volume: str, make_image: MakeImage) -> None:
    image = make_image({"file": b"x"}, Volumes={"/file": {}})
    before = docker.ok("volume", "ls", "-q")
    assert "file exists" in refused(docker, "create", image)
    assert docker.ok("volume", "ls", "-q") == before


# -- the API ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("modern")
def test_statuses(wire: Wire, image: str, name: str, volume: str) -> None:
    body = {"Name": volume, "DriverOpts": {}, "Labels": None, "Driver": ""}
    assert wire.post("/volumes/create", body).status == 201
    assert wire.post("/volumes/create", body).status == 201
    assert wire.post("/volumes/create", {"Name": volume, "Driver": "other"}).status == 404
    assert wire.post("/volumes/create", {"Name": "a"}).status == 400
    assert wire.post("/volumes/create", {"Name": "x" * 300}).status == 400
    assert wire.post("/volumes/create", {"Name": "xx", "Driver": "nosuch"}).status == 404
    assert wire.post("/volumes/create", {"Name": "xx", "ClusterVolumeSpec": {"Group": "x"}}).status == 503
    assert wire.get("/volumes/nosuch").status == wire.delete("/volumes/nosuch").status == 404
    assert wire.delete("/volumes/nosuch", force=1).status == 204
    created = wire.post("/containers/create", {"Image": image, "HostConfig": {"Binds": [f"{volume}:/data"]}}, name=name)
    assert created.status == 201
    assert wire.delete(f"/volumes/{volume}").status == 409
    assert wire.delete(f"/containers/{name}").status == 204
    assert wire.delete(f"/volumes/{volume}").status == 204
    assert wire.get("/volumes").json["Warnings"] is None


@pytest.mark.usefixtures("modern")
def test_events(docker: Docker, wire: Wire, image: str, name: str, volume: str) -> None:
    docker.ok("volume", "create", volume)
    id = docker.ok("run", "-d", "--name", name, "--network", "none", "-v", f"{volume}:/data:ro", image, "true")
    docker.ok("wait", name)
    docker.ok("rm", name)
    docker.ok("volume", "rm", volume)
    filters = json.dumps({"type": ["volume"], "volume": [volume]})
    connection, response = wire.open("GET", "/events", since="1", until=str(2**31), filters=filters)
    try:
        told = [json.loads(response.readline()) for _ in range(4)]
    finally:
        connection.close()
    assert [(each["Action"], each["Actor"]["ID"]) for each in told] == [
        (action, volume) for action in ("create", "mount", "unmount", "destroy")
    ]
    mount = {"driver": "local", "container": id, "destination": "/data", "propagation": "", "read/write": "false"}
    assert [each["Actor"]["Attributes"] for each in told] == [
        {"driver": "local"}, mount, {"driver": "local", "container": id}, {"driver": "local"},
    ]  # fmt: skip
