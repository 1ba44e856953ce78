"""`docker events`: live and past, order, attributes, filters, formats."""

import json
import time
from collections.abc import Callable

import pytest

from tests.support.cli import Docker
from tests.support.images import docker_archive, layer
from tests.support.wire import Wire

pytestmark = pytest.mark.root

ACTION = "{{.Action}}"


def past(docker: Docker, since: float, *filters: str, form: str = ACTION) -> list[str]:
    """Return the events from `since` (Unix time) until now."""
    flags = [word for text in filters for word in ("--filter", text)]
    return docker.ok(
        "events", "--since", f"{since:.9f}", "--until", f"{time.time():.9f}", "--format", form, *flags
    ).splitlines()


def test_the_life_of_a_container_in_order(docker: Docker, image: str, name: str) -> None:
    began = time.time()
    docker.ok("run", "--rm", "--name", name, "--network", "none", image, "sh", "-c", "exit 0")
    with docker.start(
        "events", "--since", f"{began:.9f}", "--filter", f"container={name}", "--format", ACTION
    ) as events:
        seen = [events.line() for _ in range(5)]
    assert seen == ["create", "attach", "start", "die", "destroy"]


def test_a_follower_sees_events_as_they_happen(docker: Docker, image: str, name: str) -> None:
    with docker.start("events", "--filter", f"container={name}", "--format", ACTION, "--since", "0") as events:
        docker.ok("create", "--name", name, "--network", "none", image, "true")
        assert events.line() == "create"
        docker.ok("start", name)
        assert [events.line(), events.line()] == ["start", "die"]
        docker.ok("rm", name)
        assert events.line() == "destroy"


def test_die_tells_the_exit_code_and_the_image(docker: Docker, image: str, name: str) -> None:
    began = time.time()
    docker("run", "--name", name, "--network", "none", "-l", "a=b", image, "sh", "-c", "exit 7")
    form = "{{.Type}} " + " ".join(f"{{{{.Actor.Attributes.{key}}}}}" for key in ("exitCode", "image", "name", "a"))
    found = past(docker, began, f"container={name}", "event=die", form=form)
    assert found == [f"container 7 {image} {name} b"]


def test_kill_and_stop_are_told(docker: Docker, running: str) -> None:
    began = time.time()
    docker.ok("stop", running)
    form = "{{.Action}} {{.Actor.Attributes.signal}}"
    found = [line.replace("<no value>", "").strip() for line in past(docker, began, f"container={running}", form=form)]
    assert sorted(found) == ["die", "kill 15", "stop"]
    assert found[0] == "kill 15"


def test_restart_is_told_last(docker: Docker, running: str) -> None:
    began = time.time()
    docker.ok("restart", running)
    found = past(docker, began, f"container={running}")
    assert sorted(found) == ["die", "kill", "restart", "start", "stop"]
    assert found[0] == "kill" and found[-2:] == ["start", "restart"]


def test_rename_tells_the_old_name(docker: Docker, running: str, new_name: Callable[[], str]) -> None:
    began, new = time.time(), new_name()
    docker.ok("rename", running, new)
    form = "{{.Action}} {{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}"
    assert past(docker, began, "event=rename", f"container={new}", form=form) == [f"rename /{running} {new}"]


def test_exec_is_told(docker: Docker, running: str) -> None:
    began = time.time()
    docker("exec", running, "sh", "-c", "exit 3")
    found = past(docker, began, f"container={running}", form="{{.Action}}|{{.Actor.Attributes.exitCode}}")
    assert [line.split("|")[0] for line in found] == [
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
    ]
    assert found[-1] == "exec_die|3"


def test_oom_is_told(docker: Docker, image: str, name: str) -> None:
    began = time.time()
    limits = ["-m", "16m", "--memory-swap", "16m"]
    docker("run", "--name", name, "--network", "none", *limits, image, "sh", "-c", "x=a; while :; do x=$x$x; done")
    found = past(docker, began, f"container={name}")
    assert set(found) >= {"oom", "die"}


def test_images_tell_load_tag_untag_and_delete(docker: Docker, new_tag: Callable[[], str]) -> None:
    began, first, second = time.time(), new_tag(), new_tag()
    docker.ok("load", input=docker_archive([layer(mark=first)], first))
    id = docker.inspect(first, "{{.Id}}")
    docker.ok("tag", first, second)
    docker.ok("rmi", first, second)
    found = past(docker, began, "type=image", form="{{.Action}} {{.Actor.ID}}")
    mine = [line.split()[0] for line in found if line.endswith(id)]
    assert mine == ["load", "tag", "untag", "untag", "delete"]


def test_import_is_told(docker: Docker, tag: str) -> None:
    began = time.time()
    id = docker.ok("import", "-", tag, input=layer(mark="import event"))
    assert f"import {id}" in past(docker, began, "type=image", form="{{.Action}} {{.Actor.ID}}")


def test_filters_join_as_or_inside_a_key_and_as_and_between_keys(docker: Docker, image: str, name: str) -> None:
    began = time.time()
    docker.ok("run", "--name", name, "--network", "none", "-l", f"mark={name}", image, "true")
    assert past(docker, began, f"label=mark={name}", "event=start", "event=die") == ["start", "die"]
    assert past(docker, began, "type=container", "event=die", f"image={image}", f"container={name}") == ["die"]
    assert past(docker, began, f"label=mark={name}", "type=volume") == []


def test_events_in_json_have_old_and_new_fields(wire: Wire, docker: Docker, image: str, name: str) -> None:
    """`status`, `id` and `from` are the fields of API 1.21; every client since reads one set or the other."""
    began = time.time()
    id = docker.ok("create", "--name", name, "--network", "none", image, "true")
    filters = json.dumps({"container": [name]})
    body = wire.get("/events", since=f"{began:.9f}", until=f"{time.time():.9f}", filters=filters).body
    (event,) = [json.loads(line) for line in body.splitlines() if line]
    assert (event["status"], event["id"], event["from"]) == ("create", id, image)
    assert (event["Type"], event["Action"], event["scope"]) == ("container", "create", "local")
    assert event["Actor"]["ID"] == id
    assert event["timeNano"] // 10**9 == event["time"] and began <= event["timeNano"] / 1e9


def test_old_clients_send_filters_as_objects(wire: Wire, docker: Docker, image: str, name: str) -> None:
    began = time.time()
    docker.ok("create", "--name", name, "--network", "none", image, "true")
    filters = json.dumps({"container": {name: True}})
    body = wire.get("/events", since=f"{began:.9f}", until=f"{time.time():.9f}", filters=filters).body
    assert len(body.split(b'"Action":"create"')) == 2


def test_a_time_that_is_none_is_refused(wire: Wire, docker: Docker) -> None:
    """20.10 calls the client's mistake its own (500)."""
    answer = wire.get("/events", since="yesterday", until="1")
    assert answer.status == (500 if docker.is_old else 400), answer.body


def test_until_in_the_future_ends_the_stream(wire: Wire) -> None:
    began = time.monotonic()
    answer = wire.get("/events", until=f"{time.time() + 1:.3f}")
    assert answer.status == 200
    assert 0.5 <= time.monotonic() - began < 10
