"""`docker commit`: what an image of a container has, and what becomes of the container meanwhile."""

import json
import time
from collections.abc import Callable
from typing import Any

import docker as docker_py
import pytest

from tests.support.cli import Docker
from tests.support.wire import Wire

pytestmark = pytest.mark.root

CHANGE = (
    "rm -r /home; echo new > /root/new; echo longer >> /etc/passwd; chmod 700 /usr; rm /etc/group; mkdir /etc/group;"
    "touch /etc/group/in; ln -s new /root/link; ln /root/new /root/hard; mkfifo /root/fifo; echo secret > /volume/file;"
    "chown 12:34 /var; touch /done"
)


@pytest.fixture
def changed(docker: Docker, image: str, name: str) -> str:
    """Return the name of a running container that has changed a file of each kind."""
    docker.ok(
        "run", "-d", "--name", name, "--network", "none", "-v", "/volume", image, "sh", "-c", f"{CHANGE}; sleep 1000"
    )
    while docker("exec", name, "test", "-e", "/done").code:
        time.sleep(0.02)
    return name


def look(docker: Docker, tag: str, script: str) -> str:
    return docker.ok("run", "--rm", "--network", "none", "--entrypoint", "", tag, "sh", "-c", script)


def config(docker: Docker, tag: str) -> dict[str, Any]:
    found = json.loads(docker.inspect(tag, "{{json .Config}}"))
    assert isinstance(found, dict)
    return found


def layers(docker: Docker, tag: str) -> list[str]:
    found = json.loads(docker.inspect(tag, "{{json .RootFS.Layers}}"))
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("state", ["running", "exited"])
def test_an_image_has_all_that_was_changed_but_volumes(docker: Docker, changed: str, tag: str, state: str) -> None:
    if state == "exited":
        docker.ok("stop", "-t", "0", changed)
    docker.ok("commit", changed, tag)
    seen = look(docker, tag, "ls -d /home; cat /root/link; tail -n1 /etc/passwd; stat -c %a /usr; "
                "ls /etc/group /volume; stat -c %F /root/fifo; stat -c %h /root/hard; stat -c %u:%g /var")  # fmt: skip
    assert seen.splitlines() == [
        "new", "longer", "700", "/etc/group:", "in", "", "/volume:", "fifo", "2", "12:34",
    ]  # fmt: skip


def test_the_same_content_gives_the_same_layer(docker: Docker, changed: str, new_tag: Callable[[], str]) -> None:
    first, second = new_tag(), new_tag()
    for tag in (first, second):
        docker.ok("commit", changed, tag)
    assert layers(docker, first) == layers(docker, second)


def test_a_container_without_changes_adds_no_layer(docker: Docker, image: str, name: str, tag: str) -> None:
    docker.ok("create", "--name", name, image)
    docker.ok("commit", name, tag)
    assert layers(docker, tag) == layers(docker, image)
    assert docker.inspect(tag, "{{.Id}}") != docker.inspect(image, "{{.Id}}")


def test_author_message_and_history_are_kept(docker: Docker, image: str, name: str, tag: str) -> None:
    docker.ok("run", "--name", name, "--network", "none", image, "touch", "/one")
    id = docker.ok("commit", "-a", "Ann <ann@example.org>", "-m", "one more", name, tag)
    assert docker.inspect(tag, "{{.Id}} {{.Author}} {{.Comment}}") == f"{id} Ann <ann@example.org> one more"
    lines = docker.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", tag).splitlines()
    assert lines[0] == "touch /one|one more"
    assert len(lines) == len(docker.ok("history", "-q", image).splitlines()) + 1


def test_the_configuration_is_the_containers_and_changes_go_over_it(
    docker: Docker, image: str, name: str, tag: str
) -> None:
    docker.ok("create", "--name", name, "-e", "A=container", "-e", "B=container", "-l", "k=v", "-u", "nobody",
              "-w", "/tmp", "--expose", "80", image, "sh", "-c", "true")  # fmt: skip
    changes = ("ENV A=changed", "EXPOSE 81/udp", "LABEL l=m", "USER root", "VOLUME /v", "WORKDIR sub", 'CMD ["ls"]')
    docker.ok("commit", *(word for change in changes for word in ("-c", change)), name, tag)
    found = config(docker, tag)
    assert dict(entry.split("=", 1) for entry in found["Env"])["A"] == "changed"
    assert "B=container" in found["Env"]
    assert found["ExposedPorts"] == {"80/tcp": {}, "81/udp": {}}
    assert found["Labels"] == {"k": "v", "l": "m"}
    assert (found["User"], found["WorkingDir"], found["Cmd"]) == ("root", "/tmp/sub", ["ls"])
    assert "/v" in found["Volumes"]


def test_an_entry_point_that_is_changed_takes_the_command_away(docker: Docker, image: str, name: str, tag: str) -> None:
    docker.ok("create", "--name", name, image, "old", "words")
    docker.ok("commit", "-c", 'ENTRYPOINT ["echo", "entry"]', name, tag)
    assert docker.ok("run", "--rm", "--network", "none", tag) == "entry"


def test_the_body_is_a_configuration_that_wins(docker: Docker, wire: Wire, image: str, name: str, tag: str) -> None:
    docker.ok("create", "--name", name, "-e", "A=container", image, "true")
    repo = tag.removesuffix(":latest")
    answer = wire.request(
        "POST",
        f"/commit?container={name}&repo={repo}&changes=ENV%20C%3D1%0ALABEL%20x%3Dy",
        {"Env": ["B=body"], "Cmd": ["ls"]},
    )
    assert answer.status == 201, answer.body
    found = config(docker, answer.json["Id"])
    assert {"A=container", "B=body", "C=1"} <= set(found["Env"])
    assert (found["Cmd"], found["Labels"]) == (["ls"], {"x": "y"})


# -- the container meanwhile -------------------------------------------------------------------------------------------


def told(docker: Docker, name: str, since: str) -> list[str]:
    return docker.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--filter", f"container={name}",
                     "--format", "{{.Action}}").split()  # fmt: skip


@pytest.mark.parametrize(("flags", "events"), [((), ["pause", "commit", "unpause"]), (("--pause=false",), ["commit"])])
def test_a_running_container_is_paused_meanwhile(
    docker: Docker, running: str, tag: str, flags: tuple[str, ...], events: list[str]
) -> None:
    since = str(time.time())
    docker.ok("commit", *flags, running, tag)
    assert told(docker, running, since) == events
    assert docker.inspect(running, "{{.State.Status}}") == "running"


def test_a_container_that_was_paused_stays_paused(docker: Docker, running: str, tag: str) -> None:
    """Quirk Q27 of Docker 1.3: it was resumed."""
    docker.ok("pause", running)
    since = str(time.time())
    docker.ok("commit", running, tag)
    assert told(docker, running, since) == ["commit"]
    assert docker.inspect(running, "{{.State.Status}}") == "paused"


def test_a_commit_that_fails_lets_the_container_run_on(docker: Docker, wire: Wire, running: str) -> None:
    for query in ("repo=UPPER", "changes=RUN%20x"):
        assert wire.post(f"/commit?container={running}&{query}").status == 400
        assert docker.inspect(running, "{{.State.Status}}") == "running"


def test_the_event_tells_of_the_image(docker: Docker, running: str, tag: str) -> None:
    since = str(time.time())
    id = docker.ok("commit", "-m", "why", running, tag)
    line = docker.ok("events", "--since", since, "--until", str(time.time() + 0.01), "--filter", "event=commit",
                     "--format", "{{json .Actor.Attributes}}")  # fmt: skip
    found = json.loads(line)
    assert (found["comment"], found["imageID"], found["imageRef"]) == ("why", id, tag)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("container=no-such", 404, "No such container: no-such"),
        ("", 400, "container"),
        ("container={name}&repo=UPPER", 400, "must be lowercase"),
        ("container={name}&repo=a&tag=b:c", 400, "invalid reference format"),
        ("container={name}&repo=a@sha256:" + "0" * 64, 400, "cannot import digest reference"),
        ("container={name}&changes=RUN%20true", 400, "run is not a valid change command"),
        ("container={name}&changes=ENV%20a", 400, "ENV must have two arguments"),
    ],
)
def test_what_cannot_be_is_told(wire: Wire, running: str, query: str, status: int, message: str) -> None:
    answer = wire.post(f"/commit?{query.format(name=running)}")
    assert (answer.status, message in answer.message) == (status, True), answer.body


def test_docker_py_commits(engine_host: str, changed: str, tag: str) -> None:
    client = docker_py.DockerClient(base_url=engine_host, timeout=60)
    made = client.containers.get(changed).commit(
        tag.removesuffix(":latest"), "latest", message="py", author="me", changes="ENV PY=1\nCMD true"
    )
    assert "PY=1" in made.attrs["Config"]["Env"]
    assert made.attrs["Config"]["Cmd"] == ["/bin/sh", "-c", "true"]
    client.close()


def test_an_image_that_was_deleted_under_its_container_is_still_a_base(
    docker: Docker, name: str, image: str, new_tag: Callable[[], str]
) -> None:
    base, made = new_tag(), new_tag()
    docker.ok("create", "--name", name, image)
    docker.ok("commit", "-m", "base", name, base)
    docker.ok("rm", name)
    docker.ok("run", "--name", name, "--network", "none", base, "touch", "/file")
    docker.ok("rmi", "-f", base)
    docker.ok("commit", name, made)
    assert look(docker, made, "ls /file") == "/file"
