"""What happened, for whoever listens: jobs `log`, `events`, `subscribers_count`.

A ring keeps the last 256 messages; every subscriber has a bounded channel of its own. `log` never waits: a subscriber
that falls 1024 messages behind is cut off with an error, and can come back with `since`. To subscribe and to take
what the ring holds is one step, without a checkpoint, so that nothing is lost or doubled between replay and live.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import trio

from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, Unavailable
from windlass.jobs import events as vocabulary
from windlass.jobs.events import Actor, Count, Log, Message, SubscribersCount
from windlass.lib import timestamp

from .filters import matcher

KEPT = 256
BEHIND = 1024  # messages that a subscriber may fall behind

LEGACY = frozenset({"container", "image"})  # types whose messages repeat status, id and from


class Subscriber:
    """One listener's bounded channel."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Message](BEHIND)
        self._is_cut_off = False

    def offer(self, message: Message) -> None:
        """Hand `message` over, or cut the listener off when it is too far behind."""
        try:
            self._sender.send_nowait(message)
        except trio.WouldBlock:
            self._is_cut_off = True
            self._sender.close()
        except trio.ClosedResourceError:
            return  # cut off already

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what comes. Raises Unavailable when cut off, after what had come before that."""
        async for message in self._receiver:
            yield message
        if self._is_cut_off:
            raise Unavailable(f"this listener fell more than {BEHIND} events behind: ask again, with since")


class Events:
    """The ring and its subscribers; one per engine."""

    def __init__(self) -> None:
        self._ring: deque[Message] = deque(maxlen=KEPT)
        self._subscribers: set[Subscriber] = set()

    def publish(self, message: Message) -> None:
        """Keep `message` and offer it to every subscriber. Never waits."""
        self._ring.append(message)
        for subscriber in list(self._subscribers):
            subscriber.offer(message)

    @contextmanager
    def subscribe(self) -> Iterator[tuple[list[Message], Subscriber]]:
        """Lend what the ring holds, and a subscriber that gets all that comes after."""
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield list(self._ring), subscriber
        finally:
            self._subscribers.discard(subscriber)

    # -- jobs ----------------------------------------------------------------------------------------------------

    async def log(self, job: Job[Log]) -> None:
        """Tell the subscribers of `events` that something happened."""
        self.publish(message_of(job.params, time.time_ns()))

    async def events(self, job: Job[vocabulary.Events]) -> None:
        """Write what happens to stdout, one JSON object a line."""
        since, until = _time(job.params.since, "since"), _time(job.params.until, "until")
        if since is not None and until is not None and until < since:
            raise BadParameter(f"`since` time ({since}) cannot be after `until` time ({until})", key="until")
        wanted = matcher(job.params.filters)
        with self.subscribe() as (past, subscriber):
            await job.ready()
            now = time.time_ns()
            if since is not None or until is not None:
                for message in past:
                    if _between(message, since, until) and wanted(message):
                        await _write(job, message)
            with trio.move_on_after(float("inf") if until is None else max(0, until - now) / timestamp.SECOND):
                async for message in subscriber.messages():
                    if wanted(message):
                        await _write(job, message)

    async def subscribers_count(self, job: Job[SubscribersCount]) -> Count:
        """Count who listens to `events`."""
        return Count(len(self._subscribers))


def message_of(params: Log, now: int) -> Message:
    """What `log`'s parameters look like to a subscriber, at `now` nanoseconds."""
    attributes = dict(params.attributes)
    if params.from_:
        attributes.setdefault("image", params.from_)
    legacy = params.type in LEGACY
    return Message(
        Type=params.type,
        Action=params.action,
        Actor=Actor(params.id, attributes),
        scope="local",
        time=now // timestamp.SECOND,
        timeNano=now,
        status=params.action if legacy else "",
        id=params.id if legacy else "",
        from_=attributes.get("image", "") if params.type == "container" else "",
    )


def _time(value: str | int | float | None, key: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        return timestamp.parse(value)
    except ValueError as exc:
        raise BadParameter(f"{key!r}: {exc}", key=key) from None


def _between(message: Message, since: int | None, until: int | None) -> bool:
    return (since is None or message.timeNano >= since) and (until is None or message.timeNano <= until)


async def _write(job: Job[vocabulary.Events], message: Message) -> None:
    if job.stdout is not None:
        await job.stdout.send_all(msgspec.json.encode(message) + b"\n")


def install(engine: Engine) -> None:
    """Register `log`, `events` and `subscribers_count`, over a ring of this engine's own."""
    events = Events()
    engine.register("log", events.log)
    engine.register("events", events.events)
    engine.register("subscribers_count", events.subscribers_count)
