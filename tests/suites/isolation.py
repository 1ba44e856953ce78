"""What a container may not do and not see by default: Docker's facts (moby v28.5.2), probed from inside."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.suites.yard import Yard
from windlass.execdriver.driver import Mount, StartError
from windlass.execdriver.driver import User as ProcessUser
from windlass.kernel import caps

DEFAULT_MASK = "00000000a80425fb"


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a static program that makes the system calls named by its arguments, and prints each one's errno."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    compiler = ["musl-gcc", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]
    command = compiler if shutil.which("musl-gcc") else ["cc"]
    subprocess.run([*command, "-static", "-o", program, Path(__file__).with_name("probe.c")], check=True)
    return program


def status_of(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


class IsolationSuite:
    """The default container, looked at from inside."""

    async def test_capabilities_of_root(self, yard: Yard) -> None:
        status = status_of(await yard.sh("cat /proc/self/status"))
        assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {DEFAULT_MASK}
        assert {status[name] for name in ("CapInh", "CapAmb")} == {"0" * 16}
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")

    async def test_capabilities_of_a_user(self, yard: Yard) -> None:
        status = status_of(await yard.sh("cat /proc/self/status", user=ProcessUser(1000, 1000)))
        assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert status["CapBnd"] == DEFAULT_MASK

    async def test_capabilities_of_an_exec(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        status = status_of((await yard.exec(running, "cat", "/proc/self/status")).stdout.decode())
        assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {DEFAULT_MASK}
        assert status["CapInh"] == "0" * 16 and status["Seccomp"] == "2"

    async def test_no_new_privileges(self, yard: Yard) -> None:
        status = status_of(await yard.sh("cat /proc/self/status", no_new_privileges=True, user=ProcessUser(1, 1)))
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    async def test_namespaces_are_its_own(self, yard: Yard) -> None:
        said = await yard.sh("for n in mnt net uts pid ipc user; do readlink /proc/self/ns/$n; done")
        own = {str(path.readlink()) for path in Path("/proc/self/ns").iterdir()}
        assert [line for line in said.splitlines() if line in own] == [str(Path("/proc/self/ns/user").readlink())]

    async def test_only_three_descriptors_are_open(self, yard: Yard) -> None:
        listed = "for fd in /proc/self/fd/*; do readlink $fd || true; done"
        assert len((await yard.sh(listed)).splitlines()) == 3
        running = await yard.start(yard.command("sleep", "100"))
        result = await yard.exec(running, "sh", "-c", listed)
        assert len(result.stdout.splitlines()) == 3

    async def test_masked_paths(self, yard: Yard) -> None:
        masked = "acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
        script = f"""
            for f in {masked}; do
                p=/proc/$f
                if [ -d $p ]; then ls -A $p; elif [ -e $p ]; then cat $p; fi
            done
            ls -A /sys/firmware
            touch /proc/acpi/x || echo refused
        """
        assert await yard.sh(script) == "refused\n"

    async def test_read_only_paths(self, yard: Yard) -> None:
        script = """
            for p in bus fs irq sys sysrq-trigger; do
                [ ! -e /proc/$p ] || grep -q " /proc/$p [^ ]* ro," /proc/mounts || echo /proc/$p is writable
            done
            echo x > /proc/sys/kernel/hostname || echo refused
            echo x > /proc/sysrq-trigger || echo refused
            mkdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x || echo refused
        """
        assert await yard.sh(script) == "refused\nrefused\nrefused\n"

    async def test_mounts_and_their_flags(self, yard: Yard) -> None:
        mounts = {
            line.split()[1]: line.split()[3].split(",") for line in (await yard.sh("cat /proc/mounts")).splitlines()
        }
        quiet = {"nosuid", "nodev", "noexec"}
        for target, flags in {
            "/proc": quiet | {"rw"},
            "/dev": {"nosuid", "rw", "mode=755", "size=65536k"},
            "/dev/pts": {"nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"},
            "/sys": quiet | {"ro"},
            "/sys/fs/cgroup": quiet | {"ro"},
            "/dev/mqueue": quiet,
            "/dev/shm": quiet | {"size=65536k"},
        }.items():
            assert flags <= set(mounts[target]), target
        assert await yard.sh("stat -c %a /dev/shm") == "1777\n"

    async def test_the_hosts_mounts_are_not_to_be_seen(self, yard: Yard) -> None:
        targets = {line.split()[4] for line in (await yard.sh("cat /proc/self/mountinfo")).splitlines()}
        assert all(target == "/" or target.startswith(("/proc", "/dev", "/sys")) for target in targets)

    async def test_devices(self, yard: Yard) -> None:
        said = await yard.sh("cd /dev; ls -A; for l in fd stdin stdout stderr ptmx; do readlink $l; done")
        links = ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]
        names = said.splitlines()[: -len(links)]
        expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
        assert sorted(set(names) - {"core"}) == expected
        assert said.splitlines()[-len(links) :] == links

    async def test_a_node_may_be_made_but_not_opened(self, yard: Yard) -> None:
        script = "mknod /tmp/kmsg c 1 11; mknod /tmp/disk b 254 0; cat /tmp/kmsg || echo no; cat /tmp/disk || echo no"
        assert await yard.sh(script) == "no\nno\n"

    async def test_the_network_is_loopback_alone(self, yard: Yard) -> None:
        script = "ls /sys/class/net; cat /sys/class/net/lo/operstate; ping -c 1 -w 2 127.0.0.1 > /dev/null; echo ok"
        assert await yard.sh(script) == "lo\nunknown\nok\n"

    async def test_ping_and_low_ports_need_no_capability(self, yard: Yard) -> None:
        script = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start"
        assert (await yard.sh(script)).split() == ["0", "2147483647", "0"]

    async def test_the_parent_and_the_keyring_are_out_of_sight(self, yard: Yard) -> None:
        said = await yard.sh("echo $$ $PPID; ls /proc | grep -c '^[0-9]'; umask")
        assert said.splitlines()[0] == "1 0"
        assert said.splitlines()[2] == "0022"

    async def test_masks_hold_whatever_the_image_has(self, yard: Yard, tmp_path: Path) -> None:
        """An image with links in place of /dev and /proc cannot lead the set-up to the host (CVE-2026-41579)."""
        canary = tmp_path / "canary"
        canary.mkdir()
        command = yard.command("sh", "-c", "echo ran")
        for name in ("dev", "proc", "sys"):
            (yard.upper(command.id) / name).symlink_to(canary)
        yard._started.append(command.id)
        try:
            running, _ = await yard.driver.start(command)
            await yard.end_of(running)
        except StartError:
            pass
        assert list(canary.iterdir()) == []

    @pytest.mark.parametrize("number", range(3, 12))
    async def test_no_descriptor_is_a_way_out(self, yard: Yard, number: int) -> None:
        """A working directory cannot be a descriptor of the shim's that leads to the host (CVE-2024-21626)."""
        command = yard.command("sh", "-c", "cat ../../../etc/hostname && pwd", cwd=f"/proc/self/fd/{number}")
        yard._started.append(command.id)
        try:
            running, _ = await yard.driver.start(command)
        except StartError:
            pass
        else:
            assert (await yard.end_of(running)).code != 0

    async def test_system_calls(self, yard: Yard, probe: Path) -> None:
        refused = (
            "unshare_user mount keyctl bpf perf io_uring vsock alg userfaultfd kexec settime open_by_handle".split()
        )
        mounts = (Mount("/probe", source=str(probe), readonly=True),)
        said = await yard.sh(f"/probe {' '.join(refused)} clone3 ptrace socket personality", mounts=mounts)
        errors = {name: int(number) for name, number in (line.split() for line in said.splitlines())}
        assert {name for name in refused if errors[name] != errno.EPERM} == set()
        assert errors["clone3"] == errno.ENOSYS
        assert (errors["ptrace"], errors["socket"], errors["personality"]) == (0, 0, 0)

    async def test_an_unconfined_container_has_no_filter(self, yard: Yard) -> None:
        assert status_of(await yard.sh("cat /proc/self/status", seccomp="unconfined"))["Seccomp"] == "0"

    async def test_a_profile_of_ones_own(self, yard: Yard, probe: Path) -> None:
        profile: dict[str, object] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}],
        }
        mounts = (Mount("/probe", source=str(probe)),)
        assert await yard.sh("/probe personality keyctl", seccomp=profile, mounts=mounts) != ""
        assert (await yard.sh("/probe personality", seccomp=profile, mounts=mounts)).split() == ["personality", "42"]

    async def test_a_privileged_container(self, yard: Yard) -> None:
        script = """
            grep CapEff /proc/self/status
            head -c 1 /proc/interrupts > /dev/null; mount -t tmpfs none /tmp; test -c /dev/kmsg; : < /dev/kmsg
            grep -q ' /sys sysfs rw' /proc/mounts; test -w /proc/sys/kernel/hostname
            mkdir /sys/fs/cgroup/pids/x 2>/dev/null && rmdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x
            echo ok
        """
        said = await yard.sh(script, privileged=True, capabilities=caps.own(), seccomp="unconfined")
        assert said == f"CapEff:\t{caps.mask(caps.own()):016x}\nok\n"

    async def test_a_capability_that_nobody_has_is_named(self, yard: Yard) -> None:
        missing = set(caps.NAMES) - caps.own()
        if not missing:
            pytest.skip("this process has them all")
        with pytest.raises(Exception, match=f"does not have {sorted(missing)[0]}"):
            await yard.start(yard.command("true", capabilities=frozenset(missing)))
