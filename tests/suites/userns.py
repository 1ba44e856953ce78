"""A container with a user namespace: root inside is somebody else outside, its files on disk look like all others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.suites.isolation import status_of
from tests.suites.yard import Yard
from windlass.execdriver.driver import Device, Mount
from windlass.execdriver.driver import User as ProcessUser

FIRST, COUNT = 100_000, 65_536
MAP = ((0, FIRST, COUNT),)


@asynccontextmanager
async def mapped(yard: Yard, *, network: bool = False) -> AsyncIterator[dict[str, str]]:
    """Give the fields of a Command in a new user namespace."""
    user, net = yard.driver.user_namespace(MAP, MAP, network=network)
    try:
        fields = {"userns": f"/proc/{os.getpid()}/fd/{user}"}
        yield fields | ({"network": f"/proc/{os.getpid()}/fd/{net}"} if network else {})
    finally:
        os.close(user)
        if net >= 0:
            os.close(net)


class UserNamespaceSuite:
    """What a user namespace changes, and what it must not."""

    @pytest.fixture(autouse=True)
    def _needs_mapped_layers(self) -> None:
        release = os.uname().release
        if tuple(int(part) for part in release.split(".")[:2]) < (6, 15):
            pytest.skip(f"not run: overlayfs takes mapped layers from Linux 6.15 on, and this is {release}")

    async def test_root_inside_is_nobody_special_outside(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            running = await yard.start(yard.command("sleep", "100", **fields))
        status = status_of(Path(f"/proc/{running.pid}/status").read_text())
        assert status["Uid"].split() == [str(FIRST)] * 4 and status["Gid"].split() == [str(FIRST)] * 4
        assert status["CapEff"] == "00000000a80425fb"
        assert os.readlink(f"/proc/{running.pid}/ns/user") != os.readlink("/proc/self/ns/user")
        said = (await yard.exec(running, "sh", "-c", "id -u; cat /proc/self/uid_map")).stdout.split()
        assert said == [b"0", b"0", str(FIRST).encode(), str(COUNT).encode()]

    async def test_files_on_disk_have_the_ids_from_inside(self, yard: Yard) -> None:
        script = "echo new > /etc/mine && chown 7:8 /etc/mine && rm /bin/true && stat -c %u:%g / /bin/busybox /etc/mine"
        async with mapped(yard) as fields:
            command = yard.command("sh", "-ec", script, **fields)
            running = await yard.start(command)
            assert (await yard.end_of(running)).code == 0
        status = (yard.upper(command.id) / "etc" / "mine").stat()
        assert (status.st_uid, status.st_gid) == (7, 8)
        assert (yard.upper(command.id) / "bin" / "true").stat().st_rdev == 0

    async def test_the_image_belongs_to_root_inside(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            assert await yard.sh("stat -c %u:%g / /bin/busybox", **fields) == "0:0\n0:0\n"

    async def test_everything_is_mounted_and_covered_as_without(self, yard: Yard) -> None:
        script = """
            for p in /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup; do
                grep -q " $p " /proc/mounts || echo $p is missing; done
            for d in null zero full random urandom tty; do test -c /dev/$d || echo $d is missing; done
            : < /dev/null; head -c 1 /dev/zero > /dev/null
            cat /proc/interrupts; ls -A /sys/firmware
            touch /proc/sys/kernel/hostname 2>/dev/null && echo writable
            grep ^Seccomp: /proc/self/status
        """
        async with mapped(yard) as fields:
            assert await yard.sh(script + "true", **fields) == "Seccomp:\t2\n"

    async def test_a_network_namespace_belongs_to_it(self, yard: Yard) -> None:
        async with mapped(yard, network=True) as fields:
            said = await yard.sh("ls /sys/class/net; echo 1 > /dev/shm/x; cat /dev/shm/x", **fields)
        assert said == "lo\n1\n"

    async def test_sysctls_scores_and_limits_hold(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            said = await yard.sh(
                "cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj; hostname",
                sysctls={"kernel.msgmax": "12345"}, oom_score_adj=500, hostname="ship", **fields,
            )  # fmt: skip
        assert said.split() == ["12345", "500", "ship"]

    async def test_a_user_is_one_of_the_map(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            assert await yard.sh("id -u; id -G", user=ProcessUser(5, 6, (7,)), **fields) == "5\n6 7\n"

    async def test_a_device_is_the_hosts_node(self, yard: Yard) -> None:
        devices = (Device("/dev/here", "c", 1, 3, source="/dev/null"),)
        async with mapped(yard) as fields:
            assert await yard.sh("echo x > /dev/here; stat -c %t:%T /dev/here", devices=devices, **fields) == "1:3\n"

    async def test_mapped_mounts_are_its_own_and_others_the_hosts(self, yard: Yard) -> None:
        for name in ("own", "other"):
            (yard.folder / name).mkdir(parents=True)
        mounts = (
            Mount("/own", source=str(yard.folder / "own"), mapped=True),
            Mount("/other", source=str(yard.folder / "other")),
        )
        async with mapped(yard) as fields:
            script = "stat -c %u /own /other; touch /own/x; touch /other/x 2>/dev/null || echo refused"
            assert (await yard.sh(script, mounts=mounts, **fields)).split() == ["0", "65534", "refused"]
        assert (yard.folder / "own" / "x").stat().st_uid == 0

    async def test_a_second_container_joins_the_first_ones_namespaces(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            first = await yard.start(yard.command("sleep", "100", **fields))
        paths = {kind: f"/proc/{first.pid}/ns/{kind}" for kind in ("user", "pid", "ipc", "net", "mnt")}
        said = await yard.sh(
            "for n in user pid ipc net; do readlink /proc/self/ns/$n; done; cat /proc/1/comm",
            userns=paths["user"], pid=paths["pid"], ipc=paths["ipc"], network=paths["net"], shm=paths["mnt"],
        )  # fmt: skip
        links = [os.readlink(paths[kind]) for kind in ("user", "pid", "ipc", "net")]
        assert said.split() == [*links, "sleep"]

    async def test_a_terminal_works(self, yard: Yard) -> None:
        async with mapped(yard) as fields:
            running = await yard.start(yard.command("sh", "-c", "stat -c %u $(tty) && sleep 100", tty=True, **fields))
        assert (await yard.exec(running, "true")).exit.code == 0
