"""Says what went wrong in a start, in the words that users of Docker know from runc and Go."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from windlass.execdriver.driver import Program, StartError

from .message import NONE, Record

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


def start_error(names: Sequence[str], program: Program, failed: Record) -> StartError:
    """Make the error for a FAILED record; `names` are those of the op list that failed."""
    call = failed.data.rstrip(b"\0").decode(errors="replace")
    if failed.b >= min(len(names), NONE):
        return StartError("shim", failed.a, f"{call or 'windlass-shim'}: {reason(failed.a)}")
    step = names[failed.b]
    if step == "exec":
        return StartError(step, failed.a, _exec_message(program, failed.a), _exit_code(failed.a, 126))
    if step == "chdir":
        return StartError(step, failed.a, _chdir_message(program, failed.a), _exit_code(failed.a, 128))
    return StartError(step, failed.a, _message(step, call, failed.a))


def reason(number: int) -> str:
    """Return strerror(3) as Go spells it: with a small first letter."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


def _exit_code(number: int, otherwise: int) -> int:
    if number in _NOT_THERE:
        return 127
    return 126 if number in (errno.EACCES, errno.EISDIR) else otherwise


def _exec_message(program: Program, number: int) -> str:
    name = program.args[0]
    if number == errno.ENOEXEC:
        return f"exec {name}: {reason(number)}"
    if number == errno.ENOENT and "/" not in name:
        return f'exec: "{name}": executable file not found in $PATH'
    if number in _NOT_THERE:
        return f'exec: "{name}": stat {name}: {reason(number)}'
    return f'exec: "{name}": {reason(number)}'


def _chdir_message(program: Program, number: int) -> str:
    if number == errno.EXDEV:  # CVE-2024-21626: it would lead out of the root
        return "current working directory is outside of container mount namespace root"
    return f'chdir to cwd ("{program.cwd}") set in config.json failed: {reason(number)}'


def _message(step: str, call: str, number: int) -> str:
    if call == "procfs":  # no system call: where the image's links have led to
        return f"{step}: cannot be mounted because it is inside /proc"
    if call == "move_mount" and number == errno.EINVAL:  # its word for a file on a directory, or the other way round
        number = errno.ENOTDIR
    message = f"{step}: {reason(number)}"
    if number == errno.ENOTDIR and step.startswith("error mounting"):
        return (
            f"{message}: Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
    return f"{message} ({call})" if call else message
