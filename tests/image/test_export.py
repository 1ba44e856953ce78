"""The job `image_export`: an archive that is a docker-archive and an OCI layout in one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

import pytest

from tests.image.support import Images, archive, manifest
from tests.support.images import compress, config_blob, digest, docker_archive, layer, oci_layout
from windlass.engine.errors import BadParameter, NotFound
from windlass.engine.streams import Capture

pytestmark = pytest.mark.root

LOW, HIGH, OTHER = layer(low="low"), layer(high="high!"), layer(other="other")


async def save(images: Images, *names: str, **env: Any) -> bytes:
    """What `image_export` writes."""
    job = images.engine.job("image_export", names=list(names), **env)
    job.stdout = out = Capture()
    await job.run()
    return bytes(out.data)


def members(data: bytes) -> dict[str, bytes]:
    """The files of an archive; each name must be there once."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert len(names) == len(set(names))
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info))}


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
async def test_what_is_saved_is_loaded_as_the_same_image(images: Images, how: str) -> None:
    (name,) = await images.run("load", stdin=oci_layout([LOW, HIGH], "tool:3", how))
    before = await images.run("image_inspect", name)
    data = await save(images, name)
    await images.run("image_delete", name)
    assert await images.is_empty()
    assert await images.run("load", stdin=data) == ["tool:3"]
    assert await images.run("image_inspect", name) == before
    assert await save(images, name) == data


async def test_an_archive_is_both_a_docker_archive_and_an_oci_layout(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW, HIGH], "a:1", "b/c:2"))
    found = members(await save(images, "a:1", "b/c:2"))
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == ["a:1", "b/c:2"]
    assert found[entry["Config"]] == config_blob([LOW, HIGH])
    assert [digest(found[member]) for member in entry["Layers"]] == [digest(LOW), digest(HIGH)]
    index = json.loads(found["index.json"])["manifests"]
    assert [each["annotations"]["io.containerd.image.name"] for each in index] == [
        "docker.io/library/a:1",
        "docker.io/b/c:2",
    ]
    top = digest(HIGH).removeprefix("sha256:")
    assert json.loads(found["repositories"]) == {"a": {"1": top}, "b/c": {"2": top}}


async def test_every_blob_is_what_its_name_says_and_described_with_its_size(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW, HIGH], "a:1"))
    await images.run("load", stdin=oci_layout([LOW, OTHER], "b:1"))
    found = members(await save(images, "a", "b"))
    blobs = {name: data for name, data in found.items() if name.startswith("blobs/")}
    for name, data in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    wanted = json.loads(found["index.json"])["manifests"]
    for entry in wanted.copy():
        document = json.loads(blobs[f"blobs/sha256/{entry['digest'][7:]}"])
        wanted += [document["config"], *document["layers"]]
    for entry in wanted:
        assert len(blobs[f"blobs/sha256/{entry['digest'][7:]}"]) == entry["size"]
    assert {f"blobs/sha256/{entry['digest'][7:]}" for entry in wanted} == blobs.keys()


async def test_a_compressed_layer_is_sent_as_it_came(images: Images) -> None:
    packed = compress(HIGH, "gzip")
    data = archive({"c": config_blob([HIGH]), "l": packed, "manifest.json": manifest("c", ["l"], "a:1")})
    await images.run("load", stdin=data)
    found = members(await save(images, "a:1"))
    (entry,) = json.loads(found["manifest.json"])
    assert found[entry["Layers"][0]] == packed


async def test_a_manifest_is_kept_byte_for_byte_with_its_annotations(images: Images) -> None:
    packed, config = compress(LOW, "gzip"), config_blob([LOW])
    document = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "x", "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": "y", "digest": digest(packed), "size": len(packed)}],
            "annotations": {"org.example.note": "kept"},
        },
        indent=3,
    ).encode()
    blobs = {f"blobs/sha256/{digest(data)[7:]}": data for data in (packed, config, document)}
    index = {"manifests": [{"digest": digest(document), "annotations": {"io.containerd.image.name": "a:1"}}]}
    await images.run("load", stdin=archive({**blobs, "index.json": json.dumps(index).encode()}))
    found = members(await save(images, "a:1"))
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["digest"] == digest(document) and found[f"blobs/sha256/{entry['digest'][7:]}"] == document


async def test_a_repository_without_a_tag_means_all_its_tags(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1", "a:2", "b:1"))
    await images.run("load", stdin=docker_archive([HIGH], "a:3"))
    entries = json.loads(members(await save(images, "a"))["manifest.json"])
    assert [entry["RepoTags"] for entry in entries] == [["a:1", "a:2"], ["a:3"]]


async def test_an_id_is_saved_without_a_name(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    id = (await images.run("image_inspect", "a:1")).Id
    found = members(await save(images, id))
    assert "repositories" not in found
    assert json.loads(found["manifest.json"])[0]["RepoTags"] is None
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert "annotations" not in entry
    assert await save(images, id[7:19]) == await save(images, id)


async def test_an_image_that_is_named_twice_is_saved_once(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    assert await save(images, "a:1", "a", "a:1") == await save(images, "a:1")


@pytest.mark.parametrize("names", [["nosuch"], ["a:1", "nosuch:1"], ["sha256:" + "0" * 64]])
async def test_what_is_not_there_is_named(images: Images, names: list[str]) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    with pytest.raises(NotFound, match=names[-1]):
        await save(images, *names)


async def test_an_image_for_another_platform_is_not_saved(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    assert await save(images, "a:1", platform='{"os": "linux", "architecture": "amd64"}')
    with pytest.raises(NotFound, match=r"does not provide the specified platform \(linux/s390x\)"):
        await save(images, "a:1", platform='{"os": "linux", "architecture": "s390x"}')
    for malformed in ("{", '{"os": 1}', '{"os": "linux"}', "windows/amd64"):
        with pytest.raises(BadParameter):
            await save(images, "a:1", platform=malformed)


async def test_an_image_without_layers_is_saved(images: Images) -> None:
    data = archive({"c": config_blob([]), "manifest.json": manifest("c", [], "empty:1")})
    await images.run("load", stdin=data)
    saved = await save(images, "empty:1")
    await images.run("image_delete", "empty:1")
    assert await images.run("load", stdin=saved) == ["empty:1"]


async def test_an_image_without_its_blobs_is_an_error_before_the_first_byte(images: Images) -> None:
    await images.run("load", stdin=docker_archive([LOW], "a:1"))
    for blob in (images.root / "blobs" / "sha256").iterdir():
        blob.unlink()
    with pytest.raises(NotFound, match="nothing is kept"):
        await save(images, "a:1")
    await images.run("load", stdin=docker_archive([LOW], "a:1"))  # which brings them back
    assert await save(images, "a:1")
