"""Attach, exec and logs: bytes in and out, exit codes, terminals."""

import os

import pytest
import trio

from tests.daemon.conftest import Yard
from windlass.engine import Job
from windlass.engine.errors import BadParameter, Conflict, NotFound, Unsupported
from windlass.engine.streams import Capture, pipe, source
from windlass.jobs.container_config import HostConfig, LogSettings
from windlass.jobs.containers import Delete, Kill, Logs, Resize, Start, Streaming, Wait
from windlass.jobs.execs import ExecCreate, ExecInfo, ExecInspect, ExecResize, ExecStart

pytestmark = pytest.mark.root

ALL = {"stream": True, "stdin": True, "stdout": True, "stderr": True}


class Client:
    """A job with streams, run in the background; `start` returns when it is ready."""

    def __init__(self, job: Job[object], stdin: trio.abc.ReceiveStream | None = None) -> None:
        self.job = job
        self.out, self.err = Capture(), Capture()
        self.done = trio.Event()
        job.stdin, job.stdout, job.stderr = stdin, self.out, self.err

    async def start(self, nursery: trio.Nursery) -> object:
        async def run(task_status: trio.TaskStatus[object]) -> None:
            async def on_ready(value: object) -> None:
                task_status.started(value)

            self.job.on_ready = on_ready
            await self.job.run()
            self.done.set()

        return await nursery.start(run)

    async def until(self, text: str) -> None:
        with trio.fail_after(10):
            while text not in self.out.text:
                await trio.sleep(0.005)


async def test_a_client_that_attached_before_the_start_misses_nothing(yard: Yard) -> None:
    id = await yard.create("sh", "-c", "echo first; echo err >&2; cat", OpenStdin=True, StdinOnce=True)
    async with trio.open_nursery() as nursery:
        client = Client(yard.engine.job("attach", id, **ALL), source(b"typed\n"))
        assert await client.start(nursery) == Streaming(Tty=False)
        await yard.call(Start(name=id))
    assert (client.out.text, client.err.text) == ("first\ntyped\n", "err\n")
    assert (await yard.call(Wait(name=id))).StatusCode == 0


async def test_a_client_whose_start_fails_is_let_go(yard: Yard) -> None:
    id = await yard.create("no-such-command")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await Client(yard.engine.job("attach", id, **ALL)).start(nursery)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BadParameter):
                await yard.call(Start(name=id))


async def test_a_client_whose_container_is_removed_is_let_go(yard: Yard) -> None:
    id = await yard.create("true")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await Client(yard.engine.job("attach", id, **ALL)).start(nursery)
            await trio.testing.wait_all_tasks_blocked()
            await yard.call(Delete(name=id))


async def test_a_later_client_gets_what_comes_and_with_logs_what_came(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "echo before; read x; echo after", OpenStdin=True)
    while (await yard.outputs(id))[0] != "before\n":
        await trio.sleep(0.01)
    async with trio.open_nursery() as nursery:
        live = Client(yard.engine.job("attach", id, stream=True, stdout=True))
        both = Client(yard.engine.job("attach", id, logs=True, **ALL), source(b"\n"))
        await live.start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        await both.start(nursery)
    assert (live.out.text, both.out.text) == ("after\n", "before\nafter\n")


async def test_a_terminal_has_a_size_and_detach_keys(yard: Yard) -> None:
    id = await yard.create("sh", Tty=True, OpenStdin=True)
    async with trio.open_nursery() as nursery:
        keyboard, stdin = pipe()
        client = Client(yard.engine.job("attach", id, **ALL), stdin)
        assert await client.start(nursery) == Streaming(Tty=True)
        await yard.call(Start(name=id))
        await client.until("# ")
        await yard.call(Resize(name=id, h=37, w=111))
        await keyboard.send_all(b"stty size\n")
        await client.until("37 111")
        await keyboard.send_all(b"\x10\x11")
        with trio.fail_after(10):
            await client.done.wait()
    assert (await yard.job("container_inspect", id)).State.Running
    assert "detach" in await yard.told()


async def test_wrong_detach_keys_are_refused(yard: Yard) -> None:
    id = await yard.create("true")
    with pytest.raises(BadParameter, match="Invalid detach keys"):
        await yard.job("attach", id, detachKeys="ctrl-p,what")


async def test_resize_of_what_does_not_run_is_a_conflict(yard: Yard) -> None:
    id = await yard.create("true")
    with pytest.raises(Conflict, match="is not running"):
        await yard.call(Resize(name=id, h=1, w=1))


# -- exec ------------------------------------------------------------------------------------------------------------


async def execute(yard: Yard, id: str, *words: str, stdin: bytes | None = None, **more: object) -> tuple[str, str, int]:
    """Run an exec with all streams; return stdout, stderr and the exit code."""
    params = {"AttachStdout": True, "AttachStderr": True, "AttachStdin": stdin is not None} | more
    made = await yard.call(ExecCreate(name=id, Cmd=list(words), **params))  # type: ignore[arg-type]
    client = Client(yard.engine.job("execStart", made.Id), source(stdin) if stdin is not None else None)
    async with trio.open_nursery() as nursery:
        await client.start(nursery)
    info: ExecInfo = await yard.call(ExecInspect(name=made.Id))
    assert info.ExitCode is not None and not info.Running
    return client.out.text, client.err.text, info.ExitCode


async def test_an_exec_has_streams_and_an_exit_code_as_soon_as_they_end(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    script = "cat; echo err >&2; exit 7"
    assert await execute(yard, id, "sh", "-c", script, stdin=b"typed\n") == ("typed\n", "err\n", 7)
    told = [action for action in await yard.told() if action.startswith("exec")]
    assert told == [f"exec_create: sh -c {script}", f"exec_start: sh -c {script}", "exec_die"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("no-such-command", 127, 'exec: "no-such-command": executable file not found in $PATH: unknown\r\n'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied: unknown\r\n'),
    ],
)
async def test_an_exec_that_cannot_start_says_so_in_the_stream(
    yard: Yard, command: str, code: int, message: str
) -> None:
    id = await yard.run("sleep", "60")
    out, _, found = await execute(yard, id, command)
    assert out == f"OCI runtime exec failed: exec failed: unable to start container process: {message}"
    assert found == code
    assert (await execute(yard, id, "echo", "alive"))[0] == "alive\n"


async def test_an_exec_has_the_environment_of_its_container_and_its_own(yard: Yard) -> None:
    id = await yard.run("sleep", "60", Env=["A=1", "B=2"], WorkingDir="/tmp", User="nobody")
    out, _, _ = await execute(yard, id, "sh", "-c", "echo $A $B; pwd; id -u", Env=["B=3"])
    assert out == "1 3\n/tmp\n65534\n"
    out, _, _ = await execute(yard, id, "sh", "-c", "pwd; id -u", User="0", WorkingDir="/etc")
    assert out == "/etc\n0\n"


async def test_a_detached_exec_goes_on_alone_and_runs_once(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    made = await yard.call(ExecCreate(name=id, Cmd=["sh", "-c", "exit 3"]))
    await yard.call(ExecStart(name=made.Id, Detach=True))
    with trio.fail_after(10):
        while (await yard.call(ExecInspect(name=made.Id))).ExitCode != 3:
            await trio.sleep(0.01)
    with pytest.raises(Conflict, match="has already run"):
        await yard.call(ExecStart(name=made.Id, Detach=True))


async def test_a_terminal_of_an_exec_can_be_resized(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    made = await yard.call(ExecCreate(name=id, Cmd=["sh"], Tty=True, AttachStdin=True, AttachStdout=True))
    with pytest.raises(Conflict):
        await yard.call(ExecResize(name=made.Id, h=1, w=1))
    async with trio.open_nursery() as nursery:
        keyboard, stdin = pipe()
        client = Client(yard.engine.job("execStart", made.Id), stdin)
        assert await client.start(nursery) == Streaming(Tty=True)
        await client.until("# ")
        await yard.call(ExecResize(name=made.Id, h=33, w=99))
        await keyboard.send_all(b"stty size; exit 9\n")
        await client.until("33 99")
    assert (await yard.call(ExecInspect(name=made.Id))).ExitCode == 9


async def test_the_end_of_a_container_ends_its_execs(yard: Yard) -> None:
    id = await yard.run("sleep", "60")
    made = await yard.call(ExecCreate(name=id, Cmd=["sleep", "60"], AttachStdout=True))
    async with trio.open_nursery() as nursery:
        await Client(yard.engine.job("execStart", made.Id)).start(nursery)
        await trio.testing.wait_all_tasks_blocked()
        await yard.call(Kill(name=id))
    assert (await yard.call(ExecInspect(name=made.Id))).ExitCode == 137


async def test_execs_that_cannot_be_are_refused(yard: Yard) -> None:
    id = await yard.create("true")
    with pytest.raises(Conflict, match=f"container {id} is not running"):
        await yard.call(ExecCreate(name=id, Cmd=["true"]))
    with pytest.raises(BadParameter, match="No exec command specified"):
        await yard.call(ExecCreate(name=id))
    with pytest.raises(NotFound, match="No such exec instance: feed"):
        await yard.call(ExecInspect(name="feed"))


# -- logs ------------------------------------------------------------------------------------------------------------


async def test_logs_follow_until_the_container_ends(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "echo one; read x; echo two", OpenStdin=True)
    async with trio.open_nursery() as nursery:
        follower = Client(yard.engine.job("logs", id, follow=True, stdout=True, stderr=True))
        assert await follower.start(nursery) == Streaming(Tty=False)
        await follower.until("one\n")
        typist = Client(yard.engine.job("attach", id, stream=True, stdin=True), source(b"\n"))
        await typist.start(nursery)
    assert follower.out.text == "one\ntwo\n"


async def test_logs_can_be_cut(yard: Yard) -> None:
    id = await yard.run("seq", "5")
    await yard.call(Wait(name=id))
    assert (await yard.outputs(id, tail="2"))[0] == "4\n5\n"
    assert (await yard.outputs(id, since="4000000000"))[0] == ""
    assert (await yard.outputs(id, until="1"))[0] == ""
    assert len((await yard.outputs(id, timestamps=True))[0].splitlines()[0].split()) == 2


async def test_logs_in_frames_are_for_clients_that_take_them_apart(yard: Yard) -> None:
    id = await yard.run("echo", "hi")
    await yard.call(Wait(name=id))
    assert await yard.outputs(id, frames=True) == ("\x01\0\0\0\0\0\0\x03hi\n", "")


async def test_a_follower_that_leaves_is_cleaned_up_after(yard: Yard) -> None:
    id = await yard.run("sh", "-c", "echo one; sleep 60")
    with trio.move_on_after(0.3):
        await yard.engine.call(Logs(name=id, follow=True, stdout=True))
    children = await trio.Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    for pid in children.split():
        assert "logs" not in await trio.Path(f"/proc/{pid}/cmdline").read_text()


async def test_logs_that_cannot_be_are_refused(yard: Yard) -> None:
    id = await yard.create("true")
    with pytest.raises(BadParameter, match="you must choose at least one stream"):
        await yard.call(Logs(name=id))
    with pytest.raises(BadParameter, match="since"):
        await yard.call(Logs(name=id, stdout=True, since="yesterday"))
    silent = await yard.create("true", host=HostConfig(NetworkMode="none", LogConfig=LogSettings("none")))
    with pytest.raises(Unsupported, match="configured logging driver does not support reading"):
        await yard.call(Logs(name=silent, stdout=True))


async def test_logs_of_what_never_ran_are_empty(yard: Yard) -> None:
    assert await yard.outputs(await yard.create("true"), follow=True) == ("", "")
