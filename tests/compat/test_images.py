"""import, load, images, tag, history, inspect, rmi."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.images import Tar, busybox_rootfs, compress, config_blob, digest, docker_archive, layer, oci_layout
from tests.support.wire import Wire

pytestmark = pytest.mark.root

COMPRESSIONS = ["plain", "gzip", "zstd"]


def needs(docker: Docker, compression: str) -> None:
    """Skip what 20.10 cannot read: zstd came with 23.0."""
    if compression == "zstd" and docker.is_old:
        pytest.skip("zstd needs an engine of version 23 or later")


def mark_of(docker: Docker, image: str) -> str:
    """Return the text of the file /mark in an image, as a container sees it."""
    return docker.ok("run", "--rm", "--network", "none", image, "cat", "/mark")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_import_from_stdin_makes_an_image_that_runs(docker: Docker, tag: str, compression: str) -> None:
    needs(docker, compression)
    id = docker.ok("import", "-c", 'CMD ["echo", "imported"]', "-", tag, input=compress(busybox_rootfs(), compression))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", id)
    assert docker.ok("run", "--rm", "--network", "none", tag) == "imported"
    assert docker.inspect(tag, "{{.Id}}") == id


def test_import_from_a_file_with_changes_and_a_message(docker: Docker, tag: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(busybox_rootfs())
    changes = [
        "ENV A=1",
        "WORKDIR /tmp",
        "USER nobody",
        "LABEL b=2",
        'ENTRYPOINT ["sh", "-c"]',
        'CMD ["echo $A; pwd; id -u"]',
    ]
    flags = [word for text in changes for word in ("-c", text)]
    docker.ok("import", "-m", "from a test", *flags, str(tmp_path / "root.tar"), tag)
    assert docker.ok("run", "--rm", "--network", "none", tag) == "1\n/tmp\n65534"
    assert docker.inspect(tag, "{{.Config.Labels.b}} {{.Os}} {{.Comment}}") == "2 linux from a test"


def test_import_without_a_name_leaves_a_dangling_image(docker: Docker) -> None:
    id = docker.ok("import", "-", input=layer(mark="nameless"))
    try:
        assert id in docker.ok("images", "-q", "--no-trunc", "--filter", "dangling=true").splitlines()
    finally:
        docker.ok("rmi", id)


def test_import_of_garbage_is_refused(docker: Docker, tag: str) -> None:
    result = docker("import", "-", tag, input=b"this is no tar" * 100)
    assert result.code == 1 and result.err
    assert docker("inspect", tag).code == 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_load_a_docker_archive(docker: Docker, tag: str, compression: str) -> None:
    """The whole archive may be compressed; layers on top hide what is below."""
    needs(docker, compression)
    archive = docker_archive([busybox_rootfs(), layer(mark="below"), layer(mark=compression)], tag)
    out = docker.ok("load", input=compress(archive, compression))
    assert out.endswith(f"Loaded image: {tag}")
    assert mark_of(docker, tag) == compression


def test_load_from_a_file_quietly(docker: Docker, tag: str, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(docker_archive([busybox_rootfs(), layer(mark="file")], tag))
    assert docker.ok("load", "-q", "-i", str(tmp_path / "image.tar")) == f"Loaded image: {tag}"
    assert mark_of(docker, tag) == "file"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_load_an_oci_layout(docker: Docker, tag: str, compression: str) -> None:
    """20.10 reads no OCI layout that lacks a manifest.json."""
    if docker.is_old:
        pytest.skip("a pure OCI layout needs an engine of version 25 or later")
    layout = oci_layout([busybox_rootfs(), layer(mark=compression)], tag, compression)
    assert docker.ok("load", input=layout).endswith(f"Loaded image: {tag}")
    assert mark_of(docker, tag) == compression


def test_the_id_of_a_loaded_image_is_its_configurations_digest(docker: Docker, tag: str) -> None:
    layers = [layer(mark="id")]
    docker.ok("load", input=docker_archive(layers, tag, Labels={"a": "b"}))
    assert docker.inspect(tag, "{{.Id}}") == digest(config_blob(layers, Labels={"a": "b"}))
    assert docker.inspect(tag, "{{index .RootFS.Layers 0}}") == digest(layers[0])


def test_load_without_a_tag_names_the_id(docker: Docker) -> None:
    out = docker.ok("load", input=docker_archive([layer(mark="no tag")]))
    found = re.search(r"Loaded image ID: (sha256:[0-9a-f]{64})", out)
    assert found, out
    docker.ok("rmi", found[1])


def test_load_of_several_tags(docker: Docker, new_tag: Callable[[], str]) -> None:
    tags = [new_tag(), new_tag()]
    docker.ok("load", input=docker_archive([layer(mark="two tags")], *tags))
    assert sorted(docker.inspect(tags[0], '{{join .RepoTags " "}}').split()) == sorted(tags)


def test_whiteouts_hide_files_and_folders_of_lower_layers(docker: Docker, tag: str) -> None:
    """Source: OCI image-spec, layer.md: `.wh.NAME` deletes, `.wh..wh..opq` empties a folder."""
    lower, upper = Tar(), Tar()
    for name in ("gone", "kept", "folder/old"):
        lower.file(f"test/{name}", name)
    for name in (".wh.gone", "folder/.wh..wh..opq", "folder/new"):
        upper.file(f"test/{name}", "")
    docker.ok("load", input=docker_archive([busybox_rootfs(), lower.finish(), upper.finish()], tag))
    found = docker.ok("run", "--rm", "--network", "none", tag, "sh", "-c", "cd /test; find . -type f | sort")
    assert found.split() == ["./folder/new", "./kept"]


def test_load_of_garbage_is_refused(docker: Docker) -> None:
    result = docker("load", input=b"this is no tar" * 100)
    assert result.code == 1 and result.err


def test_a_layer_that_is_not_what_its_digest_says_is_refused(docker: Docker, tag: str) -> None:
    archive = docker_archive([layer(mark="aaaa")], tag).replace(b"aaaa", b"bbbb")
    result = docker("load", input=archive)
    assert result.code == 1, result
    assert docker("inspect", tag).code == 1


def test_images_lists_it_with_dockers_columns(docker: Docker, tag: str) -> None:
    docker.ok("load", input=docker_archive([layer(mark=tag)], tag))
    name, _, version = tag.partition(":")
    head, row = docker.ok("images", name).splitlines()
    assert re.split(r"\s{2,}", head) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    assert row.split()[:3] == [name, version, docker.inspect(tag, "{{.Id}}")[7:19]]
    assert docker.ok("images", "-q", "--no-trunc", tag) == docker.inspect(tag, "{{.Id}}")


def test_images_filters(docker: Docker, tag: str) -> None:
    docker.ok("load", input=docker_archive([layer(mark=tag)], tag, Labels={"mark": tag}))
    id = docker.inspect(tag, "{{.Id}}")
    name = tag.partition(":")[0]
    for text in (f"label=mark={tag}", f"reference={name}", f"reference={name[:-1]}*:*"):
        assert docker.ok("images", "-q", "--no-trunc", "--filter", text) == id, text
    assert docker.ok("images", "-q", "--filter", "label=mark=nothing") == ""


def test_tag_gives_a_second_name(docker: Docker, new_tag: Callable[[], str]) -> None:
    first, second = new_tag(), new_tag()
    docker.ok("load", input=docker_archive([layer(mark="tag")], first))
    assert docker.ok("tag", first, second) == ""
    assert docker.inspect(first, "{{.Id}}") == docker.inspect(second, "{{.Id}}")


def test_tag_of_nobody(docker: Docker, tag: str) -> None:
    result = docker("tag", "compat/nowhere:1", tag)
    assert result.code == 1 and "No such image: compat/nowhere:1" in result.err


def test_rmi_untags_and_then_deletes(docker: Docker, new_tag: Callable[[], str]) -> None:
    first, second = new_tag(), new_tag()
    docker.ok("load", input=docker_archive([layer(mark="rmi")], first))
    id = docker.inspect(first, "{{.Id}}")
    docker.ok("tag", first, second)
    assert docker.ok("rmi", first) == f"Untagged: {first}"
    lines = docker.ok("rmi", second).splitlines()
    assert lines[:2] == [f"Untagged: {second}", f"Deleted: {id}"]
    assert all(line.startswith("Deleted: sha256:") for line in lines[2:])
    assert docker("inspect", id).code == 1


def test_rmi_of_a_used_image_is_a_conflict(docker: Docker, tag: str, name: str) -> None:
    docker.ok("load", input=docker_archive([busybox_rootfs(), layer(mark="used")], tag))
    container = docker.ok("create", "--name", name, "--network", "none", tag)
    image = docker.inspect(tag, "{{.Id}}")
    result = docker("rmi", tag)
    assert result.code == 1
    assert (
        f'conflict: unable to remove repository reference "{tag}" (must force) - '
        f"container {container[:12]} is using its referenced image {image[7:19]}" in result.err
    )


def test_rmi_by_id_with_two_names_must_be_forced(docker: Docker, new_tag: Callable[[], str]) -> None:
    first, second = new_tag(), new_tag()
    docker.ok("load", input=docker_archive([layer(mark="two names")], first, second))
    id = docker.inspect(first, "{{.Id}}")
    result = docker("rmi", id)
    assert result.code == 1
    assert f"conflict: unable to delete {id[7:19]} (must be forced)" in result.err
    assert "image is referenced in multiple repositories" in result.err
    assert set(docker.ok("rmi", "-f", id).splitlines()) >= {
        f"Untagged: {first}",
        f"Untagged: {second}",
        f"Deleted: {id}",
    }


def test_rmi_of_nobody(docker: Docker) -> None:
    result = docker("rmi", "compat/nowhere:1")
    assert result.code == 1 and "No such image: compat/nowhere:1" in result.err
    forced = docker("rmi", "-f", "compat/nowhere:1")
    assert forced.code == 0 and "No such image: compat/nowhere:1" in forced.err


def test_history_lists_the_layers_newest_first(docker: Docker, tag: str) -> None:
    docker.ok("load", input=docker_archive([layer(a="a"), layer(b="bb")], tag))
    rows = docker.ok("history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}}", tag).splitlines()
    assert rows == [f"{docker.inspect(tag, '{{.Id}}')} layer 1", "<missing> layer 0"]


def test_image_inspect_in_json(wire: Wire, docker: Docker, tag: str) -> None:
    docker.ok("load", input=docker_archive([layer(a="a")], tag, Env=["A=1"], ExposedPorts={"80/tcp": {}}))
    found = wire.get(f"/images/{tag}/json").json
    assert found["RepoTags"] == [tag] and found["RepoDigests"] == []
    assert (found["Architecture"], found["Os"], found["Created"]) == ("amd64", "linux", "2024-01-01T00:00:00Z")
    assert (found["Config"]["Env"], found["Config"]["ExposedPorts"]) == (["A=1"], {"80/tcp": {}})
    assert found["RootFS"] == {"Type": "layers", "Layers": [digest(layer(a="a"))]}
    assert found["Size"] > 0


@pytest.mark.parametrize("reference", ["UPPER/case", "a b", "x:", "-x", "a//b"])
def test_a_broken_reference_is_refused(wire: Wire, image: str, reference: str) -> None:
    answer = wire.post("/containers/create", {"Image": reference, "Cmd": ["true"]})
    assert answer.status in (400, 404), answer.body
    assert answer.message
