"""What a daemon does with signals.

INT, TERM   the first asks for an orderly end, the second is only logged, the third ends the process at once
QUIT        writes what every task is doing to the log, and goes on
HUP         is logged: the configuration is read once
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable, Iterator

import trio

FORCED = 128  # the exit status of a forced end is this and the signal's number, as a shell would say it
PATIENCE = 3  # signals until the end is forced

logger = logging.getLogger("windlass.signals")


async def trap(
    end: Callable[[], None],
    describe: Callable[[], str] = lambda: "",
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Handle signals until cancelled: `end` is called at the first INT or TERM, `describe` heads a dump."""
    asked = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGQUIT:
                logger.warning("%s: tasks now:\n%s\n%s", name, describe(), tasks())
            elif number == signal.SIGHUP:
                logger.warning("%s: the configuration is read at start only, ignoring", name)
            else:
                asked += 1
                _asked(name, number, asked, end)


def _asked(name: str, number: int, times: int, end: Callable[[], None]) -> None:
    if times == 1:
        logger.info("%s: shutting down", name)
        end()
    elif times < PATIENCE:
        logger.info("%s: already shutting down; %d more to force it", name, PATIENCE - times)
    else:
        logger.critical("%s: shutdown forced, clean-up interrupted", name)
        os._exit(FORCED + number)


def tasks() -> str:
    """Every trio task and where it waits, children below their parents."""
    root = trio.lowlevel.current_root_task()
    return "\n".join(_lines(root, 0)) if root is not None else ""


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}{task.name}"
    for frame in traceback.StackSummary.extract(task.iter_await_frames()):
        yield f"{indent}    {frame.filename}:{frame.lineno} {frame.name}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _lines(child, depth + 1)
