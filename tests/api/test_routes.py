"""The route table: which job a request becomes, and what is not there."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from windlass import jobs
from windlass.api import Route
from windlass.api.routes import ROUTES
from windlass.engine import Job, Signature
from windlass.engine.signature import fields

from .serving import recorder, serving

AUTH = "eyJ1c2VybmFtZSI6ImEifQ=="


@pytest.mark.parametrize(
    ("method", "target", "body", "job", "env"),
    [
        ("GET", "/containers/json?all=1&limit=5&filters={}", None, "containers",
         {"all": "1", "limit": "5", "filters": "{}"}),
        ("GET", "/v1.24/containers/ps", None, "containers", {}),
        ("POST", "/containers/create?name=web", {"Image": "a"}, "create", {"name": "web", "Image": "a"}),
        ("GET", "/containers/web/json?size=1", None, "container_inspect", {"name": "web", "size": "1"}),
        ("POST", "/containers/web/stop?t=5&signal=INT", None, "stop", {"name": "web", "t": "5", "signal": "INT"}),
        ("POST", "/containers/web/rename?name=new", None, "container_rename", {"name": "web", "new_name": "new"}),
        ("DELETE", "/containers/web?v=1&force=1", None, "delete", {"name": "web", "v": "1", "force": "1"}),
        ("GET", "/containers/web/logs?stdout=1&tail=5", None, "logs",
         {"name": "web", "stdout": "1", "tail": "5", "frames": True}),
        ("POST", "/containers/web/exec", {"Cmd": ["a"]}, "execCreate", {"name": "web", "Cmd": ["a"]}),
        ("POST", "/exec/abc/resize?h=2&w=3", None, "execResize", {"name": "abc", "h": "2", "w": "3"}),
        ("POST", "/images/create?fromImage=a&tag=b", None, "pull", {"fromImage": "a", "tag": "b"}),
        ("POST", "/images/create?fromSrc=-&repo=b&changes=a&changes=b", None, "import",
         {"fromSrc": "-", "repo": "b", "changes": ["a", "b"]}),
        ("GET", "/images/docker.io/library/busybox:1/json", None, "image_inspect",
         {"name": "docker.io/library/busybox:1"}),
        ("GET", "/images/docker.io%2Flibrary%2Fbusybox/json", None, "image_inspect",
         {"name": "docker.io/library/busybox"}),
        ("DELETE", "/images/a/b?noprune=1", None, "image_delete", {"name": "a/b", "noprune": "1"}),
        ("POST", "/images/a/b/tag?repo=c&tag=d", None, "tag", {"name": "a/b", "repo": "c", "tag": "d"}),
        ("GET", "/images/json", None, "images", {}),
        ("GET", "/images/get?names=a&names=b", None, "image_export", {"names": ["a", "b"]}),
        ("POST", "/commit?container=a&repo=b", {"Cmd": ["x"]}, "commit",
         {"container": "a", "repo": "b", "config": {"Cmd": ["x"]}}),
    ],
)  # fmt: skip
async def test_a_request_becomes_its_job(
    tmp_path: Path, method: str, target: str, body: Any, job: str, env: dict[str, Any]
) -> None:
    async with serving(tmp_path) as served:
        served.engine.register(job, recorder(served))
        answer = await served.ask(method, target, body)
        assert answer.status < 300, answer.body
        assert served.jobs[0].name == job and served.jobs[0].env == env
        assert served.jobs[0].parent is None
        assert served.jobs[0].peer is not None and served.jobs[0].peer.uid == 0


async def test_credentials_come_from_their_header(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.engine.register("push", recorder(served))
        await served.ask("POST", "/images/a/push", X_Registry_Auth=AUTH)
        assert served.jobs[0].env == {"name": "a", "auth": AUTH}


class Sized(Signature[None], frozen=True):
    NAME = "resize"
    name: str
    h: int = 0
    w: int = 7


async def test_a_query_is_typed_by_the_jobs_signature(tmp_path: Path) -> None:
    seen: list[Sized] = []

    async def resize(job: Job[Sized]) -> None:
        seen.append(job.params)

    async with serving(tmp_path, {"resize": resize}) as served:
        await served.ask("POST", "/containers/web/resize?h=5&w=")
    assert seen == [Sized(name="web", h=5, w=7)]


def signatures() -> dict[str, type[Signature[Any]]]:
    found = {}
    for module in pkgutil.iter_modules(jobs.__path__):
        for value in vars(importlib.import_module(f"windlass.jobs.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Signature) and value.NAME:
                found[value.NAME] = value
    return found


@pytest.mark.parametrize("route", [r for r in ROUTES if r.job in signatures()], ids=lambda r: f"{r.method} {r.path}")
def test_a_row_fills_only_fields_that_its_job_has(route: Route) -> None:
    """What a row names and the job has not would be dropped without a word; these are known and harmless."""
    ignored = {"manifests", "platform", "shared-size", "platforms", "force"}
    known = set(fields(signatures()[route.job]))
    named = [entry.partition("=")[2] or entry for entry in (*route.query, *route.headers)]
    named += [key for key, _ in route.fixed]
    named += [part[1:-1].rstrip("*") for part in route.path.split("/") if part.startswith("{")]
    assert set(named) - ignored <= known


def operations() -> list[tuple[str, str]]:
    text = (Path(__file__).parent / "operations-1.51.txt").read_text()
    return [(method, path) for method, path in (line.split() for line in text.splitlines())]


@pytest.mark.parametrize(("method", "path"), operations(), ids=" ".join)
async def test_every_operation_of_the_docker_api_is_known(tmp_path: Path, method: str, path: str) -> None:
    """Not built yet is 501 with a sentence, no swarm 503; nothing is just not found."""
    target = path.replace("{id}", "x").replace("{name}", "x")
    async with serving(tmp_path) as served:
        answer = await served.ask(method, "/v1.51" + target)
        if target in ("/_ping", "/plugins"):
            assert answer.status == 200
        elif target in ("/session", "/grpc"):
            assert answer.status == 404 and "DOCKER_BUILDKIT=0" in answer.message
        else:
            assert answer.status in (501, 503), answer.body
            if method != "HEAD":
                assert len(answer.message.split()) > 4


@pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"])
async def test_there_is_no_swarm_in_dockers_words(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("GET", path)
        assert answer.status == 503
        assert answer.message.startswith('This node is not a swarm manager. Use "docker swarm init"')


async def test_there_are_no_plugins_in_containers(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/plugins")).json == []
        assert (await served.ask("POST", "/plugins/pull?remote=x")).status == 501


async def test_a_plugin_adds_a_route_while_the_server_runs(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/hello/you")).status == 404
        served.engine.register("greet", recorder(served, {"hello": "you"}))
        served.engine.provide("route", Route("GET", "/hello/{name}", "greet", query=("loud",)))
        answer = await served.ask("GET", "/v1.40/hello/you?loud=1")
        assert answer.json == {"hello": "you"}
        assert served.jobs[0].env == {"name": "you", "loud": "1"}


async def test_a_plugins_route_goes_before_ours(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.engine.register("other", recorder(served, {"mine": True}))
        served.engine.provide("route", Route("GET", "/version", "other"))
        assert (await served.ask("GET", "/version")).json == {"mine": True}


async def test_a_catchall_gets_the_jobs_that_nobody_has(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.engine.catchall = recorder(served, {"Titles": []})
        assert (await served.ask("GET", "/containers/web/top")).json == {"Titles": []}
        assert served.jobs[0].name == "top"


async def test_a_path_that_is_not_clean_is_sent_to_the_clean_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await served.ask("GET", "//containers/./x/../json%0")
        assert answer.status == 400
        answer = await served.ask("GET", "//containers/./x/../j%20n")
        assert (answer.status, answer.headers["location"]) == (301, "/containers/j%20n")


async def test_the_version_names_both_numbers(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/v1.52/info")).message == (
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        )
        assert "1.14" in (await served.ask("GET", "/v1.14/info")).message


async def test_nulls_and_unknown_keys_of_a_body_are_ignored(tmp_path: Path) -> None:
    from windlass.jobs.containers import Create

    seen: list[Create] = []

    async def create(job: Job[Create]) -> Any:
        seen.append(job.params)
        return {"Id": "abc", "Warnings": []}

    async with serving(tmp_path, {"create": create}) as served:
        body = {"Image": "a", "cmd": None, "tty": True, "HostConfig": {"Binds": None, "IsolationX": ""}, "Nope": 1}
        answer = await served.ask("POST", "/containers/create?name=web", body)
    assert (answer.status, answer.json) == (201, {"Id": "abc", "Warnings": []})
    assert (seen[0].name, seen[0].Image, seen[0].Tty) == ("web", "a", True)


def test_no_two_rows_are_for_the_same_requests() -> None:
    keys = [(route.method, route.path, route.when) for route in ROUTES]
    assert len(keys) == len(set(keys))


async def test_a_result_is_encoded_with_its_own_spelling(tmp_path: Path) -> None:
    class Result(msgspec.Struct):
        Id: str
        Warnings: list[str]

    async with serving(tmp_path) as served:
        served.engine.register("version", recorder(served, Result("a", [])))
        assert (await served.ask("GET", "/version")).body == b'{"Id":"a","Warnings":[]}\n'
