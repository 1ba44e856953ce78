"""An engine in a daemon, for scripts: the same calls as on an engine in this process.

    with windlass.connect("unix:///var/run/windlass.sock") as engine:
        engine.job("create", "web", Image="busybox", Cmd=["sleep", "60"]).run()

One connection a job; `session.py` has the protocol.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import IO, Any, TypeVar

import msgspec

import windlass.jobs
from windlass.engine import errors
from windlass.engine.events import AnyEvent, Ready, Warning
from windlass.engine.introspect import Cancel, Commands, Describe, Jobs
from windlass.engine.parse import split
from windlass.engine.signature import Signature, result_type

from .http import TLS, Client, HTTPError
from .session import CANCEL, ERROR, EVENT, RESULT, STDERR, STDOUT, Session

R = TypeVar("R")


class RemoteJob:
    """One job in a daemon. Its streams may be bytes or binary files. It runs once."""

    def __init__(
        self, client: Client, name: str, args: tuple[Any, ...], env: dict[str, Any], *, lax: bool = False
    ) -> None:
        self.name = name
        self.args = args
        self.env = env
        self.state = "new"
        self.warnings: list[str] = []
        self.error: BaseException | None = None
        self._lax = lax
        self._client = client
        self._session: Session | None = None

    def run(
        self,
        *,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        on_event: Callable[[Any], None] | None = None,
    ) -> Any:
        """Run to the end and return the result, typed when the job's signature is known here.

        Raises JobError as the daemon's handler did, Unavailable when the daemon cannot be reached or goes away.
        Ctrl-C cancels the job.
        """
        if self.state != "new":
            raise errors.Conflict(f"{self.name} already ran")
        self.state = "running"
        try:
            result = self._run(stdin, {STDOUT: stdout, STDERR: stderr}, on_event)
        except BaseException as exc:
            self.error = exc
            cancelled = isinstance(exc, errors.Cancelled | KeyboardInterrupt)
            self.state = "cancelled" if cancelled else "failed"
            raise
        self.state = "done"
        return result

    def output(self, stdin: bytes | None = None) -> bytes:
        """Run to the end and return what the job wrote to stdout."""
        stdout = BytesIO()
        self.run(stdin=stdin, stdout=stdout)
        return stdout.getvalue()

    def cancel(self) -> None:
        """Cancel the job; from any thread. Does nothing when it does not run."""
        if self._session is not None:
            with contextlib.suppress(OSError):  # it has just ended
                self._session.send(CANCEL)

    @property
    def exit_status(self) -> int:
        """What a shell would see: 0 done, 127 no such job, 1 any other failure."""
        if self.error is None:
            return 0
        return self.error.exit_status if isinstance(self.error, errors.JobError) else 1

    def _run(
        self,
        stdin: bytes | IO[bytes] | None,
        sinks: dict[int, IO[bytes] | None],
        on_event: Callable[[Any], None] | None,
    ) -> Any:
        self._session = session = self._open()
        try:
            session.pump(BytesIO(stdin) if isinstance(stdin, bytes) else stdin)
            for kind, payload in session.frames():
                if kind in sinks:
                    _write(sinks[kind], payload)
                elif kind == EVENT:
                    self._tell(msgspec.json.decode(payload, type=AnyEvent), on_event)
                elif kind == RESULT:
                    return _typed(self.name, payload)
                elif kind == ERROR:
                    raise _error(payload)
            raise errors.Unavailable(f"the daemon at {self._client.host} went away while {self.name} ran")
        except KeyboardInterrupt:
            self.cancel()
            raise
        except OSError as exc:
            raise errors.Unavailable(f"{self._client.host}: {exc}") from exc
        finally:
            self._session = None
            session.close()

    def _open(self) -> Session:
        body = msgspec.json.encode({"args": self.args, "env": self.env, "lax": self._lax})
        try:
            return Session(self._client, self.name, body)
        except HTTPError as exc:
            raise errors.from_code(exc.code, exc.message, exc.detail) from None
        except OSError as exc:
            raise errors.Unavailable(f"cannot connect to the daemon at {self._client.host}: {exc}") from exc

    def _tell(self, event: Any, on_event: Callable[[Any], None] | None) -> None:
        if isinstance(event, Warning):
            self.warnings.append(event.message)
        if on_event is not None and not isinstance(event, Ready):
            on_event(event)


class RemoteEngine:
    """The engine of a daemon. Nothing stays open between jobs."""

    def __init__(self, host: str = "", *, tls: TLS | None = None) -> None:
        self._client = Client(host, tls)

    def job(self, name: str, /, *args: Any, **env: Any) -> RemoteJob:
        """Make a job; it never fails here. Positional `args` are bound to the signature where the job runs."""
        return RemoteJob(self._client, name, args, env)

    def parse_job(self, text: str) -> RemoteJob:
        """Make a job from one line of text, `VERBOSE=1 create --name web …`. Raises BadParameter."""
        name, args, env = split(text)
        return RemoteJob(self._client, name, tuple(args), env, lax=True)

    def call(self, params: Signature[R]) -> R:
        """Run the job that `params` is the signature of, and return its result, typed."""
        result: R = RemoteJob(self._client, params.NAME, (), _given(params)).run()
        return result

    def close(self) -> None:
        """Do nothing: there is nothing to close, but an engine in this process has it."""

    def __enter__(self) -> RemoteEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def connect(host: str = "", *, tls: TLS | None = None) -> RemoteEngine:
    """Return the engine of the daemon at `host`: unix://PATH, tcp://HOST:PORT, with `tls` for TLS.

    Without a host it is WINDLASS_HOST's, or the default socket. Whether somebody answers shows with the first job.
    """
    return RemoteEngine(host or os.environ.get("WINDLASS_HOST", ""), tls=tls)


@cache
def signatures() -> dict[str, type[Signature[Any]]]:
    """Every signature of the vocabulary by its job's name."""
    found: dict[str, type[Signature[Any]]] = {each.NAME: each for each in (Cancel, Commands, Describe, Jobs)}
    for module in pkgutil.iter_modules(windlass.jobs.__path__):
        members = vars(importlib.import_module(f"windlass.jobs.{module.name}")).values()
        found |= {each.NAME: each for each in members if isinstance(each, type) and issubclass(each, Signature)}
    found.pop("", None)
    return found


def _typed(name: str, payload: bytes) -> Any:
    signature = signatures().get(name)
    kind = Any if signature is None else result_type(signature)
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.ValidationError as exc:
        raise errors.Internal(f"the daemon's result of {name} is none that this version knows: {exc}") from None


def _given(params: Signature[Any]) -> dict[str, Any]:
    """The fields of `params` that differ from their defaults, by their keys: older daemons know fewer."""
    env = {}
    for field in msgspec.structs.fields(params):
        value = getattr(params, field.name)
        if field.required or value != (field.default if field.default is not msgspec.NODEFAULT else _made(field)):
            env[field.encode_name] = value
    return env


def _made(field: msgspec.structs.FieldInfo) -> Any:
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _write(sink: IO[bytes] | None, data: bytes) -> None:
    if sink is not None:
        sink.write(data)
        sink.flush()


def _error(payload: bytes) -> errors.JobError:
    told = msgspec.json.decode(payload)
    return errors.from_code(told.get("code", "internal"), told.get("message", ""), told.get("detail"))
