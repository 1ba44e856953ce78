"""What happens to containers, images and the rest: jobs `log`, `events`, `subscribers_count`."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from windlass.engine.signature import Signature

Time = Annotated[
    str | int | float | None,
    Meta(description="Seconds since the epoch, with a fraction if wanted; text is parsed as decimal or RFC 3339."),
]
Filters = Annotated[
    dict[str, list[str] | dict[str, bool]],
    Meta(description="Values by filter; old clients send `{value: true}` for a list of values."),
]


class Log(Signature[None], frozen=True, rename={"from_": "from"}):
    """Tell the subscribers of `events` that something happened. Never waits for any of them."""

    NAME: ClassVar[str] = "log"
    action: Annotated[str, Meta(description="What happened: `create`, `start`, `die`, `exec_create: sh` …")]
    id: Annotated[str, Meta(description="The full id of the container, or the name of the image, network, volume.")]
    from_: Annotated[str, Meta(description="The image that a container was made of.")] = ""
    type: Annotated[str, Meta(description="What `id` names: container, image, network, volume, daemon …")] = "container"
    attributes: Annotated[dict[str, str], Meta(description="The object's name, labels, exit code and so on.")] = {}


class Events(Signature[None], frozen=True):
    """Write what happens to stdout, one JSON object a line: from `since` on, until `until` or for ever."""

    NAME: ClassVar[str] = "events"
    READONLY: ClassVar[bool] = True
    since: Time = None
    until: Time = None
    filters: Filters = {}


class Actor(msgspec.Struct, frozen=True):
    """The object that something happened to."""

    ID: str
    Attributes: dict[str, str]


class Message(msgspec.Struct, frozen=True, rename={"from_": "from"}, omit_defaults=True):
    """One line of `events`. `status`, `id` and `from` repeat the rest for clients older than API 1.22."""

    Type: str
    Action: str
    Actor: Actor
    time: Annotated[int, Meta(description="Seconds since the epoch.")]
    timeNano: Annotated[int, Meta(description="Nanoseconds since the epoch.")]
    status: str = ""
    id: str = ""
    from_: str = ""
    scope: str | None = None


class Count(msgspec.Struct, frozen=True):
    count: int


class SubscribersCount(Signature[Count], frozen=True):
    """Count who listens to `events`."""

    NAME: ClassVar[str] = "subscribers_count"
    READONLY: ClassVar[bool] = True
