"""Signatures as data."""

from typing import Any, ClassVar

from windlass.engine import Signature
from windlass.engine.signature import Args, fields, redacted, result_type


class Give(Signature[list[int]], frozen=True, rename={"from_": "from"}):
    NAME: ClassVar[str] = "give"
    SECRET: ClassVar[frozenset[str]] = frozenset({"key"})
    from_: str
    key: str = ""


class More(Give, frozen=True):
    extra: int = 0


class Nothing(Signature[None], frozen=True):
    pass


def test_the_result_is_the_type_between_the_brackets() -> None:
    assert result_type(Give) == list[int]
    assert result_type(More) == list[int]
    assert result_type(Nothing) is type(None)
    assert result_type(Args) is Any


def test_fields_have_the_envs_names_in_order() -> None:
    assert list(fields(Give)) == ["from", "key"]
    assert fields(Give)["from"].required and not fields(Give)["key"].required


def test_secrets_are_hidden_when_there_are_any() -> None:
    assert redacted(Give, {"from": "a", "key": "k"}) == {"from": "a", "key": "***"}
    assert redacted(Give, {"key": ""}) == {"key": ""}
