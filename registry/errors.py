"""What registries answer when they do not do what was asked, in Docker's words.

Source: OCI distribution spec, "Error Codes"; moby distribution/errors.go.
"""

from __future__ import annotations

import http.client
from typing import Any

from windlass.engine.errors import BadParameter, Denied, JobError, NotFound, Unavailable
from windlass.engine.params import parse_json
from windlass.lib.reference import Reference


class Unreachable(Unavailable):
    """Nobody answers there, or nobody that speaks the protocol; `never_connected`: nobody even took the connection."""

    def __init__(self, message: str, never_connected: bool = False) -> None:
        super().__init__(message)
        self.never_connected = never_connected


class RegistryError(JobError):
    """A registry refused: HTTP's `status`, the registry's code as `reason`, `retry_after` as the header has it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.retry_after = status, reason, ""


class BadImage(BadParameter):
    """What a registry sent is not what it promised, or no image at all."""


def refusal(status: int, body: bytes, where: str) -> RegistryError:
    """The error that the answer to `where` is: `name unknown: repository name not known to registry`."""
    reason, message = _first(body)
    if reason or message:
        words = reason.lower().replace("_", " ") or "unknown"
        return RegistryError(status, reason, f"{words}: {message or words}"[:1000])
    phrase = http.client.responses.get(status, "")
    return RegistryError(status, "", f"{where}: received unexpected HTTP status: {status} {phrase}".rstrip())


def _first(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in a registry's JSON; empty when there is none."""
    try:
        answer: Any = parse_json(body, "an error")
        error = answer["errors"][0]
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (JobError, LookupError, TypeError, AttributeError):
        return "", ""


def of_pull(error: RegistryError, ref: Reference) -> JobError:
    """`error` as the answer to a pull of `ref` (moby: translatePullError)."""
    if error.reason == "DENIED":
        name = ref.familiar_name
        return NotFound(
            f"pull access denied for {name}, repository does not exist or may require 'docker login': {error}"
        )
    if error.reason == "MANIFEST_UNKNOWN" or (error.status == 404 and not error.reason):
        return NotFound(f"manifest for {ref.familiar} not found: {error}")
    if error.reason == "NAME_UNKNOWN":
        return NotFound(f"repository {ref.familiar_name} not found: {error}")
    return of_any(error)


def of_any(error: RegistryError) -> JobError:
    """`error` as a job's own: what is not ours to do is Denied, what may pass is Unavailable."""
    if error.status in (401, 403):
        return Denied(str(error))
    if error.status == 429 or error.status >= 500:
        return Unavailable(str(error))
    return error
