"""What errors look like over HTTP: the one place that maps a job's error to a status.

A cancelled job is 500, as dockerd has it: a client that left never reads it, and one that did not shall not take the
answer for its own mistake. A deadline is the caller's own (`X-Windlass-Deadline`), so it is told apart: 504.
"""

from __future__ import annotations

import msgspec

from windlass.engine import errors
from windlass.engine.errors import JobError

STATUS: dict[type[JobError], int] = {
    errors.BadParameter: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Denied: 403,
    errors.Unauthorized: 401,
    errors.Unavailable: 503,
    errors.Unsupported: 501,
    errors.DeadlineExceeded: 504,
    errors.Cancelled: 500,
    errors.Internal: 500,
    JobError: 500,
}

REASONS = {
    100: "Continue", 200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently", 304: "Not Modified",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 421: "Misdirected Request", 426: "Upgrade Required",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


class Refused(Exception):
    """A request that never becomes a job: not HTTP, too large, no such route. `headers` go into the answer."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def status_of(error: JobError) -> int:
    """The status of `error`, by the nearest class of its ancestry that the table has."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def body_of(error: JobError | Refused) -> bytes:
    """`{"message": …}`, as Docker's clients expect it of every error."""
    return msgspec.json.encode({"message": error.message}) + b"\n"


def late(error: JobError) -> bytes:
    """The line that tells of an error in a stream of progress whose head has gone out."""
    return msgspec.json.encode({"errorDetail": {"message": error.message}, "error": error.message}) + b"\r\n"
