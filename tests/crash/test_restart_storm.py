"""The daemon is killed at random moments while containers end and are started again; each obeys its policy afterwards.

`--rounds N` sets how often the daemon is killed. The seed of the moments is printed; `WINDLASS_SEED` sets it.
"""

import os
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.host import HostedDaemon, hosted
from tests.support.networks import until
from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]

QUICK = {"windlass.restart.delay-max": "100ms"}
LOOPS = [f"loop{number}" for number in range(4)]
ENDINGS = {f"failing{number}": 8 for number in range(2)}  # by how often they are started again at most


@pytest.fixture
def daemon() -> Iterator[HostedDaemon]:
    with hosted() as daemon:
        yield daemon


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("WINDLASS_SEED") or secrets.token_hex(4)
    print(f"WINDLASS_SEED={seed}")
    return random.Random(seed)


def run(wire: Wire, name: str, script: str, rule: str, count: int = 0, **host: Any) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", script],
        "Labels": QUICK,
        "StopTimeout": 0,
        "HostConfig": {"RestartPolicy": {"Name": rule, "MaximumRetryCount": count}, "NetworkMode": "none", **host},
    }
    answer = wire.post("/containers/create", body, name=name)
    assert (answer.status, answer.json.get("Warnings")) == (201, []), answer.body
    assert wire.post(f"/containers/{name}/start").status == 204


def info(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json


def status(wire: Wire, name: str) -> str:
    return str(info(wire, name)["State"]["Status"])


def test_every_container_obeys_its_policy(daemon: HostedDaemon, chance: random.Random, rounds: int) -> None:
    wire = daemon.wire
    for number, name in enumerate(LOOPS):  # two of them with a network, an address and a port
        network = {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": str(21000 + number)}]}}
        run(wire, name, "usleep 30000; exit 3", "always", **(network if number % 2 else {}))
    for name, count in ENDINGS.items():
        run(wire, name, "usleep 20000; exit 3", "on-failure", count)
    run(wire, "steady", "exec sleep 6000", "unless-stopped")
    run(wire, "plain", "exec sleep 6000", "no")
    run(wire, "stopped", "usleep 30000; exit 3", "unless-stopped")
    run(wire, "removed", "usleep 30000; exit 3", "always")
    steady = info(wire, "steady")["State"]["Pid"]
    for number in range(rounds):
        time.sleep(chance.uniform(0, 0.5))
        if number == rounds // 2:
            assert wire.post("/containers/stopped/stop").status == 204
            assert wire.delete("/containers/removed", force=1).status == 204
        daemon.kill()
        time.sleep(chance.choice([0, 0.1]))
        daemon.start()
    for name in LOOPS:
        before = info(wire, name)["RestartCount"]
        until(lambda name=name, before=before: info(wire, name)["RestartCount"] > before, f"{name} to go on")  # type: ignore[misc]
    for name, count in ENDINGS.items():
        until(lambda name=name: status(wire, name) == "exited", f"{name} to end")  # type: ignore[misc]
        assert info(wire, name)["RestartCount"] == count
        assert info(wire, name)["State"]["ExitCode"] in (3, 137)  # 137: the daemon was killed at the start of it
    assert info(wire, "steady")["State"]["Pid"] == steady
    assert info(wire, "plain")["State"]["Status"] == "running"
    assert status(wire, "stopped") == "exited"
    assert wire.get("/containers/removed/json").status == 404
    check_stop(wire)
    daemon.kill()
    daemon.start()
    assert {name: status(wire, name) for name in ("stopped", "steady")} == {"stopped": "exited", "steady": "exited"}


def check_stop(wire: Wire) -> None:
    """Stop everything, in whatever it is: it answers at once, and nothing comes back."""
    for name in (*LOOPS, "steady"):
        assert wire.post(f"/containers/{name}/stop").status == 204
    counts = {name: info(wire, name)["RestartCount"] for name in LOOPS}
    time.sleep(0.5)
    for name in LOOPS:
        assert (status(wire, name), info(wire, name)["RestartCount"]) == ("exited", counts[name])
