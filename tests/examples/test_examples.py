"""The examples do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import windlass
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs
from tests.support.networks import until
from tests.support.wire import Wire
from windlass.engine.errors import Denied

EXAMPLES = Path(__file__).parents[2] / "examples"

NewDaemon = Callable[..., Daemon]

pytestmark = pytest.mark.root


def run(*words: object, **env: str) -> str:
    """Run an example as its reader would, and return what it prints."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**_environment(), **env}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours, without the safe path: the examples import their neighbour `busybox`."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}


def get(host: str, path: str) -> tuple[int, object]:
    answer = Wire(host).get(path)
    return answer.status, answer.json


def post(host: str, path: str, body: object) -> tuple[int, object]:
    answer = Wire(host).post(path, body)
    return answer.status, answer.json


def test_the_script_runs_a_container_in_its_own_process(tmp_path: Path) -> None:
    assert re.fullmatch(r"hello from script, process \d+\nexit status 0\n", run(EXAMPLES / "script.py", tmp_path))


def test_the_remote_script_runs_one_in_a_daemon(new_daemon: NewDaemon) -> None:
    said = run(EXAMPLES / "remote.py", new_daemon().host)
    assert re.fullmatch(r"hello from remote, process \d+\nexit status 0\n", said)


def test_a_plugin_adds_a_job_and_its_route(new_daemon: NewDaemon) -> None:
    host = new_daemon("--plugin", str(EXAMPLES / "plugins/hello_route.py")).host
    assert get(host, "/hello/world") == (200, {"text": "hello, world", "containers": 0})
    assert get(host, "/hello/world?loud=1") == (200, {"text": "HELLO, WORLD", "containers": 0})
    with windlass.connect(host) as engine:
        assert engine.job("hello", "you").run() == {"text": "hello, you", "containers": 0}


def test_a_plugin_refuses_privileged_containers(new_daemon: NewDaemon) -> None:
    host = new_daemon("--plugin", str(EXAMPLES / "plugins/no_privileged.py")).host
    with windlass.connect(host) as engine:
        engine.job("import", repo="busybox").run(stdin=busybox_rootfs())
        for refused in ({"Privileged": True}, {"Privileged": True, "NetworkMode": "none"}):
            with pytest.raises(Denied, match="privileged containers are not allowed here"):
                engine.job("create", "bad", Image="busybox", Cmd=["true"], HostConfig=refused).run()
        assert engine.job("containers", all=True).run() == []
        engine.job("create", "good", Image="busybox", Cmd=["true"]).run()
    status, answer = post(host, "/containers/create", {"Image": "busybox", "HostConfig": {"Privileged": True}})
    assert (status, answer) == (403, {"message": "privileged containers are not allowed here"})


def test_a_plugin_keeps_an_audit_trail(new_daemon: NewDaemon, tmp_path: Path) -> None:
    trail = tmp_path / "audit"
    host = new_daemon("--plugin", str(EXAMPLES / "plugins/audit.py"), WINDLASS_AUDIT=str(trail)).host
    assert post(host, "/containers/create", {"Image": "missing", "Cmd": ["true"]})[0] == 404
    lines = [json.loads(line) for line in trail.read_text().splitlines()]
    (create,) = [line for line in lines if line["job"].startswith("create#")]
    assert create["outcome"] == "failed: No such image: missing:latest"
    assert create["env"]["Image"] == "missing"
    assert create["who"]["uid"] == 0


def test_a_plugin_keeps_volumes_on_another_disk(new_daemon: NewDaemon, tmp_path: Path) -> None:
    plugin = str(EXAMPLES / "plugins/other_disk.py")
    daemon = new_daemon("--plugin", plugin, WINDLASS_OTHER_DISK=str(tmp_path))
    with windlass.connect(daemon.host) as engine:
        engine.job("import", repo="busybox").run(stdin=busybox_rootfs())
        made = engine.job("volume_create", Name="data", Driver="other-disk").run()
        assert (made.Driver, made.Mountpoint) == ("other-disk", f"{tmp_path}/data")
        host = {"NetworkMode": "none", "Binds": ["data:/data", "more:/more"], "VolumeDriver": "other-disk"}
        command = ["touch", "/data/x", "/more/x"]
        engine.job("create", "one", Image="busybox", Cmd=command, HostConfig=host).run()
        engine.job("start", "one").run()
        assert engine.job("wait", "one").run().StatusCode == 0
        assert (tmp_path / "data/x").exists() and (tmp_path / "more/x").exists()
        assert engine.job("volume_inspect", "more").run().Status["Free"] > 0
        assert "other-disk" in engine.job("info").run().Plugins.Volume
        engine.job("delete", "one").run()
        for name in ("data", "more"):
            engine.job("volume_delete", name).run()
        assert list(tmp_path.iterdir()) == []


def test_a_plugin_has_a_rule_of_its_own_for_what_ends(new_daemon: NewDaemon) -> None:
    daemon = new_daemon("--plugin", str(EXAMPLES / "plugins/supervise.py"))
    host = {"NetworkMode": "none", "RestartPolicy": {"Name": "always"}}
    with windlass.connect(daemon.host) as engine:
        engine.job("import", repo="busybox").run(stdin=busybox_rootfs())
        script = ["sh", "-c", "echo the last words; exit 3"]
        engine.job("create", "web", Image="busybox", Cmd=script, HostConfig=host).run()
        engine.job("start", "web").run()
        until(lambda: engine.job("container_inspect", "web").run().State.Status == "exited", "the end")
        assert engine.job("container_inspect", "web").run().RestartCount == 3
    assert daemon.log.read_text().count("web ended with 3: the last words") == 4
