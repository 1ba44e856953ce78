"""`docker stats`: the counters of a container, followed or read once."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker as docker_py
import pytest

from tests.compat.test_resources import IS_V2, MIB
from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root

NEVER = "0001-01-01T00:00:00Z"
SPIN = "while :; do :; done"


@pytest.fixture
def busy(docker: Docker, image: str, name: str) -> str:
    """Return the name of a container that uses its CPU and has limits."""
    flags = ["--memory", "64m", "--pids-limit", "20", "--cpus", "0.3", "--network", "none"]
    docker.ok("run", "-d", "--name", name, *flags, image, "sh", "-c", SPIN)
    return name


def once(wire: Wire, name: str, **query: Any) -> dict[str, Any]:
    answer = wire.get(f"/containers/{name}/stats", stream=0, **query)
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


@contextlib.contextmanager
def following(wire: Wire, name: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Give the samples of a stream; leaving closes the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(wire.path)
        connection.sendall(f"GET /v1.45/containers/{name}/stats HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        with connection.makefile("rb") as file:
            assert b"200" in file.readline()
            while file.readline().strip():
                pass
            yield (json.loads(line) for line in file)


def test_one_sample_has_all_that_docker_shows(wire: Wire, busy: str) -> None:
    found = once(wire, busy)
    assert found["name"] == f"/{busy}" and len(found["id"]) == 64
    assert found["read"] > found["preread"] > NEVER
    assert found["pids_stats"] == {"current": 1, "limit": 20}
    cpu, before = found["cpu_stats"], found["precpu_stats"]
    assert cpu["cpu_usage"]["total_usage"] > before["cpu_usage"]["total_usage"] > 0
    assert cpu["system_cpu_usage"] > before["system_cpu_usage"] > 0
    assert cpu["online_cpus"] >= 1
    assert set(cpu["throttling_data"]) == {"periods", "throttled_periods", "throttled_time"}
    memory = found["memory_stats"]
    assert 0 < memory["usage"] <= memory["limit"] == 64 * MIB
    assert "pgfault" in memory["stats"]
    assert (found["num_procs"], found["storage_stats"]) == (0, {})
    assert "networks" not in found


def test_its_shape_is_that_of_the_hosts_cgroups(wire: Wire, busy: str) -> None:
    found = once(wire, busy, **{"one-shot": 1})
    blkio, usage = found["blkio_stats"], found["cpu_stats"]["cpu_usage"]
    assert len(blkio) == 8
    if IS_V2:
        assert "percpu_usage" not in usage and "max_usage" not in found["memory_stats"]
        assert [key for key, value in blkio.items() if value is not None] == ["io_service_bytes_recursive"]
    else:
        assert len(usage["percpu_usage"]) >= found["cpu_stats"]["online_cpus"]
        assert found["memory_stats"]["max_usage"] > 0
        assert None not in blkio.values()


def test_one_shot_does_not_wait_for_a_second_sample(wire: Wire, busy: str) -> None:
    found = once(wire, busy, **{"one-shot": 1})
    assert found["preread"] == NEVER
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_one_shot_and_a_stream_exclude_each_other(wire: Wire, busy: str) -> None:
    answer = wire.get(f"/containers/{busy}/stats", **{"one-shot": 1})
    assert (answer.status, answer.json["message"]) == (400, "cannot have stream=true and one-shot=true")
    assert wire.get("/containers/nobody/stats").status == 404


@pytest.mark.parametrize("query", [{}, {"one-shot": 1}])
def test_a_container_that_does_not_run_has_name_and_id_alone(
    wire: Wire, image: str, name: str, query: dict[str, Any]
) -> None:
    wire.post("/containers/create", {"Image": image}, name=name)
    found = once(wire, name, **query)
    assert found["name"] == f"/{name}"
    assert (found["read"], found["pids_stats"], found["memory_stats"]) == (NEVER, {}, {})
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_a_stream_goes_on_and_each_sample_knows_the_one_before(wire: Wire, busy: str) -> None:
    with following(wire, busy) as samples:
        first, second, third = (next(samples) for _ in range(3))
    assert first["preread"] == NEVER
    assert (second["preread"], second["precpu_stats"]) == (first["read"], first["cpu_stats"])
    assert third["cpu_stats"]["cpu_usage"]["total_usage"] > second["cpu_stats"]["cpu_usage"]["total_usage"]


def test_several_readers_share_one_sampler(wire: Wire, busy: str) -> None:
    """They see the same samples, told apart by the time at which they were taken."""
    with following(wire, busy) as one, following(wire, busy) as other:
        next(one), next(other)
        seen = [{next(samples)["read"] for _ in range(3)} for samples in (one, other)]
        assert seen[0] & seen[1]


def test_a_stream_outlives_the_containers_stop_and_ends_with_its_removal(docker: Docker, wire: Wire, busy: str) -> None:
    with following(wire, busy) as samples:
        assert next(samples)["memory_stats"]
        docker.ok("kill", busy)
        while next(samples)["memory_stats"]:
            pass
        docker.ok("start", busy)
        while not next(samples)["memory_stats"]:
            pass
        docker.ok("rm", "-f", busy)
        assert all(sample["name"] for sample in samples)


def test_a_client_that_goes_away_ends_the_job(wire: Wire, busy: str) -> None:
    with following(wire, busy) as samples:
        next(samples)
        assert running_jobs(wire, busy) == 1
    deadline = time.monotonic() + 10
    while running_jobs(wire, busy) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running_jobs(wire, busy) == 0


def running_jobs(wire: Wire, name: str) -> int:
    return sum(1 for job in wire.get("/engine/v1/jobs").json if job["name"] == "stats")


def test_a_paused_container_has_its_counters(docker: Docker, wire: Wire, busy: str) -> None:
    docker.ok("pause", busy)
    assert once(wire, busy, **{"one-shot": 1})["memory_stats"]["usage"] > 0


def test_interfaces_are_named_as_inside(docker: Docker, wire: Wire, image: str, name: str) -> None:
    docker.ok("run", "-d", "--name", name, image, "sleep", "60")
    before = once(wire, name, **{"one-shot": 1})["networks"]
    assert set(before) == {"eth0"}
    assert set(before["eth0"]) == {f"{way}_{what}" for way in ("rx", "tx") for what in
                                   ("bytes", "packets", "errors", "dropped")}  # fmt: skip
    gateway = docker.inspect(name, "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}")
    docker.ok("exec", name, "ping", "-c", "2", "-i", "0.1", gateway)
    after = once(wire, name, **{"one-shot": 1})["networks"]
    assert after["eth0"]["tx_packets"] >= before["eth0"]["tx_packets"] + 2


def test_throttling_is_counted(wire: Wire, busy: str) -> None:
    while not (found := once(wire, busy, **{"one-shot": 1})["cpu_stats"]["throttling_data"])["throttled_periods"]:
        pass
    assert found["periods"] >= found["throttled_periods"] > 0 and found["throttled_time"] > 0


def test_the_cli_computes_shares_of_it(docker: Docker, busy: str) -> None:
    line = docker.ok("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", busy)
    name, cpu, *memory, pids = line.split()
    assert (name, pids) == (busy, "1")
    assert 0 < float(cpu.rstrip("%")) < 200
    assert memory[-1] == "64MiB"


def test_the_cli_shows_all_that_run(docker: Docker, image: str, busy: str, new_name: Callable[[], str]) -> None:
    stopped = new_name()
    docker.ok("create", "--name", stopped, image, "true")
    shown = docker.ok("stats", "--no-stream", "--format", "{{.Name}}").split()
    assert busy in shown and stopped not in shown
    assert stopped in docker.ok("stats", "--no-stream", "-a", "--format", "{{.Name}}").split()


def test_docker_py_reads_them(engine_host: str, busy: str) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=engine_host, version="auto", timeout=30)) as client:
        container = client.containers.get(busy)
        assert container.stats(stream=False)["memory_stats"]["limit"] == 64 * MIB
        with contextlib.closing(container.stats(stream=True, decode=True)) as samples:
            assert next(samples)["pids_stats"]["current"] == 1
