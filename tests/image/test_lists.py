"""`images`, `history`, `images_prune`, `system_df`: what is there, which of it, and how much it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.image.support import Images, archive, manifest
from tests.support.images import config_blob, digest, docker_archive, layer, oci_layout
from windlass.engine.errors import BadParameter, Conflict, NotFound

pytestmark = pytest.mark.root

BASE, ONE, TWO = layer(base="12345678"), layer(one="1"), layer(two="22")


async def made(images: Images, name: str, created: str, layers: list[bytes], **config: Any) -> str:
    """Load an image that was made at `created`; return its id."""
    text = json.loads(config_blob(layers, **config)) | {"created": created}
    raw = json.dumps(text).encode()
    members = {f"l{at}": data for at, data in enumerate(layers)}
    entry = manifest("c", list(members), *([name] if name else []))
    await images.run("load", stdin=archive({"c": raw, **members, "manifest.json": entry}))
    return digest(raw)


@pytest.fixture
async def three(images: Images) -> dict[str, str]:
    """An old image, a middle one with labels, a young one without a name; the two named ones share a layer."""
    return {
        "old": await made(images, "a/tool:1", "2020-01-01T00:00:00Z", [BASE, ONE]),
        "middle": await made(images, "b:2", "2021-01-01T00:00:00Z", [BASE, TWO], Labels={"x": "1", "y": ""}),
        "young": await made(images, "", "2022-01-01T00:00:00Z", [TWO], Labels={"x": "2"}),
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "young middle old"),
        ({"dangling": ["true"]}, "young"),
        ({"dangling": ["false"]}, "middle old"),
        ({"dangling": {"1": True}}, "young"),
        ({"reference": ["b"]}, "middle"),
        ({"reference": ["b:2", "a/*"]}, "middle old"),
        ({"reference": ["*"]}, "middle"),
        ({"reference": ["*/t[^x]ol:1"]}, "old"),
        ({"reference": ["a*"]}, ""),
        ({"label": ["x"]}, "young middle"),
        ({"label": ["x=1"]}, "middle"),
        ({"label": ["x", "y"]}, "middle"),
        ({"before": ["b:2"]}, "old"),
        ({"since": ["b:2"]}, "young"),
        ({"since": ["a/tool:1"], "label": ["x=1"]}, "middle"),
        ({"until": ["2020-06-01"]}, "old"),
        ({"until": ["10m"]}, "young middle old"),
    ],
)
async def test_images_are_filtered(images: Images, three: dict[str, str], filters: Any, expected: str) -> None:
    found = [image.Id for image in await images.list(filters=filters)]
    assert found == [three[name] for name in expected.split()]


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ({"nonsense": ["1"]}, BadParameter),
        ({"dangling": ["perhaps"]}, BadParameter),
        ({"dangling": ["true", "false"]}, BadParameter),
        ({"until": ["yesterday"]}, BadParameter),
        ({"until": ["1h", "2h"]}, BadParameter),
        ({"before": ["nosuch"]}, NotFound),
    ],
)
@pytest.mark.parametrize("job", ["images", "images_prune"])
async def test_a_bad_filter_is_refused(images: Images, filters: Any, error: type[Exception], job: str) -> None:
    with pytest.raises((error, BadParameter)):
        await images.run(job, filters=filters)


async def test_a_shared_layer_is_counted_for_each_and_once_in_all(images: Images, three: dict[str, str]) -> None:
    sizes = {image.Id: (image.Size, image.SharedSize) for image in await images.list(shared_size=True)}
    assert sizes == {three["old"]: (9, 8), three["middle"]: (10, 8), three["young"]: (2, 0)}
    assert all(image.SharedSize == -1 for image in await images.list())
    usage = await images.run("system_df")
    assert usage.LayersSize == 8 + 1 + 2 + 2  # the young one's layer stands on nothing: it is another
    assert [image.Containers for image in usage.Images] == [0, 0, 0]
    assert (usage.Containers, usage.Volumes, usage.BuildCache) == ([], [], [])


async def test_disk_usage_of_one_kind_leaves_the_others_out(images: Images, three: dict[str, str]) -> None:
    usage = await images.run("system_df", type=["volume", "build-cache"])
    assert (usage.LayersSize, usage.Images, usage.Containers) == (0, None, None)
    assert (usage.Volumes, usage.BuildCache) == ([], [])
    with pytest.raises(BadParameter, match="unknown object type: disk"):
        await images.run("system_df", type=["disk"])


async def test_the_manifests_of_an_image_are_told(images: Images) -> None:
    await images.run("load", stdin=oci_layout([ONE], "a:1"))
    ((found,),) = [image.Manifests for image in await images.list(manifests=True)]
    assert found.Available and found.Kind == "image" and found.Descriptor["digest"] == found.ID
    assert found.ImageData.Platform == {"architecture": "amd64", "os": "linux"}
    assert found.Size.Total == found.Size.Content + 1


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        ({}, "young"),
        ({"dangling": ["false"]}, "old middle young"),
        ({"dangling": ["false"], "label": ["x"]}, "middle young"),
        ({"dangling": ["false"], "label!": ["x"]}, "old"),
        ({"dangling": ["false"], "until": ["2021-06-01"]}, "old middle"),
        ({"until": ["2021-06-01"]}, ""),
    ],
)
async def test_pruning_takes_what_is_meant(images: Images, three: dict[str, str], filters: Any, gone: str) -> None:
    sizes = {image.Id: image.Size for image in await images.list()}
    before = (await images.run("system_df")).LayersSize
    pruned = await images.run("images_prune", filters=filters)
    taken = {each.Deleted for each in pruned.ImagesDeleted or []} & set(sizes)
    assert taken == {three[name] for name in gone.split()}
    assert {image.Id for image in await images.list()} == set(sizes) - taken
    assert pruned.SpaceReclaimed == before - (await images.run("system_df")).LayersSize


async def test_pruning_everything_leaves_no_byte(images: Images, three: dict[str, str]) -> None:
    await images.run("images_prune", filters={"dangling": ["false"]})
    assert await images.is_empty()
    assert not list((images.root / "blobs" / "sha256").iterdir())


async def test_an_image_with_tags_of_one_repository_and_another_must_be_forced(images: Images) -> None:
    await images.run("load", stdin=docker_archive([ONE], "a:1", "a:2"))
    id = (await images.run("image_inspect", "a:1")).Id
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        await images.run("image_delete", id)
    gone = await images.run("image_delete", id, force=True)
    assert [each.Untagged or each.Deleted for each in gone][:3] == ["a:1", "a:2", id]


async def test_delete_and_history_of_another_platform_find_nothing(images: Images) -> None:
    await images.run("load", stdin=docker_archive([ONE], "a:1"))
    arm = '{"os": "linux", "architecture": "arm64"}'
    for job, env in (
        ("image_delete", {"platforms": [arm]}),
        ("history", {"platform": arm}),
        ("image_inspect", {"platform": arm}),
    ):
        with pytest.raises(NotFound, match=r"\(linux/amd64\) does not match the specified platform \(linux/arm64\)"):
            await images.run(job, "a:1", **env)
    here = '{"os": "linux", "architecture": "amd64"}'
    assert len(await images.run("history", "a:1", platform=here)) == 1
    assert await images.run("image_delete", "a:1", platforms=[here])


@pytest.mark.parametrize(
    ("repo", "tag"), [("", ""), ("sha256", "abc"), ("a@sha256:" + "0" * 64, ""), ("UPPER", ""), ("a", "x y")]
)
async def test_a_name_that_cannot_be_is_no_tag(images: Images, repo: str, tag: str) -> None:
    await images.run("load", stdin=docker_archive([ONE], "a:1"))
    with pytest.raises(BadParameter):
        await images.run("tag", "a:1", repo=repo, tag=tag)
    assert (await images.run("image_inspect", "a:1")).RepoTags == ["a:1"]
