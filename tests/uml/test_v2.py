"""Tests of cgroups, limits, live containers and isolation once more, on cgroup v2 and Linux 6.1, in User-Mode Linux.

`scripts/test` runs a part; with `--rounds 20` or more all of it is run. What the machine cannot do says "not run".
Two machines run at a time: each has one CPU.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support import xfs
from tests.support.packages import Missing, docker_cli, unpack
from tests.uml.machine import Halted, pytest_command, run

pytestmark = [pytest.mark.root, pytest.mark.slow]

# Tests that need what the machine has not: a packet filter, or a clock for ps.
WITHOUT = "not interfaces and not inspect_ps_and_info and not top_and_logs"
LIVE = "(limit_is or throttled) and api or daemons_death or kill_ends or outlives_the_daemon or one_sample or shape"
LIVE_FILES = [f"tests/compat/test_{name}.py" for name in ("resources", "update", "pause", "stats")]
QUOTA_FILES = ["tests/graphdriver/test_quota.py", "tests/compat/test_resources.py"]
DEFAULT = ["tests/isolation/test_default.py", "-k", "not files_in_etc"]
ENGINE = ["tests/kernel/test_cgroup.py", "tests/execdriver/test_native.py"]
PARTS = {
    "cgroups and the exec driver": ENGINE,
    "limits and live containers": [*LIVE_FILES, "-k", f"({LIVE}) and {WITHOUT}"],
    "layers of a size": [*QUOTA_FILES, "-k", "quota or size_holds and api"],
    "the default container": DEFAULT,
}
WHOLE = PARTS | {
    "limits and live containers": [*LIVE_FILES, "-k", WITHOUT],
    "layers of a size": [*QUOTA_FILES, "-k", "quota or size_holds"],
}
Boot = Callable[[str], Halted]


@pytest.fixture(scope="module")
def boot(request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Return what waits for the machine of a part; all of them are started with the first one."""
    try:  # now: a machine has no network, and two of them would both unpack what is missing
        docker_cli()
        for package in ("user-mode-linux", *xfs.PACKAGES):
            unpack(package)
    except (Missing, FileNotFoundError) as why:
        pytest.skip(f"not run: {why}")
    started: dict[str, Future[Halted]] = {}
    parts = WHOLE if int(request.config.getoption("--rounds")) >= 20 else PARTS
    with ThreadPoolExecutor(2) as pool:

        def wait(part: str) -> Halted:
            for name, arguments in parts.items():
                if name not in started:
                    started[name] = pool.submit(run, pytest_command(*arguments))
            return started[part].result()

        yield wait


@pytest.mark.parametrize("part", PARTS)
def test_on_cgroup_v2(boot: Boot, part: str) -> None:
    halted = boot(part)
    assert halted.status == 0, halted.text[-6000:]
    assert "controllers: cpu io memory pids" in halted.text
    assert " passed" in halted.text
    if part == "layers of a size":  # here alone: this machine's own XFS may have been built without quotas
        assert "skipped" not in halted.text, halted.text[-3000:]
