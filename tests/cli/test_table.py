"""Ages, sizes and tables, as docker prints them."""

import pytest

from windlass.cli.table import duration, size, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (5399, "About an hour"), (5400, "2 hours"),
        (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86400, "13 days"), (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"), (61 * 86400, "2 months"), (400 * 86400, "13 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_ages_are_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_260_000, "4.26MB"), (1.5e9, "1.5GB"), (3e15, "3e+03TB")],
)
def test_sizes_have_three_digits(count: float, text: str) -> None:
    assert size(count) == text


def test_columns_stand_under_their_heads() -> None:
    assert table(("ID", "NAME"), [("1234", "a"), ("5", "")]) == "ID     NAME\n1234   a\n5"
