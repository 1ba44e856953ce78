"""The life of a container, as a table.

                    paused                 restarting ──started──▶ running …
               paused▲  │unpaused    again ▲ ▲   │ended
                     │  ▼     ┌────────────┘ │   ▼
    created ──started──▶ running ──ended──▶ exited ──started──▶ running …
       │                                      │
       └────────────── remove ────────────────┴──▶ removing ──removed──▶ gone
                                                      │ ▲
                                                 failed▼ │remove
                                                      dead

A start that fails changes nothing here: the container stays what it was, but for one that was restarting, which has
ended then. A paused container can end, too, as a running one does.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a container is; the values are Docker's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"
    GONE = "gone"


class Step(StrEnum):
    """What can happen to a container."""

    STARTED = "started"
    PAUSED = "paused"
    UNPAUSED = "unpaused"
    ENDED = "ended"
    AGAIN = "again"
    REMOVE = "remove"
    REMOVED = "removed"
    FAILED = "failed"


TRANSITIONS: dict[State, dict[Step, State]] = {
    State.CREATED: {Step.STARTED: State.RUNNING, Step.REMOVE: State.REMOVING},
    State.RUNNING: {Step.PAUSED: State.PAUSED, Step.ENDED: State.EXITED, Step.AGAIN: State.RESTARTING},
    State.PAUSED: {Step.UNPAUSED: State.RUNNING, Step.ENDED: State.EXITED, Step.AGAIN: State.RESTARTING},
    State.RESTARTING: {Step.STARTED: State.RUNNING, Step.ENDED: State.EXITED},
    State.EXITED: {Step.STARTED: State.RUNNING, Step.AGAIN: State.RESTARTING, Step.REMOVE: State.REMOVING},
    State.REMOVING: {Step.REMOVED: State.GONE, Step.FAILED: State.DEAD},
    State.DEAD: {Step.REMOVE: State.REMOVING},
    State.GONE: {},
}


class LifecycleError(Exception):
    """A step that the table does not allow: a fault of ours, since jobs look before they leap."""


class Lifecycle:
    """One container's state, which only moves along the table."""

    def __init__(self, state: State = State.CREATED) -> None:
        self.state = state

    def allows(self, step: Step) -> bool:
        return step in TRANSITIONS[self.state]

    def advance(self, step: Step) -> State:
        """Take `step`; return the new state. Raises LifecycleError."""
        if not self.allows(step):
            raise LifecycleError(f"{step} in state {self.state}")
        self.state = TRANSITIONS[self.state][step]
        return self.state
