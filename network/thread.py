"""The one thread that talks to the kernel's network.

It goes in and out of network namespaces, which are a thread's own, so it is never one of a pool: whoever got such a
thread afterwards would be elsewhere. What is given to it runs one after the other, in the order of asking, and so
needs no locks among itself.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

import outcome
import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NetworkThread:
    """A thread that runs functions for trio tasks, in their order. Its owner starts and closes it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._closed = False

    @property
    def native_id(self) -> int:
        """The kernel's number of the thread; 0 before it is started."""
        return self._thread.native_id or 0

    def start(self) -> None:
        self._thread.start()

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `function` in the thread and return or raise what it does.

        A cancellation that comes while it waits or works is only seen after the end: half a change to the host's
        network would be worse than a late answer.
        """
        if self._closed:
            raise RuntimeError("the network thread is closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        token = trio.lowlevel.current_trio_token()
        task = trio.lowlevel.current_task()

        def call() -> None:
            result = outcome.capture(function, *args)
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        self._calls.put(call)
        # wait_task_rescheduled returns what the thread hands over; refusing to abort is what delays cancellation.
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def close(self) -> None:
        """Let the thread do what it has been asked for, and end it. Blocks until then."""
        self._closed = True
        self._calls.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while call := self._calls.get():
            call()
