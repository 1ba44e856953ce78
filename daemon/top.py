"""The processes of a container, by the host's ps(1), as dockerd does (daemon/top_unix.go)."""

from __future__ import annotations

import re
import subprocess

import trio

from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, Internal, Unavailable
from windlass.jobs.containers import Processes, Top

from .daemon import Daemon
from .pause import check_not_restarting

DEFAULT = "-ef"
TIMEOUT = 30.0  # seconds for ps to read /proc
# A header named PID over another column would let one process pass for another.
_RENAMED = re.compile(r"\s+([^\s]*)=\s*(PID[^\s]*)", re.ASCII)


async def top(daemon: Daemon, job: Job[Top]) -> Processes:
    """List the processes of a running container, with the columns that ps gives for `ps_args`."""
    container = daemon.containers.get(job.params.name)
    words = (job.params.ps_args or DEFAULT).split()
    _check(job.params.ps_args)
    running = container.running
    check_not_restarting(container)
    if running is None or not container.is_running:
        raise Conflict(f"container {container.id} is not running")
    pids = set(await trio.to_thread.run_sync(running.processes))
    output = await trio.to_thread.run_sync(run_ps, words, pids)
    await daemon.tell(container, "top")
    return parse(output, pids)


def run_ps(words: list[str], pids: set[int]) -> str:
    """Run ps for `pids`, or for all processes where its options do not go together with -q. Blocks.

    Raises BadParameter with its own complaint, Unavailable when there is no ps.
    """
    done = _ps([*words, "-q" + ",".join(map(str, sorted(pids)))])
    if done.returncode:
        done = _ps(words)
    if done.returncode:
        complaint = done.stderr.strip().partition("\n")[0]
        raise BadParameter(complaint or f"ps: exit status {done.returncode}", key="ps_args")
    return done.stdout


def _ps(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["ps", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except FileNotFoundError:
        raise Unavailable('exec: "ps": executable file not found in $PATH') from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"ps did not end within {TIMEOUT:g} s") from None


def parse(output: str, pids: set[int]) -> Processes:
    """Find the container's lines in what ps has written. Raises BadParameter without a column PID."""
    head, *lines = output.splitlines() or [""]
    titles = head.split()
    if "PID" not in titles:
        raise BadParameter("Couldn't find PID field in ps output", key="ps_args")
    column, last = titles.index("PID"), len(titles) - 1
    found: list[list[str]] = []
    is_ours = False
    for line in lines:
        words = line.split()
        if len(words) <= column:
            continue
        if words[column] != "-":  # else it is a thread of the process above: option m
            if not words[column].isdecimal():
                raise Internal(f"Unexpected pid '{words[column]}'")
            is_ours = int(words[column]) in pids
        if is_ours:
            found.append([*words[:last], " ".join(words[last:])])
    return Processes(Titles=titles, Processes=found)


def _check(text: str) -> None:
    for name, title in _RENAMED.findall(text):
        if name != "pid":
            raise BadParameter(f'specifying "{name}={title}" is not allowed', key="ps_args")
    if "\0" in text:
        raise BadParameter("a NUL byte cannot be in the arguments of ps", key="ps_args")
