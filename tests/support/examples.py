"""Run the scripts of examples/ as their reader would, and load the plugins of examples/ into a daemon."""

import subprocess
import sys
from pathlib import Path

from .daemon import environment
from .packages import PROJECT

EXAMPLES = PROJECT / "examples"
LIMIT = 120.0  # seconds


def run_example(name: str, *arguments: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run examples/NAME with this interpreter to its end; return its output and status."""
    script = EXAMPLES / name
    argv = [sys.executable, "-P", str(script), *arguments]
    return subprocess.run(argv, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=LIMIT)


def plugin_flags(*names: str) -> list[str]:
    """Return the daemon's flags that load these plugins of examples/."""
    return [word for name in names for word in ("--plugin", str(EXAMPLES / name))]
