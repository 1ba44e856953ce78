"""Further processes in a running container."""

import os
import signal
import socket
from collections.abc import Iterator
from errno import EEXIST, ENOENT, ESRCH
from pathlib import Path

import pytest

from tests.execdriver import harness, tracing
from tests.execdriver.harness import (
    ALL,
    NAMESPACES,
    NONE,
    Client,
    NewShim,
    Op,
    OpList,
    Rec,
    Shim,
    Stdio,
    close,
    started,
)

pytestmark = pytest.mark.root


@pytest.fixture
def busy(new_shim: NewShim) -> Iterator[Shim]:
    """Return a container that runs."""
    shim = new_shim()
    started(shim.start(["sleep", "1000"]))
    yield shim


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_an_exec_has_output_and_exit_code_of_its_own(busy: Shim) -> None:
    client = Client()
    busy.exec(["sh", "-c", "echo out; echo err >&2; exit 9"], 1, client)
    assert harness.frames(client.read_all()) == {1: b"out\n", 2: b"err\n"}
    assert started(busy.control, 1) > 0
    end = busy.control.expect(Rec.EXIT, 1)
    assert (end.a, end.data[0]) == (9, 0)
    assert busy.control.expect(Rec.DETACHED, 1).b == 101
    assert (busy.folder / "log").read_text() == ""
    client.close()


def test_an_exec_is_in_the_containers_namespaces(busy: Shim) -> None:
    client = Client()
    names = ("mnt", "uts", "ipc", "pid", "net")
    busy.exec(["sh", "-c", "for n in mnt uts ipc pid net; do readlink /proc/self/ns/$n; done"], 1, client)
    pid = children(busy.pid)[0]
    expected = [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]
    assert harness.frames(client.read_all())[1].decode().split() == expected
    client.close()


def test_an_exec_gets_stdin_which_ends_with_its_client(busy: Shim) -> None:
    client = Client()
    busy.exec(["cat"], 1, client, stdio=Stdio.STDIN)
    client.sock.sendall(b"hello")
    client.sock.shutdown(socket.SHUT_WR)
    assert harness.frames(client.read_all())[1] == b"hello"
    assert busy.control.expect(Rec.EXIT, 1).a == 0
    client.close()


def test_an_exec_without_a_client_writes_into_the_containers_null_device(busy: Shim) -> None:
    busy.exec(["sh", "-c", "exec 3>/tmp/fds; ls -l /proc/$$/fd >&3; exit 3"], 1)
    started(busy.control, 1)
    assert busy.control.expect(Rec.EXIT, 1).a == 3
    listing = (busy.folder / "upper/tmp/fds").read_text()
    assert listing.count("/dev/null") == 3


def test_the_hosts_null_device_cannot_be_changed_through_standard_streams(busy: Shim) -> None:
    mode = os.stat("/dev/null").st_mode
    busy.exec(["chmod", "600", "/proc/self/fd/0", "/proc/self/fd/1"], 1)
    busy.control.expect(Rec.EXIT, 1)
    assert os.stat("/dev/null").st_mode == mode


def test_an_exec_has_a_terminal_that_can_be_resized(busy: Shim) -> None:
    client = Client()
    script = "trap 'stty size; exit 4' WINCH; stty size; tty; while :; do sleep 0.05; done"
    busy.exec(["sh", "-c", script], 1, client, stdio=Stdio.TTY | Stdio.STDIN, size=20 << 16 | 70)
    client.read_until(b"/dev/pts/0")
    assert busy.control.ask(Rec.RESIZE, proc=1, a=21 << 16 | 71).type == Rec.OK
    client.read_until(b"21 71")
    assert busy.control.expect(Rec.EXIT, 1).a == 4
    client.close()


def test_an_exec_is_signalled_by_its_number(busy: Shim) -> None:
    busy.exec(["sleep", "1000"], 7)
    started(busy.control, 7)
    assert busy.control.ask(Rec.SIGNAL, proc=7, a=signal.SIGTERM).type == Rec.OK
    end = busy.control.expect(Rec.EXIT, 7)
    assert (end.a, end.data[0]) == (143, 15)
    assert busy.control.ask(Rec.SIGNAL, proc=7, a=0).a == ESRCH


def test_a_missing_program_fails_the_exec_alone(busy: Shim) -> None:
    client = Client()
    busy.exec(["nope"], 1, client)
    failed = busy.control.expect(Rec.FAILED, 1)
    assert (failed.a, failed.b, failed.data[:6]) == (ENOENT, 6, b"execve")
    assert client.read_all() == b""
    assert busy.control.ask(Rec.SIGNAL, a=0).type == Rec.OK
    client.close()


def test_a_number_in_use_is_refused(busy: Shim) -> None:
    busy.exec(["sleep", "1000"], 1)
    started(busy.control, 1)
    busy.exec(["sleep", "1000"], 1)
    assert busy.control.expect(Rec.FAILED, 1).a == EEXIST
    busy.exec(["true"], 0)
    assert busy.control.expect(Rec.FAILED, 0).a == EEXIST


def test_an_exec_in_a_container_that_has_ended_fails(busy: Shim) -> None:
    client = Client()
    busy.attach(client)  # a session that lingers keeps the shim
    busy.control.ask(Rec.SIGNAL, a=signal.SIGKILL)
    busy.control.expect(Rec.EXIT)
    busy.exec(["true"], 1)
    assert busy.control.expect(Rec.FAILED, 1).a == ESRCH
    client.close()


def test_execs_end_with_the_container_and_are_told(busy: Shim) -> None:
    for number in range(1, 6):
        busy.exec(["sleep", "1000"], number)
        started(busy.control, number)
    busy.control.ask(Rec.SIGNAL, a=signal.SIGKILL)
    assert {busy.control.expect(Rec.EXIT, n).a for n in range(6)} == {137}
    assert busy.join() == 0


def test_an_exec_joins_a_v1_cgroup_before_the_namespaces(busy: Shim) -> None:
    cgroup = Path("/sys/fs/cgroup/pids/windlass-shim-test")
    if not cgroup.parent.is_dir():
        pytest.skip("no cgroup v1 pids controller")
    cgroup.mkdir()
    try:
        ops = OpList()
        ops.add(Op.WRITE, cgroup / "tasks", "0")
        ops.add(Op.JOIN, a=NAMESPACES, b=NONE)
        harness.program(ops, ["sleep", "1000"])
        fd = harness.sealed("exec", ops.encode())
        busy.control.send(Rec.EXEC, proc=1, fds=[fd])
        os.close(fd)
        pid = started(busy.control, 1)
        assert (cgroup / "tasks").read_text().split() == [str(pid)]
        busy.control.ask(Rec.SIGNAL, proc=1, a=9)
        busy.control.expect(Rec.EXIT, 1)
    finally:
        cgroup.rmdir()


def test_an_exec_may_not_write_host_files_after_the_join(busy: Shim) -> None:
    ops = OpList()
    ops.add(Op.JOIN, a=NAMESPACES, b=NONE)
    ops.add(Op.WRITE, "/tmp/x", "0")
    harness.program(ops, ["true"])
    fd = harness.sealed("exec", ops.encode())
    busy.control.send(Rec.EXEC, proc=1, fds=[fd])
    os.close(fd)
    assert busy.control.expect(Rec.FAILED, 1).b == 1


def test_hundreds_of_execs_leave_nothing(busy: Shim) -> None:
    before = len(os.listdir(f"/proc/{busy.pid}/fd"))
    for number in range(1, 300):
        client = Client()
        busy.exec(["echo", "hi"], number, client)
        assert harness.frames(client.read_all())[1] == b"hi\n"
        close(busy.control.expect(Rec.STARTED, number))
        assert busy.control.expect(Rec.EXIT, number).a == 0
        client.close()
    harness.eventually(lambda: len(os.listdir(f"/proc/{busy.pid}/fd")) == before)
    assert len(children(busy.pid)) == 1


def test_a_client_of_an_exec_detaches_by_keys_and_the_process_runs_on(busy: Shim) -> None:
    client = Client()
    busy.exec(["sleep", "1000"], 1, client, stdio=Stdio.TTY | Stdio.STDIN)
    started(busy.control, 1)
    client.sock.sendall(b"\x10\x11")
    assert busy.control.expect(Rec.DETACHED, 1).a == 1
    assert busy.control.ask(Rec.SIGNAL, proc=1, a=0).type == Rec.OK
    again = Client()
    busy.attach(again, ALL, 2, proc=1)
    again.sock.sendall(b"\x03")
    assert busy.control.expect(Rec.EXIT, 1).a == 130
    client.close()
    again.close()


def test_an_execs_terminal_may_be_heard_before_its_pid(busy: Shim) -> None:
    """The child sends its terminal while the middle process, which made it, has yet to tell its pid.

    Once both used one socket, and an exec failed now and then with the errno 0 of the terminal's message.
    """
    client = Client()
    with tracing.child_first(busy.pid) as hold:
        busy.exec(["tty"], 1, client, stdio=Stdio.TTY)
        hold()
    assert started(busy.control, 1) > 0
    assert client.read_all() == b"/dev/pts/0\r\n"
    assert busy.control.expect(Rec.EXIT, 1).a == 0
    client.close()


def test_an_exec_that_fails_before_its_pid_is_heard_fails_with_its_own_reason(busy: Shim) -> None:
    with tracing.child_first(busy.pid) as hold:
        busy.exec(["no-such-program"], 1)
        hold()
    failed = busy.control.expect(Rec.FAILED, 1)
    assert failed.a == ENOENT
    assert not [pid for pid in children(busy.pid) if harness.is_zombie(pid)]
