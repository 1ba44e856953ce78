"""The daemon is killed while it holds a container still for a commit: the next one lets it run on."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs

from .test_survive import run, state, until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon().start()
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", tag="latest")
    assert answer.status == 200, answer.body
    yield daemon
    if not daemon.answers():
        daemon.start()
    daemon.close()


def commit(daemon: Daemon) -> threading.Thread:
    def ask() -> None:
        try:
            daemon.wire.post("/commit", {}, container="big", repo="cut")
        except OSError:  # the daemon was killed
            return

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_a_container_is_not_left_paused_by_a_commit_that_was_cut(daemon: Daemon) -> None:
    pid = run(daemon.wire, "big", "dd if=/dev/urandom of=/data bs=1M count=300 2>/dev/null; touch /done; sleep 1000")
    until(lambda: Path(f"/proc/{pid}/root/done").exists(), "the data")
    asking = commit(daemon)
    until(lambda: state(daemon.wire, "big")["Status"] == "paused", "the commit to hold it")
    daemon.kill()
    asking.join()
    daemon.start()
    assert (state(daemon.wire, "big")["Status"], state(daemon.wire, "big")["Pid"]) == ("running", pid)


def test_a_container_that_a_client_has_paused_stays_so(daemon: Daemon) -> None:
    run(daemon.wire, "big", "sleep 1000")
    assert daemon.wire.post("/containers/big/pause").status == 204
    assert daemon.wire.post("/commit", {}, container="big", repo="whole").status == 201
    daemon.kill()
    daemon.start()
    assert state(daemon.wire, "big")["Status"] == "paused"
    assert daemon.wire.post("/containers/big/unpause").status == 204
