"""What a bare job costs inside one process: dispatch, signature, outcome, nothing else."""

import statistics
import time
from typing import ClassVar

import trio

from windlass.engine.engine import Engine
from windlass.engine.job import Job
from windlass.engine.signature import Signature

BATCH = 1000
GOAL = {"job by name and env, µs": "< 50 µs", "job by signature, µs": "< 50 µs"}


class Bare(Signature[int], frozen=True):
    """Return a number."""

    NAME: ClassVar[str] = "bare"
    value: int = 0


async def bare(job: Job[Bare]) -> int:
    """Return the value that was given."""
    return job.params.value


async def by_name(engine: Engine) -> None:
    """As a script and an HTTP request do: a name and an env."""
    await engine.job("bare", value=7).run()


async def by_signature(engine: Engine) -> None:
    """As a subsystem does: a typed call."""
    await engine.call(Bare(value=7))


async def measure(batches: int) -> dict[str, list[float]]:
    """Return microseconds per job, one figure a batch, after a batch to warm up."""
    found: dict[str, list[float]] = {}
    async with Engine() as engine:
        engine.register("bare", bare)
        for label, once in (("job by name and env, µs", by_name), ("job by signature, µs", by_signature)):
            for batch in range(batches + 1):
                began = time.perf_counter()
                for _ in range(BATCH):
                    await once(engine)
                span = (time.perf_counter() - began) / BATCH * 1e6
                if batch:
                    found.setdefault(label, []).append(span)
    return found


def run(batches: int = 10) -> dict[str, list[float]]:
    """Measure on a loop of its own."""
    return trio.run(measure, batches)


if __name__ == "__main__":
    for name, samples in run().items():
        print(f"{name}: {statistics.median(samples):.1f}")
