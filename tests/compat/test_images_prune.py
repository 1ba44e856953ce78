"""docker image prune, docker system df, docker images of what has no name: with the containers of an engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs, docker_archive, layer
from tests.support.wire import Wire

pytestmark = pytest.mark.root


def nameless(docker: Docker, mark: str, **labels: str) -> str:
    """Load an image without a name; return its id."""
    out = docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark=mark)], Labels={"of": mark, **labels}))
    found = re.search(r"sha256:[0-9a-f]{64}", out)
    assert found, out
    return found[0]


def test_prune_takes_dangling_images_and_tells_their_size(docker: Docker, tag: str) -> None:
    id = nameless(docker, tag)
    docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark="named")], tag, Labels={"of": tag}))
    out = docker.ok("image", "prune", "-f", "--filter", f"label=of={tag}")
    assert out.startswith("Deleted Images:") and f"deleted: {id}" in out.replace("Deleted", "deleted").lower()
    assert re.search(r"Total reclaimed space: [1-9][0-9.]*k?B", out), out
    assert docker("inspect", id).code == 1 and docker("inspect", tag).code == 0


def test_prune_of_all_takes_named_ones_but_none_that_a_container_has(
    docker: Docker, new_tag: Callable[[], str], name: str
) -> None:
    used, unused = new_tag(), new_tag()
    for tag in (used, unused):
        docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark=tag)], tag, Labels={"of": used}))
    docker.ok("create", "--name", name, "--network", "none", used)
    out = docker.ok("image", "prune", "-a", "-f", "--filter", f"label=of={used}")
    assert f"untagged: {unused}" in out and used not in out
    assert docker("inspect", used).code == 0 and docker("inspect", unused).code == 1


def test_an_image_without_a_name_is_listed_as_none(docker: Docker, tag: str) -> None:
    id = nameless(docker, tag)
    rows = docker.ok("images", "--no-trunc", "--format", "{{.ID}} {{.Repository}} {{.Tag}}", "-f", "dangling=true")
    assert f"{id} <none> <none>" in rows.splitlines()
    docker.ok("rmi", id)


def test_system_df_counts_what_is_there(docker: Docker, tag: str, name: str) -> None:
    docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark=tag)], tag))
    docker.ok("run", "--name", name, "--network", "none", tag, "sh", "-c", "head -c 5000 /dev/zero > /file")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in docker.ok(
        "system", "df", "--format", "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}"
    ).splitlines()}  # fmt: skip
    assert set(rows) == {"Images", "Containers", "Local Volumes", "Build Cache"}
    assert int(rows["Images"][0]) >= 1 and int(rows["Images"][1]) >= 1
    verbose = docker.ok("system", "df", "-v")
    (line,) = [line for line in verbose.splitlines() if name in line]
    assert re.search(r"\b5(\.\d+)?kB\b", line), line


def test_disk_usage_is_answered_by_version_and_kind(wire: Wire, engine_host: str, image: str) -> None:
    found = wire.get("/system/df").json
    assert found.keys() == {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}
    assert all("VirtualSize" not in each and each["SharedSize"] >= 0 for each in found["Images"])
    old = Wire(engine_host, "1.41").get("/system/df").json
    assert old["BuilderSize"] == 0 and all(each["VirtualSize"] == each["Size"] for each in old["Images"])
    one = wire.get("/system/df?type=image&type=volume").json
    assert one["Containers"] is None and one["BuildCache"] is None and one["Images"]
    refused = wire.get("/system/df", type="nonsense")
    assert refused.status == 400 and "nonsense" in refused.message


def test_docker_py_lists_prunes_and_shows_history(engine_host: str, docker: Docker, tag: str) -> None:
    id = nameless(docker, tag)
    client = docker_py.DockerClient(base_url=engine_host)
    try:
        filters = {"label": f"of={tag}"}
        (found,) = client.images.list(filters={**filters, "dangling": True})
        assert found.id == id and len(found.history()) == 2
        gone = client.images.prune(filters=filters)
        assert {"Deleted": id} in gone["ImagesDeleted"] and gone["SpaceReclaimed"] > 0
        assert client.images.list(filters=filters) == []
        assert client.df()["LayersSize"] > 0
    finally:
        client.close()


def test_import_for_a_platform_with_a_message(docker: Docker, tag: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(layer(a="a"))
    docker.ok("import", "--platform", "linux/arm64", "-m", "from elsewhere", str(tmp_path / "root.tar"), tag)
    assert docker.inspect(tag, "{{.Os}}/{{.Architecture}} {{.Comment}}") == "linux/arm64 from elsewhere"
    assert docker.ok("history", "--format", "{{.Comment}}", tag) == "from elsewhere"
