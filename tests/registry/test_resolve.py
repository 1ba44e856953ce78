"""Where an image is looked for: mirrors in order, insecure registries, certificates, and what a name means."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.registry.conftest import Engines
from tests.registry.server import Answer, Server
from tests.registry.test_auth import ANN
from tests.support.images import compress, digest, layer
from windlass.engine import Engine, Job
from windlass.engine.errors import JobError
from windlass.jobs.registry import Endpoint, Resolution, ResolveImage
from windlass.registry import proxies, resolve
from windlass.registry.settings import Settings

pytestmark = pytest.mark.root

PATH = "a/b"
DATA = layer(a="a")
PACKED = compress(DATA, "gzip")


class Names(trio.abc.HostnameResolver):
    """Answers what it is told to, each time the next of the answers for a name."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}

    async def getaddrinfo(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else host
        answers = self.names.get(text, [])
        if not answers:
            raise OSError(-2, "Name or service not known")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (10 if ":" in each else 2, 1, 6, "", (each, int(port), 0, 0) if ":" in each else (each, int(port)))
            for each in found
        ]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("host", "addresses", "listed", "insecure"),
    [
        ("localhost:5000", ["127.0.0.1"], [], True),
        ("localhost:5000", ["::1", "127.0.0.1"], [], True),
        ("registry.test", ["10.0.0.1"], [], False),
        ("registry.test", [], [], False),
        ("registry.test", ["10.0.0.1"], ["registry.test"], True),
        ("registry.test:5000", ["10.0.0.1"], ["registry.test"], False),
        ("registry.test:5000", ["10.0.0.1"], ["registry.test:5000"], True),
        ("registry.test", ["10.0.0.1"], ["10.0.0.0/8"], True),
        ("registry.test", ["10.0.0.1", "10.0.0.2"], ["10.0.0.0/8"], True),
        ("registry.test", ["fd00::1"], ["fd00::/8"], True),
        ("registry.test", ["127.0.0.1", "10.0.0.1"], [], False),  # CVE-2026-92543: any one was enough
        ("registry.test", ["10.0.0.1", "127.0.0.1"], [], False),
    ],
)
def test_what_is_insecure(host: str, addresses: list[str], listed: list[str], insecure: bool) -> None:
    assert resolve.is_insecure(Settings(insecure=listed), host, addresses) == insecure


def test_a_block_that_is_none_is_named() -> None:
    with pytest.raises(JobError, match="invalid insecure registry: 10.0.0.0/99"):
        resolve.is_insecure(Settings(insecure=["10.0.0.0/99"]), "x", ["10.0.0.1"])


async def endpoints(engine: Engine, name: str, **env: Any) -> list[tuple[str, str]]:
    found = await engine.call(ResolveImage(name=name, **env))
    return [(endpoint.url, endpoint.repository) for endpoint in found.endpoints]


async def test_names_and_their_endpoints(new_engine: Callable[..., Engines]) -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    images = new_engine(
        mirrors={"docker.io": ["https://mirror.test"], "registry.test:5000": ["http://10.1.1.1/cache/"]},
        insecure=["old.test"],
    )
    hub = ("https://registry-1.docker.io", "library/busybox")
    assert await endpoints(images.engine, "docker.io/library/busybox:1") == [
        ("https://mirror.test", "library/busybox"), hub,
    ]  # fmt: skip
    assert await endpoints(images.engine, "docker.io/library/busybox:1", push=True) == [hub]
    assert await endpoints(images.engine, "registry.test:5000/a/b") == [
        ("http://10.1.1.1", "cache/a/b"),
        ("https://registry.test:5000", "a/b"),
    ]
    assert await endpoints(images.engine, "registry.test/a/b") == [("https://registry.test", "a/b")]
    assert await endpoints(images.engine, "old.test/a") == [("https://old.test", "a"), ("http://old.test", "a")]


async def test_the_default_registry(new_engine: Callable[..., Engines]) -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    images = new_engine(default="registry.test")
    assert await endpoints(images.engine, "docker.io/library/busybox:1") == [("https://registry.test", "busybox")]
    assert await endpoints(images.engine, "docker.io/you/tool:1") == [("https://registry.test", "you/tool")]


async def test_a_short_name_is_pulled_from_the_default_registry(
    new_engine: Callable[..., Engines], server: Server
) -> None:
    images = new_engine(default=server.host)
    server.image("tool", [DATA])
    await images.pull("tool")
    (found,) = await images.list()
    assert found.RepoTags == ["tool:latest"]


@pytest.mark.parametrize("url", ["ftp://x", "registry.test", "https://", "https://a b", "https://x/?a=b"])
async def test_a_mirror_that_is_none_is_named(new_engine: Callable[..., Engines], url: str) -> None:
    images = new_engine(mirrors={"registry.test": [url]})
    with pytest.raises(JobError, match="invalid mirror"):
        await images.pull("registry.test/a")


# -- mirrors -----------------------------------------------------------------------------------------------------


async def test_a_mirror_is_asked_first(new_engine: Callable[..., Engines], new_server: Callable[..., Server]) -> None:
    origin, mirror = new_server(), new_server()
    images = new_engine(mirrors={origin.host: [mirror.url]})
    for each in (origin, mirror):
        each.image(PATH, [DATA])
    await images.pull(f"{origin.host}/{PATH}", auth=ANN)
    assert origin.asked == [] and len(mirror.paths("/blobs/")) == 2
    assert mirror.headers("authorization") == set()
    (found,) = await images.list()
    assert found.RepoTags == [f"{origin.host}/{PATH}:latest"]


@pytest.mark.parametrize("failure", ["404", "500", "403", "nonsense", "stall", "refused", "cut"])
async def test_what_a_mirror_cannot_give_comes_from_the_next(
    new_engine: Callable[..., Engines], new_server: Callable[..., Server], failure: str
) -> None:
    origin, mirror, second = new_server(), new_server(), new_server()
    images = new_engine(mirrors={origin.host: [mirror.url, second.url]})
    origin.image(PATH, [DATA])
    rules = {
        "404": Answer(404), "500": Answer(500), "403": Answer(403), "nonsense": Answer(200, b"<html>"),
        "stall": Answer(200, b"{}", stall=0), "cut": Answer(200, b"{}" * 100, cut=10),
    }  # fmt: skip
    if failure == "refused":
        mirror.close()
    else:
        mirror.rules = [("", rules[failure])]
    await images.pull(f"{origin.host}/{PATH}", auth=ANN)
    assert len(await images.list()) == 1
    assert len(second.paths("/manifests/")) == 1 and len(origin.paths("/blobs/")) == 2
    if failure != "refused":
        assert len(mirror.asked) == 1
    assert mirror.headers("authorization") == second.headers("authorization") == set()


@pytest.mark.parametrize("answer", [Answer(404), Answer(500), Answer(200, b"other"), Answer(200, PACKED, cut=0)])
async def test_a_layer_that_a_mirror_cannot_give_comes_from_the_registry(
    new_engine: Callable[..., Engines], new_server: Callable[..., Server], answer: Answer
) -> None:
    origin, mirror = new_server(), new_server()
    images = new_engine(mirrors={origin.host: [mirror.url]}, attempts=2)
    for each in (origin, mirror):
        each.image(PATH, [DATA])
    mirror.answers[f"/v2/{PATH}/blobs/{digest(PACKED)}"] = answer
    await images.pull(f"{origin.host}/{PATH}")
    assert len(await images.list()) == 1 and len(origin.paths("/blobs/")) == 1


async def test_a_mirror_cannot_give_another_image_for_a_digest(
    new_engine: Callable[..., Engines], new_server: Callable[..., Server]
) -> None:
    origin, mirror = new_server(), new_server()
    images = new_engine(mirrors={origin.host: [mirror.url]})
    wanted = next(key for key in fill(origin) if "sha256" in key).rpartition("/")[2]
    mirror.image(PATH, [layer(evil="evil")])
    mirror.answers[f"/v2/{PATH}/manifests/{wanted}"] = mirror.answers[f"/v2/{PATH}/manifests/latest"]
    await images.pull(f"{origin.host}/{PATH}@{wanted}")
    (found,) = await images.list()
    assert found.RepoDigests == [f"{origin.host}/{PATH}@{wanted}"]
    assert len(origin.paths("/manifests/")) == 1


def fill(server: Server) -> list[str]:
    server.image(PATH, [DATA])
    return [path for path in server.answers if "/manifests/" in path]


async def test_credentials_of_one_registry_never_reach_another(
    new_engine: Callable[..., Engines], new_server: Callable[..., Server]
) -> None:
    first, second, mirror = new_server(), new_server(), new_server()
    images = new_engine(mirrors={first.host: [mirror.url]})
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}

    def closed(asked: Any) -> Answer | None:
        return None if "authorization" in asked.headers else Answer(401, headers=challenge)

    for each in (first, second):
        each.image(PATH, [DATA])
        each.rules = [("", closed)]
    mirror.rules = [("", Answer(401, headers=challenge))]
    await images.pull(f"{first.host}/{PATH}", auth=ANN)
    with pytest.raises(JobError, match="no basic auth credentials"):
        await images.pull(f"{second.host}/{PATH}")
    assert (
        first.headers("authorization") and mirror.headers("authorization") == second.headers("authorization") == set()
    )


async def test_a_plugin_decides_without_a_restart(images: Engines, new_server: Callable[..., Server]) -> None:
    first, second = new_server(), new_server()
    first.image(PATH, [DATA])
    second.image("elsewhere", [DATA])

    async def rule(job: Job[ResolveImage], call: Any) -> Resolution:
        return Resolution([Endpoint(second.url, "elsewhere")])

    await images.pull(f"{first.host}/{PATH}")
    images.engine.around("resolve_image", rule)
    await images.pull("registry.example.com/never/was")
    assert len(second.paths("/manifests/latest")) == 1
    assert "registry.example.com/never/was:latest" in (await images.list())[0].RepoTags


# -- addresses and certificates ----------------------------------------------------------------------------------


async def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    new_engine: Callable[..., Engines], server: Server
) -> None:
    """A name that means loopback when it is looked at, and something else later, opens nothing."""
    trio.socket.set_custom_hostname_resolver(Names(registry_test=[["127.0.0.1"], ["192.0.2.1"]]))
    images = new_engine()
    server.image(PATH, [DATA])
    await images.pull(f"registry.test:{server.port}/{PATH}")
    assert server.headers("host") == {f"registry.test:{server.port}"}


async def test_a_name_with_a_loopback_address_among_others_stays_with_tls(
    new_engine: Callable[..., Engines], server: Server
) -> None:
    trio.socket.set_custom_hostname_resolver(Names(registry_test=[["127.0.0.1", "192.0.2.1"]]))
    images = new_engine()
    server.image(PATH, [DATA])
    with pytest.raises(JobError, match="https://registry.test"):
        await images.pull(f"registry.test:{server.port}/{PATH}")
    assert server.asked == []


async def test_there_is_no_silent_fall_back_to_plain_http(new_engine: Callable[..., Engines], server: Server) -> None:
    trio.socket.set_custom_hostname_resolver(Names(registry_test=[["127.0.0.1"]]))
    images = new_engine()
    server.image(PATH, [DATA])
    images.engine.around("resolve_image", only_secure)
    with pytest.raises(JobError, match="tls: "):
        await images.pull(f"registry.test:{server.port}/{PATH}")
    assert server.asked == []


async def only_secure(job: Job[ResolveImage], call: Any) -> Resolution:
    found = await call(job)
    return Resolution(found.endpoints[:1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate of registry.test, which signed itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key, crt = folder / "key.pem", folder / "crt.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=registry.test -keyout {key} -out {crt}"
    names = ["-addext", "subjectAltName=DNS:registry.test,IP:127.0.0.1"]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)
    return crt, key


def serving(certificate: tuple[Path, Path], ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    return context


class Secure:
    """A TLS registry under the name registry.test, which is no loopback name, and its folder in certs.d."""

    def __init__(self, server: Server, root: Path) -> None:
        self.server = server
        server.image(PATH, [DATA])
        self.host = f"registry.test:{server.port}"
        self.certs = root / "certs.d" / self.host
        self.certs.mkdir(parents=True)


async def only_checked(job: Job[ResolveImage], call: Any) -> Resolution:
    """As if the name were not one of loopback: TLS, checked."""
    found = await call(job)
    addresses = found.endpoints[0].addresses
    assert all(ipaddress.ip_address(each).is_loopback for each in addresses)
    return Resolution([Endpoint(found.endpoints[0].url, found.endpoints[0].repository, addresses)])


@pytest.fixture
def engine_and_names(new_engine: Callable[..., Engines]) -> Engines:
    trio.socket.set_custom_hostname_resolver(Names(registry_test=[["127.0.0.1"]]))
    images = new_engine()
    images.engine.around("resolve_image", only_checked)
    return images


async def test_a_certificate_of_an_unknown_authority_is_refused(
    engine_and_names: Engines, new_server: Callable[..., Server], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    secure = Secure(new_server("127.0.0.1", serving(certificate)), tmp_path)
    with pytest.raises(JobError, match="failed to verify certificate"):
        await engine_and_names.pull(f"{secure.host}/{PATH}")
    assert secure.server.asked == []


async def test_an_authority_of_certs_d_is_trusted_for_its_host(
    engine_and_names: Engines, new_server: Callable[..., Server], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    secure = Secure(new_server("127.0.0.1", serving(certificate)), tmp_path)
    (secure.certs / "ca.crt").write_bytes(certificate[0].read_bytes())
    await engine_and_names.pull(f"{secure.host}/{PATH}")
    assert len(await engine_and_names.list()) == 1


async def test_a_client_certificate_of_certs_d_is_shown(
    engine_and_names: Engines, new_server: Callable[..., Server], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    secure = Secure(new_server("127.0.0.1", serving(certificate, ca=certificate[0])), tmp_path)
    (secure.certs / "ca.crt").write_bytes(certificate[0].read_bytes())
    with pytest.raises(JobError):
        await engine_and_names.pull(f"{secure.host}/{PATH}")
    (secure.certs / "client.cert").write_bytes(certificate[0].read_bytes())
    with pytest.raises(JobError, match="missing key client.key for client certificate client.cert"):
        await engine_and_names.pull(f"{secure.host}/{PATH}")
    (secure.certs / "client.key").write_bytes(certificate[1].read_bytes())
    await engine_and_names.pull(f"{secure.host}/{PATH}")
    assert len(await engine_and_names.list()) == 1


async def test_an_insecure_registry_with_tls_is_not_spoken_to_in_plain_text(
    images: Engines, new_server: Callable[..., Server], certificate: tuple[Path, Path]
) -> None:
    server = new_server("127.0.0.1", serving(certificate))
    server.image(PATH, [DATA])
    await images.pull(f"{server.host}/{PATH}")
    assert len(await images.list()) == 1


async def test_a_redirect_from_https_to_http_is_refused(
    images: Engines, new_server: Callable[..., Server], certificate: tuple[Path, Path]
) -> None:
    server, plain = new_server("127.0.0.1", serving(certificate)), new_server()
    server.image(PATH, [DATA])
    server.answers[f"/v2/{PATH}/blobs/{digest(PACKED)}"] = Answer(307, headers={"Location": f"{plain.url}/x"})
    with pytest.raises(JobError, match="from https to http"):
        await images.pull(f"{server.host}/{PATH}")
    assert plain.asked == []


# -- proxies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "no", "proxy"),
    [
        ("https://registry.test", "", "http://proxy.test:3128"),
        ("http://registry.test", "", None),
        ("https://localhost:5000", "", None),
        ("https://127.0.0.1:5000", "", None),
        ("https://[::1]:5000", "", None),
        ("https://registry.test", "registry.test", None),
        ("https://a.registry.test", ".registry.test", None),
        ("https://other.test", "registry.test", "http://proxy.test:3128"),
        ("https://10.1.2.3", "10.0.0.0/8", None),
        ("https://11.1.2.3", "10.0.0.0/8", "http://proxy.test:3128"),
        ("https://registry.test", "*", None),
    ],
)
def test_the_proxy_for_a_url(monkeypatch: pytest.MonkeyPatch, url: str, no: str, proxy: str | None) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no)
    assert proxies.find(url) == proxy


async def test_a_proxy_is_asked_by_name(
    new_engine: Callable[..., Engines], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    images = new_engine(mirrors={"registry.test": ["http://mirror.test"]})
    server.image(PATH, [DATA])
    server.rules = [
        ("^http://mirror.test", lambda asked: server.answers[asked.path.removeprefix("http://mirror.test")])
    ]  # type: ignore[return-value]
    await images.pull(f"registry.test/{PATH}")
    assert len(await images.list()) == 1
