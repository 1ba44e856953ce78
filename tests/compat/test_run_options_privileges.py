"""`docker run`: capabilities, security options, devices, users. What the CLI asks for, and what the API refuses."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Docker, Result
from tests.support.wire import Wire
from windlass.kernel import caps

pytestmark = pytest.mark.root

IS_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
Run = Callable[..., Result]


@pytest.fixture
def run(docker: Docker, image: str) -> Run:
    """Return a runner: flags first, then the shell script that the container runs."""

    def run(*words: str) -> Result:
        *flags, script = words
        return docker("run", "--rm", "--network", "none", *flags, image, "sh", "-c", script)

    return run


def refusal(wire: Wire, image: str, config: dict[str, Any] | None = None, **host: Any) -> tuple[int, str]:
    """Return what the API answers to a create that must fail; nothing may be left of it."""
    before = len(wire.get("/containers/json", all=1).json)
    answer = wire.post("/containers/create", {"Image": image, "Cmd": ["true"], "HostConfig": host, **(config or {})})
    assert len(wire.get("/containers/json", all=1).json) == before
    return answer.status, answer.message


# -- capabilities ----------------------------------------------------------------------------------------------------

BASE = caps.mask(caps.DEFAULT & caps.own())
OWN = caps.mask(caps.own())


def bit(name: str) -> int:
    return caps.mask([f"CAP_{name}"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cap-add", "NET_ADMIN"], BASE | bit("NET_ADMIN")),
        (["--cap-add", "cap_net_admin"], BASE | bit("NET_ADMIN")),
        (["--cap-drop", "MKNOD"], BASE & ~bit("MKNOD")),
        (["--cap-drop", "CAP_MKNOD", "--cap-add", "SYS_TIME"], BASE & ~bit("MKNOD") | bit("SYS_TIME")),
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "all", "--cap-add", "CHOWN"], bit("CHOWN")),
        (["--cap-add", "ALL"], OWN),
        (["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], OWN & ~bit("SYS_ADMIN")),
        (["--privileged"], OWN),
        (["--privileged", "--cap-drop", "ALL"], OWN),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_capabilities_are_added_and_dropped(run: Run, flags: list[str], expected: int) -> None:
    found = dict(re.findall(r"(Cap\w+):\t(\w+)", run(*flags, "cat /proc/self/status").out))
    assert {key: int(found[key], 16) for key in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")} == {
        **dict.fromkeys(("CapBnd", "CapEff", "CapPrm"), expected),
        **dict.fromkeys(("CapInh", "CapAmb"), 0),
    }


@pytest.mark.parametrize("key", ["CapAdd", "CapDrop"])
def test_an_unknown_capability_is_named(wire: Wire, docker: Docker, image: str, key: str) -> None:
    expected = f'invalid {key}: unknown capability: "CAP_NONSENSE"'
    assert refusal(wire, image, **{key: ["nonsense"]}) == (400, expected)
    flag = {"CapAdd": "--cap-add", "CapDrop": "--cap-drop"}[key]
    result = docker("run", "--rm", flag, "NONSENSE", image, "true")
    assert (result.code, expected in result.err) == (125, True)


def test_a_capability_that_the_host_does_not_give_is_named(wire: Wire, image: str) -> None:
    missing = sorted(set(caps.NAMES) - caps.own())
    if not missing:
        pytest.skip("the daemon has every capability")
    status, message = refusal(wire, image, CapAdd=[missing[0]])
    assert status == 400
    assert f'not available in the current environment: "{missing[0]}"' in message


# -- security options ------------------------------------------------------------------------------------------------


def status_of(run: Run, key: str, *flags: str) -> str:
    result = run(*flags, f"grep ^{key}: /proc/self/status | cut -f2")
    assert result.code == 0, result
    return result.out.strip()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--security-opt", "seccomp=unconfined"], "0"),
        (["--security-opt", "seccomp=builtin"], "2"),
        (["--privileged"], "0"),
        (["--privileged", "--security-opt", "seccomp=builtin"], "2"),
    ],
    ids=" ".join,
)
def test_the_filter_is_chosen(docker: Docker, run: Run, flags: list[str], expected: str) -> None:
    if "seccomp=builtin" in flags and docker.cli_version < 23:
        pytest.skip("the CLI takes `builtin` for a file")
    assert status_of(run, "Seccomp", *flags) == expected


def test_a_profile_of_the_users_own(run: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    result = run("--security-opt", f"seccomp={profile}", "mkdir /tmp/x")
    assert (result.code, "not supported" in result.err) == (1, True)
    assert run("--security-opt", f"seccomp={profile}", "touch /tmp/x").code == 0


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("{", "decoding seccomp profile failed"),
        ("[]", "decoding seccomp profile failed: it is no JSON object"),
        ("{}", "seccomp profile"),
        ('{"defaultAction":"SCMP_ACT_NONSENSE"}', "unknown action 'SCMP_ACT_NONSENSE'"),
        ('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}', "NOTIFY"),
        ('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":"read","action":"SCMP_ACT_ALLOW"}]}', "names"),
        ('{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]}', "SCMP_ARCH_VAX"),
        ('{"a":' * 300 + "1" + "}" * 300, "nested deeper"),
    ],
)
def test_a_broken_profile_is_refused_by_name(wire: Wire, image: str, profile: str, expected: str) -> None:
    status, message = refusal(wire, image, SecurityOpt=[f"seccomp={profile}"])
    assert (status, expected in message) == (400, True), message


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("no-new-privileges", "1"),
        ("no-new-privileges=true", "1"),
        ("no-new-privileges:true", "1"),
        ("no-new-privileges=false", "0"),
    ],
)
def test_no_new_privileges(run: Run, option: str, expected: str) -> None:
    assert status_of(run, "NoNewPrivs", "--security-opt", option) == expected
    assert status_of(run, "Seccomp", "--security-opt", option) == "2"


def test_system_paths_are_uncovered_on_demand(run: Run) -> None:
    result = run("--security-opt", "systempaths=unconfined", "grep -c ' /proc/' /proc/mounts; test -w /proc/sys/kernel")
    assert (result.code, result.out) == (0, "0\n")


@pytest.mark.parametrize("option", ["apparmor=unconfined", "label=disable"])
def test_no_confinement_by_labels_is_what_there_is(docker: Docker, image: str, option: str) -> None:
    result = docker("run", "--rm", "--network", "none", "--security-opt", option, image, "true")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("option", "what", "marker"),
    [
        ("apparmor=docker-default", "AppArmor", "/sys/module/apparmor/parameters/enabled"),
        ("label=type:svirt_t", "SELinux", "/sys/fs/selinux/enforce"),
    ],
)
def test_labels_that_the_host_does_not_enforce_are_told(
    docker: Docker, wire: Wire, image: str, name: str, option: str, what: str, marker: str
) -> None:
    body = {"Image": image, "HostConfig": {"SecurityOpt": [option]}}
    answer = wire.post("/containers/create", body, name=name)
    if Path(marker).exists():
        assert (answer.status, what in answer.message) == (501, True)
        return
    assert answer.json["Warnings"] == [
        f"Your kernel does not support {what} or it is not enabled. --security-opt {option} discarded."
    ]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("nonsense", 'invalid --security-opt 1: "nonsense"'),
        ("nonsense=1", 'invalid --security-opt 2: "nonsense=1"'),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ("writable-cgroups=maybe", 'invalid --security-opt 2: "writable-cgroups=maybe"'),
        ("", 'invalid --security-opt 1: ""'),
    ],
)
def test_an_option_that_is_none_is_refused(wire: Wire, image: str, option: str, expected: str) -> None:
    assert refusal(wire, image, SecurityOpt=[option]) == (400, expected)


def test_writable_cgroups_need_the_unified_hierarchy(wire: Wire, run: Run, image: str) -> None:
    option = "writable-cgroups=true"
    if IS_V2:
        assert run("--security-opt", option, "mkdir /sys/fs/cgroup/x").code == 0
        expected = "--security-opt writable-cgroups needs a private cgroup namespace"
        assert refusal(wire, image, SecurityOpt=[option], CgroupnsMode="host") == (400, expected)
    else:
        expected = "--security-opt writable-cgroups needs cgroup v2"
        assert refusal(wire, image, SecurityOpt=[option]) == (400, expected)
    assert run("--security-opt", "writable-cgroups=false", "mkdir /sys/fs/cgroup/x").code != 0


READ_KMSG = "--cap-add=SYSLOG"  # what the kernel asks for besides the device's own permissions

# -- devices ---------------------------------------------------------------------------------------------------------


def test_a_device_is_given_with_its_mode_and_owner(run: Run) -> None:
    script = "stat -c '%a %u:%g %t:%T' /dev/kmsg && true < /dev/kmsg && echo opened"
    status = os.stat("/dev/kmsg")
    expected = f"{status.st_mode & 0o7777:o} {status.st_uid}:{status.st_gid} 1:b"
    assert run(READ_KMSG, "--device", "/dev/kmsg", script).out.splitlines() == [expected, "opened"]


def test_a_device_can_have_another_place(run: Run) -> None:
    assert run("--device", "/dev/null:/opt/deep/nothing", "echo x > /opt/deep/nothing").code == 0


@pytest.mark.parametrize(("access", "reads", "writes"), [("r", True, False), ("w", False, True), ("rw", True, True)])
def test_a_device_has_the_permissions_that_were_given(run: Run, access: str, reads: bool, writes: bool) -> None:
    flag = f"--device=/dev/kmsg:/dev/kmsg:{access}"
    assert (run(READ_KMSG, flag, "true < /dev/kmsg").code == 0) == reads
    assert (run(READ_KMSG, flag, "true > /dev/kmsg").code == 0) == writes


def test_a_directory_gives_the_devices_below_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    os.mknod(tmp_path / "one", 0o600 | 0o020000, os.makedev(1, 11))
    os.mknod(tmp_path / "sub" / "two", 0o600 | 0o020000, os.makedev(1, 11))
    (tmp_path / "file").write_text("no device")
    (tmp_path / "link").symlink_to("one")
    flags = (READ_KMSG, f"--device={tmp_path}:/dev/mine")
    result = run(*flags, "find /dev/mine -type c | sort; true < /dev/mine/sub/two && echo ok")
    assert result.out.split() == ["/dev/mine/one", "/dev/mine/sub/two", "ok"]


def test_a_link_leads_to_its_device(run: Run, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/kmsg")
    assert run(f"--device={link}:/dev/here", "stat -c %F:%t:%T /dev/here").out == "character special file:1:b\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mknod(folder / "one", 0o600 | 0o020000, os.makedev(1, 11))
    (tmp_path / "way").symlink_to(folder)
    assert run(f"--device={tmp_path}/way:/dev/here", "ls /dev/here").out == "one\n"


@pytest.mark.parametrize("what", ["missing", "file", "dangling", "empty"])
def test_what_is_no_device_is_told_at_the_start(docker: Docker, image: str, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    path = tmp_path / what
    result = docker("run", "--rm", f"--device={path}:/dev/x", image, "true")
    assert result.code in (125, 126, 127)
    assert f'error gathering device information while adding custom device "{path}"' in result.err


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"PathOnHost": "/dev/null", "CgroupPermissions": "rx"}, "invalid device mode: rx"),
        ({"PathOnHost": "/dev/null", "CgroupPermissions": "rr"}, "invalid device mode: rr"),
        ({"PathOnHost": "null"}, "invalid device path: null must be absolute"),
        ({"PathOnHost": "/dev/null", "PathInContainer": "x"}, "invalid device path: x must be absolute"),
    ],
)
def test_a_device_that_can_only_be_wrong_is_refused(
    wire: Wire, image: str, device: dict[str, str], expected: str
) -> None:
    assert refusal(wire, image, Devices=[device]) == (400, expected)


def test_a_rule_opens_what_the_container_makes_itself(run: Run) -> None:
    script = "mknod /tmp/x c 1 11 && true < /tmp/x"
    assert run(READ_KMSG, script).code != 0
    assert run(READ_KMSG, "--device-cgroup-rule", "c 1:11 r", script).code == 0
    assert run(READ_KMSG, "--device-cgroup-rule", "c 1:* rwm", script).code == 0
    assert run(READ_KMSG, "--device-cgroup-rule", "c 1:11 w", script).code != 0
    assert run(READ_KMSG, "--device-cgroup-rule", "a *:* rwm", script).code == 0


@pytest.mark.parametrize(
    "rule", ["x 1:1 r", "c 1:1", "c 1 r", "c 1:1 x", "c 1:1 rwmr", "c -1:1 r", "c 99999999999:1 r"]
)
def test_a_rule_that_is_none_is_refused(wire: Wire, image: str, rule: str) -> None:
    status, message = refusal(wire, image, DeviceCgroupRules=[rule])
    assert (status, message.startswith(f"invalid device cgroup rule format: '{rule}'")) == (400, True)


def test_gpus_are_refused_as_by_a_docker_without_drivers(docker: Docker, wire: Wire, image: str) -> None:
    expected = 'could not select device driver "" with capabilities: [[gpu]]'
    request = {"Driver": "", "Count": -1, "Capabilities": [["gpu"]], "Options": {}}
    assert refusal(wire, image, DeviceRequests=[request]) == (400, expected)
    result = docker("run", "--rm", "--gpus", "all", image, "true")
    assert (result.code, expected in result.err) == (125, True)


def test_a_cdi_name_is_refused(docker: Docker, wire: Wire, image: str) -> None:
    expected = "CDI device injection failed: unresolvable CDI devices vendor.com/net=one"
    assert refusal(wire, image, DeviceRequests=[{"Driver": "cdi", "DeviceIDs": ["vendor.com/net=one"]}]) == (
        400,
        expected,
    )
    if docker.cli_version >= 25:
        assert expected in docker("run", "--rm", "--device", "vendor.com/net=one", image, "true").err


def test_privileged_has_the_hosts_devices_and_may_use_them(run: Run) -> None:
    assert run("--privileged", "test -c /dev/kmsg && true < /dev/kmsg").code == 0
    assert run("--privileged", "--device", "/dev/kmsg:/dev/other", "true < /dev/other").code == 0


# -- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("nobody", "65534 65534 65534 50"),
        ("nobody:staff", "65534 50 50"),
        ("65534", "65534 65534 65534 50"),
        ("1234", "1234 0 0"),
        ("1234:4321", "1234 4321 4321"),
        ("0:50", "0 50 50"),
        ("4294967294:4294967294", "4294967294 4294967294 4294967294"),
        ("0000", "0 0 0"),
    ],
)
def test_a_user_is_a_name_or_a_number(run: Run, user: str, expected: str) -> None:
    assert run("-u", user, "echo $(id -u) $(id -g) $(id -G)").out.strip() == expected


def test_groups_are_added_by_name_and_number(run: Run) -> None:
    assert run("-u", "1:1", "--group-add", "staff", "--group-add", "777", "id -G").out.split() == ["1", "50", "777"]


@pytest.mark.parametrize(
    ("user", "status", "expected"),
    [
        ("99999999999999999999", 400, "uids and gids must be in range 0-4294967294"),
        ("4294967295", 400, "uids and gids must be in range 0-4294967294"),
        ("0:4294967296", 400, "uids and gids must be in range 0-4294967294"),
    ],
)
def test_a_number_out_of_range_is_refused_at_create(
    wire: Wire, image: str, user: str, status: int, expected: str
) -> None:
    found, message = refusal(wire, image, {"User": user})
    assert (found, message.startswith(expected)) == (status, True)


def test_a_group_out_of_range_is_refused_at_create(wire: Wire, image: str) -> None:
    assert refusal(wire, image, GroupAdd=["4294967295"])[0] == 400


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-u", "whoever"], "unable to find user whoever: no matching entries in passwd file"),
        (["-u", "-1"], "unable to find user -1"),
        (["-u", "+5"], "unable to find user +5"),
        (["-u", "0:whoever"], "unable to find group whoever"),
        (["--group-add", "whoever"], "unable to find group whoever"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_who_is_not_in_the_files_is_told_at_the_start(
    docker: Docker, image: str, flags: list[str], expected: str
) -> None:
    result = docker("run", "--rm", "--network", "none", *flags, image, "true")
    assert (result.code, expected in result.err) == (125, True), result
