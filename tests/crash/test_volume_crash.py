"""The daemon is killed while volumes come and go: what is listed has a folder, and every folder is listed.

`--rounds N` sets how often the storm is interrupted; 20 at least.
"""

import contextlib
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.images import docker_archive
from tests.support.volumes import rootfs_with
from tests.support.wire import Answer, Wire

pytestmark = [pytest.mark.root, pytest.mark.slow]

LEAST_ROUNDS = 20
WORKERS = 4
LIMIT = 20.0  # seconds until what was removed is unlinked
CONTENT = {"srv": None, **{f"srv/{number}": b"x" * 100 for number in range(20)}}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Return a daemon of the test's own, with an image that has a volume with content."""
    daemon = Daemon().start()
    archive = docker_archive([rootfs_with(CONTENT)], "store:latest", Volumes={"/srv": {}})
    answer = daemon.wire.post("/images/load", archive, headers={"Content-Type": "application/x-tar"})
    assert answer.status == 200, answer.body
    yield daemon
    if not daemon.answers():
        daemon.start()
    daemon.close()


class Worker:
    """Somebody who makes and removes volumes and containers with them; an answer of 500 and above is a fault."""

    def __init__(self, daemon: Daemon, number: int, seed: int) -> None:
        self.wire, self.random = daemon.wire, random.Random(seed)
        self.container, self.names = f"c{number}", [f"own-{number}", "shared"]
        self.faults: list[str] = []
        self.thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            while True:
                answer = self._step()
                if answer.status >= 500:
                    self.faults.append(f"{answer.status} {answer.body[:300]!r}")

    def _step(self) -> Answer:
        name, wire = self.random.choice(self.names), self.wire
        match self.random.randrange(7):
            case 0 | 1:
                return wire.post("/volumes/create", {"Name": name, "Labels": {"mark": name}})
            case 2 | 3:
                return wire.delete(f"/volumes/{name}")
            case 4:
                body = {"Image": "store", "HostConfig": {"Binds": [f"{name}:/data"], "NetworkMode": "none"}}
                return wire.post("/containers/create", body, name=self.container)
            case 5:
                return wire.delete(f"/containers/{self.container}", force=1, v=1)
            case _:
                return wire.post("/volumes/prune", filters='{"all":["true"]}')


def storm(daemon: Daemon, seed: int) -> list[str]:
    """Let the workers loose, kill the daemon at some moment, start it again; return the faults that it answered."""
    workers = [Worker(daemon, number, seed * WORKERS + number) for number in range(WORKERS)]
    for worker in workers:
        worker.thread.start()
    # The moment is chance, and any is right: the test waits for none.
    threading.Event().wait(random.Random(seed).uniform(0.02, 0.4))
    daemon.kill()
    for worker in workers:
        worker.thread.join()
    daemon.start()
    return [fault for worker in workers for fault in worker.faults]


def audit(daemon: Daemon) -> list[str]:
    """Compare what is listed with the folders, and with what containers have; return what does not agree."""
    wire, folder = daemon.wire, daemon.data_root / "volumes"
    listed = {each["Name"]: each for each in wire.get("/volumes").json["Volumes"] or []}
    there = {name for name in os.listdir(folder) if not name.startswith(".")}
    wrong = [f"listed without a folder: {name}" for name in listed.keys() - there]
    wrong += [f"a folder that is not listed: {name}" for name in there - listed.keys()]
    wrong += [f"{name} has no content's folder" for name in listed if not Path(listed[name]["Mountpoint"]).is_dir()]
    wrong += [f"half removed: {name}" for name in os.listdir(folder / ".removing")]
    for container in wire.get("/containers/json", all=1).json:
        for point in container["Mounts"]:
            if point["Name"] not in listed:
                wrong.append(f"{container['Names']} has {point['Name']}, which is not there")
            elif point["Destination"] == "/srv" and len(os.listdir(point["Source"])) != len(CONTENT) - 1:
                wrong.append(f"{point['Name']} has only a part of the image's content")
            elif wire.delete(f"/volumes/{point['Name']}").status != 409:
                wrong.append(f"{point['Name']} could be removed from under {container['Names']}")
    return wrong


def test_the_list_and_the_folders_agree_after_every_storm(daemon: Daemon, rounds: int) -> None:
    for seed in range(max(rounds, LEAST_ROUNDS)):
        assert storm(daemon, seed) == [], f"seed {seed}: {daemon.log_end()}"
        assert audit(daemon) == [], f"seed {seed}: {daemon.log_end()}"
    clean_up(daemon.wire)
    assert daemon.wire.get("/volumes").json["Volumes"] == []
    trash = daemon.data_root / "volumes" / ".trash"
    until = time.monotonic() + LIMIT
    while os.listdir(trash) and time.monotonic() < until:
        time.sleep(0.05)
    assert os.listdir(trash) == []


def clean_up(wire: Wire) -> None:
    for container in wire.get("/containers/json", all=1).json:
        assert wire.delete(f"/containers/{container['Id']}", force=1, v=1).status == 204
    assert wire.post("/volumes/prune", filters='{"all":["true"]}').status == 200


# -- what is found at the start --------------------------------------------------------------------------------------


def restarted(daemon: Daemon, change: "object") -> set[str]:
    """Kill the daemon, let `change` happen to its volumes, start it again; return what it lists."""
    daemon.kill()
    change(daemon.data_root / "volumes")  # type: ignore[operator]
    daemon.start()
    assert audit(daemon) == []
    return {each["Name"] for each in daemon.wire.get("/volumes").json["Volumes"]}


def make(daemon: Daemon, name: str) -> Path:
    answer = daemon.wire.post("/volumes/create", {"Name": name, "Labels": {"a": "1"}})
    assert answer.status == 201
    (Path(answer.json["Mountpoint"]) / "file").write_text(name)
    return Path(answer.json["Mountpoint"])


def test_volumes_are_kept_with_everything(daemon: Daemon) -> None:
    path = make(daemon, "kept")
    before = daemon.wire.get("/volumes").json
    assert restarted(daemon, lambda folder: None) == {"kept"}
    assert daemon.wire.get("/volumes").json == before and (path / "file").read_text() == "kept"


def test_an_empty_folder_of_nobody_is_a_creation_cut_short(daemon: Daemon) -> None:
    assert restarted(daemon, lambda folder: (folder / "half" / "_data").mkdir(parents=True)) == set()


def test_a_folder_with_content_of_nobody_becomes_a_volume(daemon: Daemon) -> None:
    """The database may be older than the folders: nothing of the user's is thrown away."""

    def bring(folder: Path) -> None:
        (folder / "brought" / "_data").mkdir(parents=True)
        (folder / "brought" / "_data" / "file").write_text("x")

    assert restarted(daemon, bring) == {"brought"}
    assert (daemon.data_root / "volumes/brought/_data/file").read_text() == "x"


def test_a_folder_that_is_gone_is_made_anew(daemon: Daemon) -> None:
    path = make(daemon, "lost")
    assert restarted(daemon, lambda folder: (folder / "lost").rename(folder.parent / "elsewhere")) == {"lost"}
    assert os.listdir(path) == []


def test_a_removal_cut_short_is_finished(daemon: Daemon) -> None:
    make(daemon, "going")
    assert restarted(daemon, lambda folder: (folder / "going").rename(folder / ".removing" / "going")) == set()
