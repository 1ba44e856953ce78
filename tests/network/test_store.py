"""What the network finds again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.jobs.networks import IPAM, IPAMConfig
from windlass.lib.database import Database
from windlass.network.model import Network
from windlass.network.store import Store


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    durable, run = Database(tmp_path / "durable.db"), Database(tmp_path / "run.db", synchronous="OFF")
    yield durable, run
    durable.close()
    run.close()


@pytest.fixture
def store(databases: tuple[Database, Database]) -> Store:
    store = Store(*databases)
    store.prepare()
    return store


def network(name: str, created_ns: int = 1) -> Network:
    pools = [IPAMConfig("10.1.0.0/24", "", "10.1.0.1", {"a": "10.1.0.9"})]
    return Network(f"id-{name}", name, "bridge", created_ns, IPAM(Config=pools), options={"a": "b"}, labels={"c": ""})


async def test_networks_come_back_as_they_were_oldest_first(store: Store) -> None:
    for each in (network("b", 2), network("a", 3), network("c", 1)):
        await store.put_network(each)
    found = await store.load_networks()
    assert list(found) == ["c", "b", "a"]
    one, other = found["a"], network("a", 3)
    assert one is not None
    assert {key: getattr(one, key) for key in one.__struct_fields__} == {
        key: getattr(other, key) for key in other.__struct_fields__
    }


async def test_a_network_may_be_changed_and_forgotten(store: Store) -> None:
    await store.put_network(network("a", 1))
    await store.put_network(network("a", 2))
    assert (await store.load_networks())["a"].created_ns == 2  # type: ignore[union-attr]
    await store.forget_network("id-a")
    assert await store.load_networks() == {}


async def test_a_row_that_cannot_be_read_is_left_alone(store: Store, databases: tuple[Database, Database]) -> None:
    await store.put_network(network("a"))
    await databases[0].write(lambda db: db.execute("UPDATE networks SET definition = x'ff'"))
    assert await store.load_networks() == {"a": None}


async def test_a_fact_is_what_was_said_first(store: Store) -> None:
    assert [await store.fact("ula", value) for value in ("one", "other")] == ["one", "one"]


async def test_sandboxes_are_bytes_by_container(store: Store) -> None:
    await store.put_sandbox("a", b"1")
    await store.put_sandbox("a", b"2\0")
    await store.put_sandbox("b", b"3")
    await store.forget_sandbox("b")
    await store.forget_sandbox("nobody")
    assert await store.load_sandboxes() == {"a": b"2\0"}
