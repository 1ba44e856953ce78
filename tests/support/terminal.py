"""Drive a program on a pseudo-terminal: type, wait for text, resize, read the exit code."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

LIMIT = 20.0  # seconds to wait for a text


class Terminal:
    """A program on a terminal; use as a context, which ends it.

    The slave side is the program's controlling terminal, as in a real one: a resize of the
    master sends it SIGWINCH, and keys become signals where it leaves its terminal cooked.
    """

    def __init__(self, argv: list[str], environment: dict[str, str], rows: int, columns: int) -> None:
        self._master, slave = pty.openpty()
        self.seen = b""
        self._read = b""
        self._set_size(rows, columns)
        self.process = subprocess.Popen(
            argv, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_adopt
        )
        os.close(slave)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel tells the program by SIGWINCH."""
        self._set_size(rows, columns)

    def type(self, text: str | bytes) -> None:
        os.write(self._master, text.encode() if isinstance(text, str) else text)

    def expect(self, pattern: str, limit: float = LIMIT) -> None:
        """Wait until `pattern` shows up in what was not yet matched; fail when it does not."""
        assert self.sees(pattern, limit), f"waited for {pattern!r}, saw {self.seen.decode(errors='replace')!r}"

    def sees(self, pattern: str, limit: float) -> bool:
        """Wait until `pattern` shows up in what was not yet matched, or the time or the output ends."""
        deadline = time.monotonic() + limit
        while True:
            text = self._read.decode(errors="replace")
            if found := re.search(pattern, text):
                self._read = text[found.end() :].encode()
                return True
            if not self._more(deadline):
                return False

    def _more(self, deadline: float) -> bool:
        """Read what there is; return False at the end of the output or of the time."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        data = b""
        if ready:
            with contextlib.suppress(OSError):  # EIO: the last writer has closed the slave side
                data = os.read(self._master, 65536)
        self.seen += data
        self._read += data
        return bool(data)

    def finish(self, limit: float = LIMIT) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + limit
        while self._more(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def _adopt() -> None:
    """Make standard input the controlling terminal of this new session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
