"""Start `windlass daemon` on roots of its own, wait for it, stop it, kill it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .packages import PROJECT
from .wire import Wire

STARTED: "list[Daemon]" = []  # every daemon of this process, for the leak check and for clean-up
ID = re.compile(r"[0-9a-f]{64}")  # of a container; nothing named so may outlive its removal
START_LIMIT = 30.0  # seconds until a daemon must answer
STOP_LIMIT = 30.0  # seconds until a daemon must be gone after SIGTERM
LEFT: list[str] = []  # what closed daemons left in their exec roots
MARK = f"{tempfile.gettempdir()}/windlass-test-"
SESSION = Path(f"{MARK}{os.getpid()}")  # all roots of this run are below; its name tells whose they are


def command(*arguments: str) -> list[str]:
    """Return the command line that runs windlass from this checkout."""
    return [sys.executable, "-P", "-m", "windlass", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment for windlass: ours without what would point it elsewhere."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DOCKER_HOST", "WINDLASS_HOST")}
    source = str(PROJECT / "src")
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [source, kept.get("PYTHONPATH")])), **more}


class Daemon:
    """A daemon and its roots; whoever makes it stops it.

    The roots are short paths under /tmp: a Unix socket's name holds 107 bytes only (unix(7)).
    """

    def __init__(self, *flags: str, **env: str) -> None:
        SESSION.mkdir(exist_ok=True)
        self.base = Path(tempfile.mkdtemp(prefix="d", dir=SESSION))
        self.socket = self.base / "w.sock"
        self.pidfile = self.base / "pid"
        self.data_root = self.base / "root"
        self.exec_root = self.base / "exec"
        self.log = self.base / "daemon.log"
        self._flags, self._env = flags, env
        self.process: subprocess.Popen[bytes] | None = None
        STARTED.append(self)

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def wire(self) -> Wire:
        return Wire(self.host)

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon was never started"
        return self.process.pid

    def command(self) -> list[str]:
        return command(
            "daemon",
            *("-H", self.host),
            *("--data-root", str(self.data_root)),
            *("--exec-root", str(self.exec_root)),
            *("--pidfile", str(self.pidfile)),
            *self._flags,
        )

    def start(self) -> "Daemon":
        """Start and wait until `/_ping` answers 200; raise with the log's end if it does not."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=environment(**self._env),
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the daemon did not come up: {self.log_end()}")
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.wire.get("/_ping").status == 200
        return False

    def log_end(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> int | None:
        """Ask the daemon to shut down and wait; return its exit status. Containers live on."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the daemon did not stop within {STOP_LIMIT} s: {self.log_end()}") from None

    def kill(self) -> None:
        """End the daemon as a crash would: SIGKILL, no shutdown."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def remove_containers(self) -> None:
        """Remove every container, so that nothing outlives the daemon."""
        for container in self.wire.get("/containers/json", all=1).json:
            self.wire.delete(f"/containers/{container['Id']}", force=1, v=1)

    def close(self) -> None:
        """Remove all containers, stop, and delete the roots; harmless when repeated."""
        try:
            if self.process and self.process.poll() is None:
                self.remove_containers()
                self.stop()
            LEFT.extend(str(path) for path in self.exec_root.rglob("*") if re.search(ID, path.name))
        finally:
            self.kill()
            shutil.rmtree(self.base, ignore_errors=True)


def close_all() -> None:
    """Close every daemon that this process started, and delete the session's folder."""
    errors: list[BaseException] = []
    while STARTED:
        try:
            STARTED.pop().close()
        except (OSError, RuntimeError, ValueError) as error:
            errors.append(error)
    shutil.rmtree(SESSION, ignore_errors=True)
    if errors:
        raise RuntimeError(f"daemons did not close: {errors}")
