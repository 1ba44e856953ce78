"""Limits: what can only be wrong is refused, what the host cannot do is discarded, in Docker's words."""

import dataclasses
from typing import Any

import pytest

from windlass.daemon.cpuset import parse_list
from windlass.daemon.limits import check_limits
from windlass.daemon.resources import resources, rlimits
from windlass.engine.errors import BadParameter
from windlass.execdriver.driver import Rlimit
from windlass.jobs.container_config import HostConfig, ThrottleDevice, Ulimit, WeightDevice
from windlass.kernel.cgroup_support import Support

MIB = 1 << 20
ALL = Support(**{field.name: True for field in dataclasses.fields(Support)} | {"cpus": "0-1", "mems": "0"})
V2 = dataclasses.replace(ALL, swappiness=False, oom_kill_disable=False, cpu_realtime=False, kernel_memory_tcp=False)
NULL = "/dev/null"


def check(can: Support = ALL, **values: Any) -> tuple[HostConfig, list[str]]:
    warnings: list[str] = []
    return check_limits(HostConfig(**values), warnings.append, can), warnings


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("Memory", {"Memory": 6 * MIB - 1}, "Minimum memory limit allowed is 6MB"),
        ("Memory", {"Memory": -1}, "Minimum memory limit allowed is 6MB"),
        ("MemorySwap", {"MemorySwap": 8 * MIB}, "You should always set the Memory limit when using Memoryswap"),
        ("MemorySwap", {"Memory": 8 * MIB, "MemorySwap": 7 * MIB}, "Minimum memoryswap limit should be larger"),
        ("MemorySwap", {"Memory": 8 * MIB, "MemorySwap": -2}, "Invalid value -2 for memory swap"),
        ("MemoryReservation", {"MemoryReservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ("MemoryReservation", {"Memory": 8 * MIB, "MemoryReservation": 9 * MIB}, "can not be less than memory reser"),
        ("MemorySwappiness", {"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ("MemorySwappiness", {"MemorySwappiness": -2}, "Invalid value: -2, valid memory swappiness range is 0-100"),
        ("KernelMemoryTCP", {"KernelMemoryTCP": -1}, "Invalid value -1 for kernel memory TCP"),
        ("NanoCpus", {"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
        ("NanoCpus", {"NanoCpus": -1}, "range of CPUs is from 0.01 to"),
        ("NanoCpus", {"NanoCpus": 1}, "range of CPUs is from 0.01 to"),
        ("NanoCpus", {"NanoCpus": 10**9, "CpuPeriod": 10000}, "Nano CPUs and CPU Period cannot both be set"),
        ("NanoCpus", {"NanoCpus": 10**9, "CpuQuota": 10000}, "Nano CPUs and CPU Quota cannot both be set"),
        ("CpuPeriod", {"CpuPeriod": 999}, "CPU cfs period can not be less than 1ms"),
        ("CpuPeriod", {"CpuPeriod": 1_000_001}, "CPU cfs period can not be less than 1ms"),
        ("CpuQuota", {"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms"),
        ("CpuQuota", {"CpuQuota": -2}, "Invalid value -2 for CPU cfs quota"),
        ("CpuQuota", {"CpuQuota": 1 << 44}, "for CPU cfs quota"),
        ("CpuShares", {"CpuShares": -1}, "invalid CPU shares"),
        ("CpuRealtimeRuntime", {"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 11}, "runtime cannot be higher than"),
        ("CpuRealtimeRuntime", {"CpuRealtimeRuntime": -1}, "Invalid value -1 for CpuRealtimeRuntime"),
        (
            "CpusetCpus",
            {"CpusetCpus": "0-4294967295"},
            "Invalid value 0-4294967295 for cpuset cpus: value of out range",
        ),
        ("CpusetCpus", {"CpusetCpus": "1-0"}, "Invalid value 1-0 for cpuset cpus: invalid format"),
        ("CpusetCpus", {"CpusetCpus": "0,"}, "Invalid value 0, for cpuset cpus: invalid format"),
        ("CpusetCpus", {"CpusetCpus": "٣"}, "for cpuset cpus: invalid format"),
        ("CpusetCpus", {"CpusetCpus": "1-2"}, "Requested CPUs are not available - requested 1-2, available: 0-1"),
        ("CpusetMems", {"CpusetMems": "x"}, "Invalid value x for cpuset mems: invalid format: x"),
        ("CpusetMems", {"CpusetMems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ("PidsLimit", {"PidsLimit": 1 << 40}, "for pids limit"),
        ("OomScoreAdj", {"OomScoreAdj": 1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ("OomScoreAdj", {"OomScoreAdj": -1001}, r"range for oom score adj is \[-1000, 1000\]"),
        ("ShmSize", {"ShmSize": -1}, "SHM size can not be less than 0"),
        ("BlkioWeight", {"BlkioWeight": 9}, "Range of blkio weight is from 10 to 1000"),
        ("BlkioWeight", {"BlkioWeight": 1001}, "Range of blkio weight is from 10 to 1000"),
        ("BlkioWeightDevice", {"BlkioWeightDevice": [WeightDevice(NULL, 9)]}, "Range of blkio weight is from 10 to"),
        ("BlkioWeightDevice", {"BlkioWeightDevice": [WeightDevice(NULL, 10)]}, "is not a block device"),
        ("BlkioDeviceReadBps", {"BlkioDeviceReadBps": [ThrottleDevice("/nope", 1)]}, "stat '/nope': no such file"),
        ("BlkioDeviceReadBps", {"BlkioDeviceReadBps": [ThrottleDevice("\0", 1)]}, "embedded null byte"),
        ("BlkioDeviceWriteBps", {"BlkioDeviceWriteBps": [ThrottleDevice(NULL, -1)]}, "invalid rate for device"),
        ("BlkioDeviceReadIOps", {"BlkioDeviceReadIOps": [ThrottleDevice("", 1)]}, "'' is not a block device"),
        ("BlkioDeviceWriteIOps", {"BlkioDeviceWriteIOps": [ThrottleDevice(NULL, 1)]}, "is not a block device"),
        ("IOMaximumIOps", {"IOMaximumIOps": 1}, "Invalid QoS settings: linux does not support"),
        ("IOMaximumBandwidth", {"IOMaximumBandwidth": 1}, "Invalid QoS settings: linux does not support"),
        ("CgroupParent", {"CgroupParent": "a/../b"}, "invalid cgroup parent: 'a/../b'"),
        ("CgroupParent", {"CgroupParent": "a\nb"}, "invalid cgroup parent"),
        ("CgroupParent", {"CgroupParent": "x" * 201}, "invalid cgroup parent"),
        ("CgroupParent", {"CgroupParent": "a/" * 40}, "invalid cgroup parent"),
        ("Ulimits", {"Ulimits": [Ulimit("nofiles", 1, 1)]}, "invalid ulimit type: nofiles"),
        ("Ulimits", {"Ulimits": [Ulimit("nofile", 2, 1)]}, "ulimit soft limit must be less than or equal to hard"),
        ("Ulimits", {"Ulimits": [Ulimit("nofile", -1, 1)]}, "ulimit soft limit must be less than or equal to hard"),
        ("Ulimits", {"Ulimits": [Ulimit("nofile", -2, -1)]}, "invalid ulimit nofile=-2:-1"),
    ],
)
def test_what_can_only_be_wrong_is_refused_by_name(key: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        check(**values)
    assert caught.value.detail["key"] == key


@pytest.mark.parametrize(
    ("lacking", "values", "warning", "left"),
    [
        ("memory", {"Memory": 8 * MIB}, "memory limit capabilities", {"Memory": 0, "MemorySwap": -1}),
        ("swap", {"Memory": 8 * MIB}, "Memory limited without swap.", {"Memory": 8 * MIB, "MemorySwap": -1}),
        ("reservation", {"MemoryReservation": 8 * MIB}, "memory soft limit", {"MemoryReservation": 0}),
        ("swappiness", {"MemorySwappiness": 0}, "Memory swappiness discarded.", {"MemorySwappiness": None}),
        ("kernel_memory_tcp", {"KernelMemoryTCP": 8 * MIB}, "kernel memory TCP", {"KernelMemoryTCP": 0}),
        ("oom_kill_disable", {"OomKillDisable": True}, "OomKillDisable discarded.", {"OomKillDisable": None}),
        ("pids", {"PidsLimit": 5}, "PIDs limit discarded.", {"PidsLimit": None}),
        ("cpu_shares", {"CpuShares": 5}, "Shares discarded.", {"CpuShares": 0}),
        ("cpu_cfs", {"CpuQuota": 5000}, "CPU period/quota discarded.", {"CpuQuota": 0}),
        ("cpuset", {"CpusetCpus": "0", "CpusetMems": "0"}, "Cpuset discarded.", {"CpusetCpus": "", "CpusetMems": ""}),
        ("blkio_weight", {"BlkioWeight": 10}, "Block I/O weight or the", {"BlkioWeight": 0}),
        (
            "blkio_weight",
            {"BlkioWeightDevice": [WeightDevice(NULL, 10)]},
            "Weight-device discarded.",
            {"BlkioWeightDevice": None},
        ),
        (
            "blkio_throttle",
            {"BlkioDeviceReadBps": [ThrottleDevice(NULL, 1)]},
            "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read "
            "limit discarded.",
            {"BlkioDeviceReadBps": None},
        ),
    ],
)
def test_what_the_host_cannot_do_is_discarded_with_a_warning(
    lacking: str, values: dict[str, Any], warning: str, left: dict[str, Any]
) -> None:
    found, warnings = check(dataclasses.replace(ALL, **{lacking: False}), **values)
    assert {key: getattr(found, key) for key in left} == left
    assert len(warnings) == 1 and warning in warnings[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"NanoCpus": 10**9}, "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler"),
        ({"CpuRealtimeRuntime": 10}, "kernel does not support CPU real-time scheduler"),
    ],
)
def test_what_docker_refuses_on_a_lesser_host_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        check(dataclasses.replace(ALL, cpu_cfs=False, cpu_realtime=False), **values)


@pytest.mark.parametrize("can", [ALL, V2], ids=["v1", "v2"])
def test_what_nobody_asks_for_costs_no_word(can: Support) -> None:
    found, warnings = check(can, MemorySwappiness=-1, PidsLimit=0, OomKillDisable=False)
    assert warnings == []
    assert found.MemorySwappiness is None
    assert found.OomKillDisable is (False if can is ALL else None)


def test_kernel_memory_is_discarded_everywhere() -> None:
    found, warnings = check(KernelMemory=8 * MIB)
    assert found.KernelMemory == 0
    assert "Your kernel does not support kernel memory limit capabilities" in warnings[0]


def test_a_container_that_the_oom_killer_spares_should_have_a_limit() -> None:
    assert "OOM killer is disabled for the container, but no memory limit is set" in check(OomKillDisable=True)[1][0]
    assert check(OomKillDisable=True, Memory=8 * MIB)[1] == []


def test_percents_are_for_windows() -> None:
    assert check(CpuPercent=5)[1] == ["linux does not support CPU percent. Percent discarded."]


def test_lists_of_cpus_are_numbers_and_ranges() -> None:
    assert parse_list("0-2,5, ".rstrip(" ,")) == {0, 1, 2, 5}
    assert parse_list("") == set()


def test_pids_without_limit_are_unlimited_on_the_wire_to_the_driver() -> None:
    assert [resources(HostConfig(PidsLimit=n)).pids for n in (None, 0, -5, 7)] == [0, 0, -1, 7]


def test_the_daemons_ulimits_are_for_those_who_say_nothing() -> None:
    own = HostConfig(Ulimits=[Ulimit("nofile", 1, 2)])
    defaults = [Ulimit("nofile", 5, 6), Ulimit("core", 0, 0)]
    assert set(rlimits(own, defaults)) == {Rlimit("nofile", 1, 2), Rlimit("core", 0, 0)}
