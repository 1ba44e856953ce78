"""Which container a word means; which names are allowed; the table of life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.daemon.container import Container, Definition, Outcome
from windlass.daemon.lifecycle import TRANSITIONS, Lifecycle, LifecycleError, State, Step
from windlass.daemon.names import Registry, check_name, new_id
from windlass.engine.errors import BadParameter, Conflict, NotFound
from windlass.jobs.container_config import Config, HostConfig, NetworkingConfig


def make(id: str, name: str) -> Container:
    definition = Definition(id, name, 0, "sha256:0", None, Config(), HostConfig(), NetworkingConfig(), "vfs")
    return Container(definition, Outcome())


def registry(**containers: str) -> Registry:
    found = Registry()
    for name, id in containers.items():
        found.add(make(id.ljust(64, "0"), name))
    return found


def test_a_name_is_not_hidden_by_the_id_of_another() -> None:
    """1.3 looked for prefixes first: a container called `abc` was out of reach when an id began so."""
    found = registry(abc="123", other="abc4")
    assert found.get("abc").name == "abc"
    assert found.get("/abc").name == "abc"
    assert found.get("abc4").name == "other"


def test_a_full_id_wins_over_a_name_that_looks_like_it() -> None:
    id = "1".ljust(64, "0")
    found = registry(first="1", **{id: "2"})
    assert found.get(id).name == "first"


def test_a_prefix_has_to_be_unique() -> None:
    found = registry(one="ab1", two="ab2")
    assert found.get("ab1").name == "one"
    with pytest.raises(BadParameter, match="multiple IDs found with provided prefix: ab"):
        found.get("ab")
    for word in ("", "/", "abc", "ab1x"):
        with pytest.raises(NotFound, match=f"No such container: {word}$"):
            found.get(word)


def test_a_name_is_free_again_after_removal_only() -> None:
    found = registry(web="1")
    with pytest.raises(Conflict, match='The container name "/web" is already in use'):
        found.hold("web", "2")
    found.release("web", "2")  # not its holder
    with pytest.raises(Conflict):
        found.hold("web", "2")
    found.remove(found.get("web"))
    found.hold("web", "2")


def test_random_names_are_free_and_allowed() -> None:
    found = Registry()
    names = {found.hold_any(str(number)) for number in range(500)}
    assert len(names) == 500
    assert all(check_name(name) == name for name in names)


@pytest.mark.parametrize("name", ["web", "/web", "a.b", "A_1-x", "0a"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["x", ".x", "-x", "a/b", "../x", "a b", "ä1", "//x", "web\n", "a\0b"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(BadParameter, match="only \\[a-zA-Z0-9\\]\\[a-zA-Z0-9_.-\\] are allowed"):
        check_name(name)


def test_ids_are_hexadecimal_and_no_numbers() -> None:
    for id in (new_id() for _ in range(100)):
        assert len(id) == 64 and int(id, 16) >= 0 and not id[:12].isdecimal()


@given(st.lists(st.sampled_from(list(Step)), max_size=30))
def test_a_life_follows_the_table_and_never_leaves_gone(steps: list[Step]) -> None:
    life = Lifecycle()
    for step in steps:
        before = life.state
        if step in TRANSITIONS[before]:
            assert life.advance(step) is TRANSITIONS[before][step]
        else:
            with pytest.raises(LifecycleError):
                life.advance(step)
            assert life.state is before
    assert life.state in State


def test_every_state_can_be_reached_and_only_gone_is_final() -> None:
    reached, todo = {State.CREATED}, [State.CREATED]
    while todo:
        for state in TRANSITIONS[todo.pop()].values():
            if state not in reached:
                reached.add(state)
                todo.append(state)
    assert reached == set(State)
    assert [state for state in State if not TRANSITIONS[state]] == [State.GONE]
