"""Turns a container into the exec driver's `Command`: everything decided, nothing left to look up."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from windlass.engine.errors import BadParameter
from windlass.execdriver.driver import Command, Device, Mount, Program
from windlass.jobs.container_config import DeviceMapping, Ulimit
from windlass.lib.rootfs import RootFS

from . import etc
from .attachment import Attachment
from .config import command_line, environment, working_directory
from .container import Container
from .host import capabilities
from .log_config import log_config
from .mounts import driver_mounts
from .resources import resources, rlimits
from .security import parse_security
from .users import find_account

INIT = "/sbin/docker-init"  # where Docker puts its own


def build_command(
    container: Container,
    attachment: Attachment,
    rootfs: RootFS,
    folder: Path,
    log_path: Path,
    init: str,
    ulimits: Sequence[Ulimit] = (),
) -> Command:
    """Build the command of a container's next start, and write its files in /etc. Blocks: call it in a thread.

    `init` is the program of the host that containers of `--init` get, `ulimits` are the daemon's defaults. Raises
    BadParameter for a user or a device that is not there, OSError.
    """
    config, host = container.config, container.host
    security = parse_security(host)
    uncovered = () if host.Privileged or not security.system_paths else None
    mounts = driver_mounts(host)
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
        network=attachment.namespace,
        ipc="host" if host.IpcMode == "host" else "private",
        pid="host" if host.PidMode == "host" else "private",
        uts="host" if host.UTSMode == "host" else "private",
        cgroupns=host.CgroupnsMode or ("host" if host.Privileged else "default"),
        cgroup_parent=host.CgroupParent,
        resources=resources(host),
        mounts=(*(mount for mount in files if mount.target not in taken), *mounts),
        devices=tuple(_device(device) for device in host.Devices or ()),
        readonly_rootfs=host.ReadonlyRootfs,
        privileged=host.Privileged,
        masked_paths=uncovered if host.MaskedPaths is None else tuple(host.MaskedPaths),
        readonly_paths=uncovered if host.ReadonlyPaths is None else tuple(host.ReadonlyPaths),
        sysctls=dict(host.Sysctls or {}),
        shm_size=host.ShmSize,
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


def _device(mapping: DeviceMapping) -> Device:
    """Look a device of the host up. Raises BadParameter when it is none."""
    path = mapping.PathOnHost
    try:
        status = Path(path).stat()
    except OSError:
        raise BadParameter(
            f'error gathering device information while adding custom device "{path}": no such file or directory',
            key="Devices",
        ) from None
    if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
        raise BadParameter(
            f'error gathering device information while adding custom device "{path}": not a device node', key="Devices"
        )
    return Device(
        path=posixpath.normpath(mapping.PathInContainer or path),
        kind="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        access=mapping.CgroupPermissions or "rwm",
    )
