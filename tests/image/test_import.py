"""The job `import`: one layer out of a tar, and a configuration."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trio
import trio.testing

from tests.image.support import Images, archive, link
from tests.support.images import busybox_rootfs, compress, digest, layer
from windlass.engine.errors import BadParameter, Cancelled, JobError, Unavailable
from windlass.engine.streams import pipe

pytestmark = pytest.mark.root


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
async def test_a_tar_becomes_an_image(images: Images, how: str) -> None:
    data = layer(mark="x" * 10)
    id = await images.run("import", repo="you/tool", tag="1", stdin=compress(data, how))
    found = await images.run("image_inspect", "you/tool:1")
    assert found.Id == id and found.RepoTags == ["you/tool:1"]
    assert found.RootFS.Layers == [digest(data)]
    assert (found.Os, found.Size, found.Comment) == ("linux", 10, "Imported from -")
    record = await images.run("image_get", "you/tool:1")
    assert record.id == id and await images.graph.layers() == {record.chain}


async def test_a_whole_root_file_system_arrives(images: Images) -> None:
    await images.run("import", repo="busybox", stdin=compress(busybox_rootfs(), "gzip"))
    record = await images.run("image_get", "busybox")
    assert (images.graph.root / "layers" / record.chain / "diff/bin/busybox").stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("cmd echo hi", {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        ("CMD [not json", {"Cmd": ["/bin/sh", "-c", "[not json"]}),
        ('ENTRYPOINT ["x"]', {"Entrypoint": ["x"]}),
        ('ENV A=1 B="two words"', {"Env": ["A=1", "B=two words"]}),
        ("ENV A one two", {"Env": ["A=one two"]}),
        ("EXPOSE 80 53/udp 8000-8001", {"ExposedPorts": {f"{p}": {} for p in
                                                       ("80/tcp", "53/udp", "8000/tcp", "8001/tcp")}}),
        ("LABEL a=b c=d=e", {"Labels": {"a": "b", "c": "d=e"}}),
        ("USER 1:2", {"User": "1:2"}),
        ('VOLUME ["/a", "/b"]', {"Volumes": {"/a": {}, "/b": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("WORKDIR /tmp", {"WorkingDir": "/tmp"}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        ("HEALTHCHECK --interval=1m30s --retries=2 CMD a b",
         {"Healthcheck": {"Test": ["CMD-SHELL", "a b"], "Interval": 90 * 10**9, "Retries": 2}}),
        ('HEALTHCHECK CMD ["a"]', {"Healthcheck": {"Test": ["CMD", "a"]}}),
    ],
)  # fmt: skip
async def test_an_instruction_changes_the_configuration(
    images: Images, instruction: str, expected: dict[str, Any]
) -> None:
    id = await images.run("import", changes=[instruction], stdin=layer(a="a"))
    assert (await images.run("image_inspect", id)).Config == expected


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN x", "FROM x", "", "CMD", "ENV", "ENV A", "ENV =x", 'ENV "a', "LABEL a=b c", "EXPOSE x", "EXPOSE 70000",
        "EXPOSE 9-8", "HEALTHCHECK x", "HEALTHCHECK --interval=x CMD a", "HEALTHCHECK --no=1 CMD a",
        'CMD ["a\\u0000b"]', "USER a\0b",
    ],
)  # fmt: skip
async def test_a_wrong_instruction_is_refused_and_nothing_kept(images: Images, instruction: str) -> None:
    with pytest.raises(BadParameter):
        await images.run("import", changes=[instruction], stdin=layer(a="a"))
    assert await images.is_empty()


@pytest.mark.parametrize("instruction", ["CMD " + "[" * 100_000, 'CMD ["\\ud800"]'])
async def test_json_that_is_none_is_a_shells(images: Images, instruction: str) -> None:
    id = await images.run("import", changes=[instruction], stdin=layer(a="a"))
    assert (await images.run("image_inspect", id)).Config["Cmd"][:2] == ["/bin/sh", "-c"]


@pytest.mark.parametrize("env", [{"repo": "A"}, {"repo": "a@sha256:" + "0" * 64}, {"repo": "a", "tag": "-"},
                                 {"platform": "plan9"}, {"platform": "linux/a b"}])  # fmt: skip
async def test_a_wrong_parameter_is_refused_and_nothing_kept(images: Images, env: dict[str, str]) -> None:
    with pytest.raises(BadParameter):
        await images.run("import", stdin=layer(a="a"), **env)
    assert await images.is_empty()


async def test_an_image_may_be_for_another_machine(images: Images) -> None:
    await images.run("import", repo="far", platform="linux/arm/v7", stdin=layer(a="a"))
    found = await images.run("image_inspect", "far")
    assert (found.Architecture, found.Variant) == ("arm", "v7")
    with pytest.raises(JobError, match="does not match the specified platform"):
        await images.run("image_get", "far", platform="linux/s390x")


GOOD = layer(mark="x" * 5000)


@pytest.mark.parametrize(
    "data",
    [
        b"this is no tar" * 100,
        GOOD[:700],
        compress(GOOD, "gzip")[:60],
        compress(GOOD * 5, "zstd")[:30],
        compress(GOOD, "gzip")[:20] + b"\xff" * 500,
        archive({"../../escaped": b"x"}),
        archive({"a": link("/etc"), "a/escaped": b"x"})[:1200],
        archive({"a": link("/etc/passwd", tarfile.LNKTYPE)}),
    ],
    ids=["garbage", "cut", "cut gzip", "cut zstd", "damaged gzip", "traversal", "cut in a link", "link out"],
)
async def test_a_hostile_tar_is_refused_or_stays_inside(images: Images, data: bytes) -> None:
    """Names are resolved by the kernel inside the layer: what is not refused lies below the layer's folder."""
    try:
        await images.run("import", stdin=data)
    except JobError as exc:
        assert exc.code == "bad-parameter" and len(exc.message) < 300
        assert await images.is_empty()
    assert not list(images.root.rglob("escaped")) or all(
        "layers" in path.parts for path in images.root.rglob("escaped")
    )


async def test_a_client_that_sends_nothing_holds_nobody_up(images: Images) -> None:
    """One slow import must keep neither others from importing nor anybody from deleting."""
    job = images.engine.job("import")
    _, job.stdin = pipe()
    async with trio.open_nursery() as nursery:

        async def slow() -> None:
            with pytest.raises(Cancelled):
                await job.run()

        nursery.start_soon(slow)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(5):
            await images.run("import", repo="quick", stdin=layer(a="a"))
            await images.run("image_delete", "quick")
        job.cancel()
    assert await images.is_empty()


@pytest.fixture
def site() -> Iterator[str]:
    """A web server with one tar at /root.tar."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/root.tar" else 404)
            self.end_headers()
            self.wfile.write(GOOD if self.path == "/root.tar" else b"no")

        def log_message(self, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
async def test_an_image_comes_from_a_url(images: Images, site: str) -> None:
    id = await images.run("import", f"http://{site}/root.tar")
    assert (await images.run("image_inspect", id)).RootFS.Layers == [digest(GOOD)]
    assert await images.run("import", f"{site}/root.tar")


@pytest.mark.slow
async def test_a_url_that_fails_is_told(images: Images, site: str) -> None:
    with pytest.raises(Unavailable, match="404"):
        await images.run("import", f"http://{site}/missing")
    with pytest.raises(Unavailable):
        await images.run("import", "http://127.0.0.1:1/")
    with pytest.raises(BadParameter, match="only http"):
        await images.run("import", "file:///etc/passwd")
    assert await images.is_empty()
