"""What a container uses, told every second, or once."""

from __future__ import annotations

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.container_stats import Sample, Stats

from .container import Container
from .daemon import Daemon
from .sampler import Sampler, reading, take

_encode = msgspec.json.Encoder().encode


async def stats(daemon: Daemon, job: Job[Stats]) -> Sample | None:
    """Tell what a container uses: lines of JSON on stdout, every second; without `stream` one, and it is the result."""
    params = job.params
    container = daemon.containers.get(params.name)
    if params.stream and params.one_shot:
        raise BadParameter("cannot have stream=true and one-shot=true", key="one-shot")
    if not params.stream:
        sample = await _one(daemon, container, params.one_shot)
        await _write(job, sample)
        return sample
    await job.ready()
    with reading(daemon.nursery, container) as sampler:
        await _follow(job, container, sampler)
    return None


async def _one(daemon: Daemon, container: Container, is_alone: bool) -> Sample:
    """Take one sample, and, unless it `is_alone`, one before it of which a rate can be had."""
    if is_alone or container.running is None:
        return await take(container)
    with reading(daemon.nursery, container) as sampler:
        before = await sampler.next()
        return _after(before, await sampler.next())


async def _follow(job: Job[Stats], container: Container, sampler: Sampler) -> None:
    before = Sample(name="", id="")
    while True:
        sample = await sampler.next()
        if container.is_gone:
            return
        await _write(job, _after(before, sample))
        before = sample


async def _write(job: Job[Stats], sample: Sample) -> None:
    if job.stdout is not None:
        await job.stdout.send_all(_encode(sample) + b"\n")


def _after(before: Sample, sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, preread=before.read, precpu_stats=before.cpu_stats)
