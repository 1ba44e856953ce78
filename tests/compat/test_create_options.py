"""What `docker run` sets, set through the API alone: a container made by its JSON body behaves so."""

import os
from typing import Any

import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire
from windlass.kernel import caps

pytestmark = pytest.mark.root

BASE = caps.mask(caps.DEFAULT & caps.own())
EFFECTIVE = "grep ^CapEff /proc/self/status | cut -f2"
PROFILE = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","errnoRet":95}]}'


def hexadecimal(mask: int) -> str:
    return f"{mask:016x}"


def node(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(
    ("config", "host", "script", "expected"),
    [
        ({}, {"CapAdd": ["SYS_TIME"]}, EFFECTIVE, hexadecimal(BASE | caps.mask(["CAP_SYS_TIME"]))),
        ({}, {"CapDrop": ["ALL"]}, EFFECTIVE, hexadecimal(0)),
        ({}, {"Privileged": True}, EFFECTIVE, hexadecimal(caps.mask(caps.own()))),
        ({}, {"SecurityOpt": ["no-new-privileges"]}, "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
        ({}, {"SecurityOpt": ["seccomp=unconfined"]}, "grep Seccomp: /proc/self/status | cut -f2", "0"),
        ({}, {"SecurityOpt": [f"seccomp={PROFILE}"]}, "mkdir /x 2>&1 | grep -c supported", "1"),
        ({}, {"MaskedPaths": [], "ReadonlyPaths": []}, "grep -c ' /proc/' /proc/mounts", "0"),
        ({}, {"MaskedPaths": ["/etc/passwd"]}, "wc -c < /etc/passwd", "0"),
        ({}, {"ReadonlyPaths": ["/tmp"]}, "touch /tmp/x 2>&1", "touch: /tmp/x: Read-only file system"),
        ({}, {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}]}, "stat -c %t:%T /dev/x", "1:3"),
        ({}, {"DeviceCgroupRules": ["b 7:0 r"]}, "mknod /d b 7 0; (true </d) 2>&1 | grep -c permitted", "0"),
        ({}, {"Sysctls": {"kernel.msgmax": "4321"}}, "cat /proc/sys/kernel/msgmax", "4321"),
        ({}, {"PidMode": "host"}, "readlink /proc/self/ns/pid", node("pid")),
        ({}, {"IpcMode": "host"}, "readlink /proc/self/ns/ipc", node("ipc")),
        ({}, {"IpcMode": "none"}, "grep -c /dev/shm /proc/mounts", "0"),
        ({}, {"UTSMode": "host"}, "readlink /proc/self/ns/uts", node("uts")),
        ({}, {"CgroupnsMode": "host"}, "readlink /proc/self/ns/cgroup", node("cgroup")),
        ({}, {"UsernsMode": "host"}, "readlink /proc/self/ns/user", node("user")),
        ({}, {"GroupAdd": ["staff", "7"]}, "id -G", "0 7 50"),
        ({}, {"Init": True}, "cut -d' ' -f4 /proc/self/stat | grep -c '^1$'; cat /proc/1/cmdline | tr '\\0' ' '", None),
        ({}, {"ReadonlyRootfs": True}, "touch /x 2>&1", "touch: /x: Read-only file system"),
        ({}, {"OomScoreAdj": 321}, "cat /proc/self/oom_score_adj", "321"),
        ({}, {"ShmSize": 1 << 20}, "df -P /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024"),
        ({}, {"Runtime": "windlass", "Isolation": "default"}, "echo fine", "fine"),
        ({"User": "nobody:staff"}, {}, "id -u; id -g", "65534\n50"),
        ({"Hostname": "ship"}, {}, "hostname", "ship"),
        ({"Domainname": "port"}, {}, "cat /proc/sys/kernel/domainname", "port"),
        ({"WorkingDir": "/made/here"}, {}, "pwd", "/made/here"),
        ({"Env": ["A=1", "B=two words"]}, {}, "echo $A $B", "1 two words"),
        ({"Entrypoint": ["sh", "-c", 'echo "$0"']}, {}, "as argument", "as argument"),
    ],
    ids=str,
)
def test_a_setting_of_the_body_has_its_effect(
    wire: Wire,
    docker: Docker,
    image: str,
    name: str,
    config: dict[str, Any],
    host: dict[str, Any],
    script: str,
    expected: str,
) -> None:
    command = [script] if "Entrypoint" in config else ["sh", "-c", script]
    body = {"Image": image, "Cmd": command, **config, "HostConfig": {"NetworkMode": "none", **host}}
    answer = wire.post("/containers/create", body, name=name)
    assert answer.status == 201, answer.body
    out = docker("start", "-a", name).out.strip()
    assert out == expected if expected is not None else "docker-init" in out


def test_what_only_describes_is_shown(wire: Wire, image: str, name: str) -> None:
    config = {"Labels": {"a": "b"}, "StopSignal": "SIGUSR1", "StopTimeout": -1}
    host = {"Annotations": {"c": "d"}, "Runtime": "runc", "SecurityOpt": ["label=disable"], "UsernsMode": "host"}
    assert wire.post("/containers/create", {"Image": image, "HostConfig": host, **config}, name=name).status == 201
    found = wire.get(f"/containers/{name}/json").json
    assert {key: found["Config"][key] for key in config} == config
    assert {key: found["HostConfig"][key] for key in host} == host
