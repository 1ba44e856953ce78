"""The tests of cgroups, limits and live containers once more, on cgroup v2 and Linux 6.1, in User-Mode Linux.

`scripts/test` runs a part; with `--rounds 20` or more all of it is run. What the machine cannot do says "not run".
"""

import shutil

import pytest

from tests.support.packages import Missing
from tests.uml.machine import Halted, pytest_command, run

pytestmark = [pytest.mark.root, pytest.mark.slow]

# Tests that need what the machine has not: a packet filter, or a clock for ps.
WITHOUT = "not interfaces and not inspect_ps_and_info and not top_and_logs"
ENGINE = ["tests/kernel/test_cgroup.py", "tests/execdriver/test_native.py"]
SOME = "(limit_is_what or throttled) and api or daemon or kill_ends or one_sample or shape"
COMPAT = [f"tests/compat/test_{name}.py" for name in ("resources", "update", "pause", "stats")]


def boot(*arguments: str) -> Halted:
    if not shutil.which("apt-get"):
        pytest.skip("not run: no apt-get, and so no user-mode-linux")
    try:
        return run(pytest_command(*arguments))
    except Missing as why:
        pytest.skip(f"not run: {why}")


def check(halted: Halted) -> None:
    assert halted.status == 0, halted.text[-6000:]
    assert "controllers: cpu io memory pids" in halted.text
    assert " passed" in halted.text


def test_cgroups_and_the_exec_driver() -> None:
    check(boot(*ENGINE))


def test_layers_of_a_size(rounds: int) -> None:
    """Here alone: this machine's own XFS may have been built without quotas."""
    chosen = "quota or size_holds" if rounds >= 20 else "quota or size_holds and api"
    halted = boot("tests/graphdriver/test_quota.py", "tests/compat/test_resources.py", "-k", chosen)
    check(halted)
    assert "skipped" not in halted.text, halted.text[-3000:]


def test_limits_and_live_containers(rounds: int) -> None:
    chosen = WITHOUT if rounds >= 20 else f"({SOME}) and {WITHOUT}"
    check(boot(*COMPAT, "-k", chosen))
