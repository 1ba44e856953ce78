"""The benchmark's tables, and that its smallest case runs."""

import runpy
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def report() -> dict[str, Any]:
    return runpy.run_path(str(BENCH / "report.py"))


def test_the_ratio_is_that_of_the_medians(report: dict[str, Any]) -> None:
    assert report["ratio"]([1.0, 2.0, 30.0], [10.0, 20.0, 20.0]) == "0.100"
    assert report["ratio"]([1.0], []) == "-"


def test_a_table_has_median_range_ratio_goal_and_count(report: dict[str, Any]) -> None:
    results = {"run, ms": {"ours": [1.0, 2.0, 4.0], "theirs": [20.0, 40.0, 400.0]}}
    head, line, row = report["table"](results, ["ours", "theirs"], {"run, ms": "less"}).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["run, ms", "2.00 (1.00..4.00)", "40.0 (20.0..400)", "0.050", "less", "3"]
    assert len(head) == len(line) == len(row)


def test_a_peer_that_failed_leaves_a_dash(report: dict[str, Any]) -> None:
    table = report["table"]({"run, ms": {"theirs": [2.0]}}, ["ours", "theirs"], {})
    assert [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")][1:4] == [
        "-",
        "2.00 (2.00..2.00)",
        "-",
    ]


def test_a_bare_job_is_measured() -> None:
    found = runpy.run_path(str(BENCH / "job.py"))["run"](1)
    assert len(found) == 2
    assert all(len(samples) == 1 and samples[0] > 0 for samples in found.values())
