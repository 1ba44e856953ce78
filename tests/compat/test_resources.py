"""Limits through the docker CLI and through the API: what the kernel was told, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from tests.support.packages import Missing
from tests.support.wire import Wire
from tests.support.xfs import mounted
from windlass.kernel.cgroup import Cgroup, Hierarchies
from windlass.kernel.cgroup_support import support_of

pytestmark = pytest.mark.root

HIERARCHIES = Hierarchies.of_host()
IS_V2 = HIERARCHIES.is_v2
MIB = 1 << 20
V1_ONLY = pytest.mark.skipif(IS_V2, reason="not run: cgroup v2 has no such limit")


def block_device() -> tuple[str, str]:
    """Return a whole block device of this machine that the I/O controller takes, and its numbers."""
    for path in sorted(Path("/sys/block").iterdir()):
        node = Path("/dev") / path.name
        if node.is_block_device() and not path.name.startswith("zram"):
            return str(node), (path / "dev").read_text().strip()
    pytest.skip("not run: this machine has no block device")


def needs(*keys: str) -> None:
    """Skip where the host cannot do what a field asks for: the engine discards the field then, whatever it says."""
    flags = {
        "CpusetCpus": "cpuset",
        "CpusetMems": "cpuset",
        "MemorySwappiness": "swappiness",
        "CpuRealtimeRuntime": "cpu_realtime",
        "BlkioWeightDevice": "blkio_weight",
    }
    can = support_of(HIERARCHIES)
    for key in keys:
        if key in flags and not getattr(can, flags[key]):
            pytest.skip(f"not run: this host does not support {key}")


def groups(pid: int) -> dict[str, Path]:
    """Return the folder of each controller's group that a process is in; `""` is the v2 one."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            mount = HIERARCHIES.v2 if number == "0" else HIERARCHIES.mount_of(controller)
            if mount:
                found[controller] = mount / path.lstrip("/")
    return found


def read(docker: Docker, name: str, v1: str, v2: str) -> str:
    """Return what a file of a running container's group says."""
    found = groups(int(docker.inspect(name, "{{.State.Pid}}")))
    path = found[""] / v2 if IS_V2 else found[v1.split(".")[0]] / v1
    return path.read_text().strip()


# Options, what they become in the API, and the file of v1 and v2 with its text.
OPTIONS: list[tuple[list[str], dict[str, Any], tuple[str, str], tuple[str, str]]] = [
    (
        ["--memory", "64m"],
        {"Memory": 64 * MIB},
        ("memory.limit_in_bytes", str(64 * MIB)),
        ("memory.max", str(64 * MIB)),
    ),
    (
        ["--memory", "64m", "--memory-swap", "96m"],
        {"Memory": 64 * MIB, "MemorySwap": 96 * MIB},
        ("memory.memsw.limit_in_bytes", str(96 * MIB)),
        ("memory.swap.max", str(32 * MIB)),
    ),
    (
        ["--memory", "64m", "--memory-reservation", "32m"],
        {"Memory": 64 * MIB, "MemoryReservation": 32 * MIB},
        ("memory.soft_limit_in_bytes", str(32 * MIB)),
        ("memory.low", str(32 * MIB)),
    ),
    (["--cpus", "0.5"], {"NanoCpus": 5 * 10**8}, ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    (["--cpu-shares", "512"], {"CpuShares": 512}, ("cpu.shares", "512"), ("cpu.weight", "20")),
    (
        ["--cpu-period", "50000", "--cpu-quota", "25000"],
        {"CpuPeriod": 50000, "CpuQuota": 25000},
        ("cpu.cfs_period_us", "50000"),
        ("cpu.max", "25000 50000"),
    ),
    (["--cpu-quota", "25000"], {"CpuQuota": 25000}, ("cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 100000")),
    (["--cpuset-cpus", "0"], {"CpusetCpus": "0"}, ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    (["--cpuset-mems", "0"], {"CpusetMems": "0"}, ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    (["--pids-limit", "20"], {"PidsLimit": 20}, ("pids.max", "20"), ("pids.max", "20")),
]


@pytest.mark.parametrize(("flags", "fields", "v1", "v2"), OPTIONS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_limit_is_what_the_kernel_is_told(
    docker: Docker,
    wire: Wire,
    image: str,
    name: str,
    by: str,
    flags: list[str],
    fields: dict[str, Any],
    v1: tuple[str, str],
    v2: tuple[str, str],
) -> None:
    needs(*fields)
    if by == "cli":
        result = docker("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "60")
        assert (result.code, result.err) == (0, "")
    else:
        assert start(wire, image, name, fields) == []
    assert read(docker, name, v1[0], v2[0]) == (v2[1] if IS_V2 else v1[1])
    shown = wire.get(f"/containers/{name}/json").json["HostConfig"]
    assert {key: shown[key] for key in fields} == fields


def start(wire: Wire, image: str, name: str, fields: dict[str, Any]) -> list[str]:
    """Create and start a container by the API; return the warnings."""
    body = {"Image": image, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none"} | fields}
    made = wire.post("/containers/create", body, name=name)
    assert made.status == 201, made.body
    started = wire.post(f"/containers/{name}/start")
    assert started.status == 204, started.body
    return list(made.json["Warnings"])


@V1_ONLY
@pytest.mark.parametrize("by", ["cli", "api"])
def test_swappiness_and_the_oom_killer_are_for_v1(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    if by == "cli":
        flags = ["--memory", "64m", "--memory-swappiness", "7", "--oom-kill-disable"]
        docker.ok("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "60")
    else:
        fields = {"Memory": 64 * MIB, "MemorySwappiness": 7, "OomKillDisable": True}
        assert start(wire, image, name, fields) == []
    assert read(docker, name, "memory.swappiness", "") == "7"
    assert "oom_kill_disable 1" in read(docker, name, "memory.oom_control", "")


def test_the_oom_killer_disabled_without_a_limit_is_warned_of(docker: Docker, image: str, name: str) -> None:
    result = docker("create", "--name", name, "--oom-kill-disable", image, "true")
    words = "does not support OomKillDisable" if IS_V2 else "OOM killer is disabled for the container, but no memory"
    assert words in result.err


@pytest.mark.parametrize("by", ["cli", "api"])
def test_kernel_memory_is_discarded(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    if by == "cli":  # which keeps it to itself since API 1.42
        docker.ok("create", "--name", name, "--kernel-memory", "64m", image)
    else:
        body = {"Image": image, "HostConfig": {"KernelMemory": 64 * MIB}}
        warnings = wire.post("/containers/create", body, name=name).json["Warnings"]
        assert "Your kernel does not support kernel memory limit capabilities" in warnings[0]
    assert docker.inspect(name, "{{.HostConfig.KernelMemory}}") == "0"


@V1_ONLY
@pytest.mark.parametrize("by", ["cli", "api"])
def test_real_time_needs_a_share_of_the_administrators(
    docker: Docker, wire: Wire, image: str, name: str, by: str
) -> None:
    """The group above has none to give, here as with a dockerd without --cpu-rt-runtime: the kernel's word is told."""
    needs("CpuRealtimeRuntime")
    if by == "cli":
        flags = ["--network", "none", "--cpu-rt-period", "10000", "--cpu-rt-runtime", "1000"]
        result = docker("run", "--name", name, *flags, image, "true")
        text, failed = result.err, result.code != 0
    else:
        host = {"NetworkMode": "none", "CpuRealtimePeriod": 10000, "CpuRealtimeRuntime": 1000}
        assert wire.post("/containers/create", {"Image": image, "HostConfig": host}, name=name).status == 201
        answer = wire.post(f"/containers/{name}/start")
        text, failed = answer.json["message"], answer.status == 500
    assert failed and "cpu.rt_runtime_us" in text


@pytest.mark.parametrize("by", ["cli", "api"])
def test_block_devices_are_throttled_and_weighed(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    node, numbers = block_device()
    if by == "cli":
        flags = [
            *("--blkio-weight", "300", "--device-read-bps", f"{node}:1mb", "--device-write-bps", f"{node}:2mb"),
            *("--device-read-iops", f"{node}:30", "--device-write-iops", f"{node}:40"),
        ]
        result = docker("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "60")
        assert result.code == 0, result
        weight_is_there = "Weight discarded" not in result.err
    else:
        fields = {
            "BlkioWeight": 300,
            "BlkioDeviceReadBps": [{"Path": node, "Rate": MIB}],
            "BlkioDeviceWriteBps": [{"Path": node, "Rate": 2 * MIB}],
            "BlkioDeviceReadIOps": [{"Path": node, "Rate": 30}],
            "BlkioDeviceWriteIOps": [{"Path": node, "Rate": 40}],
        }
        weight_is_there = not start(wire, image, name, fields)
    if IS_V2:
        assert read(docker, name, "", "io.max") == f"{numbers} rbps={MIB} wbps={2 * MIB} riops=30 wiops=40"
        return
    for file, value in (("read_bps", MIB), ("write_bps", 2 * MIB), ("read_iops", 30), ("write_iops", 40)):
        assert read(docker, name, f"blkio.throttle.{file}_device", "") == f"{numbers} {value}"
    if weight_is_there:
        group = groups(int(docker.inspect(name, "{{.State.Pid}}")))["blkio"]
        file = "blkio.weight" if (group / "blkio.weight").exists() else "blkio.bfq.weight"
        assert (group / file).read_text().split()[-1] == "300"


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_weight_of_a_device_that_no_scheduler_weighs_is_told(
    docker: Docker, wire: Wire, image: str, name: str, by: str
) -> None:
    """BFQ takes a device's weight only while it schedules the device: the kernel's refusal has the file's name."""
    node, numbers = block_device()
    if by == "cli":
        result = docker(
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "--blkio-weight-device",
            f"{node}:200",
            image,
            "sleep",
            "60",
        )
        text, failed = result.err, result.code != 0
    else:
        host = {"NetworkMode": "none", "BlkioWeightDevice": [{"Path": node, "Weight": 200}]}
        made = wire.post("/containers/create", {"Image": image, "Cmd": ["sleep", "60"], "HostConfig": host}, name=name)
        started = wire.post(f"/containers/{name}/start")
        text, failed = f"{made.json['Warnings']} {started.body!r}", started.status != 204
    if failed:
        assert f"{numbers} 200" in text and "weight" in text
    else:
        assert "Weight-device discarded" in text or numbers in _weights(docker, name)


def _weights(docker: Docker, name: str) -> str:
    found = groups(int(docker.inspect(name, "{{.State.Pid}}")))
    folder = found[""] if IS_V2 else found["blkio"]
    return "".join(path.read_text() for path in folder.glob("*weight*"))


@pytest.mark.parametrize("by", ["cli", "api"])
@pytest.mark.parametrize("parent", ["compat-parent", "/compat-parent/deeper/"])
def test_a_cgroup_parent_is_above_the_containers_group(
    docker: Docker, wire: Wire, image: str, name: str, by: str, parent: str
) -> None:
    if by == "cli":
        docker.ok("run", "-d", "--name", name, "--network", "none", "--cgroup-parent", parent, image, "sleep", "60")
    else:
        start(wire, image, name, {"CgroupParent": parent})
    found = groups(int(docker.inspect(name, "{{.State.Pid}}")))
    top = parent.strip("/")
    assert all(f"/{top}/" in str(path) for path in found.values())
    docker.ok("rm", "-f", name)
    _remove_folders(top)


def _remove_folders(top: str) -> None:
    """Remove the parents, which stay as with dockerd: they may be the user's."""
    cgroup = Cgroup(HIERARCHIES, top.split("/")[0])
    for mount in [each.mount for each in HIERARCHIES.v1] + ([HIERARCHIES.v2] if HIERARCHIES.v2 else []):
        for folder, _, _ in os.walk(mount / cgroup.name, topdown=False):
            Path(folder).rmdir()


@pytest.mark.parametrize("by", ["cli", "api"])
def test_ulimits_are_what_the_process_has(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    if by == "cli":
        flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "nproc=50"]
        docker.ok("run", "-d", "--name", name, "--network", "none", *flags, image, "sleep", "60")
    else:
        ulimits = [("nofile", 100, 200), ("core", 0, 0), ("nproc", 50, 50)]
        start(wire, image, name, {"Ulimits": [{"Name": n, "Soft": s, "Hard": h} for n, s, h in ulimits]})
    limits = docker.ok("exec", name, "cat", "/proc/1/limits")
    assert [line.split()[-3:-1] for line in limits.splitlines() if "open files" in line] == [["100", "200"]]
    assert [line.split()[-3:-1] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    assert docker.ok("exec", name, "sh", "-c", "ulimit -n; ulimit -Hn") == "100\n200"


def test_an_ulimit_that_the_daemon_may_not_give_is_the_starts_error(docker: Docker, image: str, name: str) -> None:
    """Without CAP_SYS_RESOURCE nobody raises a hard limit; with it the number is beyond what the kernel has."""
    result = docker("run", "--name", name, "--network", "none", "--ulimit", "nofile=2000000000", image, "true")
    assert result.code != 0
    assert "error setting rlimit nofile: operation not permitted" in result.err


@pytest.mark.parametrize("by", ["cli", "api"])
def test_the_size_of_dev_shm(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    if by == "cli":
        docker.ok("run", "-d", "--name", name, "--network", "none", "--shm-size", "5m", image, "sleep", "60")
    else:
        start(wire, image, name, {"ShmSize": 5 * MIB})
    assert docker.ok("exec", name, "df", "-m", "/dev/shm").split()[-5] == "5"


@pytest.mark.parametrize("by", ["cli", "api"])
def test_the_score_of_the_oom_killer(docker: Docker, wire: Wire, image: str, name: str, by: str) -> None:
    if by == "cli":
        docker.ok("run", "-d", "--name", name, "--network", "none", "--oom-score-adj", "500", image, "sleep", "60")
    else:
        start(wire, image, name, {"OomScoreAdj": 500})
    assert docker.ok("exec", name, "cat", "/proc/1/oom_score_adj") == "500"


def test_memory_that_runs_out_ends_the_container(docker: Docker, image: str, name: str) -> None:
    script = "x=$(dd if=/dev/zero bs=1M count=60 2>/dev/null | tr '\\0' x); echo survived"
    flags = ["--memory", "16m", "--memory-swap", "16m"]
    result = docker("run", "--name", name, "--network", "none", *flags, image, "sh", "-c", script)
    assert (result.code, "survived" in result.out) == (137, False)
    assert docker.inspect(name, "{{.State.OOMKilled}}") == "true"


def test_processes_that_are_too_many_cannot_be_forked(docker: Docker, image: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"
    result = docker("run", "--rm", "--network", "none", "--pids-limit", "4", image, "sh", "-c", script)
    assert "can't fork" in result.err


@pytest.mark.parametrize("by", ["flag", "file"])
def test_daemon_ulimits_hold_for_those_who_say_nothing(
    new_daemon: Callable[..., Any], tmp_path: Path, image: str, by: str
) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 300, "Hard": 400}}}')
    flags = ["--config-file", str(file)] if by == "file" else ["--default-ulimit", "nofile=300:400"]
    daemon = new_daemon(*flags)
    assert daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    docker = Docker(daemon.host, tmp_path)
    script = ["sh", "-c", "ulimit -n; ulimit -Hn"]
    assert docker.ok("run", "--rm", "--network", "none", image, *script).split() == ["300", "400"]
    own = ["--ulimit", "nofile=30:40"]
    assert docker.ok("run", "--rm", "--network", "none", *own, image, *script).split() == ["30", "40"]


BAD: list[tuple[str, Any, str]] = [
    ("Memory", 1, "Minimum memory limit allowed is 6MB"),
    ("MemorySwap", 64 * MIB, "You should always set the Memory limit"),
    ("MemoryReservation", 1, "Minimum memory reservation allowed is 6MB"),
    ("MemorySwappiness", 101, "valid memory swappiness range is 0-100"),
    ("NanoCpus", 10**15, "range of CPUs is from 0.01 to"),
    ("CpuShares", -1, "invalid CPU shares"),
    ("CpuPeriod", 1, "CPU cfs period can not be less than 1ms"),
    ("CpuQuota", 1, "CPU cfs quota can not be less than 1ms"),
    ("CpuRealtimeRuntime", -1, "CpuRealtimeRuntime"),
    ("CpusetCpus", "0-4294967295", "Invalid value 0-4294967295 for cpuset cpus"),
    ("CpusetCpus", "4000", "Requested CPUs are not available - requested 4000, available: "),
    ("CpusetMems", "4000", "Requested memory nodes are not available - requested 4000, available: "),
    ("PidsLimit", 1 << 40, "pids limit"),
    ("OomScoreAdj", 1001, "range for oom score adj is [-1000, 1000]"),
    ("ShmSize", -1, "SHM size can not be less than 0"),
    ("BlkioDeviceReadBps", [{"Path": "/dev/nope", "Rate": 1}], "BlkioDeviceReadBps"),
    ("BlkioDeviceWriteBps", [{"Path": "/dev/null", "Rate": 1}], "BlkioDeviceWriteBps"),
    ("BlkioDeviceReadIOps", [{"Path": "/dev/null", "Rate": -1}], "invalid rate for device /dev/null"),
    ("BlkioDeviceWriteIOps", [{"Path": 5}], "BlkioDeviceWriteIOps"),
    ("BlkioWeightDevice", [{"Path": "/dev/null", "Weight": 5}], "Range of blkio weight is from 10 to 1000"),
    ("CgroupParent", "../x", "invalid cgroup parent"),
    ("IOMaximumIOps", 1, "Invalid QoS settings"),
    ("Ulimits", [{"Name": "nofile", "Soft": 2, "Hard": 1}], "ulimit soft limit must be less than or equal to hard"),
    ("Ulimits", [{"Name": "nope", "Soft": 2, "Hard": 2}], "invalid ulimit type: nope"),
    ("Memory", 1 << 70, "does not fit into 64 bits"),
    ("Memory", "lots", "Memory"),
    ("PidsLimit", 1.5, "PidsLimit"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=lambda value: str(value)[:30])
def test_a_value_out_of_range_is_a_400_and_nothing_is_made(
    wire: Wire, image: str, name: str, key: str, value: Any, message: str
) -> None:
    needs(key)
    answer = wire.post("/containers/create", {"Image": image, "HostConfig": {key: value}}, name=name)
    assert (answer.status, message in answer.json["message"]) == (400, True), answer.body
    assert wire.get(f"/containers/{name}/json").status == 404


SIZE_REFUSED = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_size_is_refused_where_the_file_system_cannot_count(
    docker: Docker, wire: Wire, image: str, name: str, by: str
) -> None:
    if by == "cli":
        result = docker("create", "--name", name, "--storage-opt", "size=10G", image)
        assert (result.code, SIZE_REFUSED in result.err) == (1, True), result
    else:
        answer = wire.post("/containers/create", {"Image": image, "HostConfig": {"StorageOpt": {"size": "10G"}}})
        assert (answer.status, answer.json["message"]) == (501, SIZE_REFUSED)
    assert wire.get(f"/containers/{name}/json").status == 404


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "much"}, "invalid size: 'much'"),
        ({"size": "1k"}, "invalid size: '1k'"),
        ({"speed": "9"}, "Unknown option speed"),
    ],
)
def test_other_storage_options_are_a_400(wire: Wire, image: str, options: dict[str, str], message: str) -> None:
    answer = wire.post("/containers/create", {"Image": image, "HostConfig": {"StorageOpt": options}})
    assert (answer.status, message in answer.json["message"]) == (400, True), answer.body


@pytest.mark.parametrize("by", ["cli", "api"])
def test_a_size_holds_on_xfs_with_project_quotas(tmp_path: Path, image: str, by: str) -> None:
    daemon = Daemon()
    daemon.base.mkdir(exist_ok=True)
    try:
        with mounted(daemon.base) as place:
            daemon.data_root = place / "root"
            daemon.start()
            try:
                fill(Docker(daemon.host, tmp_path), image, by)
            finally:
                daemon.remove_containers()
                daemon.stop()
    except Missing as why:
        pytest.skip(f"not run: {why}")
    finally:
        daemon.close()


def fill(docker: Docker, image: str, by: str) -> None:
    """Run a container of 10 MiB that writes 9, and then 5 more."""
    assert docker.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo=image, tag="latest").status == 200
    script = "dd if=/dev/zero of=/a bs=1M count=9 && ! dd if=/dev/zero of=/b bs=1M count=5; df -m / | tail -1"
    if by == "cli":
        docker.ok(
            "create", "--name", "sized", "--network", "none", "--storage-opt", "size=10M", image, "sh", "-c", script
        )
    else:
        host = {"NetworkMode": "none", "StorageOpt": {"size": "10M"}}
        body = {"Image": image, "Cmd": ["sh", "-c", script], "HostConfig": host}
        assert docker.wire.post("/containers/create", body, name="sized").status == 201
    result = docker("start", "-a", "sized")
    assert (result.code, "No space left on device" in result.err) == (0, True), result
    assert result.out.split()[1] == "10"
    assert docker.inspect("sized", "{{.HostConfig.StorageOpt.size}}") == "10M"
