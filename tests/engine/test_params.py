"""From an untyped env to typed parameters."""

import contextlib
import json
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.engine.errors import BadParameter
from windlass.engine.params import MAX_DEPTH, bind, build, parse_json
from windlass.engine.signature import Signature


class Bounds(msgspec.Struct, frozen=True):
    Memory: int = 0
    Names: list[str] = []


class Make(Signature[None], frozen=True, rename={"from_": "from"}):
    NAME: ClassVar[str] = "make"
    name: str
    Image: str = ""
    tty: bool = False
    count: int | None = None
    ratio: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    Cmd: list[str] | None = None
    Limits: Bounds = Bounds()
    Labels: dict[str, str] = {}
    Many: list[Bounds] = []
    from_: str = ""


class Echo(Signature[None], frozen=True):
    NAME: ClassVar[str] = "echo"
    REST: ClassVar[str] = "words"
    first: str
    words: list[str] = []


def refused(env: dict[str, Any], **options: bool) -> BadParameter:
    with pytest.raises(BadParameter) as caught:
        build(Make, env, **options)
    return caught.value


def test_values_that_fit_are_taken() -> None:
    made = build(Make, {"name": "web", "tty": True, "count": 3, "Limits": {"Memory": 5}, "from": "x"})
    assert made == Make(name="web", tty=True, count=3, Limits=Bounds(Memory=5), from_="x")


def test_an_unknown_key_names_the_nearest_one() -> None:
    error = refused({"name": "web", "Imgae": "busybox"})
    assert error.message == "unknown key 'Imgae', did you mean 'Image'?"
    assert error.detail == {"key": "Imgae"}
    assert "'Image'" in refused({"name": "web", "image": "x"}).message


def test_an_unknown_key_is_found_at_any_depth() -> None:
    """A misspelt limit must not silently be none."""
    error = refused({"name": "web", "Limits": {"Memry": 5}})
    assert error.message == "unknown key 'Limits.Memry', did you mean 'Limits.Memory'?"
    assert "'Many[1].x'" in refused({"name": "web", "Many": [{}, {"x": 1}]}).message


def test_a_missing_key_is_named() -> None:
    assert refused({}).message == "missing key 'name'"


@pytest.mark.parametrize(
    ("key", "value"),
    [("count", True), ("count", "1"), ("tty", 1), ("tty", "true"), ("name", 5), ("ratio", "1"), ("Cmd", "ls")],
)
def test_a_value_of_another_type_is_refused_and_named(key: str, value: Any) -> None:
    error = refused({"name": "web", key: value})
    assert error.detail == {"key": key} and repr(key) in error.message


def test_the_exact_path_is_named() -> None:
    assert refused({"name": "w", "Limits": {"Names": ["a", 1]}}).detail == {"key": "Limits.Names[1]"}


def test_a_constraint_is_kept() -> None:
    assert refused({"name": "w", "ratio": -1.0}).detail == {"key": "ratio"}


@pytest.mark.parametrize("word", ["1", "t", "true", "True", "yes", "on"])
def test_docker_says_true_in_many_words(word: str) -> None:
    assert build(Make, {"name": "w", "tty": word}, lax=True).tty is True


@pytest.mark.parametrize("word", ["", "0", "f", "false", "no", "off", "none", "None"])
def test_docker_says_false_in_many_words(word: str) -> None:
    assert build(Make, {"name": "w", "tty": word}, lax=True).tty is False


@pytest.mark.parametrize("word", ["maybe", "2", "-1", "tru e", "ja"])
def test_other_words_are_neither(word: str) -> None:
    """Q8: everything unknown was true in 1.3."""
    assert "must be a boolean" in refused({"name": "w", "tty": word}, lax=True).message


@pytest.mark.parametrize("text", ["4.2", "1e3", "0x1", "42\n", " 1", "", "٣", "1_000"])
def test_only_decimal_digits_are_an_integer(text: str) -> None:
    """1.3 read each of these as 0."""
    assert refused({"name": "w", "count": text}, lax=True).detail == {"key": "count"}


def test_text_becomes_lists_and_objects() -> None:
    made = build(Make, {"name": "w", "Cmd": "ls", "Labels": '{"a": "b"}', "count": "-7", "ratio": "2.5"}, lax=True)
    assert (made.Cmd, made.Labels, made.count, made.ratio) == (["ls"], {"a": "b"}, -7, 2.5)
    assert build(Make, {"name": "w", "Cmd": '["ls", "-l"]'}, lax=True).Cmd == ["ls", "-l"]


def test_a_query_key_given_twice_is_refused_for_a_single_value() -> None:
    assert "more than once" in refused({"name": ["a", "b"]}, lax=True).message


def test_dockers_bodies_ignore_unknown_keys_and_nulls() -> None:
    env = {"name": "w", "tty": None, "Isolation": "hyperv", "Limits": {"Memory": None, "CpuCount": 0}}
    assert build(Make, env, ignore_unknown=True) == Make(name="w")


def test_arguments_fill_the_fields_in_order() -> None:
    assert bind(Make, ["web", "busybox"], {"tty": True}) == {"name": "web", "Image": "busybox", "tty": True}


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(BadParameter, match="'name' is given twice"):
        bind(Make, ["web"], {"name": "db"})


def test_further_arguments_go_to_the_rest() -> None:
    assert bind(Echo, ["a", "b", "c"], {}) == {"first": "a", "words": ["b", "c"]}


# -- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1, "a": 2}', "given twice"),
        (b'{"a": NaN}', "no JSON number"),
        (b"[-Infinity]", "no JSON number"),
        (b"[1e999]", "does not fit"),
        (b"[123456789012345678901234567890]", "64 bits"),
        (b"[18446744073709551616]", "64 bits"),
        (b'"\xff"', "not valid UTF-8"),
        (b'["\\ud800"]', "not valid UTF-8"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b"[" * 1_000_000, "nested deeper"),
        (b"{} {}", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
    ],
)
def test_json_of_a_stranger_is_guarded(text: bytes, why: str) -> None:
    with pytest.raises(BadParameter, match=why):
        parse_json(text)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert parse_json(json.dumps(["[" * 500, '"' + "{" * 500])) == ["[" * 500, '"' + "{" * 500]


def test_the_largest_numbers_fit() -> None:
    assert parse_json(f"[{2**64 - 1}, {-(2**63)}]") == [2**64 - 1, -(2**63)]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(VALUES)
def test_good_json_comes_through(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.binary(max_size=60))
def test_bytes_are_refused_or_decoded_but_never_blow_up(data: bytes) -> None:
    with contextlib.suppress(BadParameter):
        parse_json(data)


@given(st.dictionaries(st.sampled_from(["name", "tty", "count", "Cmd", "Limits", "zzz"]), VALUES | st.text()))
def test_an_env_is_refused_or_built_but_never_blows_up(env: dict[str, Any]) -> None:
    for lax in (False, True):
        with contextlib.suppress(BadParameter):
            build(Make, env, lax=lax)
