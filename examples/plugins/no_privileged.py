"""A policy: nobody gets a privileged container.

It sees what will be executed, after every client's spelling has been taken off, whoever asks: the API, a script, or
another plugin.
"""

from typing import Any

from windlass.engine import Engine, Handler, Job
from windlass.engine.errors import Denied


async def refuse(job: Job[Any], call: Handler) -> Any:
    host_config = job.env.get("HostConfig") or {}
    privileged = host_config.get("Privileged") if isinstance(host_config, dict) else host_config.Privileged
    if privileged:
        raise Denied("privileged containers are not allowed here")
    return await call(job)


def install(engine: Engine) -> None:
    engine.around("create", refuse)
    engine.around("execCreate", refuse_exec)


async def refuse_exec(job: Job[Any], call: Handler) -> Any:
    if job.env.get("Privileged"):
        raise Denied("privileged execs are not allowed here")
    return await call(job)
