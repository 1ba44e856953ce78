"""A reboot, simulated: every process ended, the exec root wiped, cgroups gone, another network namespace.

What is on the data root says what runs afterwards, and with which ports and addresses; nothing stale is left of before.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import Host, HostedDaemon, hosted, left_on
from tests.support.networks import until
from tests.support.wire import Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]

PORTS = {"80/tcp": [{"HostPort": "22080"}]}


@pytest.fixture
def daemon() -> Iterator[HostedDaemon]:
    with hosted() as daemon:
        yield daemon


def run(wire: Wire, name: str, rule: str, **host: Any) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "echo $(hostname -i) > /address; exec sleep 6000"],
        "StopTimeout": 0,
        "HostConfig": {"RestartPolicy": {"Name": rule}, **host},
    }
    assert wire.post("/containers/create", body, name=name).status == 201
    assert wire.post(f"/containers/{name}/start").status == 204


def info(wire: Wire, name: str) -> Any:
    return wire.get(f"/containers/{name}/json").json


def states(wire: Wire) -> dict[str, str]:
    return {each["Names"][0][1:]: each["State"] for each in wire.get("/containers/json", all=1).json}


def groups(ids: list[str]) -> list[Path]:
    """Return the cgroups of containers, the deepest first."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    found = [path for top in tops for id in ids for path in top.glob(f"windlass/{id}*")]
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def power_off(daemon: HostedDaemon, ids: list[str]) -> None:
    """End all that runs, supervisors first, and take away what does not outlive a host."""
    daemon.kill()
    for pid in daemon.machine.processes():
        os.kill(pid, signal.SIGKILL)
    inits = {int(pid) for group in groups(ids) for pid in (group / "cgroup.procs").read_text().split()}
    for pid in inits:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any((group / "cgroup.procs").read_text() for group in groups(ids)), "everything to end")
    for group in groups(ids):
        group.rmdir()
    shutil.rmtree(daemon.exec_root)


def test_policies_ports_and_addresses_after_a_reboot(daemon: HostedDaemon) -> None:
    wire = daemon.wire
    wire.post("/networks/create", {"Name": "shop"})
    run(wire, "web", "always", PortBindings=PORTS)
    run(wire, "store", "unless-stopped", NetworkMode="shop")
    run(wire, "failing", "on-failure")
    run(wire, "plain", "no", PortBindings={"81/tcp": [{"HostPort": "22081"}]})
    run(wire, "stopped", "unless-stopped")
    run(wire, "gone", "no", AutoRemove=True)
    assert wire.post("/containers/stopped/stop").status == 204
    ids = [info(wire, name)["Id"] for name in states(wire)]
    pids = {info(wire, name)["State"]["Pid"] for name in states(wire)}
    power_off(daemon, ids)
    before = daemon.machine
    with Host() as machine:
        daemon.machine = machine
        daemon.start()
        expected = {"web": "running", "store": "running", "failing": "running", "plain": "exited", "stopped": "exited"}
        until(lambda: states(wire) == expected, "every policy to be obeyed")
        plain = info(wire, "plain")
        assert (plain["State"]["ExitCode"], plain["State"]["Pid"], plain["NetworkSettings"]["Ports"]) == (255, 0, {})
        assert machine.ports() == {("tcp", 22080)}
        for name, network in (("web", "bridge"), ("store", "shop")):
            found = info(wire, name)
            assert found["State"]["Pid"] not in pids
            written = Path(f"/proc/{found['State']['Pid']}/root/address")
            until(written.exists, "its address to be written")
            assert found["NetworkSettings"]["Networks"][network]["IPAddress"] in written.read_text()
        daemon.remove_containers()
        wire.delete("/networks/shop")
        daemon.stop()
        until(lambda: not any(left_on(machine)), f"nothing to be left of {left_on(machine)}")
    daemon.machine = before
    assert groups(ids) == []
