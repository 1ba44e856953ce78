"""Twenty containers with every option at once, started together and removed together, again and again.

Nothing of ours is left after a round: no cgroup, folder, mount, process, interface, rule, port. `--rounds N` sets how
often, five times at least.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import HostedDaemon, hosted
from tests.support.networks import until
from tests.support.wire import Wire, frames, output
from windlass.kernel.cgroup import Hierarchies
from windlass.kernel.cgroup_support import support_of

pytestmark = [pytest.mark.root, pytest.mark.slow]

COUNT = 20
ROUNDS = 5
MIB = 1 << 20
HIERARCHIES = Hierarchies.of_host()
PARENT = f"windlass-storm-{os.getpid()}"
SCRIPT = """
echo "$(id -u):$(id -g) $(hostname) $(ulimit -n) $(cat /proc/sys/net/core/somaxconn) $(cat /proc/1/oom_score_adj)"
(echo x > /file) 2>/dev/null && echo writable
for folder in /tmpfs /mount /named /bind; do echo x > $folder/$HOSTNAME || echo "$folder is not writable"; done
df -m /dev/shm | tail -1 | awk '{print "shm " $2}'
grep -q " /readonly " /proc/mounts && grep -q " /anonymous " /proc/mounts || echo mounts are missing
echo done
sleep 300
"""
EXPECTED = ["10:20 {name} 64 77 300", "shm 3", "done"]


@pytest.fixture
def daemon() -> Iterator[HostedDaemon]:
    with hosted("--default-ulimit", "core=0") as daemon:
        yield daemon
    for folder in _parents():
        folder.rmdir()


def _parents() -> list[Path]:
    """Return the groups that were asked for above the containers', the deepest first: they are the user's."""
    mounts = [each.mount for each in HIERARCHIES.v1] + ([HIERARCHIES.v2] if HIERARCHIES.v2 else [])
    found = [Path(folder) for mount in mounts for folder, _, _ in os.walk(mount / PARENT)]
    return sorted(found, key=lambda folder: len(folder.parts), reverse=True)


def options(number: int, name: str, bind: Path, profile: str, network: str) -> dict[str, Any]:
    """Return a body of create that has everything."""
    can = support_of(HIERARCHIES)
    device = next((f"/dev/{path.name}" for path in Path("/sys/block").glob("[vs]d*")), "")
    throttle = [{"Path": device, "Rate": 100 * MIB}] if device and can.blkio_throttle else []
    host = {
        "Memory": 64 * MIB,
        "MemorySwap": 96 * MIB,
        "MemoryReservation": 32 * MIB,
        "PidsLimit": 30,
        "NanoCpus": 5 * 10**8,
        "CpuShares": 512,
        "OomScoreAdj": 300,
        "ShmSize": 3 * MIB,
        **({"CpusetCpus": "0", "CpusetMems": "0"} if can.cpuset else {}),
        **({"MemorySwappiness": 10} if can.swappiness else {}),
        **({"BlkioWeight": 300} if can.blkio_weight else {}),
        **{f"BlkioDevice{kind}": throttle for kind in ("ReadBps", "WriteBps", "ReadIOps", "WriteIOps")},
        "CgroupParent": PARENT,
        "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 128}, {"Name": "nproc", "Soft": 100, "Hard": 100}],
        "Sysctls": {"net.core.somaxconn": "77", "kernel.msgmax": "10000"},
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["MKNOD", "CHOWN"],
        "GroupAdd": ["30"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={profile}"],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/hole", "CgroupPermissions": "rw"}],
        "DeviceCgroupRules": ["c 42:* rmw"],
        "Binds": [f"{bind}:/bind", f"{bind}:/readonly:ro", "storm:/named"],
        "Tmpfs": {"/tmpfs": "size=1m,mode=1777"},
        "Mounts": [{"Type": "tmpfs", "Target": "/mount", "TmpfsOptions": {"SizeBytes": MIB, "Mode": 0o1777}}],
        "ReadonlyRootfs": True,
        "Init": True,
        "CgroupnsMode": "private",
        "IpcMode": "shareable",
        "PortBindings": {"80/tcp": [{"HostPort": str(20000 + number)}], "53/udp": [{"HostIp": "127.0.0.1"}]},
        "ExtraHosts": ["other:192.0.2.1"],
        "Dns": ["192.0.2.53"],
        "DnsSearch": ["example.org"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "NetworkMode": network,
        "Annotations": {"storm": "yes"},
    }
    return {
        "Image": "busybox",
        "Cmd": ["sh", "-c", SCRIPT],
        "User": "10:20",
        "Hostname": name,
        "Env": ["STORM=1"],
        "Labels": {"storm": "1"},
        "WorkingDir": "/",
        "StopSignal": "INT",
        "StopTimeout": 1,
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/anonymous": {}},
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [f"alias-{number}"]}}},
    }


def one(wire: Wire, name: str, body: dict[str, Any]) -> str:
    """Create and start a container; return its id when its script has said everything."""
    made = wire.post("/containers/create", body, name=name)
    assert made.status == 201, made.body
    assert made.json["Warnings"] == []
    started = wire.post(f"/containers/{name}/start")
    assert started.status == 204, started.body
    until(lambda: "done" in said(wire, name), f"{name} to be done")
    assert said(wire, name) == [line.format(name=name) for line in EXPECTED]
    return str(made.json["Id"])


def said(wire: Wire, name: str) -> list[str]:
    out, err = output(frames(wire.get(f"/containers/{name}/logs", stdout=1, stderr=1).body))
    return (out + err).decode().splitlines()


def left(daemon: HostedDaemon, ids: list[str]) -> list[str]:
    """Return what is on the host of containers that are no more."""
    folders = [daemon.base, *(each.mount for each in HIERARCHIES.v1), *([HIERARCHIES.v2] if HIERARCHIES.v2 else [])]
    found = [
        f"{folder}/{name}"
        for top in folders
        for folder, names, files in os.walk(top)
        for name in (*names, *files)
        if any(id in name for id in ids)
    ]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(daemon.base) in line]
    return found + mounts + [text for text in daemon.machine.processes().values() if any(id in text for id in ids)]


def test_containers_with_every_option_leave_nothing(
    daemon: HostedDaemon, rounds: int, data: Path, tmp_path: Path
) -> None:
    wire, bind = daemon.wire, tmp_path / "bind"
    bind.mkdir(mode=0o777)
    bind.chmod(0o777)
    profile = (data / "seccomp-default-v28.5.2.json").read_text()
    assert wire.post("/networks/create", {"Name": "storm-net"}).status == 201
    assert wire.post("/volumes/create", {"Name": "storm"}).status == 201
    make_writable(wire)
    for _ in range(max(rounds, ROUNDS)):
        storm(daemon, bind, json.dumps(json.loads(profile)))
    assert [volume["Name"] for volume in wire.get("/volumes").json["Volumes"]] == ["storm"]
    for path in ("/volumes/storm", "/networks/storm-net"):
        assert wire.delete(path).status == 204


def storm(daemon: HostedDaemon, bind: Path, profile: str) -> None:
    wire, stem = daemon.wire, secrets.token_hex(3)
    names = [f"storm-{stem}-{number}" for number in range(COUNT)]
    bodies = [options(number, name, bind, profile, "storm-net") for number, name in enumerate(names)]
    with ThreadPoolExecutor(COUNT) as pool:
        ids = list(pool.map(lambda pair: one(wire, *pair), zip(names, bodies, strict=True)))
        assert len(wire.get("/containers/json").json) == COUNT
        gone = list(pool.map(lambda id: wire.delete(f"/containers/{id}", force=1, v=1).status, ids))
    assert gone == [204] * COUNT
    assert wire.get("/containers/json", all=1).json == []
    with contextlib.suppress(AssertionError):  # files go after the answer
        until(lambda: not left(daemon, ids), "nothing to be left")
    assert left(daemon, ids) == []


def make_writable(wire: Wire) -> None:
    """Let every user write into the volumes: their roots are as the image has those folders, or root's."""
    body = {
        "Image": "busybox",
        "Cmd": ["chmod", "777", "/named"],
        "HostConfig": {"Binds": ["storm:/named"], "NetworkMode": "none", "AutoRemove": True},
    }
    assert wire.post("/containers/create", body, name="chmod").status == 201
    assert wire.post("/containers/chmod/start").status == 204
    wire.post("/containers/chmod/wait", condition="removed")
