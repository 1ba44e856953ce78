"""`docker container prune`. On a daemon of its own: it takes what it finds."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Docker
from tests.support.daemon import Daemon
from tests.support.images import busybox_rootfs

pytestmark = pytest.mark.root


@pytest.fixture
def own(new_daemon: Callable[..., Daemon], docker: Docker, tmp_path: Path) -> Docker:
    """Return the CLI of a daemon with four containers: two that have run, one that has not, one that runs."""
    mine = Docker(new_daemon().host, tmp_path)
    mine.ok("import", "-", "busybox", input=busybox_rootfs())
    for name, words in {"one": ("-l", "kind=a"), "two": ("-l", "kind=b", "-l", "kept")}.items():
        mine.ok("run", "--name", name, "--network", "none", *words, "busybox", "sh", "-c", "echo 12345 > /file")
    mine.ok("create", "--name", "three", "busybox", "true")
    mine.ok("run", "-d", "--name", "four", "--network", "none", "busybox", "sleep", "1000")
    return mine


def left(docker: Docker) -> list[str]:
    return sorted(docker.ok("ps", "-a", "--format", "{{.Names}}").split())


def test_all_that_does_not_run_goes_and_its_space_is_counted(own: Docker) -> None:
    ids = own.ok("ps", "-aq", "--no-trunc", "--filter", "status=exited", "--filter", "status=created").split()
    pruned = own.wire.post("/containers/prune").json
    assert sorted(pruned["ContainersDeleted"]) == sorted(ids)
    assert pruned["SpaceReclaimed"] == 12
    assert left(own) == ["four"]
    assert own.wire.post("/containers/prune").json == {"ContainersDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"label": ["kind"]}, ["four", "three"]),
        ({"label": ["kind=a"]}, ["four", "three", "two"]),
        ({"label": ["kind", "kept"]}, ["four", "one", "three"]),
        ({"label!": ["kept"]}, ["four", "two"]),
        ({"label": ["kind"], "label!": ["kind=a"]}, ["four", "one", "three"]),
        ({"until": ["1h"]}, ["four", "one", "three", "two"]),
        ({"until": ["2099-01-01T00:00:00Z"]}, ["four"]),
        ({"until": {"0s": True}}, ["four"]),
    ],
)
def test_filters_choose(own: Docker, filters: dict[str, object], kept: list[str]) -> None:
    assert own.wire.request("POST", f"/containers/prune?filters={json.dumps(filters)}".replace(" ", "")).status == 200
    assert left(own) == kept


def test_the_cli_prunes_and_the_event_tells_of_it(own: Docker) -> None:
    since = str(time.time())
    assert "Total reclaimed space: 12B" in own.ok("container", "prune", "-f")
    told = own.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--format",
                  "{{.Action}} {{json .Actor.Attributes}}").splitlines()  # fmt: skip
    assert [line.split()[0] for line in told] == ["destroy", "destroy", "destroy", "prune"]
    assert json.loads(told[-1].split(" ", 1)[1])["reclaimed"] == "12"


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ('{"nonsense":["x"]}', "invalid filter 'nonsense'"),
        ('{"until":["never"]}', "until=never"),
        ('{"until":["1h","2h"]}', "more than one until filter specified"),
    ],
)
def test_filters_that_cannot_be_are_named(own: Docker, filters: str, message: str) -> None:
    answer = own.wire.request("POST", f"/containers/prune?filters={filters}")
    assert (answer.status, message in answer.message) == (400, True), answer.body
    assert left(own) == ["four", "one", "three", "two"]
