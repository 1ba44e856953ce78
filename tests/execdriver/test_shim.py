"""windlass-shim: start, failure, end, signals, and the way back in after the daemon's death."""

import os
import signal
import stat
import struct
from errno import EBADMSG, ENOENT, ENOTTY, EOPNOTSUPP, ESRCH
from pathlib import Path

import pytest

from tests.execdriver import harness
from tests.execdriver.harness import NAMESPACES, NONE, Client, Gone, NewShim, Op, OpList, Rec, Shim, close, started

pytestmark = pytest.mark.root


def test_a_program_runs_and_its_exit_is_told_and_kept(shim: Shim) -> None:
    control = shim.start(["sh", "-c", "exit 7"])
    assert started(control) > 0
    end = control.expect(Rec.EXIT)
    assert (end.a, end.data[0]) == (7, 0)
    assert shim.exit_file == [7, 0, end.b, 0]
    assert shim.join() == 0
    assert os.listdir(shim.folder / "run") == ["exit"]


def test_a_start_without_sessions_or_log_works(shim: Shim) -> None:
    control = shim.start(["true"], log=None)
    started(control)
    assert control.expect(Rec.EXIT).a == 0
    assert not (shim.folder / "log").exists()


def test_a_signal_through_the_shim_ends_the_init_with_128_and_its_number(shim: Shim) -> None:
    control = shim.start(["sleep", "100"])
    started(control)
    assert control.ask(Rec.SIGNAL, a=signal.SIGKILL).type == Rec.OK
    end = control.expect(Rec.EXIT)
    assert (end.a, end.data[0]) == (128 + signal.SIGKILL, signal.SIGKILL)
    assert shim.exit_file[:2] == [137, 9]


def test_the_signal_of_a_host_going_down_is_passed_on(shim: Shim) -> None:
    control = shim.start(["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done"])
    started(control)
    harness.eventually(lambda: "ready" in (shim.folder / "log").read_text())
    os.kill(shim.pid, signal.SIGTERM)
    assert control.expect(Rec.EXIT).a == 9


@pytest.mark.parametrize("args", [["no-such-program"], ["/no/such/program"], [""]])
def test_a_missing_program_fails_with_enoent_and_the_index_of_exec(shim: Shim, args: list[str]) -> None:
    control = shim.start(args)
    failed = control.expect(Rec.FAILED)
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE)
    harness.mounts(ops, shim.folder)
    harness.program(ops, args)
    assert (failed.a, ops.names[failed.b]) == (ENOENT, "exec")
    assert failed.data.startswith(b"execve\0")
    assert shim.join() == 1
    assert os.listdir(shim.folder / "run") == []


def test_a_file_without_x_bit_is_no_program_in_the_path_but_denied_by_its_name(new_shim: NewShim, root: Path) -> None:
    """As Go's LookPath, which decides between Docker's 127 and 126."""
    (root / "bin/plain").write_text("echo no\n")
    first, second = new_shim(), new_shim()
    assert first.start(["plain"]).expect(Rec.FAILED).a == ENOENT
    assert second.start(["/bin/plain"]).expect(Rec.FAILED).a == 13


def test_a_failing_op_is_named_by_its_index(shim: Shim) -> None:
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    ops.add(Op.PRIVATE)
    ops.add(Op.ROOT, shim.folder / "root", a=0)
    ops.add(Op.MOUNT, "/missing", "tmpfs", "tmpfs", "", what="the one")
    control = shim.spawn(ops.encode())
    control.send(Rec.GO)
    failed = control.expect(Rec.FAILED)
    assert (failed.a, ops.names[failed.b]) == (ENOENT, "the one")
    assert failed.data.startswith(b"openat2\0")


def test_an_op_of_the_shim_itself_that_fails_is_named_too(shim: Shim) -> None:
    ops = OpList()
    ops.add(Op.RUNDIR, shim.folder / "run")
    ops.add(Op.OPEN_TREE, shim.folder / "missing", a=3, what="the tree")
    ops.add(Op.CLONE, b=NONE)
    control = shim.spawn(ops.encode())
    control.send(Rec.GO)
    failed = control.expect(Rec.FAILED)
    assert (failed.a, ops.names[failed.b]) == (ENOENT, "the tree")
    assert os.listdir(shim.folder / "run") == []


@pytest.mark.parametrize("damage", ["cut", "magic", "slot", "no exec"])
def test_a_damaged_list_is_refused_as_a_whole(shim: Shim, damage: str) -> None:
    ops = harness.prefix(shim.folder, shim.root)
    if damage == "slot":
        ops.add(Op.OPEN_TREE, "/", a=16)
    ops.add(Op.CLONE, a=NAMESPACES, b=NONE)
    if damage != "no exec":
        ops.add(Op.EXEC, "true", a=1)
    content = ops.encode()
    content = {"cut": content[:-8], "magic": b"X" + content[1:]}.get(damage, content)
    control = shim.spawn(content)
    control.send(Rec.GO)
    assert control.expect(Rec.FAILED).a == EBADMSG
    assert shim.join() == 1


def test_nothing_starts_when_the_daemon_goes_before_go(shim: Shim) -> None:
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, b=NONE)
    ops.add(Op.EXEC, "true", a=1)
    shim.spawn(ops.encode()).close()
    assert shim.join() == 1
    assert os.listdir(shim.folder / "run") == []


def test_a_later_daemon_finds_the_container_by_its_socket(shim: Shim) -> None:
    control = shim.start(["sh", "-c", "while read line; do echo got $line; done; exit 4"], stdio=2)
    pid = started(control)
    control.close()
    harness.eventually((shim.folder / "run/ctl.sock").exists)
    mode = (shim.folder / "run/ctl.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    later = shim.connect()
    later.send(Rec.STATUS)
    state = later.expect(Rec.STATE)
    assert (state.a, state.b) == (pid, 1)
    assert struct.unpack_from("<III", state.data) == (1, 0, 0)
    signal.pidfd_send_signal(state.fds[0], 0)  # type: ignore[attr-defined]
    close(state)
    assert later.ask(Rec.STDIN_CLOSE).type == Rec.OK
    assert later.expect(Rec.EXIT).a == 4
    assert shim.join() == 0


def test_everybody_who_is_connected_hears_of_the_end(shim: Shim) -> None:
    control = shim.start(["cat"], stdio=2)
    started(control)
    others = [shim.connect() for _ in range(3)]
    for other in others:
        other.send(Rec.STATUS)
        close(other.expect(Rec.STATE))
    control.ask(Rec.STDIN_CLOSE)
    assert [c.expect(Rec.EXIT).a for c in [control, *others]] == [0] * 4


def test_a_record_of_the_wrong_size_ends_only_its_connection(shim: Shim) -> None:
    control = shim.start(["sleep", "100"])
    started(control)
    other = shim.connect()
    other.sock.send(b"hello")
    with pytest.raises((Gone, ConnectionResetError)):
        other.receive()
    assert control.ask(Rec.SIGNAL, a=0).type == Rec.OK


def test_what_cannot_be_done_is_answered_with_its_errno(shim: Shim) -> None:
    control = shim.start(["sleep", "100"], log=None)
    started(control)
    assert control.ask(Rec.RESIZE, a=24 << 16 | 80).a == ENOTTY
    assert control.ask(Rec.ROTATE).a == ENOENT
    assert control.ask(Rec.SIGNAL, proc=5, a=9).a == ESRCH
    assert control.ask(Rec.STARTED).a == EOPNOTSUPP


def test_a_daemon_that_does_not_read_is_cut_off_and_the_container_runs_on(shim: Shim) -> None:
    control = shim.start(["sleep", "100"])
    started(control)
    deaf = shim.connect()
    deaf.sock.settimeout(0.2)
    try:
        for _ in range(2000):
            deaf.send(Rec.SIGNAL, a=0)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass
    assert control.ask(Rec.SIGNAL, a=0).type == Rec.OK


def test_orphans_of_a_container_are_reaped(shim: Shim) -> None:
    """A container that shares the host's pids leaves its orphans to the shim, which is their subreaper."""
    ops = harness.prefix(shim.folder, shim.root)
    ops.add(Op.CLONE, a=NAMESPACES & ~harness.NEWPID, b=NONE)
    harness.mounts(ops, shim.folder)
    harness.program(ops, ["sh", "-c", "(true &); sleep 0.2; echo $$; exit 5"])
    control = shim.spawn(ops.encode())
    control.send(Rec.GO)
    assert started(control) > 0
    assert control.expect(Rec.EXIT).a == 5
    assert shim.join() == 0


def test_an_idle_shim_takes_less_than_40_kilobytes(new_shim: NewShim) -> None:
    """PSS shares the program's pages between the shims, as on a host; each has just been busy."""
    shims = [new_shim() for _ in range(10)]
    for shim in shims:
        started(shim.start(["sh", "-c", "yes | head -100000; sleep 100"]))
    for shim in shims:
        harness.eventually(lambda folder=shim.folder: (folder / "log").stat().st_size > 5_000_000)

    def pss() -> float:
        rollups = [Path(f"/proc/{shim.pid}/smaps_rollup").read_text() for shim in shims]
        return sum(int(text.split("\nPss:")[1].split()[0]) for text in rollups) / len(shims)

    harness.eventually(lambda: pss() <= 40)


def test_a_client_that_only_looks_at_the_socket_pair_changes_nothing(shim: Shim) -> None:
    """A datagram socket is no client: the record is refused, the container goes on."""
    control = shim.start(["sleep", "100"])
    started(control)
    client = Client()
    answer = control.ask(Rec.ATTACH, a=7, b=1, fds=[control.sock.fileno()])
    assert answer.type == Rec.ERROR
    client.close()
