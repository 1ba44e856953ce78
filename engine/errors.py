"""What can go wrong with a job, in words that a caller can act on.

    JobError
    ├── BadParameter      the caller's env is wrong; `key` names the culprit
    ├── NotFound          no such container, image, exec …
    │   └── NoSuchJob     no handler of that name
    ├── Conflict          the thing is in a state, or has a name, that forbids it
    ├── NotModified       nothing to do: started already, stopped already
    ├── Denied            policy says no
    ├── Unauthorized      credentials are missing or wrong
    ├── Unavailable       not now: starting up, shutting down, not a swarm manager
    ├── Unsupported       not built, or this host cannot
    ├── Cancelled         somebody cancelled the job
    │   └── DeadlineExceeded
    └── Internal          our own fault; the traceback is in the log, never in the message

Subsystems raise these; `api/errors.py` alone knows what they look like over HTTP.
"""

from __future__ import annotations

from typing import Any, ClassVar


class JobError(Exception):
    """A job ended without its result. `code` is stable, for machines; the message is for people.

    `detail` holds what a machine may want besides: JSON values only. `exit_status` is what a shell would see.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class BadParameter(JobError):
    """A key is unknown, missing, doubled, ill-typed or out of range; `detail["key"]` names it."""

    code = "bad-parameter"


class NotFound(JobError):
    code = "not-found"


class NoSuchJob(NotFound):
    code = "no-such-job"
    exit_status = 127


class Conflict(JobError):
    code = "conflict"


class NotModified(JobError):
    code = "not-modified"


class Denied(JobError):
    code = "denied"


class Unauthorized(JobError):
    code = "unauthorized"


class Unavailable(JobError):
    code = "unavailable"


class Unsupported(JobError):
    code = "unsupported"


class Cancelled(JobError):
    """The job was cancelled: by its client's leaving, the `cancel` job, its parent's end, or shutdown."""

    code = "cancelled"


class DeadlineExceeded(Cancelled):
    code = "deadline"


class Internal(JobError):
    """A handler raised something that is no JobError. The cause is in `__cause__` and in the log."""

    code = "internal"


def _by_code(root: type[JobError]) -> dict[str, type[JobError]]:
    table = {root.code: root}
    for child in root.__subclasses__():
        table |= _by_code(child)
    return table


def from_code(code: str, message: str, detail: dict[str, Any] | None = None) -> JobError:
    """The error that `code` stands for, as a remote engine sent it; Internal for a code from the future."""
    return BY_CODE.get(code, Internal)(message, **(detail or {}))


BY_CODE = _by_code(JobError) | {"internal": Internal}
