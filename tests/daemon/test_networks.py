"""The container's side of networks: what create takes, what a start asks for and writes, what goes back at the end.

The network jobs are a stand-in that keeps accounts; its namespaces are real, those of sleeping processes.
"""

import dataclasses
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon.conftest import Roots, Yard
from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, Conflict, Denied, JobError, NotFound
from windlass.jobs.container_config import (
    EndpointSettings,
    HostConfig,
    NetworkingConfig,
    PortBinding,
)
from windlass.jobs.containers import ContainerRename, Delete, Kill, Restart, Start, Wait
from windlass.jobs.networks import (
    AllocateInterface,
    EndpointAdd,
    EndpointNetworks,
    EndpointRemove,
    InterfacePlug,
    InterfaceUnplug,
    ReleaseInterface,
    Sandbox,
    SandboxesReconcile,
    SandboxRename,
    SandboxWatch,
)

BRIDGE = HostConfig(NetworkMode="bridge")


# -- a network subsystem that keeps accounts -------------------------------------------------------------------------


@dataclasses.dataclass
class Net:
    """What was asked of the network jobs, what is given out, and what shall fail."""

    calls: list[Any] = dataclasses.field(default_factory=list)
    boxes: dict[str, Sandbox] = dataclasses.field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)
    failing: set[str] = dataclasses.field(default_factory=set)
    given: int = 1

    def end(self, network: str, settings: EndpointSettings) -> EndpointSettings:
        self.given += 1
        filled = {"IPAddress": f"10.9.0.{self.given}", "IPPrefixLen": 16, "Gateway": "10.9.0.1", "NetworkID": "n" * 64}
        return msgspec.structs.replace(settings, **filled, EndpointID="e" * 64)

    def names(self) -> list[str]:
        return [call.NAME for call in self.calls]

    def allocate(self, params: AllocateInterface) -> Sandbox:
        process = subprocess.Popen(["unshare", "--net", "sleep", "100"])
        until_in_its_own(process.pid)
        self.processes[params.id] = process
        ends = {name: self.end(name, settings) for name, settings in params.endpoints.items()}
        ports: dict[str, Any] = dict.fromkeys(params.exposed) | {
            port: bindings and [PortBinding("0.0.0.0", each.HostPort or "49153") for each in bindings]
            for port, bindings in params.ports.items()
        }
        self.boxes[params.id] = Sandbox(
            params.id, f"/proc/{process.pid}/ns/net", ends, ports, "bridge" not in ends, "10.9.0.1"
        )
        return self.boxes[params.id]

    def release(self, params: ReleaseInterface) -> None:
        self.boxes.pop(params.id, None)
        if process := self.processes.pop(params.id, None):
            process.kill()
            process.wait()

    def plug(self, params: InterfacePlug) -> Sandbox:
        ends = self.boxes[params.id].endpoints | {"web": self.end("web", params.settings)}
        return self._change(params.id, ends)

    def unplug(self, params: InterfaceUnplug) -> Sandbox:
        return self._change(params.id, {k: v for k, v in self.boxes[params.id].endpoints.items() if k != "web"})

    def _change(self, id: str, ends: dict[str, EndpointSettings]) -> Sandbox:
        self.boxes[id] = msgspec.structs.replace(self.boxes[id], endpoints=ends)
        return self.boxes[id]

    def reconcile(self, params: SandboxesReconcile) -> dict[str, Sandbox]:
        return {id: box for id, box in self.boxes.items() if id in params.running}

    def install(self, engine: Engine) -> None:
        async def allocate_interface(job: Job[AllocateInterface]) -> Sandbox:
            """Stand in."""
            return self._note(job.params, self.allocate)

        async def release_interface(job: Job[ReleaseInterface]) -> None:
            """Stand in."""
            self._note(job.params, self.release)

        async def sandbox_watch(job: Job[SandboxWatch]) -> None:
            """Stand in."""
            self._note(job.params, lambda params: None)

        async def sandbox_rename(job: Job[SandboxRename]) -> None:
            """Stand in."""
            self._note(job.params, lambda params: None)

        async def interface_plug(job: Job[InterfacePlug]) -> Sandbox:
            """Stand in."""
            return self._note(job.params, self.plug)

        async def interface_unplug(job: Job[InterfaceUnplug]) -> Sandbox:
            """Stand in."""
            return self._note(job.params, self.unplug)

        async def sandboxes_reconcile(job: Job[SandboxesReconcile]) -> dict[str, Sandbox]:
            """Stand in."""
            return self._note(job.params, self.reconcile)

        for handler in (
            *(allocate_interface, release_interface, sandbox_watch, sandbox_rename),
            *(interface_plug, interface_unplug, sandboxes_reconcile),
        ):
            engine.register(handler.__name__, handler)

    def _note(self, params: Any, act: Any) -> Any:
        self.calls.append(params)
        if params.NAME in self.failing:
            raise Conflict(f"{params.NAME} shall fail")
        return act(params)


def until_in_its_own(pid: int) -> None:
    own = Path("/proc/self/ns/net")
    while own.samefile(f"/proc/{pid}/ns/net"):
        pass


@asynccontextmanager
async def life(roots: Roots, net: Net, **more: Any) -> AsyncIterator[Yard]:
    async with roots.life(before=net.install, **more) as yard:
        yield yard


@pytest.fixture
async def net(roots: Roots) -> AsyncIterator[Net]:
    net = Net()
    try:
        yield net
    finally:
        for id in list(net.processes):
            net.release(ReleaseInterface(id))


@pytest.fixture
async def dock(roots: Roots, net: Net) -> AsyncIterator[Yard]:
    async with life(roots, net) as yard:
        net.calls.clear()
        yield yard
    assert roots.left() == []


def hosts(yard: Yard, id: str) -> list[list[str]]:
    text = (yard.root / "data" / "containers" / id / "hosts").read_text()
    return [line.split() for line in text.splitlines()]


async def said(yard: Yard, id: str) -> str:
    await yard.call(Wait(name=id))
    return (await yard.outputs(id))[0]


as_root = pytest.mark.root


@as_root
async def test_a_run_is_allocated_watched_and_released(dock: Yard, net: Net) -> None:
    host = HostConfig(PortBindings={"80": [PortBinding(HostPort="8080")]}, Dns=["192.0.2.1"])
    id = await dock.create("readlink", "/proc/self/ns/net", host=host, name="web", ExposedPorts={"90/udp": {}})
    await dock.call(Start(name=id))
    namespace = Path(net.boxes[id].namespace)
    kept = namespace.readlink() if namespace.exists() else None
    assert (await said(dock, id)).strip() == str(kept) or kept is None
    assert net.names() == ["allocate_interface", "sandbox_watch", "release_interface"]
    asked = net.calls[0]
    assert (asked.id, asked.name, asked.hostname) == (id, "web", id[:12])
    assert asked.ports == {"80/tcp": [PortBinding(HostPort="8080")]} and asked.exposed == ["90/udp"]
    assert (asked.nameservers, asked.endpoints) == (["192.0.2.1"], {"bridge": EndpointSettings()})


@as_root
async def test_no_network_asks_for_nothing(dock: Yard, net: Net) -> None:
    for host, config in (("none", {}), ("host", {}), ("bridge", {"NetworkDisabled": True})):
        id = await dock.run("true", host=HostConfig(NetworkMode=host), **config)
        await dock.call(Wait(name=id))
    assert net.calls == []


@as_root
async def test_a_start_that_fails_gives_the_network_back(dock: Yard, net: Net) -> None:
    id = await dock.create("no-such-program", host=BRIDGE)
    with pytest.raises(JobError):
        await dock.call(Start(name=id))
    assert net.names() == ["allocate_interface", "release_interface"]
    net.failing = {"allocate_interface"}
    with pytest.raises(Conflict, match="shall fail"):
        await dock.call(Start(name=id))
    assert net.names()[2:] == ["allocate_interface"]


@as_root
async def test_waiters_wake_up_when_ports_are_free(dock: Yard, net: Net) -> None:
    id = await dock.run("sleep", "60", host=BRIDGE)
    await dock.call(Kill(name=id))
    assert net.names()[-1] == "release_interface"


@as_root
async def test_a_release_that_fails_hurts_nobody(dock: Yard, net: Net, caplog: pytest.LogCaptureFixture) -> None:
    net.failing = {"release_interface"}
    id = await dock.run("true", host=BRIDGE)
    assert (await dock.call(Wait(name=id))).StatusCode == 0
    assert f"the network of container {id} could not be released" in caplog.text


@as_root
async def test_the_files_name_addresses_and_extra_hosts(dock: Yard) -> None:
    host = HostConfig(NetworkMode="mine", ExtraHosts=["isle:192.0.2.9", "up=host-gateway"])
    ends: dict[str, Any] = {"mine": None, "other": None}
    id = await dock.run(
        *("cat", "/etc/resolv.conf"),
        host=host,
        NetworkingConfig=NetworkingConfig(ends),
        Hostname="ship",
        Domainname="test",
    )
    assert hosts(dock, id)[6:] == [
        ["192.0.2.9", "isle"],
        ["10.9.0.1", "up"],
        ["10.9.0.2", "ship.test", "ship"],
        ["10.9.0.3", "ship.test", "ship"],
    ]
    assert (await said(dock, id)).startswith("nameserver 127.0.0.11\n")


@as_root
async def test_inspect_and_list_show_a_running_containers_network(dock: Yard) -> None:
    host = HostConfig(PortBindings={"80/tcp": [PortBinding(HostPort="8080")]})
    id = await dock.run("sleep", "60", host=host, ExposedPorts={"90/udp": {}})
    found = (await dock.job("container_inspect", id)).NetworkSettings
    assert found.Ports == {"90/udp": None, "80/tcp": [PortBinding("0.0.0.0", "8080")]}
    assert (found.IPAddress, found.Gateway, found.EndpointID) == ("10.9.0.2", "10.9.0.1", "e" * 64)
    assert len(found.SandboxID) == 64 and found.Networks["bridge"].IPAddress == "10.9.0.2"
    (line,) = await dock.job("containers")
    assert {"PrivatePort": 90, "Type": "udp"} in line.Ports
    assert {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"} in line.Ports
    for filters, count in (
        ({"network": ["n" * 64]}, 1),
        ({"network": ["bridge"]}, 1),
        ({"network": ["other"]}, 0),
        ({"publish": ["80"]}, 1),
        ({"publish": ["90/udp"]}, 0),
        ({"expose": ["80-90/udp"]}, 1),
    ):
        assert len(await dock.job("containers", filters=filters)) == count, filters
    await dock.call(Kill(name=id))
    found = (await dock.job("container_inspect", id)).NetworkSettings
    assert (found.Ports, found.IPAddress, found.Networks) == ({}, "", {"bridge": EndpointSettings()})
    assert (await dock.job("containers", all=True))[0].Ports == []


@as_root
async def test_another_containers_network_is_shared(dock: Yard) -> None:
    owner = await dock.run("sleep", "60", host=BRIDGE, name="owner", Hostname="ship")
    script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts"
    id = await dock.create("sh", "-c", script, host=HostConfig(NetworkMode="container:owner"))
    info = await dock.job("container_inspect", id)
    assert (info.HostConfig.NetworkMode, info.NetworkSettings.Networks) == (f"container:{owner}", {})
    await dock.call(Start(name=id))
    pid = (await dock.job("container_inspect", owner)).State.Pid
    lines = (await said(dock, id)).splitlines()
    assert lines[:2] == [str(Path(f"/proc/{pid}/ns/net").readlink()), "ship"]
    assert [line.split() for line in lines[2:]] == hosts(dock, owner)
    await dock.call(Kill(name="owner"))
    with pytest.raises(Conflict, match=f"cannot join network of a non running container: {owner}"):
        await dock.call(Start(name=id))
    lost = await dock.create("true", host=HostConfig(NetworkMode="container:nobody"))
    with pytest.raises(NotFound, match="No such container: nobody"):
        await dock.call(Start(name=lost))


# -- links -----------------------------------------------------------------------------------------------------------


@as_root
async def test_a_link_gives_env_and_names(dock: Yard) -> None:
    db = await dock.run("sleep", "60", host=BRIDGE, name="db", ExposedPorts={"5432/tcp": {}}, Env=["SECRET=rum"])
    host = HostConfig(NetworkMode="bridge", Links=["db:my-store"])
    web = await dock.create("env", host=host, name="web")
    await dock.call(Start(name=web))
    env = dict(line.split("=", 1) for line in (await said(dock, web)).splitlines())
    assert {key: value for key, value in env.items() if key.startswith("MY_STORE")} == {
        "MY_STORE_NAME": "/web/my-store",
        "MY_STORE_PORT": "tcp://10.9.0.2:5432",
        "MY_STORE_PORT_5432_TCP": "tcp://10.9.0.2:5432",
        "MY_STORE_PORT_5432_TCP_ADDR": "10.9.0.2",
        "MY_STORE_PORT_5432_TCP_PORT": "5432",
        "MY_STORE_PORT_5432_TCP_PROTO": "tcp",
        "MY_STORE_ENV_SECRET": "rum",
    }
    assert ["10.9.0.2", "my-store", db[:12], "db"] in hosts(dock, web)
    await dock.call(ContainerRename(name="db", new_name="base"))
    assert (await dock.job("container_inspect", web)).HostConfig.Links == ["/base:/web/my-store"]
    listed = {line.Id: line.Names for line in await dock.job("containers", all=True)}
    assert listed[db] == ["/base", "/web/my-store"]


@as_root
async def test_a_link_follows_the_other_container(dock: Yard, net: Net) -> None:
    db = await dock.run("sleep", "60", host=BRIDGE, name="db")
    web = await dock.run("sleep", "60", host=HostConfig(Links=["db"]), name="web")
    await dock.call(Restart(name=db, t=0))
    address = net.boxes[db].endpoints["bridge"].IPAddress
    assert address == "10.9.0.4"
    assert [line[0] for line in hosts(dock, web) if "db" in line] == [address]


@as_root
async def test_a_link_needs_a_container_that_runs(dock: Yard) -> None:
    await dock.create("true", host=BRIDGE, name="db")
    web = await dock.create("true", host=HostConfig(Links=["db:store"]), name="web")
    with pytest.raises(Conflict, match="Cannot link to a non running container: /db AS /web/store"):
        await dock.call(Start(name=web))
    await dock.call(Delete(name="/web/store", link=True))
    assert (await dock.job("container_inspect", web)).HostConfig.Links is None
    await dock.call(Start(name=web))
    with pytest.raises(NotFound, match="No such link"):
        await dock.call(Delete(name="/web/store", link=True))


# -- connect and disconnect ------------------------------------------------------------------------------------------

ADD = EndpointAdd("web", "web", "w" * 64, EndpointSettings(Aliases=["a"]))
REMOVE = EndpointRemove("web", "web", "w" * 64)


@as_root
async def test_a_running_container_is_plugged_in_and_its_hosts_follow(dock: Yard, net: Net) -> None:
    id = await dock.run("sleep", "60", host=BRIDGE, name="web")
    inode = (dock.root / "data" / "containers" / id / "hosts").stat().st_ino
    await dock.call(ADD)
    assert hosts(dock, id)[-2:] == [["10.9.0.2", id[:12]], ["10.9.0.3", id[:12]]]
    info = await dock.job("container_inspect", id)
    assert info.NetworkSettings.Networks["web"].IPAddress == "10.9.0.3"
    assert net.calls[-1].pid == info.State.Pid
    assert await dock.call(EndpointNetworks()) == ["bridge", "web"]
    with pytest.raises(Denied, match="endpoint with name web already exists in network web"):
        await dock.call(ADD)
    await dock.call(REMOVE)
    assert hosts(dock, id)[-1] == ["10.9.0.2", id[:12]]
    assert (dock.root / "data" / "containers" / id / "hosts").stat().st_ino == inode
    with pytest.raises(Denied, match=f"container {id} is not connected to network web"):
        await dock.call(REMOVE)


@as_root
async def test_a_plug_that_fails_changes_nothing(roots: Roots, net: Net) -> None:
    async with life(roots, net, remove=False) as yard:
        await yard.run("sleep", "60", host=BRIDGE, name="web")
        net.failing = {"interface_plug"}
        with pytest.raises(Conflict, match="shall fail"):
            await yard.call(ADD)
        assert await yard.call(EndpointNetworks()) == ["bridge"]
    async with life(roots, net) as yard:
        assert await yard.call(EndpointNetworks()) == ["bridge"]


@as_root
async def test_a_stopped_container_is_connected_from_its_next_start(roots: Roots, net: Net) -> None:
    async with life(roots, net, remove=False) as yard:
        await yard.create("true", host=BRIDGE, name="web")
        await yard.call(ADD)
        await yard.call(ADD)
        await yard.call(EndpointRemove("web", "bridge", "b" * 64))
    async with life(roots, net) as yard:
        await yard.call(Start(name="web"))
        await yard.call(Wait(name="web"))
        (asked,) = [call for call in net.calls if isinstance(call, AllocateInterface)]
        assert asked.endpoints == {"web": EndpointSettings(Aliases=["a"])}


@as_root
@pytest.mark.parametrize(
    ("mode", "network", "words"),
    [
        ("none", "web", "one of the networks in private"),
        ("host", "web", "container sharing network namespace"),
        ("container:x", "web", "container sharing network namespace"),
        ("bridge", "host", "cannot be disconnected from host network or connected to host network"),
        ("bridge", "none", "one of the networks in private"),
    ],
)
async def test_what_does_not_mix_is_refused(dock: Yard, mode: str, network: str, words: str) -> None:
    await dock.create("true", host=HostConfig(NetworkMode=mode), name="web")
    with pytest.raises(BadParameter, match=words):
        await dock.call(EndpointAdd("web", network, "w" * 64))


@as_root
async def test_a_running_container_is_renamed_in_its_networks(dock: Yard, net: Net) -> None:
    id = await dock.run("sleep", "60", host=BRIDGE, name="web")
    await dock.call(ContainerRename(name="web", new_name="new"))
    assert net.calls[-1] == SandboxRename(id, "new")
    net.failing = {"sandbox_rename"}
    with pytest.raises(Conflict, match="shall fail"):
        await dock.call(ContainerRename(name="new", new_name="newer"))
    assert (await dock.job("container_inspect", id)).Name == "/new"


# -- the next daemon -------------------------------------------------------------------------------------------------


@as_root
async def test_the_next_daemon_says_what_runs_and_learns_what_it_has(roots: Roots, net: Net) -> None:
    async with life(roots, net, remove=False) as yard:
        id = await yard.run("sleep", "60", host=BRIDGE)
        await yard.create("true", host=BRIDGE)
        before = (await yard.job("container_inspect", id)).NetworkSettings
    net.calls.clear()
    async with life(roots, net) as yard:
        info = await yard.job("container_inspect", id)
        assert net.calls == [SandboxesReconcile({id: info.State.Pid})]
        assert msgspec.to_builtins(info.NetworkSettings) == msgspec.to_builtins(before)
        await yard.call(Kill(name=id))
        assert net.names()[-1] == "release_interface"


@as_root
async def test_networks_that_cannot_be_reconciled_do_not_keep_the_daemon_down(roots: Roots, net: Net) -> None:
    net.failing = {"sandboxes_reconcile"}
    async with life(roots, net) as yard:
        assert json.loads(json.dumps(await yard.job("containers"))) == []
