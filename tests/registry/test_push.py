"""What a push asks of a registry, and what it does when the registry is not as it should be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.registry.conftest import Engines
from tests.registry.server import DOCKER, OCI, Answer, Asked, Server, times
from tests.registry.test_auth import ANN, BASIC, wants
from tests.support.images import compress, config_blob, digest, docker_archive, layer, oci_layout
from windlass.engine.errors import JobError
from windlass.registry import upload

pytestmark = pytest.mark.root

LAYERS = [layer(a="a" * 1000), layer(b="b" * 1000)]


class Store:
    """The writing half of a registry: uploads, in one piece or in several, mounts, manifests."""

    def __init__(self, server: Server, largest: int = 1 << 30, mounts: bool = False) -> None:
        self.server, self.largest, self.mounts = server, largest, mounts
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        server.answers["/v2/"] = Answer()
        server.rules.append(("/blobs/uploads/", self._upload))
        server.rules.append(("/blobs/sha256", self._blob))
        server.rules.append(("/manifests/", self._manifest))

    def _upload(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if len(asked.body) > self.largest:
            return Answer(413)
        if asked.method == "POST":
            if self.mounts and query.get("mount") in self.blobs:
                return Answer(201)
            id = f"upload{len(self.uploads)}"
            self.uploads[id] = b""
            return Answer(202, headers={"Location": f"{url.path}{id}?state=x"})
        id = url.path.rpartition("/")[2]
        assert query["state"] == "x"
        if "content-range" in asked.headers:
            at = int(re.fullmatch(r"([0-9]+)-[0-9]+", asked.headers["content-range"])[1])  # type: ignore[index]
            assert at == len(self.uploads[id])
        self.uploads[id] += asked.body
        if asked.method == "PUT":
            if digest(self.uploads[id]) != query["digest"]:
                return Answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "it is another"}]}')
            self.blobs[query["digest"]] = self.uploads[id]
            return Answer(201)
        if asked.method == "DELETE":
            return Answer(204)
        return Answer(202, headers={"Location": f"{url.path}?state=x"})

    def _blob(self, asked: Asked) -> Answer | None:
        found = self.blobs.get(asked.path.rpartition("/")[2])
        return None if found is None else Answer(body=found)

    def _manifest(self, asked: Asked) -> Answer | None:
        if asked.method == "PUT":
            where = asked.path.rpartition("/")[2]
            self.manifests[where] = asked.headers["content-type"], asked.body
            return Answer(201)
        return None


async def load(images: Engines, name: str) -> None:
    await images.run("load", stdin=docker_archive(LAYERS, name))


def statuses(images: Engines) -> list[str]:
    return [f"{event.id}: {event.status}" for event in images.said if getattr(event, "id", "")]  # type: ignore[attr-defined]


async def test_an_image_that_was_made_here_is_pushed_as_schema_2(images: Engines, server: Server) -> None:
    store, name = Store(server), f"{server.host}/a/b:latest"
    await load(images, name)
    await images.run("push", name)
    media_type, content = store.manifests["latest"]
    manifest = json.loads(content)
    assert media_type == manifest["mediaType"] == DOCKER
    assert manifest["config"]["digest"] == digest(config_blob(LAYERS))
    assert store.blobs[manifest["config"]["digest"]] == config_blob(LAYERS)
    assert [layer["mediaType"][-4:] for layer in manifest["layers"]] == ["gzip", "gzip"]
    assert all(len(store.blobs[layer["digest"]]) == layer["size"] for layer in manifest["layers"])
    (found,) = await images.list()
    assert found.RepoDigests == [f"{server.host}/a/b@{digest(content)}"]


async def test_the_same_image_has_the_same_digest_wherever_it_is_pushed(
    new_engine: Callable[..., Engines], new_server: Callable[..., Server]
) -> None:
    pushed = []
    for _ in range(2):
        images, server = new_engine(), new_server()
        store = Store(server)
        await load(images, f"{server.host}/x:latest")
        await images.run("push", f"{server.host}/x:latest")
        pushed.append(store.manifests["latest"])
    assert pushed[0] == pushed[1]


@pytest.mark.parametrize("how", ["gzip", "zstd", "plain"])
async def test_an_oci_image_that_was_pulled_keeps_its_manifest(
    images: Engines, new_server: Callable[..., Server], how: str
) -> None:
    origin, target = new_server(), new_server()
    store = Store(target)
    suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[how]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config_blob(LAYERS)),
              "digest": digest(config_blob(LAYERS))}  # fmt: skip
    media = f"application/vnd.oci.image.layer.v1.tar{suffix}"
    manifest = origin.image("a/b", LAYERS, how=how, media=media)
    content = json.dumps({**manifest, "mediaType": OCI, "config": config, "annotations": {"kept": "yes"}}).encode()
    origin.manifest("a/b", "latest", content, OCI)
    await images.pull(f"{origin.host}/a/b")
    await images.run("tag", f"{origin.host}/a/b", repo=f"{target.host}/c", tag="1")
    await images.run("push", f"{target.host}/c:1")
    assert store.manifests["1"] == (OCI, content)
    assert set(store.blobs) == {digest(config_blob(LAYERS)), *(digest(compress(data, how)) for data in LAYERS)}


async def test_an_oci_layout_that_was_loaded_is_pushed_as_it_came(images: Engines, server: Server) -> None:
    store = Store(server)
    await images.run("load", stdin=oci_layout(LAYERS, "you/tool:latest", "zstd"))
    await images.run("tag", "you/tool", repo=f"{server.host}/x")
    assert {digest(compress(data, "zstd"))[7:] for data in LAYERS} == set(images.kept())
    await images.run("push", f"{server.host}/x:latest")
    manifest = json.loads(store.manifests["latest"][1])
    assert manifest["mediaType"] == OCI
    assert {layer["digest"] for layer in manifest["layers"]} == {digest(compress(data, "zstd")) for data in LAYERS}


async def test_a_registry_that_takes_small_pieces_only(
    images: Engines, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 50)
    store, name = Store(server, largest=50), f"{server.host}/a/b:latest"
    await load(images, name)
    server.rules.insert(0, (digest(config_blob(LAYERS)), Answer()))  # it has the configuration, which is larger
    await images.run("push", name)
    assert len(json.loads(store.manifests["latest"][1])["layers"]) == 2
    assert len([asked for asked in server.asked if asked.method == "PATCH"]) > 2


async def test_a_layer_is_mounted_from_a_neighbour(images: Engines, server: Server) -> None:
    store = Store(server, mounts=True)
    await load(images, f"{server.host}/a/b:latest")
    await images.run("push", f"{server.host}/a/b:latest")
    sent = dict(store.uploads)
    await images.run("tag", f"{server.host}/a/b", repo=f"{server.host}/c/d", tag="1")
    server.rules.insert(0, ("/v2/c/d/blobs/sha256", times(3, Answer(404))))
    await images.run("push", f"{server.host}/c/d:1")
    assert len([line for line in statuses(images) if line.endswith("Mounted from a/b")]) == 2
    assert len(store.uploads) == len(sent) + 1  # the configuration alone
    assert "from=a/b" in "".join(server.paths("mount=")).replace("%2F", "/")


async def test_a_mount_that_is_refused_becomes_an_upload(images: Engines, server: Server) -> None:
    store = Store(server)
    await load(images, f"{server.host}/a/b:latest")
    await images.run("push", f"{server.host}/a/b:latest")
    await images.run("tag", f"{server.host}/a/b", repo=f"{server.host}/c/d", tag="1")
    store.blobs.clear()
    await images.run("push", f"{server.host}/c/d:1")
    assert len([line for line in statuses(images) if line.endswith("Pushed")]) == 2
    assert len([asked for asked in server.asked if asked.method == "DELETE"]) == 2  # uploads that nobody needs


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_registry_that_recovers(images: Engines, server: Server, status: int) -> None:
    server.rules = [("/blobs/uploads/upload", times(2, Answer(status))), ("/manifests/", times(1, Answer(status)))]
    store = Store(server)
    await load(images, f"{server.host}/a/b:latest")
    await images.run("push", f"{server.host}/a/b:latest")
    assert "latest" in store.manifests
    assert any("Retrying in" in line for line in statuses(images))


async def test_a_registry_that_never_recovers(images: Engines, server: Server) -> None:
    server.rules = [("/blobs/uploads/upload", Answer(500))]
    store = Store(server)
    await load(images, f"{server.host}/a/b:latest")
    with pytest.raises(JobError, match="received unexpected HTTP status: 500"):
        await images.run("push", f"{server.host}/a/b:latest")
    assert store.manifests == {}
    assert (await images.list())[0].RepoDigests == []


@pytest.mark.parametrize(
    ("location", "words"),
    [("", "did not say where"), ("file:///etc/passwd", "neither http nor https"), ("gopher://x/", "neither http")],
)
async def test_an_upload_to_nowhere(images: Engines, server: Server, location: str, words: str) -> None:
    headers = {"Location": location} if location else {}
    server.rules = [("/blobs/uploads/$", Answer(202, headers=headers))]
    Store(server)
    await load(images, f"{server.host}/a/b:latest")
    with pytest.raises(JobError, match=words):
        await images.run("push", f"{server.host}/a/b:latest")


async def test_an_upload_elsewhere_learns_no_password(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    elsewhere = new_server()
    elsewhere.rules = [("", Answer(201))]
    away = Answer(202, headers={"Location": f"{elsewhere.url}/put?it=here"})
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"')), ("/blobs/uploads/$", away)]
    Store(server)
    await load(images, f"{server.host}/a/b:latest")
    await images.run("push", f"{server.host}/a/b:latest", auth=ANN)
    assert len(elsewhere.asked) == 3 and elsewhere.headers("authorization") == set()


async def test_a_layer_of_which_nothing_is_kept_is_named(images: Engines, server: Server) -> None:
    Store(server)
    await load(images, f"{server.host}/a/b:latest")
    for path in (images.blobs / "sha256").iterdir():
        path.unlink()
    with pytest.raises(JobError, match="cannot be pushed: nothing is kept"):
        await images.run("push", f"{server.host}/a/b:latest")


async def test_blobs_go_with_the_last_image_that_has_them(images: Engines, server: Server) -> None:
    server.image("a/b", LAYERS)
    server.image("c/d", LAYERS[:1])
    await images.pull(f"{server.host}/a/b")
    await images.pull(f"{server.host}/c/d")
    both = {digest(compress(data, "gzip"))[7:] for data in LAYERS}
    assert set(images.kept()) == both
    await images.run("image_delete", f"{server.host}/a/b")
    assert images.kept() == [digest(compress(LAYERS[0], "gzip"))[7:]]
    await images.run("image_delete", f"{server.host}/c/d")
    assert images.kept() == []


async def test_a_platform_that_the_image_is_not_for(images: Engines, server: Server) -> None:
    Store(server)
    await load(images, f"{server.host}/a/b:latest")
    wanted = json.dumps({"os": "linux", "architecture": "arm64"})
    with pytest.raises(JobError, match=r"does not provide the specified platform \(linux/arm64\)"):
        await images.run("push", f"{server.host}/a/b:latest", platform=wanted)
