"""Points in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.lib import timestamp


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("0", 0),
        ("1136073600", 1136073600 * 10**9),
        ("1136073600.000000001", 1136073600 * 10**9 + 1),
        ("1.5", 1_500_000_000),
        ("-1.5", -1_500_000_000),
        ("1.0000000019", 1_000_000_001),
        (7, 7 * 10**9),
        (1.25, 1_250_000_000),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:01.000000002+01:00", 10**9 + 2),
        ("2006-01-02T15:04:05.999999999-07:00", 1136239445 * 10**9 + 999_999_999),
    ],
)
def test_seconds_and_rfc_3339_are_understood(value: str | int | float, nanoseconds: int) -> None:
    assert timestamp.parse(value) == nanoseconds


@pytest.mark.parametrize(
    "value",
    ["", "now", "1e3", "0x10", "1.", ".5", "10m", "2006-01-02", "2006-13-02T15:04:05Z", "1\n", "١", float("nan")],
)
def test_anything_else_is_refused(value: str | float) -> None:
    with pytest.raises(ValueError):
        timestamp.parse(value)


@given(st.integers(0, 4 * 10**18))
def test_text_comes_back(nanoseconds: int) -> None:
    assert timestamp.parse(timestamp.text(nanoseconds)) == nanoseconds


def test_text_has_all_nine_digits() -> None:
    assert timestamp.text(1) == "1970-01-01T00:00:00.000000001Z"
