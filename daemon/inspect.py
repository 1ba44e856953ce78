"""Telling everything about a container."""

from __future__ import annotations

import hashlib

import msgspec

from windlass.engine import Job
from windlass.execdriver.native.filesystem import MASKED, READONLY
from windlass.jobs.container_config import EndpointSettings, HostConfig
from windlass.jobs.container_views import ContainerInfo, ContainerState, DriverData, NetworkSettings
from windlass.jobs.containers import ContainerInspect

from .config import command_line
from .container import Container
from .daemon import Daemon
from .endpoints import BRIDGE
from .lifecycle import State
from .links import shown_links
from .security import parse_security
from .views import networks, shown_time, sizes


async def container_inspect(daemon: Daemon, job: Job[ContainerInspect]) -> ContainerInfo:
    """Tell everything about a container."""
    container = daemon.containers.get(job.params.name)
    info = describe(daemon, container)
    if job.params.size:
        own, whole = await sizes(daemon.graph, container)
        info = msgspec.structs.replace(info, SizeRw=own, SizeRootFs=whole)
    return info


def describe(daemon: Daemon, container: Container) -> ContainerInfo:
    definition, folder = container.definition, daemon.folder(container.id)
    path, *args = command_line(container.config)
    has_log = container.host.LogConfig.Type == "json-file"
    has_files = container.outcome.has_run
    return ContainerInfo(
        Id=container.id,
        Created=shown_time(definition.created_ns),
        Path=path,
        Args=args,
        State=_state(container),
        Image=definition.image_id,
        ResolvConfPath=str(folder / "resolv.conf") if has_files else "",
        HostnamePath=str(folder / "hostname") if has_files else "",
        HostsPath=str(folder / "hosts") if has_files else "",
        LogPath=str(daemon.log_path(container.id)) if has_log else "",
        Name=f"/{container.name}",
        RestartCount=container.outcome.restarts,
        Driver=definition.graph_driver,
        Platform="linux",
        MountLabel="",
        ProcessLabel="",
        AppArmorProfile="",
        ExecIDs=[id for id, exec in container.execs.items() if exec.is_running] or None,
        HostConfig=_host_config(daemon, container),
        GraphDriver=DriverData(definition.graph_driver),
        Mounts=[point.shown() for point in definition.mounts],
        Config=container.config,
        NetworkSettings=_network_settings(container),
    )


def _state(container: Container) -> ContainerState:
    outcome, running = container.outcome, container.running
    return ContainerState(
        Status=container.life.state.value,
        Running=container.is_running,
        Paused=container.is_paused,
        Restarting=container.is_restarting,
        OOMKilled=outcome.oom_killed,
        Dead=container.life.state is State.DEAD,
        Pid=running.pid if running else 0,
        ExitCode=outcome.code,
        Error=outcome.error,
        StartedAt=shown_time(outcome.started_ns),
        FinishedAt=shown_time(outcome.finished_ns),
        Health=outcome.health or msgspec.UNSET,
    )


def _network_settings(container: Container) -> NetworkSettings:
    """The networks, and once more, for old clients, what the container has of the default bridge."""
    sandbox, running = container.sandbox, container.running
    if sandbox is None or running is None:
        return NetworkSettings(Networks=networks(container))
    bridge = sandbox.endpoints.get(BRIDGE, EndpointSettings())
    return NetworkSettings(
        SandboxID=hashlib.sha256(f"sandbox {container.id}".encode()).hexdigest(),
        SandboxKey=f"/proc/{running.pid}/ns/net",
        Ports=dict(sandbox.ports),
        EndpointID=bridge.EndpointID,
        Gateway=bridge.Gateway,
        GlobalIPv6Address=bridge.GlobalIPv6Address,
        GlobalIPv6PrefixLen=bridge.GlobalIPv6PrefixLen,
        IPAddress=bridge.IPAddress,
        IPPrefixLen=bridge.IPPrefixLen,
        IPv6Gateway=bridge.IPv6Gateway,
        MacAddress=bridge.MacAddress,
        Networks=networks(container),
    )


def _host_config(daemon: Daemon, container: Container) -> HostConfig:
    host = container.host
    covers = not host.Privileged and parse_security(host).system_paths
    return msgspec.structs.replace(
        host,
        Links=shown_links(daemon.containers, container),
        MaskedPaths=(list(MASKED) if covers else None) if host.MaskedPaths is None else host.MaskedPaths,
        ReadonlyPaths=(list(READONLY) if covers else None) if host.ReadonlyPaths is None else host.ReadonlyPaths,
    )
