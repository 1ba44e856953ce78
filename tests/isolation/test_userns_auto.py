"""`UsernsMode: auto`: each container with users of its own, that no other running one has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.images import busybox_rootfs
from windlass.daemon.remap import SLICE, choose, load_pool
from windlass.engine.errors import BadParameter, Conflict

from .test_userns_remap import RemappedDaemon, needs_kernel, owner_of

pytestmark = pytest.mark.root

FIRST = 1_000_000
COUNT = 3  # containers that the pool suffices for


class PoolDaemon(RemappedDaemon):
    ranges = f"windlass:{FIRST}:{COUNT * SLICE}\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[PoolDaemon]:
    daemon = PoolDaemon()
    daemon.start()
    answer = daemon.wire.post("/images/create", busybox_rootfs(), fromSrc="-", repo="busybox", changes='CMD ["sh"]')
    assert answer.status == 200, answer.body
    yield daemon
    daemon.close()


@pytest.fixture(autouse=True)
def clean(daemon: PoolDaemon) -> Iterator[None]:
    yield
    daemon.remove_containers()


def create(daemon: PoolDaemon, **host: Any) -> str:
    body = {"Image": "busybox", "Cmd": ["sleep", "100"], "HostConfig": {"UsernsMode": "auto", **host}}
    answer = daemon.wire.post("/containers/create", body)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def start(daemon: PoolDaemon, id: str) -> int:
    """Start a container; return who its root is outside."""
    assert daemon.wire.post(f"/containers/{id}/start").status == 204
    return owner_of(daemon.wire.get(f"/containers/{id}/json").json["State"]["Pid"])[0]


@needs_kernel
def test_each_has_users_of_its_own_and_the_pool_ends(daemon: PoolDaemon) -> None:
    ids = [create(daemon, NetworkMode=mode) for mode in ("none", "bridge", "none", "none")]
    users = [start(daemon, id) for id in ids[:COUNT]]
    assert sorted(users) == [FIRST + number * SLICE for number in range(COUNT)]
    answer = daemon.wire.post(f"/containers/{ids[COUNT]}/start")
    assert (answer.status, "is in use by a running container" in answer.message) == (409, True)
    daemon.wire.post(f"/containers/{ids[1]}/kill")
    daemon.wire.post(f"/containers/{ids[1]}/wait")
    assert start(daemon, ids[COUNT]) == users[1]


@needs_kernel
def test_a_later_daemon_knows_whose_users_are_taken(daemon: PoolDaemon, tmp_path: Path) -> None:
    """And its execs are in the user namespace of a container that an earlier one has started."""
    id = create(daemon, NetworkMode="none")
    first = start(daemon, id)
    daemon.kill()
    daemon.start()
    assert start(daemon, create(daemon, NetworkMode="none")) not in (first, 0)
    script = "id -u; cat /proc/self/uid_map; grep ^CapEff /proc/self/status"
    said = Docker(daemon.host, tmp_path).ok("exec", id, "sh", "-c", script).split()
    assert said == ["0", "0", str(first), str(SLICE), "CapEff:", "00000000a80425fb"]


@needs_kernel
def test_a_volume_is_seen_alike_by_all(daemon: PoolDaemon) -> None:
    mounts = [{"Type": "volume", "Source": "shared", "Target": "/data"}]
    for command in ("touch /data/x && chown 5:6 /data/x", "test $(stat -c %u:%g /data/x) = 5:6"):
        body = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", command],
            "HostConfig": {"UsernsMode": "auto", "NetworkMode": "none", "Mounts": mounts},
        }
        id = daemon.wire.post("/containers/create", body).json["Id"]
        assert daemon.wire.post(f"/containers/{id}/start").status == 204
        assert daemon.wire.post(f"/containers/{id}/wait").json["StatusCode"] == 0
        daemon.wire.delete(f"/containers/{id}")
    daemon.wire.delete("/volumes/shared")


@needs_kernel
@pytest.mark.parametrize("host", [{"Privileged": True}, {"NetworkMode": "host"}, {"PidMode": "host"}], ids=str)
def test_what_does_not_go_together_is_refused(daemon: PoolDaemon, host: dict[str, Any]) -> None:
    body = {"Image": "busybox", "HostConfig": {"UsernsMode": "auto", **host}}
    answer = daemon.wire.post("/containers/create", body)
    assert (answer.status, "user namespaces" in answer.message) == (400, True)


@needs_kernel
def test_the_pool_is_cut_into_slices(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(f"windlass:1000:{2 * SLICE + 5}\nwindlass:900000:{SLICE - 1}\nx:1:{SLICE}\n")
    (tmp_path / "subgid").write_text(f"windlass:5:{9 * SLICE}\n")
    pool = load_pool(tmp_path / "subuid", tmp_path / "subgid")
    assert [each.uids[0] for each in pool] == [(0, 1000, SLICE), (0, 1000 + SLICE, SLICE)]
    assert pool[1].gids == ((0, 5 + SLICE, SLICE),)
    assert choose(pool, {1000}) == pool[1]
    with pytest.raises(Conflict):
        choose(pool, {1000, 1000 + SLICE})


@needs_kernel
def test_without_a_pool_it_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("windlass:1:10\n")
    with pytest.raises(BadParameter, match=f"ranges of windlass are shorter than {SLICE}"):
        load_pool(tmp_path / "subuid", tmp_path / "subuid")
    with pytest.raises(BadParameter, match="has no range for windlass; a line such as windlass:100000:65536"):
        load_pool(tmp_path / "nowhere", tmp_path / "nowhere")
