"""A job from one line of text."""

import pytest

from windlass.engine.errors import BadParameter
from windlass.engine.parse import split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo hello world", ("echo", ["hello", "world"], {})),
        ("VERBOSE=1 echo hello", ("echo", ["hello"], {"VERBOSE": "1"})),
        ("echo hello VERBOSE=1 there", ("echo", ["hello", "there"], {"VERBOSE": "1"})),
        ("echo b=c=d", ("echo", [], {"b": "c=d"})),
        ("echo a=1 a=2", ("echo", [], {"a": "2"})),
        ("""echo 'two words' "and more" it\\'s""", ("echo", ["two words", "and more", "it's"], {})),
        ("echo -- a=b --", ("echo", ["a=b", "--"], {})),
        ("echo --name web", ("echo", ["--name", "web"], {})),
        ("echo 1=2 =3", ("echo", ["1=2", "=3"], {})),
        ("HostConfig.Memory=5 create", ("create", [], {"HostConfig.Memory": "5"})),
    ],
)
def test_words_become_name_arguments_and_env(text: str, expected: object) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("text", ["", "   ", "A=1"])
def test_a_line_without_a_name_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(BadParameter, match=f"empty command: {text!r}"):
        split(text)


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(BadParameter, match="No closing quotation"):
        split("echo 'hello")
