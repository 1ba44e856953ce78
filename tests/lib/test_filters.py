"""What filters of several kinds of objects have in common."""

import time

import pytest

from windlass.lib import filters
from windlass.lib.timestamp import SECOND

LABELS = {"a": "1", "b": ""}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [([], True), (["a"], True), (["a=1", "b="], True), (["a=2"], False), (["a", "c"], False), (["b"], True)],
    ids=str,
)
def test_all_labels_must_be_there(wanted: list[str], expected: bool) -> None:
    assert filters.has_labels(LABELS, wanted) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"), [("eb", True), ("^web$", True), ("^eb", False), ("[", False), ("", True)]
)
def test_a_name_is_found_by_a_part_or_an_expression(pattern: str, expected: bool) -> None:
    assert filters.search(pattern, "web") == expected


def test_until_is_a_duration_before_now_or_a_moment() -> None:
    before = time.time_ns()
    assert before - 5400 * SECOND <= filters.until("1h30m") <= time.time_ns() - 5400 * SECOND
    assert filters.until("1700000000.5") == 1_700_000_000_500_000_000
    assert filters.until("2023-11-14T22:13:20Z") == 1_700_000_000 * SECOND
    assert abs(filters.until("2023-11-14") - 1_700_000_000 * SECOND) < 3 * 86_400 * SECOND  # of this zone


@pytest.mark.parametrize("text", ["", "soon", "1x", "2023-13-40"])
def test_until_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        filters.until(text)
