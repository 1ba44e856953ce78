"""An audit trail: one line of JSON for each job that changes something, into the file $WINDLASS_AUDIT.

The wrapper stands outside of everything, so rejected attempts are in it too. Secrets are masked by the engine.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from windlass.engine import Engine, Handler, Job


async def audit(job: Job[Any], call: Handler) -> Any:
    signature = job.engine.signature(job.name)
    if signature is not None and signature.READONLY:
        return await call(job)
    outcome = "cancelled"
    began = time.time()
    try:
        result = await call(job)
        outcome = "done"
        return result
    except Exception as exc:
        outcome = f"failed: {exc}"
        raise
    finally:
        _write(job, began, outcome)


def _write(job: Job[Any], began: float, outcome: str) -> None:
    line = {
        "time": began,
        "job": str(job),
        "parent": str(job.parent) if job.parent else None,
        "who": msgspec.to_builtins(job.peer),
        "env": msgspec.to_builtins(job.shown_env, enc_hook=repr),
        "outcome": outcome,
        "seconds": round(time.time() - began, 6),
    }
    with Path(os.environ.get("WINDLASS_AUDIT", "/var/log/windlass-audit.log")).open("a") as file:
        file.write(json.dumps(line) + "\n")


def install(engine: Engine) -> None:
    engine.around("*", audit)
