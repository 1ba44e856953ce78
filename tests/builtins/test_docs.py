"""What is generated is up to date."""

import subprocess
import sys

from tests.support.daemon import environment
from tests.support.packages import PROJECT


def test_the_reference_of_jobs_is_up_to_date() -> None:
    argv = [sys.executable, "-P", str(PROJECT / "scripts" / "docs"), "--check"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
