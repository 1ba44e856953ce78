"""What every exec driver must do, through the interface alone.

A module runs it by a class that inherits from `ExecDriverSuite`, and a fixture `open_driver` that opens a driver, each
time on the same exec root.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.suites.yard import PATIENCE, Client, OpenDriver, Yard, cgroups_of, frames, make_root, open_yard
from windlass.execdriver.driver import Command, Detached, Device, Exit, LogConfig, Mount, Resources, Rlimit, StartError
from windlass.execdriver.driver import User as ProcessUser
from windlass.kernel.cgroup import Hierarchies
from windlass.lib.rootfs import Directory

MIB = 1 << 20


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("busybox") / "root")


@pytest.fixture
async def yard(open_driver: OpenDriver, busybox_root: Path, tmp_path: Path) -> AsyncIterator[Yard]:
    async with open_yard(open_driver, busybox_root, tmp_path / "yard") as yard:
        yield yard


async def eventually(is_true: Any) -> None:
    with trio.fail_after(PATIENCE):
        while not is_true():
            await trio.sleep(0.005)


def logged(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class ExecDriverSuite:
    """Life of a container: start, streams, exec, signals, limits, end, and the daemon's coming back."""

    # -- start and end --------------------------------------------------------------------------------------------

    async def test_output_and_exit_code_arrive(self, yard: Yard) -> None:
        result = await yard.run("sh", "-c", "echo out; echo err >&2; exit 3")
        assert (result.stdout, result.stderr, result.exit.code) == (b"out\n", b"err\n", 3)
        assert abs(result.exit.time_ns - time.time_ns()) < PATIENCE * 1e9

    async def test_a_signal_gives_128_and_its_number(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        await running.signal(signal.SIGKILL)
        ended = await yard.end_of(running)
        assert (ended.code, ended.signal, ended.oom_killed) == (137, 9, False)

    async def test_who_waits_later_hears_the_same(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sh", "-c", "exit 7"))
        assert await yard.end_of(running) == await yard.end_of(running)

    async def test_a_signal_to_an_ended_container_is_refused(self, yard: Yard) -> None:
        running = await yard.start(yard.command("true"))
        await yard.end_of(running)
        with pytest.raises(ProcessLookupError):
            await running.signal(signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            await running.exec(yard.program("true"), None)

    async def test_the_root_may_be_a_plain_folder(self, yard: Yard, tmp_path: Path) -> None:
        root = make_root(tmp_path / "plain")
        assert await yard.sh("echo hi > /file; cat /file", rootfs=Directory(str(root))) == "hi\n"
        assert (root / "file").read_text() == "hi\n"

    async def test_pid_is_the_hosts(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        assert Path(f"/proc/{running.pid}/cmdline").read_bytes() == b"sleep\x00100\x00"

    async def test_kill_all_ends_every_process(self, yard: Yard) -> None:
        script = "trap '' TERM; for i in 1 2 3; do sleep 100 & done; wait"
        running = await yard.start(yard.command("sh", "-c", script))
        await running.kill_all()
        assert (await yard.end_of(running)).code == 137

    async def test_destroy_twice_does_nothing(self, yard: Yard) -> None:
        command = yard.command("true")
        await yard.end_of(await yard.start(command))
        assert cgroups_of(command.id)
        await yard.driver.destroy(command.id)
        await yard.driver.destroy(command.id)
        assert not cgroups_of(command.id)

    async def test_leftovers_are_what_is_not_destroyed(self, yard: Yard) -> None:
        command = yard.command("true")
        await yard.end_of(await yard.start(command))
        assert await yard.driver.leftovers() == {command.id}

    async def test_many_start_at_once(self, yard: Yard) -> None:
        codes: list[int] = []

        async def one(code: int) -> None:
            codes.append((await yard.run("sh", "-c", f"exit {code}")).exit.code)

        async with trio.open_nursery() as nursery:
            for code in range(8):
                nursery.start_soon(one, code)
        assert sorted(codes) == list(range(8))

    async def test_a_cancelled_start_leaves_nothing(self, yard: Yard) -> None:
        command = yard.command("sleep", "100")
        with trio.CancelScope() as scope:
            scope.cancel()
            await yard.driver.start(command)
        with trio.move_on_after(0.002):
            await yard.driver.start(command)
            await yard.driver.destroy(command.id)
        assert await yard.driver.leftovers() == set()
        assert not cgroups_of(command.id)

    # -- starts that fail -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("args", "exit_code", "message"),
        [
            (["no-such"], 127, 'exec: "no-such": executable file not found in $PATH'),
            (["/no/such"], 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
            (["/etc/file"], 126, 'exec: "/etc/file": permission denied'),
            (["/etc"], 126, 'exec: "/etc": permission denied'),
            (["/etc/nonsense"], 126, "exec /etc/nonsense: exec format error"),
        ],
    )
    async def test_a_program_that_cannot_run(self, yard: Yard, args: list[str], exit_code: int, message: str) -> None:
        command = yard.command(*args)
        (yard.upper(command.id) / "etc").mkdir()
        (yard.upper(command.id) / "etc/file").write_text("")
        (yard.upper(command.id) / "etc/nonsense").write_text("nonsense")
        (yard.upper(command.id) / "etc/nonsense").chmod(0o755)
        with pytest.raises(StartError) as failed:
            await yard.start(command)
        assert (str(failed.value), failed.value.exit_code) == (message, exit_code)
        assert await yard.driver.leftovers() == set()

    async def test_a_working_directory_that_is_a_file(self, yard: Yard) -> None:
        with pytest.raises(StartError, match='chdir to cwd \\("/bin/sh"\\) set in config.json failed: not a directory'):
            await yard.start(yard.command("true", cwd="/bin/sh"))

    async def test_a_mount_that_is_not_there(self, yard: Yard) -> None:
        with pytest.raises(StartError, match='error mounting "/no/such" to rootfs at "/data": no such file') as failed:
            await yard.start(yard.command("true", mounts=(Mount("/data", source="/no/such"),)))
        assert failed.value.exit_code == 128

    async def test_a_file_on_a_folder(self, yard: Yard, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StartError, match="Are you trying to mount a directory onto a file"):
            await yard.start(yard.command("true", mounts=(Mount("/bin", source=str(tmp_path / "file")),)))

    async def test_a_mount_in_proc_is_refused(self, yard: Yard, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="cannot be mounted because it is inside /proc"):
            await yard.start(yard.command("true", mounts=(Mount("/proc/self", source=str(tmp_path)),)))

    async def test_a_second_start_of_a_running_container_fails_and_spares_it(self, yard: Yard) -> None:
        command = yard.command("sleep", "100")
        running = await yard.start(command)
        with pytest.raises(StartError):
            await yard.driver.start(command)
        await running.signal(signal.SIGKILL)
        assert (await yard.end_of(running)).code == 137

    # -- streams --------------------------------------------------------------------------------------------------

    async def test_stdin_reaches_the_process_until_its_end(self, yard: Yard) -> None:
        data = bytes(range(256)) * 4096
        assert (await yard.run("cat", stdin=data)).stdout == data

    async def test_stdin_is_empty_when_there_is_none(self, yard: Yard) -> None:
        assert (await yard.run("cat")).stdout == b""

    async def test_early_bytes_come_before_the_others(self, yard: Yard) -> None:
        client = Client(early=b"first ")
        running = await yard.start(yard.command("cat", stdin=True, stdin_once=True), client)
        await client.send(b"second")
        await client.send_eof()
        assert (await yard.finish(running, client)).stdout == b"first second"

    async def test_a_later_client_sees_what_comes_then(self, yard: Yard) -> None:
        running = await yard.start(yard.command("cat", stdin=True))
        client = Client()
        attached = await running.attach(client.session)
        client.handed_over()
        await client.send(b"hello\n")
        await client.read_until(b"hello\n")
        await client.stream.aclose()
        with trio.fail_after(PATIENCE):
            assert await attached.wait() == Detached("client")
        assert not Path(f"/proc/{running.pid}").joinpath("exe").readlink().name.startswith("windlass")

    async def test_a_session_ends_with_the_output(self, yard: Yard) -> None:
        client = Client()
        command = yard.command("true")
        yard._started.append(command.id)
        running, (attached,) = await yard.driver.start(command, [client.session])
        client.handed_over()
        await client.read_all()
        with trio.fail_after(PATIENCE):
            assert await attached.wait() == Detached("end")
        await yard.end_of(running)

    async def test_attach_to_an_ended_container_is_refused(self, yard: Yard) -> None:
        running = await yard.start(yard.command("true"))
        await yard.end_of(running)
        client = Client()
        with pytest.raises(ProcessLookupError):
            await running.attach(client.session)
        client.handed_over()
        await client.stream.aclose()

    async def test_the_log_has_every_line_and_its_stream(self, yard: Yard) -> None:
        command = yard.command("sh", "-c", "echo out; echo err >&2; printf end")
        await yard.end_of(await yard.start(command))
        lines = logged(yard.log(command.id))
        assert sorted((line["stream"], line["log"]) for line in lines) == [
            ("stderr", "err\n"),
            ("stdout", "end"),
            ("stdout", "out\n"),
        ]

    async def test_no_log_is_made_when_none_is_wanted(self, yard: Yard) -> None:
        command = yard.command("echo", "hi", log=LogConfig("none"))
        await yard.end_of(await yard.start(command))
        assert not yard.log(command.id).exists()

    # -- terminals ------------------------------------------------------------------------------------------------

    async def test_a_terminal_has_its_size_and_can_be_resized(self, yard: Yard) -> None:
        client = Client(raw=True)
        script = "tty; stty size; read x; stty size; read x; exit 5"
        running = await yard.start(yard.command("sh", "-c", script, tty=True, stdin=True, rows=24, columns=80), client)
        seen = await client.read_until(b"24 80\r\n")
        assert seen.startswith(b"/dev/pts/0\r\n")
        await running.resize(50, 120)
        await client.send(b"\n")
        await client.read_until(b"50 120\r\n")
        await client.send(b"\n")
        assert (await yard.end_of(running)).code == 5
        await client.read_all()

    async def test_a_terminal_belongs_to_the_user(self, yard: Yard) -> None:
        client = Client(raw=True)
        script = "stat -c %u /dev/console; echo hi > /dev/tty"
        running = await yard.start(
            yard.command("sh", "-c", script, tty=True, stdin=True, user=ProcessUser(1000, 1000)), client
        )
        assert await client.read_all() == b"1000\r\nhi\r\n"
        await yard.end_of(running)

    async def test_the_detach_keys_end_the_session_only(self, yard: Yard) -> None:
        client = Client(raw=True)
        command = yard.command("sh", "-c", "cat; exit 5", tty=True, stdin=True)
        yard._started.append(command.id)
        running, (attached,) = await yard.driver.start(command, [client.session])
        client.handed_over()
        await client.send(b"hi\n")
        await client.read_until(b"hi\r\nhi\r\n")  # by now it is cat that a Ctrl-C ends
        await client.send(b"\x10\x11")
        with trio.fail_after(PATIENCE):
            assert await attached.wait() == Detached("keys")
        await client.read_all()
        again = Client(raw=True)
        await running.attach(again.session)
        again.handed_over()
        await again.send(b"\x03")
        assert (await yard.end_of(running)).code == 130
        await again.read_all()

    async def test_a_resize_without_a_terminal_does_nothing(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        await running.resize(10, 10)

    # -- exec -----------------------------------------------------------------------------------------------------

    async def test_exec_runs_inside(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100", hostname="box"))
        result = await yard.exec(running, "sh", "-c", "hostname; echo $$ > /dev/null; echo err >&2; exit 4")
        assert (result.stdout, result.stderr, result.exit.code) == (b"box\n", b"err\n", 4)
        inside = await yard.exec(running, "ps", "-o", "comm")
        assert b"sleep" in inside.stdout
        cgroups = [(await yard.exec(running, "cat", f"/proc/{who}/cgroup")).stdout for who in ("self", "1")]
        assert cgroups[0] == cgroups[1]

    async def test_exec_reads_stdin_and_early_bytes(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        client = Client(early=b"early ")
        process = await running.exec(yard.program("cat", stdin=True), client.session)
        client.handed_over()
        await client.send(b"late")
        await client.send_eof()
        assert frames(await client.read_all())[1] == b"early late"  # in one frame or two
        with trio.fail_after(PATIENCE):
            assert (await process.wait()).code == 0

    async def test_exec_without_a_client(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        process = await running.exec(yard.program("sh", "-c", "exit 9"), None)
        assert process.session is None
        with trio.fail_after(PATIENCE):
            assert (await process.wait()).code == 9

    async def test_exec_with_a_terminal(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        client = Client(raw=True)
        program = yard.program("sh", "-c", "stty size; read x; stty size", tty=True, stdin=True, rows=30, columns=90)
        process = await running.exec(program, client.session)
        client.handed_over()
        await client.read_until(b"30 90")
        await process.resize(31, 91)
        await client.send(b"\n")
        assert b"31 91" in await client.read_all()

    async def test_a_signal_to_an_exec(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        process = await running.exec(yard.program("sleep", "50"), None)
        await process.signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert (await process.wait()).code == 143
        with pytest.raises(ProcessLookupError):
            await process.signal(signal.SIGTERM)

    @pytest.mark.parametrize(
        ("fields", "exit_code", "message"),
        [
            ({}, 127, 'exec: "no-such": executable file not found in $PATH'),
            (
                {"cwd": "/nowhere"},
                127,
                'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory',
            ),
        ],
    )
    async def test_exec_of_what_cannot_run(
        self, yard: Yard, fields: dict[str, Any], exit_code: int, message: str
    ) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        with pytest.raises(StartError) as failed:
            await running.exec(yard.program("no-such", **fields), None)
        assert (str(failed.value), failed.value.exit_code) == (message, exit_code)

    async def test_execs_end_with_the_container(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sleep", "100"))
        process = await running.exec(yard.program("sleep", "100"), None)
        await running.signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            assert (await process.wait()).code == 137

    # -- limits ---------------------------------------------------------------------------------------------------

    async def test_too_much_memory_kills_and_is_told(self, yard: Yard) -> None:
        limits = Resources(memory=16 * MIB, memory_swap=16 * MIB)
        result = await yard.run("sh", "-c", "tail /dev/zero", resources=limits)
        assert result.exit.oom_killed
        assert result.exit.code == 137

    async def test_limits_change_while_it_runs(self, yard: Yard) -> None:
        old = Resources(pids=77)
        running = await yard.start(yard.command("sleep", "100", resources=old))
        await running.update(old, Resources(pids=55))
        assert [path.read_text() for group in cgroups_of(running.id) for path in group.glob("pids.max")] == ["55\n"]
        with pytest.raises(OSError, match=str(1 << 40)):
            await running.update(Resources(pids=55), Resources(cpu_shares=44, pids=1 << 40))
        assert [path.read_text() for group in cgroups_of(running.id) for path in group.glob("pids.max")] == ["55\n"]
        await running.signal(signal.SIGKILL)
        await running.wait()

    async def test_a_paused_container_is_found_paused_and_can_be_killed(self, yard: Yard) -> None:
        running = await yard.start(yard.command("sh", "-c", "sleep 100 & wait"))
        await eventually(lambda: len(running.processes()) == 2)
        assert not running.is_paused()
        await running.pause()
        assert running.is_paused()
        await running.resume()
        assert not running.is_paused()
        await running.pause()
        await running.kill_all()
        assert (await running.wait()).code == 137

    async def test_pids_are_limited(self, yard: Yard) -> None:
        script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done"
        result = await yard.run("sh", "-c", script, resources=Resources(pids=4))
        assert b"can't fork" in result.stderr

    async def test_limits_reach_the_kernel(self, yard: Yard) -> None:
        cpus = "0" if "cpuset" in Hierarchies.of_host().controllers else ""
        limits = Resources(memory=64 * MIB, cpu_quota=50_000, cpu_period=100_000, cpuset_cpus=cpus, pids=77)
        running = await yard.start(yard.command("sleep", "100", resources=limits))
        values = {
            path.name: path.read_text().strip()
            for folder in cgroups_of(running.id)
            for path in folder.iterdir()
            if path.name in ("pids.max", "cpuset.cpus", "cpu.cfs_quota_us", "memory.limit_in_bytes")
        }
        assert values["pids.max"] == "77"
        assert values.get("cpuset.cpus", "") == cpus
        if "cpu.cfs_quota_us" in values:
            assert (values["cpu.cfs_quota_us"], values["memory.limit_in_bytes"]) == ("50000", str(64 * MIB))

    async def test_ulimits_are_set(self, yard: Yard) -> None:
        rlimits = (Rlimit("nofile", 100, 200), Rlimit("core", 0, 0))
        assert await yard.sh("ulimit -n; ulimit -Hn; ulimit -c", rlimits=rlimits) == "100\n200\n0\n"

    async def test_an_unknown_ulimit_is_named(self, yard: Yard) -> None:
        with pytest.raises(StartError, match="unknown rlimit 'nothing'"):
            await yard.start(yard.command("true", rlimits=(Rlimit("nothing", 1, 1),)))

    # -- what the container gets ----------------------------------------------------------------------------------

    async def test_binds_and_tmpfs(self, yard: Yard, tmp_path: Path) -> None:
        (tmp_path / "host").mkdir()
        (tmp_path / "host/file").write_text("from the host\n")
        (tmp_path / "one").write_text("one\n")
        mounts = (
            Mount("/data", source=str(tmp_path / "host")),
            Mount("/ro", source=str(tmp_path / "host"), readonly=True),
            Mount("/etc/one", source=str(tmp_path / "one")),
            Mount("/scratch", "tmpfs", options="size=1m,mode=700"),
        )
        script = """
            cat /data/file /ro/file /etc/one
            echo new > /data/new
            echo no > /ro/new || echo refused
            grep ' /scratch ' /proc/mounts
        """
        said = await yard.sh(script, mounts=mounts)
        assert said.startswith("from the host\nfrom the host\none\nrefused\n")
        assert "rw,nosuid,nodev,noexec" in said and "size=1024k,mode=700" in said
        assert (tmp_path / "host/new").read_text() == "new\n"

    async def test_a_read_only_root(self, yard: Yard) -> None:
        said = await yard.sh("touch /x || echo refused; touch /dev/shm/x; echo ok", readonly_rootfs=True)
        assert said == "refused\nok\n"

    async def test_a_device_of_its_own(self, yard: Yard) -> None:
        loop = Device("/dev/loop-control", "c", 10, 237, access="r")
        script = "test -c /dev/loop-control; (: < /dev/loop-control); (: > /dev/loop-control) || echo no"
        assert await yard.sh(script, devices=(loop,)) == "no\n"

    async def test_user_groups_and_directory(self, yard: Yard) -> None:
        said = await yard.sh("id; pwd", user=ProcessUser(1000, 1001, (1002,)), cwd="/made/here")
        assert said == "uid=1000 gid=1001 groups=1001,1002\n/made/here\n"

    async def test_names_and_sysctls(self, yard: Yard) -> None:
        said = await yard.sh(
            "hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/msgmax",
            hostname="box",
            domainname="example.org",
            sysctls={"kernel.msgmax": "4096"},
        )
        assert said == "box\nexample.org\n4096\n"

    async def test_namespaces_can_be_the_hosts_or_anothers(self, yard: Yard) -> None:
        other = await yard.start(yard.command("sleep", "100", hostname="other"))
        path = f"/proc/{other.pid}/ns"
        script = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; hostname"
        said = await yard.sh(script, network=f"{path}/net", ipc=f"{path}/ipc", uts=f"{path}/uts")
        expected = [Path(path, kind).readlink() for kind in ("net", "ipc", "uts")]
        assert said == "".join(f"{link}\n" for link in expected) + "other\n"
        said = await yard.sh(
            script + "; readlink /proc/self/ns/pid", network="host", ipc="host", uts="host", pid="host"
        )
        expected = [Path("/proc/self/ns", kind).readlink() for kind in ("net", "ipc", "uts", "pid")]
        assert [line for line in said.splitlines() if "[" in line] == [str(link) for link in expected]

    async def test_the_pid_namespace_of_another(self, yard: Yard) -> None:
        other = await yard.start(yard.command("sleep", "100"))
        said = await yard.sh("readlink /proc/self/ns/pid; ps -o comm", pid=f"/proc/{other.pid}/ns/pid")
        assert said.startswith(f"{Path(f'/proc/{other.pid}/ns/pid').readlink()}\n")
        assert "sleep" in said

    # -- the daemon goes and comes back ---------------------------------------------------------------------------

    async def test_a_container_survives_its_daemon(self, yard: Yard) -> None:
        async with yard.open_driver() as first:
            command = yard.command("sh", "-c", "read line; echo got $line; exit 6", stdin=True)
            yard._started.append(command.id)
            before, _ = await first.start(command)
        running = await yard.driver.adopt(command.id)
        assert not isinstance(running, Exit) and running is not None
        assert running.pid == before.pid
        assert (await yard.exec(running, "echo", "inside")).stdout == b"inside\n"
        client = Client()
        await running.attach(client.session)
        client.handed_over()
        await client.send(b"it\n")
        assert b"got it" in await client.read_all()
        assert (await yard.end_of(running)).code == 6

    async def test_an_end_without_a_daemon_is_known_afterwards(self, yard: Yard) -> None:
        async with yard.open_driver() as first:
            command = yard.command("sh", "-c", "sleep 0.2; exit 6")
            yard._started.append(command.id)
            running, _ = await first.start(command)
        await eventually(lambda: not Path(f"/proc/{running.pid}").exists())
        ended = await yard.driver.adopt(command.id)
        assert isinstance(ended, Exit) and ended.code == 6

    async def test_nothing_is_known_of_a_stranger(self, yard: Yard) -> None:
        assert await yard.driver.adopt("stranger") is None

    async def test_an_unwatched_container_is_killed(self, yard: Yard) -> None:
        command = yard.command("sleep", "100")
        running = await yard.start(command)
        await self.kill_supervisor(command)
        ended = await yard.end_of(running)
        assert (ended.code, ended.signal) == (137, 9)
        await eventually(lambda: not Path(f"/proc/{running.pid}/exe").exists())
        assert await yard.driver.adopt(command.id) is None

    async def kill_supervisor(self, command: Command) -> None:
        """Kill whatever watches over the container, without a word."""
        raise NotImplementedError
