"""What a registry may do wrong: each time a clear error, nothing on record, and no space taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.registry.conftest import Engines
from tests.registry.server import CONFIG, DOCKER, DOCKER_LIST, LAYER, OCI_INDEX, Answer, Server, times
from tests.support.images import Tar, compress, config_blob, digest, layer
from windlass.engine.errors import JobError
from windlass.lib import decompress
from windlass.registry import manifest
from windlass.registry.manifest import FOREIGN

pytestmark = pytest.mark.root

PATH = "a/b"
TAG = f"/v2/{PATH}/manifests/latest"
LAYERS = [layer(a="a" * 100), layer(b="b" * 100)]
BLOBS = [compress(data, "gzip") for data in LAYERS]


def blob(data: bytes) -> str:
    return f"/v2/{PATH}/blobs/{digest(data)}"


def document(**more: Any) -> bytes:
    """A manifest of the image that is fine, but for what is said."""
    config = config_blob(LAYERS)
    value = {
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": LAYER, "size": len(data), "digest": digest(data)} for data in BLOBS],
    }
    return json.dumps({key: item for key, item in {**value, **more}.items() if item is not None}).encode()


def lies(**lie: Any) -> bytes:
    """A manifest whose second layer's descriptor says something else."""
    fine = json.loads(document())["layers"]
    return document(layers=[fine[0], {**fine[1], **lie}])


def says(content: bytes, media: str = DOCKER) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        server.answers[TAG] = Answer(body=content, headers={"Content-Type": media})

    return change


def gives(data: bytes, answer: Answer) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        server.answers[blob(data)] = answer

    return change


def other_config(**more: Any) -> Callable[[Server], None]:
    """The image with another configuration, whose digest is right."""

    def change(server: Server) -> None:
        config = json.dumps({**json.loads(config_blob(LAYERS)), **more}).encode()
        server.answers[TAG] = Answer(
            body=document(config=server.blob(PATH, config, CONFIG)), headers={"Content-Type": DOCKER}
        )

    return change


def raw_config(content: bytes) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        says(document(config=server.blob(PATH, content, CONFIG)))(server)

    return change


def bad_layer(data: bytes, media: str = LAYER) -> Callable[[Server], None]:
    """The image with another second layer, whose digest and size are right."""

    def change(server: Server) -> None:
        first = json.loads(document())["layers"][0]
        says(document(layers=[first, server.blob(PATH, data, media)]))(server)

    return change


FAULTS: dict[str, tuple[Callable[[Server], None], str]] = {
    "null": (says(b"null"), "it is no JSON object"),
    "a list": (says(b"[]"), "it is no JSON object"),
    "a number": (says(b"3"), "it is no JSON object"),
    "nothing": (says(b""), "invalid manifest"),
    "no JSON": (says(b"<html>"), "invalid manifest"),
    "deep JSON": (says(b"[" * 100_000), "invalid manifest"),
    "doubled keys": (says(b'{"schemaVersion": 2, "schemaVersion": 2}'), "invalid manifest"),
    "too large": (says(b" " * (manifest.DOCUMENT_MAX + 1)), "more than 4194304 bytes"),
    "both a manifest and an index": (says(document(manifests=[])), "both a manifest and an index"),
    "neither": (says(b'{"schemaVersion": 2}'), "both a manifest and an index, or neither"),
    "an index that calls itself a manifest": (says(b'{"schemaVersion": 2, "manifests": []}'), "unsupported manifest"),
    "another media type inside": (says(document(mediaType=OCI_INDEX)), "mediaType in manifest should be"),
    "an unknown media type": (says(document(mediaType=None), "text/html"), "manifest media type: text/html"),
    "schema 1": (says(b'{"schemaVersion": 1, "fsLayers": []}'), "schema 1 support is disabled"),
    "an index without our platform": (
        says(b'{"schemaVersion": 2, "manifests": [{"platform": {"architecture": "s390x"}}]}', DOCKER_LIST),
        "no matching manifest for linux/amd64 in the manifest list entries",
    ),
    "an index of nonsense": (says(b'{"schemaVersion": 2, "manifests": 3}', DOCKER_LIST), "are no list"),
    "layers that are none": (says(document(layers="all")), "its layers are no list"),
    "a layer that is none": (says(document(layers=[3])), "descriptor is no object"),
    "too many layers": (says(document(layers=[{}] * 1001)), "more than 1000"),
    "a configuration that is none": (says(document(config=None)), "descriptor is no object"),
    "a configuration of a plugin": (
        says(document(config={"mediaType": "application/vnd.docker.plugin.v1+json", "size": 1, "digest": digest(b"")})),
        'Encountered remote "application/vnd.docker.plugin.v1+json"',
    ),
    "a huge configuration": (
        says(document(config={"mediaType": CONFIG, "size": 200 << 20, "digest": digest(b"")})), "over the limit",
    ),
    "a digest that is a path": (says(lies(digest="sha256:../../../../etc/passwd")), "invalid checksum digest format"),
    "a digest in capitals": (says(lies(digest=digest(b"").upper())), "invalid checksum digest format"),
    "a short digest": (says(lies(digest="sha256:abc")), "invalid checksum digest format"),
    "a digest that is a number": (says(lies(digest=3)), "invalid checksum digest format"),
    "another algorithm": (says(lies(digest=f"sha512:{'0' * 128}")), "unsupported digest algorithm"),
    "an unknown algorithm": (says(lies(digest=f"md5:{'0' * 32}")), "invalid checksum digest format"),
    "a negative size": (says(lies(size=-1)), "is -1"),
    "a size that is text": (says(lies(size="12")), "is '12'"),
    "a size that is true": (says(lies(size=True)), "is True"),
    "a size beyond all": (says(lies(size=1 << 63)), "is 9223372036854775808"),
    "a smaller size": (says(lies(size=len(BLOBS[1]) - 1)), "filesystem layer verification failed"),
    "a larger size": (says(lies(size=len(BLOBS[1]) + 1)), "filesystem layer verification failed"),
    "an unknown kind of layer": (says(lies(mediaType="text/plain")), "unsupported layer media type: text/plain"),
    "another layer": (gives(BLOBS[1], Answer(body=BLOBS[1][:-1] + b"\xff")), "filesystem layer verification failed"),
    "more than the layer": (
        gives(BLOBS[1], Answer(body=BLOBS[1] * 2, headers={"Content-Length": str(len(BLOBS[1]) * 2)})),
        "filesystem layer verification failed",
    ),
    "another configuration": (gives(config_blob(LAYERS), Answer(body=b"{}")), "image config verification failed"),
    "no configuration": (raw_config(b"null"), "its configuration is no JSON object"),
    "a configuration that is no object": (raw_config(b"[]"), "its configuration is no JSON object"),
    "a configuration without layers": (other_config(rootfs={}), "lists no diff_ids"),
    "fewer layers than it says": (other_config(rootfs={"type": "layers", "diff_ids": []}), "don't match"),
    "a configuration for windows": (other_config(os="windows"), "it is for windows"),
    "other content than it says": (bad_layer(compress(layer(c="c"), "gzip")), "its content is"),
    "garbage for gzip": (bad_layer(b"\x1f\x8b" + b"garbage" * 20), "invalid compressed stream"),
    "cut gzip": (bad_layer(BLOBS[1][:-20]), "failed to register layer"),
    "no tar": (bad_layer(compress(b"no tar" * 1000, "gzip")), "failed to register layer"),
    "a foreign layer on another planet": (says(lies(mediaType=FOREIGN[0], urls=["gopher://x/"])), "urls are not URLs"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_the_pull_and_leaves_nothing(images: Engines, server: Server, fault: str) -> None:
    change, words = FAULTS[fault]
    server.image(PATH, LAYERS)
    change(server)
    with pytest.raises(JobError) as caught:
        await images.pull(f"{server.host}/{PATH}:latest")
    assert words in caught.value.message
    assert len(caught.value.message) < 1000
    assert await images.is_empty() and images.kept() == []


async def test_the_image_without_a_fault(images: Engines, server: Server) -> None:
    """The measure of the others: it is pulled."""
    server.image(PATH, LAYERS)
    assert (await images.pull(f"{server.host}/{PATH}:latest"))[-1].startswith("Status: Downloaded newer image")
    (found,) = await images.list()
    assert found.RepoTags == [f"{server.host}/{PATH}:latest"]
    assert images.kept() == sorted(digest(data)[7:] for data in BLOBS)


async def test_a_manifest_that_is_not_what_its_digest_says(images: Engines, server: Server) -> None:
    server.image(PATH, LAYERS)
    wanted = digest(b"another")
    server.answers[f"/v2/{PATH}/manifests/{wanted}"] = server.answers[TAG]
    with pytest.raises(JobError, match=f"manifest verification failed for digest {wanted}"):
        await images.pull(f"{server.host}/{PATH}@{wanted}")
    assert await images.is_empty()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_registry_that_never_recovers(images: Engines, server: Server, status: int) -> None:
    server.image(PATH, LAYERS)
    server.answers[blob(BLOBS[1])] = Answer(status)
    with pytest.raises(JobError, match=f"received unexpected HTTP status: {status}"):
        await images.pull(f"{server.host}/{PATH}")
    assert len(server.paths(digest(BLOBS[1]))) == 5
    assert await images.list(all=True) == []


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_registry_that_recovers(images: Engines, server: Server, status: int) -> None:
    server.image(PATH, LAYERS)
    server.rules = [("/manifests/", times(2, Answer(status))), (digest(BLOBS[1]), times(4, Answer(status)))]
    told = await images.pull(f"{server.host}/{PATH}")
    assert any("Retrying in" in line for line in told)
    assert len(await images.list()) == 1


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7), ("0", 0.001), ("soon", 0.001), ("100000", 60)])
async def test_retry_after_is_heeded_within_reason(
    images: Engines, server: Server, monkeypatch: pytest.MonkeyPatch, asked: str, seconds: float
) -> None:
    slept: list[float] = []

    async def sleep(wait: float) -> None:
        slept.append(wait)

    monkeypatch.setattr(trio, "sleep", sleep)
    server.image(PATH, LAYERS)
    server.rules = [(digest(BLOBS[1]), times(1, Answer(429, headers={"Retry-After": asked})))]
    told = await images.pull(f"{server.host}/{PATH}")
    assert slept == [pytest.approx(seconds, rel=0.3)]
    assert f"{digest(BLOBS[1])[7:19]}: Retrying in {seconds:.0f} seconds" in told


async def test_a_redirect_without_an_end(images: Engines, server: Server) -> None:
    server.image(PATH, LAYERS)
    server.answers[blob(BLOBS[1])] = Answer(307, headers={"Location": blob(BLOBS[1])})
    with pytest.raises(JobError, match="stopped after 10 redirects"):
        await images.pull(f"{server.host}/{PATH}")
    assert len(server.paths(digest(BLOBS[1]))) == 11
    assert await images.list(all=True) == []


@pytest.mark.parametrize("where", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x"])
async def test_a_redirect_to_another_protocol(images: Engines, server: Server, where: str) -> None:
    server.image(PATH, LAYERS)
    server.answers[blob(BLOBS[1])] = Answer(302, headers={"Location": where})
    with pytest.raises(JobError, match="neither http nor https"):
        await images.pull(f"{server.host}/{PATH}")


@pytest.mark.parametrize("where", [TAG, blob(config_blob(LAYERS)), blob(BLOBS[1])], ids=["manifest", "config", "layer"])
async def test_a_registry_that_stalls(images: Engines, server: Server, where: str) -> None:
    server.image(PATH, LAYERS)
    body = server.answers[where].body  # type: ignore[union-attr]
    server.answers[where] = Answer(body=body, headers={"Content-Type": DOCKER}, stall=0)
    with pytest.raises(JobError, match="timed out"):
        await images.pull(f"{server.host}/{PATH}")
    assert await images.list(all=True) == []


async def test_a_blob_that_is_always_cut(images: Engines, server: Server) -> None:
    server.image(PATH, LAYERS)
    server.answers[blob(BLOBS[1])] = Answer(body=BLOBS[1], cut=0)
    with pytest.raises(JobError):
        await images.pull(f"{server.host}/{PATH}")
    assert len(server.paths(digest(BLOBS[1]))) == 5
    assert await images.list(all=True) == []


async def test_a_bomb_ends_before_the_disk_is_full(
    images: Engines, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = Tar()
    tar.file("bomb", b"\0" * (64 << 20))
    monkeypatch.setattr(decompress, "RESERVE", 1)  # all of the disk: it is full already
    server.image(PATH, [tar.finish()])
    with pytest.raises(JobError, match="No space left on device: the image would fill the disk"):
        await images.pull(f"{server.host}/{PATH}")
    assert await images.is_empty() and images.kept() == []


async def test_an_error_of_a_registry_is_told_in_its_words(images: Engines, server: Server) -> None:
    errors = {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}
    server.answers[TAG] = Answer(403, json.dumps(errors).encode())
    with pytest.raises(JobError) as caught:
        await images.pull(f"{server.host}/{PATH}")
    assert caught.value.message == (
        f"pull access denied for {server.host}/{PATH}, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )
