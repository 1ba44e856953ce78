"""A plugin with a job of its own and a route to it.

windlass daemon --plugin examples/plugins/hello_route.py
curl --unix-socket /var/run/windlass.sock http://localhost/hello/world
windlass job hello world
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from windlass.api.route import Route
from windlass.engine import Engine, Job, Signature
from windlass.jobs.containers import Containers


class Greeting(msgspec.Struct, frozen=True):
    """What `hello` answers."""

    text: str
    containers: int


class Hello(Signature[Greeting], frozen=True):
    """Greet somebody, and say how many containers there are."""

    NAME: ClassVar[str] = "hello"
    name: Annotated[str, Meta(description="Whom to greet.")]
    loud: bool = False


async def hello(job: Job[Hello]) -> Greeting:
    containers = await job.engine.call(Containers(all=True))
    text = f"hello, {job.params.name}"
    return Greeting(text.upper() if job.params.loud else text, len(containers))


def install(engine: Engine) -> None:
    engine.register("hello", hello)
    engine.provide("route", Route("GET", "/hello/{name}", "hello", query=("loud",)))
