"""Turns a container into the exec driver's `Command`: everything decided, nothing left to look up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from windlass.execdriver.driver import Command, Mount, Program
from windlass.jobs.container_config import Ulimit
from windlass.lib.rootfs import RootFS

from . import etc
from .attachment import Attachment
from .config import command_line, environment, working_directory
from .container import Container
from .devices import device_rules, find_devices
from .host import capabilities
from .log_config import log_config
from .mounts import Sources, driver_mounts
from .namespaces import Joined
from .resources import resources, rlimits
from .security import parse_security
from .users import find_account

INIT = "/sbin/docker-init"  # where Docker puts its own


def build_command(
    container: Container,
    attachment: Attachment,
    namespaces: Joined,
    sources: Sources,
    rootfs: RootFS,
    folder: Path,
    log_path: Path,
    init: str,
    ulimits: Sequence[Ulimit] = (),
) -> Command:
    """Build the command of a container's next start, and write its files in /etc. Blocks: call it in a thread.

    `sources` says what volumes and images are mounted from, `init` is the program of the host that containers of
    `--init` get, `ulimits` are the daemon's defaults. Raises BadParameter for a user or a device that is not there,
    OSError.
    """
    config, host = container.config, container.host
    security = parse_security(host)
    uncovered = () if host.Privileged or not security.system_paths else None
    mounts = driver_mounts(host, container.definition.mounts, sources)
    taken = {mount.target for mount in mounts}
    files = etc.write(folder, host, attachment)
    if host.Init:
        files.append(Mount(INIT, source=init, readonly=True))
    return Command(
        id=container.id,
        program=build_program(container, attachment, rootfs, ulimits),
        rootfs=rootfs,
        hostname=attachment.hostname,
        domainname=attachment.domainname,
        stdin_once=config.StdinOnce,
        log=log_config(host, str(log_path)),
        network=namespaces.network or attachment.namespace,
        ipc=namespaces.ipc,
        pid=namespaces.pid,
        uts=namespaces.uts,
        userns=namespaces.user,
        cgroupns=host.CgroupnsMode or ("host" if host.Privileged else "default"),
        cgroup_parent=host.CgroupParent,
        resources=resources(host),
        mounts=(*(mount for mount in files if mount.target not in taken), *mounts),
        devices=find_devices(host),
        device_rules=device_rules(host),
        writable_cgroups=security.writable_cgroups,
        readonly_rootfs=host.ReadonlyRootfs,
        privileged=host.Privileged,
        masked_paths=uncovered if host.MaskedPaths is None else tuple(host.MaskedPaths),
        readonly_paths=uncovered if host.ReadonlyPaths is None else tuple(host.ReadonlyPaths),
        sysctls=dict(host.Sysctls or {}),
        shm_size=host.ShmSize,
        shm=namespaces.shm,
    )


def build_program(
    container: Container, attachment: Attachment, rootfs: RootFS, ulimits: Sequence[Ulimit] = ()
) -> Program:
    """Build the init's program."""
    config, host = container.config, container.host
    security = parse_security(host)
    account = find_account(rootfs, config.User, host.GroupAdd or ())
    rows, columns = host.ConsoleSize
    return Program(
        args=(INIT, "init", "--", *command_line(config)) if host.Init else command_line(config),
        env=environment(config, attachment.hostname, config.Tty, account.home, linked=attachment.environment),
        cwd=working_directory(config),
        user=account.user,
        tty=config.Tty,
        rows=rows,
        columns=columns,
        stdin=config.OpenStdin,
        capabilities=capabilities(host),
        seccomp=security.seccomp,
        no_new_privileges=security.no_new_privileges,
        rlimits=rlimits(host, ulimits),
        oom_score_adj=host.OomScoreAdj,
    )
