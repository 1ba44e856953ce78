"""`docker update`: limits and restart policy of containers that run, and of those that do not."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.compat.test_resources import IS_V2, MIB, needs, read
from tests.support.cli import Docker
from tests.support.images import busybox_rootfs
from tests.support.wire import Wire

pytestmark = pytest.mark.root

# Options, fields, and the file of v1 and v2 with its text.
CHANGES: list[tuple[list[str], dict[str, Any], tuple[str, str], tuple[str, str]]] = [
    (
        ["--memory", "48m", "--memory-swap", "48m"],
        {"Memory": 48 * MIB, "MemorySwap": 48 * MIB},
        ("memory.memsw.limit_in_bytes", str(48 * MIB)),
        ("memory.swap.max", "0"),
    ),
    (
        ["--memory", "512m", "--memory-swap", "-1"],
        {"Memory": 512 * MIB, "MemorySwap": -1},
        ("memory.limit_in_bytes", str(512 * MIB)),
        ("memory.max", str(512 * MIB)),
    ),
    (
        ["--memory", "256m", "--memory-swap", "300m"],
        {"Memory": 256 * MIB, "MemorySwap": 300 * MIB},
        ("memory.memsw.limit_in_bytes", str(300 * MIB)),
        ("memory.max", str(256 * MIB)),
    ),
    (
        ["--memory-reservation", "16m"],
        {"MemoryReservation": 16 * MIB},
        ("memory.soft_limit_in_bytes", str(16 * MIB)),
        ("memory.low", str(16 * MIB)),
    ),
    (["--cpus", "0.25"], {"NanoCpus": 25 * 10**7}, ("cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 100000")),
    (["--cpu-shares", "256"], {"CpuShares": 256}, ("cpu.shares", "256"), ("cpu.weight", "10")),
    (["--cpu-quota", "-1"], {"CpuQuota": -1}, ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000")),
    (["--cpuset-cpus", "0"], {"CpusetCpus": "0"}, ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    (["--cpuset-mems", "0"], {"CpusetMems": "0"}, ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    (["--pids-limit", "30"], {"PidsLimit": 30}, ("pids.max", "30"), ("pids.max", "30")),
    (["--pids-limit", "-1"], {"PidsLimit": 0}, ("pids.max", "max"), ("pids.max", "max")),
]
BASE = ["--memory", "64m", "--memory-swap", "128m", "--pids-limit", "50"]


@pytest.fixture
def limited(docker: Docker, image: str, name: str) -> str:
    """Return the name of a running container with some limits."""
    docker.ok("run", "-d", "--name", name, "--network", "none", *BASE, image, "sleep", "60")
    return name


def change(docker: Docker, wire: Wire, by: str, name: str, flags: list[str], fields: dict[str, Any]) -> None:
    if by == "cli":
        assert docker.ok("update", *flags, name) == name
    else:
        answer = wire.post(f"/containers/{name}/update", fields)
        assert (answer.status, answer.json) == (200, {"Warnings": []})


@pytest.mark.parametrize(("flags", "fields", "v1", "v2"), CHANGES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_running_container_has_its_new_limits_at_once(
    docker: Docker,
    wire: Wire,
    limited: str,
    by: str,
    flags: list[str],
    fields: dict[str, Any],
    v1: tuple[str, str],
    v2: tuple[str, str],
) -> None:
    needs(*fields)
    change(docker, wire, by, limited, flags, fields)
    assert read(docker, limited, v1[0], v2[0]) == (v2[1] if IS_V2 else v1[1])
    shown = wire.get(f"/containers/{limited}/json").json["HostConfig"]
    assert {key: shown[key] for key in fields} == fields
    docker.ok("restart", "-t", "0", limited)
    assert read(docker, limited, v1[0], v2[0]) == (v2[1] if IS_V2 else v1[1])


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_stopped_container_has_them_at_its_start(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    docker.ok("create", "--name", name, "--network", "none", image, "sleep", "60")
    change(docker, wire, by, name, ["--pids-limit", "33"], {"PidsLimit": 33})
    docker.ok("start", name)
    assert read(docker, name, "pids.max", "pids.max") == "33"


@pytest.mark.parametrize("by", ["cli", "api"])
def test_the_restart_policy_is_kept(docker: Docker, wire: Wire, limited: str, by: str) -> None:
    rule = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}}
    if by == "cli":
        assert docker("update", "--restart", "on-failure:4", limited).code == 0
    else:
        assert wire.post(f"/containers/{limited}/update", rule).status == 200
    shown = wire.get(f"/containers/{limited}/json").json["HostConfig"]
    assert shown["RestartPolicy"] == rule["RestartPolicy"]
    assert shown["Memory"] == 64 * MIB


def test_several_containers_are_updated_by_one_command(docker: Docker, image: str, new_name: Callable[[], str]) -> None:
    names = [new_name(), new_name()]
    for name in names:
        docker.ok("create", "--name", name, image, "true")
    assert docker.ok("update", "--cpu-shares", "7", *names).split() == names
    assert [docker.inspect(name, "{{.HostConfig.CpuShares}}") for name in names] == ["7", "7"]


def test_it_is_told(docker: Docker, wire: Wire, limited: str) -> None:
    import time

    since = time.time()
    docker.ok("update", "--cpu-shares", "7", limited)
    told = docker.ok("events", "--since", str(since), "--until", str(time.time() + 0.01), "--filter",
                     f"container={limited}", "--format", "{{.Action}}")  # fmt: skip
    assert told.split() == ["update"]


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        ({"CpusetCpus": "0-4294967295"}, 400, "Invalid value 0-4294967295 for cpuset cpus"),
        ({"CpusetCpus": "4000"}, 400, "Requested CPUs are not available - requested 4000, available: "),
        ({"CpuQuota": 1}, 400, "CPU cfs quota can not be less than 1ms"),
        ({"PidsLimit": 1 << 40}, 400, "pids limit"),
        ({"RestartPolicy": {"Name": "sometimes"}}, 400, "invalid restart policy: unknown policy 'sometimes'"),
        ({"Memory": "lots"}, 400, "Memory"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, 400, "Nano CPUs and CPU Quota cannot both be set"),
        ({"Memory": 256 * MIB}, 409, "Memory limit should be smaller than already set memoryswap limit, update the"),
    ],
)
def test_what_cannot_be_changes_nothing(
    docker: Docker, wire: Wire, limited: str, fields: dict[str, Any], status: int, message: str
) -> None:
    needs(*fields)
    before = wire.get(f"/containers/{limited}/json").json["HostConfig"]
    answer = wire.post(f"/containers/{limited}/update", fields)
    assert (answer.status, message in answer.json["message"]) == (status, True), answer.body
    assert wire.get(f"/containers/{limited}/json").json["HostConfig"] == before
    assert read(docker, limited, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)


@pytest.mark.parametrize(
    ("flags", "fields", "message"),
    [
        (["--cpus", "0.5"], {"CpuQuota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (["--cpus", "0.5"], {"CpuPeriod": 5000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (["--cpu-quota", "5000"], {"NanoCpus": 10**8}, "Nano CPUs cannot be updated as CPU Quota has already been"),
        (["--cpu-period", "5000"], {"NanoCpus": 10**8}, "Nano CPUs cannot be updated as CPU Period has already been"),
        (["--rm"], {"RestartPolicy": {"Name": "always"}}, "Restart policy cannot be updated because AutoRemove is"),
    ],
)
def test_what_does_not_go_with_what_is_there_is_a_conflict(
    docker: Docker, wire: Wire, image: str, name: str, flags: list[str], fields: dict[str, Any], message: str
) -> None:
    docker.ok("create", "--name", name, *flags, image, "true")
    answer = wire.post(f"/containers/{name}/update", fields)
    assert (answer.status, message in answer.json["message"]) == (409, True), answer.body


def test_nobody_cannot_be_updated(wire: Wire) -> None:
    assert wire.post("/containers/nobody/update", {"CpuShares": 5}).status == 404


@pytest.mark.skipif(IS_V2, reason="not run: cgroup v2 takes any limit, and kills for it")
def test_a_limit_that_the_kernel_refuses_leaves_everything_as_it_was(
    docker: Docker, wire: Wire, image: str, name: str
) -> None:
    """Memory that is in use and cannot be freed: v1 answers EBUSY."""
    hold = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo full; sleep 60"
    flags = ["--memory", "128m", "--memory-swap", "128m", "--cpu-shares", "100"]
    docker.ok("run", "-d", "--name", name, "--network", "none", *flags, image, "sh", "-c", hold)
    while docker.ok("logs", name) != "full":
        pass
    body = {"Memory": 8 * MIB, "MemorySwap": 8 * MIB, "CpuShares": 200}
    answer = wire.post(f"/containers/{name}/update", body)
    assert answer.status == 500 and "memory.limit_in_bytes" in answer.json["message"], answer.body
    assert docker.inspect(name, "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}}") == f"{128 * MIB} 100"
    assert read(docker, name, "memory.limit_in_bytes", "") == str(128 * MIB)
    assert read(docker, name, "cpu.shares", "") == "100"


def test_a_change_outlives_the_daemon(new_daemon: Callable[..., Any], tmp_path: Path, image: str) -> None:
    daemon = new_daemon()
    assert daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    docker = Docker(daemon.host, tmp_path)
    docker.ok("run", "-d", "--name", "kept", "--network", "none", image, "sleep", "60")
    docker.ok("update", "--pids-limit", "44", "--restart", "unless-stopped", "kept")
    daemon.kill()
    daemon.start()
    assert docker.inspect("kept", "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}") == "44 unless-stopped"
    assert read(docker, "kept", "pids.max", "pids.max") == "44"


def test_docker_py_updates(engine_host: str, docker: Docker, limited: str) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        answer = client.containers.get(limited).update(cpu_shares=77, mem_limit="100m", memswap_limit="200m")
        assert answer == {"Warnings": []}
    assert docker.inspect(limited, "{{.HostConfig.CpuShares}} {{.HostConfig.Memory}}") == f"77 {100 * MIB}"
