"""Docker's filters for events."""

import pytest

from windlass.engine.errors import BadParameter
from windlass.events.events import message_of
from windlass.events.filters import matcher
from windlass.jobs.events import Log, Message


def message(action: str = "start", id: str = "c0ffee", type: str = "container", **attributes: str) -> Message:
    return message_of(Log(action=action, id=id, type=type, attributes=attributes), 10**9)


def passes(message: Message, **filters: list[str]) -> bool:
    return matcher(filters)(message)


def test_without_filters_everything_passes() -> None:
    assert passes(message())


def test_values_of_one_filter_are_alternatives_and_filters_add_up() -> None:
    assert passes(message(), event=["stop", "start"], type=["container"])
    assert not passes(message(), event=["start"], type=["image"])


def test_a_container_is_found_by_a_prefix_of_its_id_or_name() -> None:
    assert passes(message(), container=["c0f"])
    assert passes(message(name="web"), container=["we"])
    assert not passes(message(name="web"), container=["eb"])


def test_an_image_filter_takes_the_containers_of_that_image_along() -> None:
    assert passes(message(image="busybox:latest"), image=["busybox"])
    assert passes(message(image="host:5000/busybox"), image=["host:5000/busybox"])
    assert passes(message(id="busybox:1", type="image", name="busybox:1"), image=["busybox"])
    assert not passes(message(image="busybox:latest"), image=["alpine"])


def test_every_label_must_hold() -> None:
    labelled = message(a="1", b="2")
    assert passes(labelled, label=["a", "b=2"])
    assert not passes(labelled, label=["a", "b=3"])
    assert not passes(labelled, label=["c"])


def test_an_exec_is_found_without_its_command() -> None:
    assert passes(message("exec_create: sh -c true"), event=["exec_create"])
    assert not passes(message("exec_create: sh -c true"), event=["exec"])


def test_old_clients_send_an_object_of_true() -> None:
    assert matcher({"type": {"container": True}})(message())
    assert not matcher({"type": {"image": True, "container": False}})(message())


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(BadParameter, match="invalid filter 'colour'"):
        matcher({"colour": ["red"]})
