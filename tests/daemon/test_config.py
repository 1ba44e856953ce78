"""Image and request make one configuration; signals, keys, sizes, durations and limits in Docker's spelling."""

import pytest

from windlass.daemon import views
from windlass.daemon.config import command_line, environment, image_config, join_env, merge, requested
from windlass.daemon.host import capabilities, check_host
from windlass.daemon.keys import parse_keys
from windlass.daemon.log_config import parse_size
from windlass.daemon.resources import resources
from windlass.daemon.security import parse_security
from windlass.daemon.signals import parse_signal
from windlass.engine.errors import BadParameter
from windlass.jobs.container_config import Config, HostConfig
from windlass.jobs.containers import Create
from windlass.kernel import caps

IMAGE = {"Entrypoint": ["/start"], "Cmd": ["image"], "Env": ["A=1", "B=2"], "User": "web", "WorkingDir": "/srv"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, ("/start", "image")),
        ({"Cmd": ["mine"]}, ("/start", "mine")),
        ({"Cmd": []}, ("/start", "image")),
        ({"Entrypoint": ["/mine"]}, ("/mine",)),
        ({"Entrypoint": ["/mine"], "Cmd": ["x"]}, ("/mine", "x")),
        ({"Entrypoint": [""], "Cmd": ["x"]}, ("x",)),
        ({"Entrypoint": "one word", "Cmd": "x y"}, ("one word", "x y")),
    ],
)
def test_the_command_line_is_the_requests_else_the_images(request_: dict[str, object], words: tuple[str, ...]) -> None:
    assert command_line(merge(requested(Create(**request_)), IMAGE)) == words  # type: ignore[arg-type]


def test_what_the_request_does_not_say_the_image_says() -> None:
    config = merge(Config(Env=["B=3", "C=4"], Labels={"b": "2"}), IMAGE | {"Labels": {"a": "1", "b": "1"}})
    assert (config.User, config.WorkingDir) == ("web", "/srv")
    assert config.Env == ["A=1", "B=3", "C=4"]
    assert config.Labels == {"a": "1", "b": "2"}


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(BadParameter, match="no command specified"):
        merge(Config(Entrypoint=[""]), {"Entrypoint": ["/start"]})


def test_an_image_of_wrong_types_is_as_if_it_said_nothing() -> None:
    assert image_config({"Cmd": 5, "Env": {"A": 1}, "User": None, "Labels": ["x"], "StopSignal": "INT"}) == Config(
        StopSignal="INT"
    )


@pytest.mark.parametrize(
    "values",
    [{"WorkingDir": "relative"}, {"Env": ["=x"]}, {"Cmd": ["a\0b"]}, {"StopSignal": "NOPE"}, {"Hostname": "x" * 64}],
)
def test_a_request_that_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        requested(Create(**values))  # type: ignore[arg-type]


def test_a_key_alone_takes_a_variable_away() -> None:
    assert join_env(["A=1", "B=2"], ["A", "B=3", "C="]) == ["B=3", "C="]


def test_the_environment_has_what_every_process_gets() -> None:
    env = environment(Config(Env=["TERM=dumb"]), "ship", True, "/home/web")
    assert env[0].startswith("PATH=/usr/local/sbin:")
    assert env[1:] == ("HOSTNAME=ship", "TERM=dumb", "HOME=/home/web")
    assert "HOME=/x" in environment(Config(Env=["HOME=/x"]), "ship", False, "/home/web")


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigusr1", 10), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGCLD", 17)]
)
def test_signals_are_known_by_name_and_number(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["0", "65", "NOPE", "", "-9", "９", "SIG", "RTMIN+31"])
def test_other_signals_are_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="invalid signal"):
        parse_signal(text)


def test_detach_keys_are_bytes() -> None:
    assert parse_keys("") == b"\x10\x11"
    assert parse_keys("ctrl-e,x") == b"\x05x"
    assert parse_keys("ctrl-@,ctrl-[,ctrl-_") == b"\0\x1b\x1f"
    for text in ("ctrl-", "ctrl-aa", "ab", "ü", "a,"):
        with pytest.raises(BadParameter):
            parse_keys(text)


def test_sizes_are_powers_of_1024() -> None:
    assert [parse_size(text) for text in ("10", "10k", "10m", "1GiB", "2 kB")] == [10, 10240, 10 << 20, 1 << 30, 2048]
    with pytest.raises(BadParameter):
        parse_size("-1m")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "Less than a second"), (1.9, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (59 * 60, "59 minutes"), (3600, "About an hour"), (5400, "2 hours"), (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"), (14 * 86400, "2 weeks"), (60 * 86400, "2 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert views.duration_text(seconds) == text


def host(**values: object) -> HostConfig:
    """Check a HostConfig as create does."""
    params = Create(HostConfig=HostConfig(**values))  # type: ignore[arg-type]
    return check_host(params, lambda warning: None)


def test_defaults_are_filled_in_as_inspect_shows_them() -> None:
    found = host(Memory=64 << 20)
    assert (found.NetworkMode, found.IpcMode, found.ShmSize) == ("bridge", "private", 64 << 20)
    assert (found.LogConfig.Type, found.RestartPolicy.Name, found.MemorySwap) == ("json-file", "no", 128 << 20)


def test_cpus_become_a_quota() -> None:
    assert (resources(host(NanoCpus=500_000_000)).cpu_period, resources(host(NanoCpus=500_000_000)).cpu_quota) == (
        100_000,
        50_000,
    )
    with pytest.raises(BadParameter, match="Nano CPUs and CPU Quota cannot both be set"):
        host(NanoCpus=500_000_000, CpuQuota=5000)


def test_capabilities_are_added_and_dropped() -> None:
    assert capabilities(HostConfig()) == caps.DEFAULT & caps.own()
    assert capabilities(HostConfig(CapDrop=["ALL"], CapAdd=["net_admin"])) == {"CAP_NET_ADMIN"}
    assert capabilities(HostConfig(CapAdd=["all"], CapDrop=["CAP_SYS_ADMIN"])) == caps.own() - {"CAP_SYS_ADMIN"}
    assert capabilities(HostConfig(Privileged=True)) == caps.own()


def test_security_options() -> None:
    assert parse_security(HostConfig(SecurityOpt=["no-new-privileges"])).no_new_privileges
    assert parse_security(HostConfig(SecurityOpt=["seccomp:unconfined"])).seccomp == "unconfined"
    assert parse_security(HostConfig(SecurityOpt=['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'])).seccomp == {
        "defaultAction": "SCMP_ACT_ALLOW"
    }
    assert parse_security(HostConfig(Privileged=True)).seccomp == "unconfined"
    with pytest.raises(BadParameter, match='invalid --security-opt 2: "nonsense=1"'):
        parse_security(HostConfig(SecurityOpt=["nonsense=1"]))


def test_the_keys_of_create_are_those_of_the_config() -> None:
    """Create says each key a second time, for its help texts: none may be missing or of another default."""
    create, config = Create(), Config()
    for name in Config.__struct_fields__:
        assert getattr(create, name) == getattr(config, name)


def test_of_an_images_volumes_and_ports_only_the_keys_count() -> None:
    image = {"Volumes": {"/a": None, "/b": {}, "/c": 1}, "ExposedPorts": {"80/tcp": None}}
    config = image_config(image)
    assert (config.Volumes, config.ExposedPorts) == ({"/a": {}, "/b": {}, "/c": {}}, {"80/tcp": {}})
