"""`windlass daemon`: how it starts, refuses to, and ends. Real processes on roots of their own."""

import json
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import windlass
from tests.support.daemon import Daemon, command, environment
from windlass.engine.errors import Conflict, Unsupported
from windlass.engine.plugins import PluginError
from windlass.lib.version import VERSION

pytestmark = [pytest.mark.root, pytest.mark.slow]

SLOW_START = """
import trio
async def install(engine):
    await trio.sleep(1.5)
    {then}
"""
SLOW_END = """
import trio
def install(engine):
    engine.on_shutdown(trio.sleep_forever, name="stuck", timeout=60)
"""


@pytest.fixture
def daemon() -> Iterator[Callable[..., Daemon]]:
    """Return a maker of daemons, not started yet, which are closed afterwards."""
    made: list[Daemon] = []

    def make(*flags: str) -> Daemon:
        made.append(Daemon("--plugins-dir", "", *flags))
        return made[-1]

    yield make
    for each in made:
        each.close()


def start_only(daemon: Daemon) -> "subprocess.Popen[bytes]":
    """Start the daemon without waiting for its first answer."""
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(
            daemon.command(), env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    daemon.process = process
    return process


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def cli(daemon: Daemon, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    argv = command("-H", daemon.host, *words)
    return subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=30)


def test_it_tells_who_it_is_and_keeps_its_folders_to_itself(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    assert f"windlass {VERSION}" in running.log.read_text()
    assert "execdriver: native; graphdriver: overlay2" in running.log.read_text()
    assert running.pidfile.read_text() == f"{running.pid}\n"
    assert stat.S_IMODE(running.exec_root.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.data_root.stat().st_mode) == 0o710
    assert running.stop() == 0
    assert running.pidfile.read_text() == ""
    assert not running.socket.exists()
    assert "windlass is down" in running.log.read_text()


def test_a_second_one_on_the_same_root_refuses_and_hurts_nobody(daemon: Callable[..., Daemon]) -> None:
    first = daemon().start()
    second = subprocess.run(first.command(), env=environment(), capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert f"another windlass daemon (process {first.pid}) holds {first.data_root}" in second.stderr
    assert first.answers(), "the socket is still the first one's"
    with pytest.raises(Conflict, match="use windlass.connect"):
        windlass.open(data_root=first.data_root, exec_root=first.base / "other")


def test_roots_are_free_again_after_a_kill(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    running.kill()
    assert running.start().answers()


def test_its_id_stays(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    first = running.wire.get("/info").json["ID"]
    running.stop()
    assert running.start().wire.get("/info").json["ID"] == first


def test_early_clients_wait_until_it_is_up(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    plugin = tmp_path / "slow.py"
    plugin.write_text(SLOW_START.format(then="engine.provide('x', 1)"))
    running = daemon("--plugin", str(plugin))
    start_only(running)
    wait_for(running.socket.exists)
    assert running.wire.get("/version").json["Version"] == VERSION
    assert cli(running, "plugins").stdout == f"PLUGIN\n{plugin}\n"


def test_early_clients_are_told_when_it_cannot_start(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(SLOW_START.format(then="raise ValueError('bad day')"))
    running = daemon("--plugin", str(plugin))
    process = start_only(running)
    wait_for(running.socket.exists)
    answer = running.wire.get("/version")
    sentence = f"windlass did not start: plugin {plugin}: ValueError: bad day"
    assert (answer.status, answer.message) == (503, sentence)
    assert process.wait(20) == 1
    assert sentence in running.log.read_text()


def test_a_broken_plugin_can_be_tolerated(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise ValueError('bad day')")
    running = daemon("--plugin", str(plugin), "--ignore-plugin-errors").start()
    assert "bad day" in running.log.read_text()
    assert cli(running, "plugins").stdout == "PLUGIN\n"


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["-s", "zfs"], 1, "unknown storage driver: zfs; there are overlay2, btrfs, vfs"),
        (["-e", "lxc"], 1, "unknown exec driver lxc"),
        (["-H", "tcp://127.0.0.1:0"], 1, "TLS"),
        (["-H", "ftp://x"], 1, "ftp://x"),
        (["--config-file", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (["-l", "loud"], 2, "unable to parse logging level: loud"),
        (["--default-ulimit", "nofile=many"], 125, 'invalid argument "nofile=many" for "--default-ulimit" flag'),
        (["--default-ulimit", "nofile=2:1"], 1, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        (["--default-ulimit", "files=2:2"], 1, "invalid ulimit type: files"),
        (["--frob"], 125, "unknown flag: --frob"),
    ],
)
def test_a_wrong_start_says_why(daemon: Callable[..., Daemon], flags: list[str], status: int, message: str) -> None:
    running = daemon(*flags)
    process = start_only(running)
    assert process.wait(20) == status
    assert message in running.log.read_text()
    assert "Traceback" not in running.log.read_text()
    assert not running.socket.exists()


def test_a_configuration_file_says_the_same_as_flags(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"labels": ["a=1"], "debug": True, "storage-driver": "vfs"}))
    info = daemon("--config-file", str(path), "--label", "b=2").start().wire.get("/info").json
    assert (info["Labels"], info["Debug"], info["Driver"]) == (["a=1", "b=2"], True, "vfs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_third_signal_forces_the_end(daemon: Callable[..., Daemon], tmp_path: Path, number: signal.Signals) -> None:
    plugin = tmp_path / "stuck.py"
    plugin.write_text(SLOW_END)
    running = daemon("--plugin", str(plugin)).start()
    assert running.process is not None
    for count, sign in enumerate(("shutting down", "1 more to force it")):
        running.process.send_signal(number)
        wait_for(lambda sign=sign: sign in running.log.read_text())  # type: ignore[misc]
        assert running.process.poll() is None, count
    running.process.send_signal(number)
    assert running.process.wait(10) == 128 + number


def test_sigquit_dumps_what_it_does_and_goes_on(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    assert running.process is not None
    running.process.send_signal(signal.SIGQUIT)
    wait_for(lambda: "SIGQUIT: tasks now:" in running.log.read_text())
    log = running.log.read_text()
    assert "jobs: serveapi#" in log and "builtins.py" in log
    assert running.answers()


def test_sighup_does_not_end_it(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in running.log.read_text())
    assert running.answers()


def test_a_listener_does_not_hold_up_the_end(daemon: Callable[..., Daemon]) -> None:
    running = daemon().start()
    listener = subprocess.Popen(command("-H", running.host, "events"), env=environment(), stdout=subprocess.PIPE)
    wait_for(lambda: running.wire.get("/info").json["NEventsListener"] == 1)
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 10
    listener.communicate(timeout=10)


# -- the command line, against a daemon --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon("--plugins-dir", "").start()
    yield daemon
    daemon.close()


def test_version_tells_both_sides(shared: Daemon) -> None:
    done = cli(shared, "version")
    assert done.stdout.count(VERSION) == 2 and "Server:" in done.stdout
    assert json.loads(cli(shared, "version", "--json").stdout)["Server"]["ApiVersion"] == "1.51"


def test_info_tells_the_drivers(shared: Daemon) -> None:
    assert "Storage Driver: overlay2" in cli(shared, "info").stdout
    assert json.loads(cli(shared, "info", "--json").stdout)["Swarm"]["LocalNodeState"] == "inactive"


def test_empty_lists_have_their_heads(shared: Daemon) -> None:
    assert cli(shared, "ps", "-a").stdout.split() == [
        "CONTAINER",
        "ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ]
    assert cli(shared, "images").stdout.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert cli(shared, "ps", "-q").stdout == ""


def test_the_engine_can_be_asked_about_itself(shared: Daemon) -> None:
    assert "container_inspect" in cli(shared, "commands").stdout.splitlines()
    assert "serveapi" in cli(shared, "jobs").stdout
    assert cli(shared, "describe", "stop").stdout.startswith("stop: Stop a container")


def test_any_job_runs_from_a_shell(shared: Daemon) -> None:
    assert json.loads(cli(shared, "job", "containers", "all=yes").stdout) == []
    assert json.loads(cli(shared, "job", "subscribers_count").stdout) == {"count": 0}
    missing = cli(shared, "job", "container_inspect", "nope")
    assert (missing.returncode, missing.stderr) == (1, "windlass: No such container: nope\n")
    unknown = cli(shared, "job", "frobnicate")
    assert (unknown.returncode, unknown.stderr) == (127, "windlass: no such job: frobnicate\n")
    wrong = cli(shared, "job", "containers", "al=1")
    assert (wrong.returncode, wrong.stderr) == (1, "windlass: unknown key 'al', did you mean 'all'?\n")


def test_a_file_of_jobs_runs_from_top_to_bottom(shared: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(
        "- log: [begun, x]\n- containers: {all: true}\n- subscribers_count\n- describe: stop\n- nope\n- jobs\n"
    )
    done = cli(shared, "job", "-f", str(path))
    assert done.stdout.startswith('[]\n{\n  "count": 0\n}\n') and '"stop"' in done.stdout
    assert (done.returncode, done.stderr) == (127, "windlass: no such job: nope\n")


def test_events_are_printed_as_they_come(shared: Daemon) -> None:
    until = f"{time.time() + 3:.3f}"
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(cli(shared, "events", "--until", until).stdout))
    thread.start()
    wait_for(lambda: shared.wire.get("/info").json["NEventsListener"] == 1)
    cli(shared, "job", "log", "start", "c0ffee", "busybox", 'attributes={"name": "web"}')
    thread.join(20)
    assert told[0].rstrip().endswith("container start c0ffee (image=busybox, name=web)")


# -- in a script -------------------------------------------------------------------------------------------------


def test_an_engine_opens_in_a_script_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with windlass.open(data_root=tmp_path / "data", exec_root=tmp_path / "run") as engine:
            assert engine.job("info").run().Containers == 0
            with pytest.raises(Conflict, match="use windlass.connect"):
                windlass.open(data_root=tmp_path / "data", exec_root=tmp_path / "other")


def test_an_engine_that_cannot_open_says_why_and_lets_go(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="zfs"):
        windlass.open(data_root=tmp_path / "data", exec_root=tmp_path / "run", storage_driver="zfs")
    with pytest.raises(PluginError, match="nowhere"):
        windlass.open(data_root=tmp_path / "data", exec_root=tmp_path / "run", plugins=["nowhere"])
    windlass.open(data_root=tmp_path / "data", exec_root=tmp_path / "run").close()
