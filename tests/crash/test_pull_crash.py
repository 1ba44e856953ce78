"""A daemon that is killed in the middle of a pull: the next one fetches what is missing, and nothing twice."""

import contextlib
import http.client
import os
import threading
from collections.abc import Callable

import pytest

from tests.registry.server import Answer, Server, times, until
from tests.support.daemon import Daemon
from tests.support.images import Tar, digest, layer

pytestmark = [pytest.mark.root, pytest.mark.slow]

SIZE = 200 << 20


@pytest.mark.parametrize("percent", [50, 99])
def test_a_killed_daemon_goes_on_where_it_was(new_daemon: Callable[..., Daemon], percent: int) -> None:
    tar = Tar()
    tar.file("data", os.urandom(SIZE))
    big = tar.finish()
    daemon, server = new_daemon("--bridge=none", "--iptables=false"), Server().start()
    try:
        server.image("a/b", [big, layer(a="a")], how="plain")
        stop = SIZE * percent // 100
        server.rules = [(digest(big), times(1, Answer(body=big, stall=stop)))]
        query = {"fromImage": f"{server.host}/a/b", "tag": "latest"}
        pull = threading.Thread(target=ask, args=(daemon, query))
        pull.start()
        until(lambda: server.sent >= stop, 60)
        until(lambda: ingested(daemon) >= stop - (2 << 20), 60)
        daemon.kill()
        pull.join()
        server.go.set()
        daemon.start()
        assert daemon.wire.get("/images/json").json == []
        answer = daemon.wire.post("/images/create", **query)
        assert b"Status: Downloaded newer image" in answer.body, answer.body[-500:]
        assert server.sent <= SIZE * 1.05
    finally:
        server.close()


def ask(daemon: Daemon, query: dict[str, str]) -> None:
    """Pull, until the daemon is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        daemon.wire.post("/images/create", **query)


def ingested(daemon: Daemon) -> int:
    return sum(path.stat().st_size for path in (daemon.data_root / "blobs" / "ingest").iterdir())
