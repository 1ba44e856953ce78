"""Who gets to know a password: the registry it is for, and the authorization server that it names. Nobody else."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.registry.conftest import Engines
from tests.registry.server import Answer, Asked, Server
from tests.support.images import compress, digest, layer
from windlass.engine.errors import Denied, JobError, NotFound, Unauthorized

pytestmark = pytest.mark.root

PATH = "a/b"
DATA = layer(a="a")
PACKED = compress(DATA, "gzip")
BASIC = f"Basic {base64.b64encode(b'ann:secret').decode()}"


def auth(**fields: str) -> str:
    """X-Registry-Auth, as the CLI sends it."""
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


ANN = auth(username="ann", password="secret")


def wants(value: str, challenge: str) -> Callable[[Asked], Answer | None]:
    """A rule: who does not send this Authorization is challenged."""

    def rule(asked: Asked) -> Answer | None:
        if asked.headers.get("authorization") == value:
            return None
        errors = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return Answer(401, json.dumps(errors).encode(), {"WWW-Authenticate": challenge})

    return rule


class Tokens:
    """Gives a token to whoever sends the right Authorization, and wants the latest one at the registry."""

    def __init__(self, registry: Server, issuer: Server, wanted: str = BASIC) -> None:
        self.registry, self.issuer, self.wanted = registry, issuer, wanted
        self.valid = 0
        self.issued = 0
        registry.image(PATH, [DATA])
        registry.answers["/v2/"] = Answer()
        registry.rules.append(("^/v2/", self._check))
        issuer.answers["/token"] = self._issue

    def _check(self, asked: Asked) -> Answer | None:
        if self.valid and asked.headers.get("authorization") == f"Bearer token{self.valid}":
            return None
        scope = f'scope="repository:{PATH}:pull"'
        challenge = f'Bearer realm="{self.issuer.url}/token",service="the registry",{scope}'
        return Answer(401, b"", {"WWW-Authenticate": challenge})

    def _issue(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization", "") != self.wanted:
            return Answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]}')
        self.valid = self.issued = self.issued + 1
        return Answer(body=json.dumps({"token": f"token{self.valid}"}).encode())


async def test_basic(images: Engines, server: Server) -> None:
    server.image(PATH, [DATA])
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    await images.pull(f"{server.host}/{PATH}", auth=ANN)
    assert len(await images.list()) == 1


async def test_basic_without_credentials(images: Engines, server: Server) -> None:
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    with pytest.raises(Denied, match="no basic auth credentials"):
        await images.pull(f"{server.host}/{PATH}")


async def test_a_wrong_password_is_tried_once(images: Engines, server: Server) -> None:
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    with pytest.raises(Denied, match="unauthorized: authentication required"):
        await images.pull(f"{server.host}/{PATH}", auth=auth(username="ann", password="wrong"))
    assert len(server.asked) == 2


async def test_a_token(images: Engines, server: Server, new_server: Callable[..., Server]) -> None:
    issuer = new_server()
    Tokens(server, issuer)
    await images.pull(f"{server.host}/{PATH}", auth=ANN)
    (asked,) = issuer.asked
    query = parse_qs(urlsplit(asked.path).query)
    assert query == {
        "service": ["the registry"],
        "scope": [f"repository:{PATH}:pull"],
        "account": ["ann"],
        "client_id": ["windlass"],
    }
    assert server.headers("authorization") == {"Bearer token1"}


async def test_a_token_for_nobody(images: Engines, server: Server, new_server: Callable[..., Server]) -> None:
    issuer = new_server()
    Tokens(server, issuer, wanted="")
    await images.pull(f"{server.host}/{PATH}")
    assert len(await images.list()) == 1 and issuer.headers("authorization") == set()


async def test_a_token_that_expires_in_mid_pull(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    tokens = Tokens(server, new_server())

    def expire(_: Asked) -> None:
        if tokens.valid == 1:
            tokens.valid = 0

    server.rules.insert(0, (digest(PACKED), expire))
    await images.pull(f"{server.host}/{PATH}", auth=ANN)
    assert tokens.issued == 2 and len(await images.list()) == 1


async def test_a_token_that_never_helps_is_not_asked_for_again_and_again(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    issuer = new_server()
    tokens = Tokens(server, issuer)
    server.rules = [("^/v2/", lambda asked: tokens._check(Asked("GET", "", {})))]
    with pytest.raises(JobError):
        await images.pull(f"{server.host}/{PATH}", auth=ANN)
    assert len(issuer.asked) == 1


async def test_an_identity_token(images: Engines, server: Server, new_server: Callable[..., Server]) -> None:
    issuer = new_server()
    tokens = Tokens(server, issuer, wanted="")
    await images.pull(f"{server.host}/{PATH}", auth=auth(identitytoken="refresh me"))
    (asked,) = issuer.asked
    form = parse_qs(asked.body.decode())
    assert asked.method == "POST" and form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh me"] and form["service"] == ["the registry"]
    assert tokens.issued == 1


async def test_a_registry_token(images: Engines, server: Server, new_server: Callable[..., Server]) -> None:
    issuer = new_server()
    tokens = Tokens(server, issuer)
    tokens.valid = 7
    await images.pull(f"{server.host}/{PATH}", auth=auth(registrytoken="token7"))
    assert issuer.asked == []


@pytest.mark.parametrize("answer", [b"null", b"{}", b'{"token": 3}', b'{"token": "a\\r\\nb"}', b"no JSON"])
async def test_an_issuer_that_gives_no_token(
    images: Engines, server: Server, new_server: Callable[..., Server], answer: bytes
) -> None:
    issuer = new_server()
    Tokens(server, issuer)
    issuer.answers["/token"] = Answer(body=answer)
    with pytest.raises(JobError, match="token"):
        await images.pull(f"{server.host}/{PATH}", auth=ANN)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "gopher://x/", "nonsense://"])
async def test_a_realm_that_is_no_place_to_send_a_password_to(images: Engines, server: Server, realm: str) -> None:
    server.rules = [("^/v2/", wants("x", f'Bearer realm="{realm}",service="x"'))]
    with pytest.raises(Denied, match="refusing to ask for a token"):
        await images.pull(f"{server.host}/{PATH}", auth=ANN)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_where_a_blob_is_redirected_to_learns_nothing(
    images: Engines, server: Server, new_server: Callable[..., Server], status: int
) -> None:
    store = new_server()
    server.image(PATH, [DATA])
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    store.answers["/signed"] = Answer(body=PACKED)
    there = f"{store.url}/signed?signature=x"
    server.answers[f"/v2/{PATH}/blobs/{digest(PACKED)}"] = Answer(status, headers={"Location": there})
    await images.pull(f"{server.host}/{PATH}", auth=ANN)
    assert store.paths() == ["/signed?signature=x"] and store.headers("authorization") == set()


async def test_a_challenge_of_a_blob_store_is_not_answered(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    store = new_server()
    server.image(PATH, [DATA])
    store.answers["/x"] = Answer(401, headers={"WWW-Authenticate": 'Basic realm="give me"'})
    server.answers[f"/v2/{PATH}/blobs/{digest(PACKED)}"] = Answer(307, headers={"Location": f"{store.url}/x"})
    with pytest.raises(JobError):
        await images.pull(f"{server.host}/{PATH}", auth=ANN)
    assert store.headers("authorization") == set()


async def test_credentials_for_another_registry_stay_here(images: Engines, server: Server) -> None:
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    for address in ("registry.example.com", "https://index.docker.io/v1/", "127.0.0.1:1"):
        with pytest.raises(Denied, match="no basic auth credentials"):
            await images.pull(
                f"{server.host}/{PATH}", auth=auth(username="ann", password="secret", serveraddress=address)
            )
    assert server.headers("authorization") == set()


@pytest.mark.parametrize("form", ["{host}", "http://{host}", "https://{host}/v2/"])
async def test_credentials_for_this_registry_however_it_is_written(images: Engines, server: Server, form: str) -> None:
    server.image(PATH, [DATA])
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    address = form.format(host=server.host)
    await images.pull(f"{server.host}/{PATH}", auth=auth(username="ann", password="secret", serveraddress=address))
    assert len(await images.list()) == 1


@pytest.mark.parametrize("text", ["!", "e30", "bnVsbA==", "W10=", "eyJ1c2VybmFtZSI6M30="])
async def test_what_is_no_header_is_refused_and_not_repeated(images: Engines, server: Server, text: str) -> None:
    server.image(PATH, [DATA])
    if text in ("e30", "bnVsbA=="):  # an empty object, and null: nobody
        await images.pull(f"{server.host}/{PATH}", auth=text)
        return
    with pytest.raises(JobError, match="invalid X-Registry-Auth header") as caught:
        await images.pull(f"{server.host}/{PATH}", auth=text)
    assert text not in caught.value.message


async def test_the_log_never_shows_a_secret(
    images: Engines, server: Server, new_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    Tokens(server, new_server())
    job = images.engine.job("pull", f"{server.host}/{PATH}", tag="latest", auth=ANN)
    await job.run()
    await images.run("auth", username="ann", password="secret", serveraddress=server.host)
    text = caplog.text + repr(job.shown_env)
    assert not any(secret in text for secret in ("secret", ANN, BASIC, BASIC[6:], "token1"))


# -- login -------------------------------------------------------------------------------------------------------


async def test_login_with_a_token_server(images: Engines, server: Server, new_server: Callable[..., Server]) -> None:
    issuer = new_server()
    Tokens(server, issuer)
    issuer.answers["/token"] = Answer(body=b'{"token": "token1", "refresh_token": "identity"}')
    server.rules = [("^/v2/", wants("Bearer token1", f'Bearer realm="{issuer.url}/token",service="x"'))]
    result = await images.run("auth", username="ann", password="secret", serveraddress=server.host)
    assert (result.Status, result.IdentityToken) == ("Login Succeeded", "identity")
    assert "offline_token=true" in issuer.paths()[0]


async def test_login_with_a_wrong_password_at_a_token_server(
    images: Engines, server: Server, new_server: Callable[..., Server]
) -> None:
    Tokens(server, new_server())
    with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
        await images.run("auth", username="ann", password="wrong", serveraddress=server.host)


async def test_login_with_a_wrong_password(images: Engines, server: Server) -> None:
    server.rules = [("^/v2/", wants(BASIC, 'Basic realm="x"'))]
    with pytest.raises(Unauthorized) as caught:
        await images.run("auth", username="ann", password="wrong", serveraddress=server.host)
    assert caught.value.message == f"login attempt to {server.url}/v2/ failed with status: 401 Unauthorized"


# -- search and distribution -------------------------------------------------------------------------------------

FOUND: list[dict[str, Any]] = [
    {"name": "one", "description": "first", "star_count": 5, "is_official": True, "is_automated": False},
    {"name": "two", "description": None, "star_count": 1, "is_official": False, "is_automated": False},
    {"name": 3},
]


async def test_search(images: Engines, server: Server) -> None:
    server.answers["/v1/search"] = Answer(body=json.dumps({"results": FOUND}).encode())
    found = await images.run("search", f"{server.host}/on", limit=10)
    assert [(each.name, each.description, each.star_count) for each in found] == [("one", "first", 5), ("two", "", 1)]
    assert server.paths("search") == ["/v1/search?q=on&n=10"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [({"is-official": ["true"]}, ["one"]), ({"stars": ["2"]}, ["one"]), ({"is-official": {"false": True}}, ["two"]),
     ({"is-automated": ["true"]}, [])],
)  # fmt: skip
async def test_search_filters(images: Engines, server: Server, filters: Any, names: list[str]) -> None:
    server.answers["/v1/search"] = Answer(body=json.dumps({"results": FOUND}).encode())
    assert [each.name for each in await images.run("search", f"{server.host}/o", filters=filters)] == names


@pytest.mark.parametrize(
    ("env", "words"),
    [({"limit": 101}, "limit 101 is outside"), ({"limit": -1}, "limit -1 is outside"),
     ({"filters": {"x": ["1"]}}, "invalid filter 'x'"), ({"filters": {"stars": ["a"]}}, "invalid filter 'stars=a'")],
)  # fmt: skip
async def test_a_search_that_is_none(images: Engines, server: Server, env: Any, words: str) -> None:
    with pytest.raises(JobError, match=words):
        await images.run("search", f"{server.host}/o", **env)
    assert server.asked == []


@pytest.mark.parametrize("body", [b"null", b"[]", b'{"results": 3}', b"no JSON"])
async def test_a_search_that_is_answered_with_nonsense(images: Engines, server: Server, body: bytes) -> None:
    server.answers["/v1/search"] = Answer(body=body)
    with pytest.raises(JobError):
        await images.run("search", f"{server.host}/o")


async def test_distribution_inspect(images: Engines, server: Server) -> None:
    manifest = server.image(PATH, [DATA])
    found = await images.run("distribution_inspect", f"{server.host}/{PATH}")
    content = json.dumps(manifest).encode()
    assert found.Descriptor == {"mediaType": manifest["mediaType"], "digest": digest(content), "size": len(content)}
    assert found.Platforms == [{"architecture": "amd64", "os": "linux"}]
    with pytest.raises(NotFound):
        await images.run("distribution_inspect", f"{server.host}/no/where")
