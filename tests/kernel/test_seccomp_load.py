"""The kernel takes our filters and answers as they say."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from windlass.kernel.seccomp import builtin, compile_profile
from windlass.kernel.seccomp_tables import numbers

from .seccomp_support import X32_BIT

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe makes x86's two kinds of calls")

NR, NR32 = numbers("x86_64"), numbers("x86")


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("seccomp") / "probe"
    source = Path(__file__).with_name("seccomp_probe.c")
    subprocess.run(["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


def run(
    probe: Path, profile: dict[str, Any], *calls: str, capabilities: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    fd = os.memfd_create("filter", 0)
    try:
        os.write(fd, compile_profile(profile, frozenset(capabilities)))
        argv = [str(probe), f"/proc/self/fd/{fd}", *calls]
        return subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, timeout=20, check=False)
    finally:
        os.close(fd)


def errors(probe: Path, *calls: str, capabilities: tuple[str, ...] = ()) -> list[int]:
    done = run(probe, builtin(), *calls, capabilities=capabilities)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_the_kernel_answers_as_the_default_profile_says(probe: Path) -> None:
    expected = {
        f"64:{NR['getpid']}:0": 0,
        f"64:{NR['keyctl']}:0": errno.EPERM,
        f"64:{NR['unshare']}:0x10000000": errno.EPERM,
        f"64:{NR['clone']}:0x10000000": errno.EPERM,
        f"64:{NR['clone3']}:0": errno.ENOSYS,
        f"64:{NR['io_uring_setup']}:1": errno.EPERM,
        f"64:{NR['file_getattr']}:0": errno.ENOSYS,
        f"64:{X32_BIT + NR['getpid']}:0": errno.ENOSYS,
        f"64:{NR['personality']}:0xffffffff": 0,
        f"64:{NR['personality']}:0xffffffffffffffff": 0,
        f"64:{NR['personality']}:1": errno.EPERM,
        f"64:{NR['socket']}:38": errno.EPERM,
        f"64:{NR['socket']}:0x100000026": errno.EPERM,
        f"64:{NR['socket']}:40": errno.EPERM,
    }
    assert dict(zip(expected, errors(probe, *expected), strict=True)) == expected


def test_a_capability_opens_its_gate(probe: Path) -> None:
    call = f"64:{NR['mount']}:0"
    assert errors(probe, call) == [errno.EPERM]
    assert errors(probe, call, capabilities=("CAP_SYS_ADMIN",)) == [errno.EFAULT]


def test_32_bit_calls_are_filtered_by_their_own_numbers(probe: Path) -> None:
    if errors(probe, f"32:{NR32['getpid']}:0") == [errno.ENOSYS]:
        pytest.skip("this kernel runs no 32-bit calls")
    expected = {
        f"32:{NR32['keyctl']}:0": errno.EPERM,
        f"32:{NR32['socketcall']}:1": errno.EPERM,
        f"32:{NR32['socket']}:38": errno.EPERM,
        f"32:{NR32['clone3']}:0": errno.ENOSYS,
    }
    assert dict(zip(expected, errors(probe, *expected), strict=True)) == expected


def test_a_table_that_the_profile_leaves_out_ends_the_process(probe: Path) -> None:
    profile = builtin() | {"archMap": None, "architectures": ["SCMP_ARCH_X86_64"]}
    done = run(probe, profile, f"32:{NR32['getpid']}:0")
    assert done.returncode == -signal.SIGSYS


def test_the_kernel_takes_a_filter_as_long_as_it_allows(probe: Path) -> None:
    """Every jump of a long filter is in reach, or the kernel would refuse the whole."""
    arg = {"index": 0, "op": "SCMP_CMP_EQ"}
    rules = [
        {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [arg | {"value": 1000 + i}]}
        for i, name in enumerate(sorted(set(NR) - {"exit_group", "write", "openat", "read", "close"}))
    ] * 2
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    assert len(compile_profile(profile, frozenset())) // 8 > 1500
    value = 1000 + sorted(set(NR) - {"exit_group", "write", "openat", "read", "close"}).index("getpid")
    done = run(probe, profile, f"64:{NR['getpid']}:{value}", f"64:{NR['getpid']}:1")
    assert done.stdout.split() == ["7", "0"], done.stderr
