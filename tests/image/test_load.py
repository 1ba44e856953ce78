"""The job `load`: docker-archives and OCI layouts, honest and hostile."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import Any

import pytest

from tests.image.support import Images, archive, link, manifest, oci
from tests.support.images import compress, config_blob, digest, docker_archive, layer, oci_layout
from windlass.engine.errors import BadParameter, JobError
from windlass.engine.events import Progress
from windlass.image import config, contents

pytestmark = pytest.mark.root

LOW, HIGH = layer(low="low"), layer(high="high!")
CONFIG = config_blob([LOW])


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
async def test_a_docker_archive_becomes_an_image(images: Images, how: str) -> None:
    data = docker_archive([LOW, HIGH], "a:1", "b:2")
    assert await images.run("load", stdin=compress(data, how)) == ["a:1", "b:2"]
    assert images.output == "Loaded image: a:1\nLoaded image: b:2\n"
    found = await images.run("image_inspect", "a:1")
    assert found.Id == digest(config_blob([LOW, HIGH])) and found.RepoTags == ["a:1", "b:2"]
    assert found.RootFS.Layers == [digest(LOW), digest(HIGH)]
    assert found.Size == 8


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
async def test_an_oci_layout_becomes_an_image(images: Images, how: str) -> None:
    assert await images.run("load", stdin=oci_layout([LOW, HIGH], "tool:3", how)) == ["tool:3"]
    assert (await images.run("image_inspect", "tool:3")).Id == digest(config_blob([LOW, HIGH]))


async def test_an_image_without_a_name_is_told_by_its_id(images: Images) -> None:
    id = digest(CONFIG)
    assert await images.run("load", stdin=docker_archive([LOW])) == [id]
    assert images.output == f"Loaded image ID: {id}\n"


async def test_loading_twice_changes_nothing(images: Images) -> None:
    data = docker_archive([LOW, HIGH], "a:1")
    assert await images.run("load", stdin=data) == await images.run("load", stdin=data)
    assert len(await images.list()) == 1 and len(await images.graph.layers()) == 2


async def test_several_images_share_their_layers(images: Images) -> None:
    """Old archives have a symbolic link where a layer is another image's."""
    both = config_blob([LOW, HIGH])
    data = archive(
        {
            "one.json": CONFIG,
            "two.json": both,
            "x/layer.tar": LOW,
            "y/layer.tar": link("../x/layer.tar"),
            "z/layer.tar": HIGH,
            "manifest.json": json.dumps(
                [
                    {"Config": "one.json", "RepoTags": ["one:1"], "Layers": ["x/layer.tar"]},
                    {"Config": "two.json", "RepoTags": None, "Layers": ["y/layer.tar", "z/layer.tar"]},
                ]
            ).encode(),
        }
    )
    assert await images.run("load", stdin=data) == ["one:1", digest(both)]
    assert len(await images.graph.layers()) == 2


async def test_a_hard_link_is_named_from_the_top(images: Images) -> None:
    data = archive(
        {"x/layer.tar": LOW, "y/layer.tar": link("x/layer.tar", tarfile.LNKTYPE), "c": CONFIG,
         "manifest.json": manifest("c", ["y/layer.tar"], "a:1")}
    )  # fmt: skip
    assert await images.run("load", stdin=data) == ["a:1"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_long_names_are_read_in_either_form(images: Images, form: int) -> None:
    buffer, name = io.BytesIO(), "d" * 120 + "/" + "n" * 150
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for key, data in {"c": CONFIG, name: LOW, "manifest.json": manifest("c", [name], "a:1")}.items():
            info = tarfile.TarInfo(key)
            info.size = len(data)
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {"size": str(len(data))}
            tar.addfile(info, io.BytesIO(data))
    assert await images.run("load", stdin=buffer.getvalue()) == ["a:1"]


def one(**changes: Any) -> bytes:
    """An archive whose manifest has one entry, changed."""
    entry = {"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]} | changes
    return archive({"c": CONFIG, "l": LOW, "manifest.json": json.dumps([entry]).encode()})


def whole(text: bytes) -> bytes:
    return archive({"c": CONFIG, "l": LOW, "manifest.json": text})


def configured(**changes: Any) -> bytes:
    """An archive whose image has a changed configuration."""
    config = json.dumps(json.loads(CONFIG) | changes).encode()
    return archive({"c": config, "l": LOW, "manifest.json": manifest("c", ["l"], "a:1")})


def indexed(index: Any, **members: bytes) -> bytes:
    return archive({"index.json": json.dumps(index).encode(), **members})


def twin_headed() -> bytes:
    """A document that is both an index and a manifest (CVE-2021-41190)."""
    document = json.dumps({"manifests": [], "layers": [], "config": {}}).encode()
    return indexed({"manifests": [{"digest": digest(document)}]}, **{f"blobs/sha256/{digest(document)[7:]}": document})


FIFO = link("")
FIFO.type = tarfile.FIFOTYPE
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "garbage": b"this is no tar" * 100,
    "zeros": bytes(10240),
    "cut": docker_archive([LOW], "a:1")[:2000],
    "wrong checksum": docker_archive([LOW], "a:1").replace(b"manifest.json", b"manifesu.json"),
    "no manifest": archive({"c": CONFIG, "l": LOW}),
    "manifest null": whole(b"null"),
    "manifest an object": whole(b"{}"),
    "manifest of nulls": whole(b"[null]"),
    "manifest no json": whole(b"[{"),
    "manifest deep": whole(b"[" * 100_000),
    "manifest huge": whole(b" " * (9 << 20)),
    "manifest a fifo": archive({"c": CONFIG, "l": LOW, "manifest.json": FIFO}),
    "manifest a link": archive({"c": CONFIG, "l": LOW, "m": manifest("c", ["l"], "a:1"), "manifest.json": link("m")}),
    "manifest a link out": archive({"c": CONFIG, "l": LOW, "manifest.json": link("/etc/passwd")}),
    "config null": one(Config=None),
    "config missing": one(Config="d"),
    "config outside": one(Config="../../../../etc/passwd"),
    "config absolute": one(Config="/etc/passwd"),
    "layers text": one(Layers="l"),
    "layers of numbers": one(Layers=[1]),
    "layer missing": one(Layers=["m"]),
    "layer outside": one(Layers=["../../../../etc/passwd"]),
    "one layer too many": one(Layers=["l", "l"]),
    "one layer too few": one(Layers=[]),
    "a bad name": one(RepoTags=["A B"]),
    "names a number": one(RepoTags=7),
    "layer a loop": archive({"c": CONFIG, "l": link("l"), "manifest.json": manifest("c", ["l"], "a:1")}),
    "layer no tar": archive({"c": CONFIG, "l": b"no tar" * 200, "manifest.json": manifest("c", ["l"], "a:1")}),
    "layer another": archive({"c": CONFIG, "l": HIGH, "manifest.json": manifest("c", ["l"], "a:1")}),
    "second image broken": archive(
        {"c": CONFIG, "l": LOW, "manifest.json": json.dumps(
            [{"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}, {"Config": "c", "RepoTags": [], "Layers": ["x"]}]
        ).encode()}
    ),
    "config a list": archive({"c": b"[]", "l": LOW, "manifest.json": manifest("c", ["l"], "a:1")}),
    "config is null": archive({"c": b"null", "l": LOW, "manifest.json": manifest("c", ["l"], "a:1")}),
    "rootfs null": configured(rootfs=None),
    "diff ids of numbers": configured(rootfs={"diff_ids": [1]}),
    "diff id a path": configured(rootfs={"diff_ids": ["../../x"]}),
    "too many layers": configured(rootfs={"diff_ids": [digest(LOW)] * 126}),
    "for windows": configured(os="windows"),
    "os a list": configured(os=[]),
    "author a list": configured(author=["x"]),
    "history an object": configured(history={}),
    "cmd of numbers": configured(config={"Cmd": [1]}),
    "labels a list": configured(config={"Labels": ["x"]}),
    "user a number": configured(config={"User": 0}),
    "user with a nul": configured(config={"User": "a\0b"}),
    "config's config a list": configured(config=[1]),
    "index null": indexed(None),
    "index empty": indexed({"manifests": []}),
    "index of nulls": indexed({"manifests": [None]}),
    "digest a path": indexed({"manifests": [{"digest": "sha256:../../../etc/passwd"}]}),
    "digest of another kind": indexed({"manifests": [{"digest": "md5:" + "0" * 32}]}),
    "blob missing": indexed({"manifests": [{"digest": digest(b"x")}]}),
    "index and manifest in one": twin_headed(),
    "index malformed beside a manifest": archive(
        {"c": CONFIG, "l": LOW, "manifest.json": manifest("c", ["l"], "a:1"), "index.json": b"[]"}
    ),
    "a name with a digest": one(RepoTags=["a@sha256:" + "0" * 64]),
    "manifest not its digest": oci([LOW], "a:1", {"manifest": b"{}"}),
    "config not its digest": oci([LOW], "a:1", {"config": config_blob([LOW], User="0")}),
    "layer not its digest": oci([LOW], "a:1", {"layer0": HIGH}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_malformed_archive_is_refused_and_nothing_kept(images: Images, name: str) -> None:
    with pytest.raises(BadParameter) as caught:
        await images.run("load", stdin=HOSTILE[name])
    assert caught.value.message and len(caught.value.message) < 400
    assert "Loaded" not in images.output
    assert await images.is_empty()


async def test_a_failed_load_leaves_what_was_there(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    before = await images.graph.layers()
    with pytest.raises(BadParameter):
        await images.run("load", stdin=archive(
            {"c": config_blob([LOW, HIGH]), "l": LOW, "manifest.json": manifest("c", ["l", "missing"], "a:1")}
        ))  # fmt: skip
    assert await images.graph.layers() == before
    assert (await images.run("image_inspect", "a:1")).Id == digest(CONFIG)


async def test_indexes_that_multiply_are_refused(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten indexes, each naming the next one ten times, would be ten billion manifests."""
    monkeypatch.setattr(contents, "MANIFESTS_MAX", 100)
    members: dict[str, bytes | tarfile.TarInfo] = {}
    text = json.dumps({"manifests": []}).encode()
    for _ in range(10):
        members[f"blobs/sha256/{digest(text)[7:]}"] = text
        text = json.dumps({"manifests": [{"digest": digest(text)}] * 10}).encode()
    with pytest.raises(BadParameter, match="more than 100 manifests"):
        await images.run("load", stdin=archive({**members, "index.json": text}))


async def test_an_archive_of_very_many_members_is_refused(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.image.archive.MEMBERS_MAX", 10)
    with pytest.raises(BadParameter, match="more than 10 members"):
        await images.run("load", stdin=archive({f"f{at}": b"" for at in range(20)}))


async def test_of_an_index_for_many_machines_ours_is_taken(images: Images) -> None:
    def member(architecture: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = config_blob([LOW], Labels={"for": architecture})
        document = json.dumps({"config": {"digest": digest(config)}, "layers": [{"digest": digest(LOW)}]}).encode()
        entry = {"digest": digest(document), "platform": {"os": "linux", "architecture": architecture}}
        return entry, {f"blobs/sha256/{digest(data)[7:]}": data for data in (config, document, LOW)}

    made = [member(each) for each in ("s390x", "amd64", "arm64", "unknown")]
    blobs = {name: data for _, members in made for name, data in members.items()}
    data = indexed({"manifests": [entry for entry, _ in made]}, **blobs)
    (id,) = await images.run("load", stdin=data)
    assert (await images.run("image_inspect", id)).Config["Labels"] == {"for": config.host_architecture()}


async def test_progress_is_told_unless_the_client_wants_quiet(images: Images) -> None:
    data = docker_archive([LOW, HIGH], "a:1")
    await images.run("load", stdin=data, quiet=False)
    told = {event.id: event for event in images.said if isinstance(event, Progress)}
    assert {id: (event.status, event.current, event.total) for id, event in told.items()} == {
        digest(each)[7:19]: ("Loading layer", len(each), len(each)) for each in (LOW, HIGH)
    }
    await images.run("image_delete", "a:1")
    await images.run("load", stdin=data)
    assert not [event for event in images.said if isinstance(event, Progress)]


async def test_a_name_that_moves_is_told(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    assert await images.run("load", stdin=docker_archive([HIGH], "a:1")) == ["a:1"]
    assert images.output == (
        f"The image a:1 already exists, renaming the old one with ID {digest(CONFIG)} to empty string\n"
        "Loaded image: a:1\n"
    )


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_the_platform_that_is_asked_for_is_loaded(images: Images, form: str) -> None:
    config = json.dumps(json.loads(CONFIG) | {"architecture": "arm64", "variant": "v8"}).encode()
    entries = [
        {"Config": "c", "RepoTags": ["a:ours"], "Layers": ["l"]},
        {"Config": "d", "RepoTags": ["a:theirs"], "Layers": ["l"]},
    ]
    data = archive({"c": CONFIG, "d": config, "l": LOW, "manifest.json": json.dumps(entries).encode()})
    if form == "oci":
        document = json.dumps({"config": {"digest": digest(config)}, "layers": [{"digest": digest(LOW)}]}).encode()
        platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
        missing = {"digest": digest(b"not here"), "platform": {"os": "linux", "architecture": "amd64"}}
        index = {"manifests": [missing, {"digest": digest(document), "platform": platform}]}
        data = indexed(index, **{f"blobs/sha256/{digest(each)[7:]}": each for each in (config, document, LOW)})
    wanted = '{"os": "linux", "architecture": "arm64"}'
    (name,) = await images.run("load", stdin=data, platform=wanted)
    assert (await images.run("image_inspect", name)).Architecture == "arm64"
    with pytest.raises(BadParameter, match="no image for linux/riscv64"):
        await images.run("load", stdin=data, platform='{"os": "linux", "architecture": "riscv64"}')
    assert len(await images.list()) == 1


async def test_a_bomb_ends_when_the_disk_would_fill_up(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as the whole archive, once as a layer in it."""
    monkeypatch.setattr("windlass.lib.decompress.CHECK", 1 << 20)
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 1000, 10, 10, 0, 255))
    bomb = compress(layer(zeros="0" * (20 << 20)), "gzip")
    inside = archive({"c": CONFIG, "l": bomb, "manifest.json": manifest("c", ["l"], "a:1")})
    for data in (bomb, inside):
        with monkeypatch.context() as patch, pytest.raises(JobError, match="No space left"):
            patch.setattr("windlass.lib.decompress.os.statvfs", lambda _: full)
            await images.run("load", stdin=data)
        assert await images.is_empty()


async def test_what_would_steer_overlayfs_is_no_part_of_a_layer(images: Images) -> None:
    """`trusted.overlay.*` and `user.overlay.*` of an archive are dropped; a sparse file of GNU's is refused."""
    info = tarfile.TarInfo("f")
    keys = ("trusted.overlay.redirect", "user.overlay.opaque", "trusted.overlay.opaque")
    info.pax_headers = {f"SCHILY.xattr.{key}": "y" for key in keys} | {"SCHILY.xattr.user.kept": "y"}
    evil = tar_of(info)
    config = config_blob([evil])
    await images.run("load", stdin=archive({"c": config, "l": evil, "manifest.json": manifest("c", ["l"], "a:1")}))
    (chain,) = await images.graph.layers()
    assert os.listxattr(images.graph.root / "layers" / chain / "diff" / "f") == ["user.kept"]


def tar_of(info: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    return buffer.getvalue()


async def test_a_sparse_file_of_exabytes_is_refused(images: Images) -> None:
    info = tarfile.TarInfo("f")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(8 << 60)}
    evil = tar_of(info)
    data = archive({"c": config_blob([evil]), "l": evil, "manifest.json": manifest("c", ["l"], "a:1")})
    with pytest.raises(BadParameter, match="sparse"):
        await images.run("load", stdin=data)
    assert await images.is_empty()
