"""What all tests share: the session's daemon, the docker CLI, an image, names that clean up."""

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import daemon, leaks
from tests.support.cli import Docker
from tests.support.images import busybox_rootfs
from tests.support.packages import Missing, docker_cli
from tests.support.wire import Wire

IMAGE = "busybox"

# No test asserts a duration, and hypothesis is not to either: the machine may be busy with something else.
hypothesis.settings.register_profile(
    "windlass", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("windlass")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=3, help="rounds of the long tests (crashes, races)")


def pytest_sessionstart() -> None:
    # A shell starts what runs in the background with SIGINT ignored, and children inherit that: no Ctrl-C would come.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leaks.remember()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the check for leaks run last: it ends the daemons and looks at what they leave."""
    items.sort(key=lambda item: item.path.name == "test_zz_leaks.py")


def pytest_sessionfinish() -> None:
    daemon.close_all()


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture(scope="session")
def engine_host() -> str:
    """Return the address of the engine under test: ours, or WINDLASS_COMPAT_HOST (another Docker)."""
    return os.environ.get("WINDLASS_COMPAT_HOST") or daemon.Daemon().start().host


@pytest.fixture
def new_daemon() -> Iterator[Callable[..., daemon.Daemon]]:
    """Return a starter of daemons of the test's own: `new_daemon(*flags, **environment)`; they are closed."""
    started: list[daemon.Daemon] = []

    def start(*flags: str, **env: str) -> daemon.Daemon:
        started.append(daemon.Daemon(*flags, **env))
        return started[-1].start()

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def wire(engine_host: str) -> Wire:
    return Wire(engine_host)


@pytest.fixture(scope="session")
def image(wire: Wire) -> str:
    """Return the name of a busybox image that the engine has."""
    if wire.get(f"/images/{IMAGE}/json").status != 200:
        answer = wire.post(
            "/images/create",
            busybox_rootfs(),
            headers={"Content-Type": "application/x-tar"},
            fromSrc="-",
            repo=IMAGE,
            tag="latest",
            changes='CMD ["sh"]',
        )
        assert answer.status == 200 and b"errorDetail" not in answer.body, answer.body
    return IMAGE


@pytest.fixture(scope="session")
def docker(engine_host: str, image: str, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """Return the docker CLI, pointed at the engine under test, which has the image."""
    try:
        docker_cli()
    except Missing as why:
        pytest.skip(f"no docker CLI: {why}")
    return Docker(engine_host, tmp_path_factory.mktemp("docker-config"))


@pytest.fixture
def modern_cli(docker: Docker) -> None:
    """Skip where the CLI is older than 28: it lacks a flag that the test wants."""
    if docker.cli_version < 28:
        pytest.skip(f"a flag of CLI 28; this is {docker.cli_version}")


@pytest.fixture
def new_name(request: pytest.FixtureRequest, wire: Wire) -> Iterator[Callable[[], str]]:
    """Return a maker of container names; what is still called so afterwards is removed."""
    made: list[str] = []
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:30].strip("-")

    def make() -> str:
        made.append(f"{stem}-{secrets.token_hex(3)}")
        return made[-1]

    yield make
    for name in made:
        wire.delete(f"/containers/{name}", force=1, v=1)


@pytest.fixture
def name(new_name: Callable[[], str]) -> str:
    """Return a container name that is nobody else's."""
    return new_name()


@pytest.fixture
def new_tag(wire: Wire) -> Iterator[Callable[[], str]]:
    """Return a maker of image names; what is still called so afterwards is removed."""
    made: list[str] = []

    def make() -> str:
        made.append(f"compat/{secrets.token_hex(4)}:latest")
        return made[-1]

    yield make
    for tag in made:
        wire.delete(f"/images/{tag}", force=1)


@pytest.fixture
def tag(new_tag: Callable[[], str]) -> str:
    """Return an image name that is nobody else's."""
    return new_tag()


@pytest.fixture
def running(docker: Docker, image: str, name: str) -> str:
    """Return the name of a container that runs until it is told to stop."""
    script = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
    docker.ok("run", "-d", "--name", name, "--network", "none", image, "sh", "-c", script)
    return name


@pytest.fixture
def data() -> Path:
    return Path(__file__).parent / "data"
