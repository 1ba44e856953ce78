"""The gate between listening and answering: 1.3's activation lock, bounded and idempotent.

`serveapi` lets clients in as soon as it has bound its sockets; their requests wait here until `acceptconnections`
says that the engine is up, or why it will not be. Either may come first, and more than once.
"""

from __future__ import annotations

import trio

from windlass.engine.errors import Unavailable


class Gate:
    """Closed, open, or failed with a sentence. Once open it stays open."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._failure = ""
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        self._failure = ""
        self._event.set()

    def fail(self, why: str) -> None:
        """Answer everybody who waits, and who comes, with `why`; a later `open` still opens. An open gate stays."""
        if not self.is_open:
            self._failure = why
            self._event.set()

    async def wait(self, timeout: float) -> None:
        """Wait until the gate is open, for `timeout` seconds at most. Raises Unavailable."""
        if self.is_open:
            return
        with trio.move_on_after(timeout):
            await self._event.wait()
        if not self.is_open:
            raise Unavailable(self._failure or "the engine is still starting, try again later")
