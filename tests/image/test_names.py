"""Lists, names, ids, and how images go: `images`, `image_inspect`, `history`, `tag`, `image_delete`."""

from __future__ import annotations

import msgspec
import pytest

from tests.image.support import Images
from tests.support.images import config_blob, digest, docker_archive, layer
from windlass import image
from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, Conflict, NotFound
from windlass.image.store import chain_ids
from windlass.jobs.container_views import Summary, SummaryHostConfig, SummaryNetworks
from windlass.jobs.containers import Containers, Create, Created, Delete
from windlass.jobs.events import Log
from windlass.jobs.images import Deleted
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database

pytestmark = pytest.mark.root

LOW, HIGH = layer(low="low"), layer(high="high!")


async def load(images: Images, layers: list[bytes], *tags: str, **config: object) -> str:
    await images.run("load", stdin=docker_archive(layers, *tags, **config))
    return digest(config_blob(layers, **config))


# -- finding ---------------------------------------------------------------------------------------------------------


async def test_an_image_is_found_by_name_id_and_prefix(images: Images) -> None:
    id = await load(images, [LOW], "you/tool:1", "busybox:latest")
    for word in ("you/tool:1", "docker.io/you/tool:1", "busybox", "library/busybox", id, id[7:], id[:20], id[7:12]):
        assert (await images.run("image_get", word)).id == id, word


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nobody", "No such image: nobody:latest"),
        ("nobody:1", "No such image: nobody:1"),
        ("a.example/nobody", "No such image: a.example/nobody:latest"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
    ],
)
async def test_an_unknown_image_is_told_in_dockers_words(images: Images, word: str, message: str) -> None:
    await load(images, [LOW], "a:1")
    for job in ("image_get", "image_inspect", "history", "image_delete"):
        with pytest.raises(NotFound) as caught:
            await images.run(job, word)
        assert caught.value.message == message
    with pytest.raises(NotFound):
        await images.run("tag", word, repo="x")


@pytest.mark.parametrize("word", ["A", "a b", "x:", "", "-", "a//b", "../x", "a\0"])
async def test_a_broken_name_is_a_bad_parameter(images: Images, word: str) -> None:
    await load(images, [LOW], "a:1")
    with pytest.raises((BadParameter, NotFound)):
        await images.run("image_get", word)


# -- listing ---------------------------------------------------------------------------------------------------------


async def ids(images: Images, **filters: list[str]) -> set[str]:
    return {each.Id for each in await images.list(filters=filters)}


async def test_filters_choose(images: Images) -> None:
    one = await load(images, [LOW], "you/one:1", Labels={"a": "b"})
    two = await load(images, [HIGH], "two:2", Labels={"a": "c"})
    bare = await load(images, [LOW, HIGH])
    assert await ids(images) == {one, two, bare}
    assert await ids(images, dangling=["true"]) == {bare}
    assert await ids(images, dangling=["false"]) == {one, two}
    assert await ids(images, label=["a"]) == {one, two}
    assert await ids(images, label=["a=b"]) == {one}
    assert await ids(images, label=["a", "x"]) == set()
    assert await ids(images, reference=["you/*"]) == {one}
    assert await ids(images, reference=["*"]) == {two}
    assert await ids(images, reference=["*:2", "*/*:1"]) == {one, two}
    assert await ids(images, until=["2024-01-01T00:00:01Z"]) == {one, two, bare}
    assert await ids(images, until=["2024-01-01T00:00:00Z"]) == set()
    assert await ids(images, until=["1h"]) == {one, two, bare}
    assert await ids(images, until=["900000h"]) == set()


async def test_since_and_before_compare_by_age(images: Images) -> None:
    old = await load(images, [LOW], "old:1")  # its configuration says 2024
    new = await images.run("import", repo="new", stdin=layer(new="new"))
    assert await ids(images, since=["old:1"]) == {new}
    assert await ids(images, before=["new"]) == {old}
    assert [each.Id for each in await images.list()] == [new, old]


@pytest.mark.parametrize("filters", [{"x": ["y"]}, {"dangling": ["perhaps"]}, {"until": ["soon"]}])
async def test_a_wrong_filter_is_refused(images: Images, filters: dict[str, list[str]]) -> None:
    with pytest.raises(BadParameter):
        await images.list(filters=filters)


async def test_only_names_that_fit_are_listed(images: Images) -> None:
    await load(images, [LOW], "a:1", "b:1")
    (found,) = await images.list(filters={"reference": ["a"]})
    assert found.RepoTags == ["a:1"]


async def test_history_is_newest_first_and_has_sizes(images: Images) -> None:
    id = await load(images, [LOW, HIGH], "a:1")
    steps = await images.run("history", "a:1")
    assert [(step.Id, step.CreatedBy, step.Size, step.Tags) for step in steps] == [
        (id, "layer 1", 5, ["a:1"]),
        ("<missing>", "layer 0", 3, None),
    ]
    assert steps[0].Created == 1704067200


# -- names -----------------------------------------------------------------------------------------------------------


async def test_a_name_moves_to_the_image_that_gets_it_last(images: Images) -> None:
    one = await load(images, [LOW], "a:1")
    two = await load(images, [HIGH], "b:1")
    await images.run("tag", "b:1", repo="a", tag="1")
    assert (await images.run("image_get", "a:1")).id == two
    assert await ids(images, dangling=["true"]) == {one}


@pytest.mark.parametrize("env", [{"repo": "A"}, {"repo": ""}, {"repo": "a", "tag": "-x"}, {"repo": "a", "tag": "b c"},
                                 {"repo": "a@sha256:" + "0" * 64}, {"repo": "0" * 64}])  # fmt: skip
async def test_a_broken_tag_is_refused(images: Images, env: dict[str, str]) -> None:
    await load(images, [LOW], "a:1")
    with pytest.raises(BadParameter):
        await images.run("tag", "a:1", **env)
    assert [each.RepoTags for each in await images.list()] == [["a:1"]]


async def test_events_tell_of_ids_and_names(images: Images) -> None:
    told: list[Log] = []

    async def listen(job: Job[Log], call: object) -> None:
        told.append(job.params if job.params is not None else msgspec.convert(job.env, Log))

    images.engine.around("log", listen)
    id = await load(images, [LOW], "a:1")
    await images.run("tag", "a:1", repo="b")
    await images.run("image_delete", "b")
    await images.run("image_delete", "a:1")
    assert [(each.action, each.id, each.type) for each in told] == [
        (action, id, "image") for action in ("load", "tag", "untag", "untag", "delete")
    ]
    assert told[1].attributes["name"] == "b:latest"


# -- going -----------------------------------------------------------------------------------------------------------


def layers_of(*diff_ids: str) -> list[Deleted]:
    chains = chain_ids(list(diff_ids))
    return [Deleted(Deleted=f"sha256:{chain}") for chain in reversed(chains)]


async def test_the_last_name_takes_the_image_along(images: Images) -> None:
    id = await load(images, [LOW, HIGH], "a:1", "b:1")
    assert await images.run("image_delete", "a:1") == [Deleted(Untagged="a:1")]
    assert await images.run("image_delete", "b:1") == [
        Deleted(Untagged="b:1"),
        Deleted(Deleted=id),
        *layers_of(digest(LOW), digest(HIGH)),
    ]
    assert await images.is_empty()


async def test_layers_that_others_have_stay(images: Images) -> None:
    await load(images, [LOW], "low:1")
    high = await load(images, [LOW, HIGH], "high:1")
    gone = await images.run("image_delete", "high:1")
    assert gone == [Deleted(Untagged="high:1"), Deleted(Deleted=high), layers_of(digest(LOW), digest(HIGH))[0]]
    assert (await images.run("image_get", "low:1")).chain in await images.graph.layers()
    await images.run("image_delete", "low:1")
    assert await images.is_empty()


async def test_an_id_with_several_names_must_be_forced(images: Images) -> None:
    id = await load(images, [LOW], "a:1", "b:1")
    with pytest.raises(Conflict) as caught:
        await images.run("image_delete", id)
    assert caught.value.message == (
        f"conflict: unable to delete {id[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    gone = await images.run("image_delete", id, force=True)
    assert gone[:3] == [Deleted(Untagged="a:1"), Deleted(Untagged="b:1"), Deleted(Deleted=id)]
    assert await images.is_empty()


class Yard:
    """Stands for the daemon: containers by id, as `containers` lists them."""

    def __init__(self, engine: Engine) -> None:
        self.found: list[Summary] = []
        engine.register("containers", self.containers)
        engine.register("delete", self.delete)

    def put(self, image_id: str, state: str) -> str:
        id = f"{len(self.found) + 1:064x}"
        host, networks = SummaryHostConfig(NetworkMode="none"), SummaryNetworks()
        self.found.append(Summary(id, ["/x"], "x", image_id, "", 0, [], {}, state, "", host, networks, []))
        return id

    async def containers(self, job: Job[Containers]) -> list[Summary]:
        return self.found

    async def delete(self, job: Job[Delete]) -> None:
        self.found = [each for each in self.found if each.Id != job.params.name]


async def test_a_running_container_cannot_be_overruled_by_id(images: Images) -> None:
    yard, id = Yard(images.engine), await load(images, [LOW], "a:1")
    container = yard.put(id, "running")
    for force in (False, True):
        with pytest.raises(Conflict) as caught:
            await images.run("image_delete", id[7:19], force=force)
        assert caught.value.message == (
            f"conflict: unable to delete {id[7:19]} (cannot be forced) - image is being used by running container "
            f"{container[:12]}"
        )
    assert await images.run("image_delete", "a:1", force=True) == [Deleted(Untagged="a:1")]
    assert await ids(images, dangling=["true"]) == {id}


async def test_the_only_name_of_a_used_image_must_be_forced(images: Images) -> None:
    yard, id = Yard(images.engine), await load(images, [LOW], "a:1")
    container = yard.put(id, "exited")
    with pytest.raises(Conflict) as caught:
        await images.run("image_delete", "a:1")
    assert caught.value.message == (
        'conflict: unable to remove repository reference "a:1" (must force) - container '
        f"{container[:12]} is using its referenced image {id[7:19]}"
    )
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container"):
        await images.run("image_delete", id)
    assert (await images.run("image_get", "a:1")).id == id


async def test_layers_stay_until_the_last_container_has_gone(images: Images) -> None:
    yard, id = Yard(images.engine), await load(images, [LOW, HIGH], "a:1")
    first, second = yard.put(id, "exited"), yard.put(id, "created")
    assert await images.run("image_delete", id, force=True) == [Deleted(Untagged="a:1"), Deleted(Deleted=id)]
    with pytest.raises(NotFound):
        await images.run("image_get", id)
    assert await images.list(all=True) == []
    await load(images, [layer(other="o")], "other:1")  # whoever collects now must see the tombstone
    await images.run("image_delete", "other:1")
    assert len(await images.graph.layers()) == 2
    await images.run("delete", first)
    assert len(await images.graph.layers()) == 2
    await images.run("delete", second)
    assert await images.is_empty()


async def test_an_image_comes_back_from_its_tombstone(images: Images) -> None:
    yard, id = Yard(images.engine), await load(images, [LOW], "a:1")
    container = yard.put(id, "exited")
    await images.run("image_delete", id, force=True)
    assert await load(images, [LOW], "b:1") == id
    await images.run("delete", container)
    assert (await images.run("image_get", "b:1")).chain in await images.graph.layers()


async def test_a_container_that_is_being_made_keeps_its_layers(images: Images) -> None:
    """`create` has asked for the image and is not listed yet, when the image is deleted."""
    yard, id = Yard(images.engine), await load(images, [LOW], "a:1")

    async def create(job: Job[Create]) -> Created:
        record = await images.run("image_get", job.params.Image)
        await images.run("image_delete", job.params.Image)
        assert record.chain in await images.graph.layers()
        return Created(yard.put(record.id, "created"), [])

    images.engine.register("create", create)
    container = await images.run("create", Image="a:1")
    with pytest.raises(NotFound):
        await images.run("image_get", id)
    await images.run("delete", container.Id)
    assert await images.is_empty()


# -- keeping ---------------------------------------------------------------------------------------------------------


async def test_images_and_tombstones_outlive_the_daemon(images: Images) -> None:
    yard, id = Yard(images.engine), await load(images, [LOW], "a:1")
    kept = await load(images, [HIGH], "b:1")
    yard.put(id, "exited")
    await images.run("image_delete", id, force=True)
    database = Database(images.root / "windlass.db", "OFF")
    engine = Engine()
    image.install(
        engine, database=database, graph=images.graph, blobs=Blobs(images.root / "blobs"), data_root=images.root
    )
    again = Images(engine, images.graph, images.root)
    assert [(each.Id, each.RepoTags) for each in await again.list()] == [(kept, ["b:1"])]
    assert len(await images.graph.layers()) == 2
    Yard(engine)
    await again.run("image_delete", "b:1")
    assert await again.is_empty()
    database.close()


async def test_a_layer_without_an_image_goes_with_the_next_change(images: Images) -> None:
    """What a crash between the layer and its row leaves."""

    async def orphan():  # type: ignore[no-untyped-def]
        yield layer(orphan="o")

    await images.graph.apply(None, None, orphan())
    id = await load(images, [LOW], "a:1")
    assert await images.graph.layers() == {(await images.run("image_get", id)).chain}
