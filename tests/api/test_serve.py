"""`serveapi` and `acceptconnections`: listeners, the gate, the end, and who is let in."""

import grp
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from windlass.api.serve import install
from windlass.engine import Engine, Job
from windlass.engine.errors import BadParameter, Conflict

from .serving import QUICK, TIMEOUT, Client, recorder, request, serving

CERTIFICATES = Path(__file__).parent / "tls"
TLS = {"TlsCert": f"{CERTIFICATES}/server.pem", "TlsKey": f"{CERTIFICATES}/server.key"}
VERIFY = TLS | {"TlsVerify": True, "TlsCa": f"{CERTIFICATES}/ca.pem"}
LOOPBACK = "tcp://127.0.0.1:0"


async def refused(*hosts: str, **env: Any) -> str:
    """What `serveapi` says when it will not serve."""
    async with Engine() as engine:
        install(engine, QUICK)
        with pytest.raises((BadParameter, Conflict)) as caught:
            await engine.job("serveapi", *hosts, **env).start()
    return str(caught.value)


# -- the gate ----------------------------------------------------------------------------------------------------


async def open_engine(engine: Engine, tmp_path: Path, **env: Any) -> str:
    install(engine, QUICK)
    await engine.job("serveapi", f"unix://{tmp_path}/api.sock", **env).start()
    return f"{tmp_path}/api.sock"


async def status(path: str, target: str = "/_ping") -> int:
    async with Client(await trio.open_unix_socket(path)) as client:
        return (await client.ask("GET", target)).status


async def test_requests_wait_at_the_gate(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT):
        async with Engine() as engine, trio.open_nursery() as nursery:
            path = await open_engine(engine, tmp_path, BufferRequests=True)
            statuses: list[int] = []

            async def ask(target: str) -> None:
                statuses.append(await status(path, target))

            nursery.start_soon(ask, "/_ping")
            nursery.start_soon(ask, "/plugins")
            await trio.sleep(0.1)
            assert statuses == []
            for _ in range(2):  # the second changes nothing
                await engine.job("acceptconnections").run()
            await trio.sleep(0.05)
            assert statuses == [200, 200]


async def test_nobody_waits_at_the_gate_for_ever(tmp_path: Path) -> None:
    async with Engine() as engine:
        path = await open_engine(engine, tmp_path, BufferRequests=True)
        async with Client(await trio.open_unix_socket(path)) as client:
            answer = await client.ask("GET", "/_ping")
        assert answer.status == 503 and "still starting" in answer.message


async def test_who_waits_is_told_why_the_engine_does_not_come_up(tmp_path: Path) -> None:
    async with Engine() as engine, trio.open_nursery() as nursery:
        path = await open_engine(engine, tmp_path, BufferRequests=True)

        async def ask() -> None:
            async with Client(await trio.open_unix_socket(path)) as client:
                answer = await client.ask("GET", "/info")
                assert (answer.status, answer.message) == (503, "the data root is read-only")

        nursery.start_soon(ask)
        await trio.sleep(0.05)
        await engine.job("acceptconnections", error="the data root is read-only").run()
        await ask()
        await engine.job("acceptconnections").run()  # it came up after all
        assert await status(path) == 200
        await engine.job("acceptconnections", error="too late").run()
        assert await status(path) == 200


async def test_without_buffering_nobody_waits(tmp_path: Path) -> None:
    async with Engine() as engine:
        assert await status(await open_engine(engine, tmp_path)) == 200


async def test_systemd_is_told_once_when_the_gate_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        async with serving(tmp_path) as served:
            await served.engine.job("acceptconnections").run()
            assert manager.recv(100) == b"READY=1"
            with pytest.raises(BlockingIOError):
                manager.recv(100)


# -- the end -----------------------------------------------------------------------------------------------------


async def test_stopping_lets_requests_finish_and_closes_the_rest(tmp_path: Path) -> None:
    began, go_on = trio.Event(), trio.Event()

    async def create(job: Job[Any]) -> dict[str, str]:
        began.set()
        await go_on.wait()
        return {"Id": "abc"}

    async with serving(tmp_path, {"create": create}) as served:
        idle, busy = await served.connect(), await served.connect()
        assert (await idle.ask("GET", "/_ping")).status == 200
        await busy.send(request("POST", "/containers/create", {}))
        await began.wait()
        assert served.service is not None
        served.service.stop()
        assert await idle.rest() == b""
        with pytest.raises(OSError):
            await served.connect()
        go_on.set()
        assert (await busy.answer()).json == {"Id": "abc"}
        assert await busy.rest() == b""
        assert not Path(served.path).exists()


@pytest.mark.parametrize("target", ["GET /events", "POST /containers/web/wait", "POST /containers/web/attach"])
async def test_stopping_cancels_what_would_never_end(tmp_path: Path, target: str) -> None:
    async def forever(job: Job[Any]) -> None:
        await job.ready()
        await trio.sleep_forever()

    handlers = {"events": forever, "wait": forever, "attach": forever}
    async with serving(tmp_path, handlers) as served, await served.connect() as client:
        await client.send(request(*target.split()))
        await client.head()
        assert served.service is not None
        served.service.stop()
        await client.rest()
        while served.engine.services:
            await trio.sleep(0.01)


async def test_the_end_takes_no_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await served.connect() as client:
        await client.ask("GET", "/_ping")
        began = trio.current_time()
        assert (await served.engine.shutdown(5)).is_clean
        assert trio.current_time() - began < 0.5


# -- unix sockets ------------------------------------------------------------------------------------------------


async def test_a_unix_socket_is_born_0660(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        async with serving(tmp_path / "new" / "folder") as served:
            found = Path(served.path).stat()
            assert stat.S_IMODE(found.st_mode) == 0o660
            assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
            assert os.umask(0) == 0
    finally:
        os.umask(previous)


@pytest.mark.root
@pytest.mark.parametrize("by_number", [True, False])
async def test_a_unix_socket_belongs_to_its_group(tmp_path: Path, by_number: bool) -> None:
    group = next(each for each in grp.getgrall() if each.gr_gid)
    async with serving(tmp_path, SocketGroup=str(group.gr_gid) if by_number else group.gr_name) as served:
        assert Path(served.path).stat().st_gid == group.gr_gid


async def test_an_unknown_group_is_an_error_but_for_dockers_own(tmp_path: Path) -> None:
    assert "no group nobodys" in await refused(f"unix://{tmp_path}/a.sock", SocketGroup="nobodys")
    assert list(tmp_path.iterdir()) == []
    async with serving(tmp_path, SocketGroup="docker") as served:
        assert (await served.ask("GET", "/_ping")).status == 200


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/api.sock")
    async with serving(tmp_path) as served:
        assert (await served.ask("GET", "/_ping")).status == 200


async def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert "listens on" in await refused(served.addresses[0])
        assert (await served.ask("GET", "/_ping")).status == 200


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.sock").write_text("precious")
    assert "is no socket" in await refused(f"unix://{tmp_path}/a.sock")
    assert (tmp_path / "a.sock").read_text() == "precious"


async def test_a_socket_that_is_anothers_by_now_is_not_removed(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        Path(served.path).unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(served.path)
        path = Path(served.path)
    assert path.exists()


async def test_all_hosts_are_bound_or_none(tmp_path: Path) -> None:
    assert "no port" in await refused(f"unix://{tmp_path}/a.sock", "tcp://127.0.0.1:99999", AllowPlainTcp=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("http://localhost", "is none of"), ("unix://" + "/a" * 100, "at most 107 bytes"),
        ("tcp://127.0.0.1:x", "no port"), ("tcp://127.0.0.1:1/path", "no port"), ("tcp://a/b:1", "no path"),
        ("fd://", "LISTEN_PID"), ("tcp://203.0.113.1:1", "cannot listen there"),
    ],
)  # fmt: skip
async def test_what_is_no_address_is_refused(host: str, why: str) -> None:
    assert why in await refused(host, AllowPlainTcp=True)


async def test_several_listeners_serve_one_engine(tmp_path: Path) -> None:
    hosts = (f"unix://{tmp_path}/a.sock", f"unix://{tmp_path}/b.sock", LOOPBACK, "tcp://127.0.0.2:0")
    async with serving(tmp_path, {}, *hosts, AllowPlainTcp=True) as served:
        assert len(served.addresses) == 4
        for path in (tmp_path / "a.sock", tmp_path / "b.sock"):
            assert await status(str(path)) == 200
        async with await served.connect_tcp() as client:
            assert (await client.ask("GET", "/_ping")).status == 200


INHERIT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid()); os.environ["LISTEN_FDS"] = "1"
import trio
from windlass.api.serve import install
from windlass.engine import Engine
async def main():
    async with Engine() as engine:
        install(engine)
        await engine.job("serveapi", sys.argv[2]).start()
        print("up", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(main)
"""


@pytest.mark.parametrize("host", ["fd://", "fd://*", "fd://3"])
async def test_a_socket_from_systemd_is_served_and_left(tmp_path: Path, host: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/fd.sock")
        sock.listen(5)
        fd = sock.fileno()
        command = [sys.executable, "-P", "-c", INHERIT, str(fd), host]
        async with trio.open_nursery() as nursery:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "pass_fds": [fd]}
            process: trio.Process = await nursery.start(partial(trio.run_process, command, **pipes))
            assert process.stdout is not None and process.stdin is not None
            assert (await process.stdout.receive_some(100)).startswith(b"up")
            assert await status(f"{tmp_path}/fd.sock") == 200
            await process.stdin.aclose()
        assert process.returncode == 0 and (tmp_path / "fd.sock").exists()


async def test_a_descriptor_that_systemd_did_not_hand_over_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "0")
    assert "no such socket" in await refused("fd://7")
    assert "no such socket" in await refused("fd://x")


# -- TCP ---------------------------------------------------------------------------------------------------------


async def test_plain_tcp_must_be_asked_for(tmp_path: Path) -> None:
    for host in (LOOPBACK, "127.0.0.1:0", "tcp://0.0.0.0:0"):
        assert "--tls=false" in await refused(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("127.0.0.1:2375", 200), ("[::1]:2375", 200), ("10.1.2.3", 200), ("LOCALHOST.", 200),
        (socket.gethostname(), 200), ("evil.example", 421), ("localhost.evil.example:80", 421),
        ("localhost:x", 421), ("127.0.0.1.evil.example", 421), ("", 421),
    ],
)  # fmt: skip
async def test_over_tcp_only_known_names_are_served(tmp_path: Path, host: str, expected: int) -> None:
    async with serving(tmp_path, {}, LOOPBACK, AllowPlainTcp=True) as served, await served.connect_tcp() as client:
        assert (await client.ask("GET", "/_ping", Host=host)).status == expected


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost"])
async def test_web_pages_are_refused(tmp_path: Path, origin: str) -> None:
    async with serving(tmp_path, {}, LOOPBACK, AllowPlainTcp=True) as served, await served.connect_tcp() as client:
        answer = await client.ask("GET", "/_ping", Origin=origin)
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("env", "origin"), [({"EnableCors": True}, "*"), ({"CorsHeaders": "http://a"}, "http://a")])
async def test_cors_lets_web_pages_in(tmp_path: Path, env: dict[str, Any], origin: str) -> None:
    async with (
        serving(tmp_path, {}, LOOPBACK, AllowPlainTcp=True, **env) as served,
        await served.connect_tcp() as client,
    ):
        for method, target, expected in (("GET", "/_ping", 200), ("GET", "/nothing", 404), ("OPTIONS", "/any", 200)):
            answer = await client.ask(method, target, Origin="http://a")
            assert answer.status == expected
            assert answer.headers["access-control-allow-origin"] == origin
            assert "DELETE" in answer.headers["access-control-allow-methods"]
            assert "X-Registry-Auth" in answer.headers["access-control-allow-headers"]


# -- TLS ---------------------------------------------------------------------------------------------------------


def trusting(who: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    if who:
        context.load_cert_chain(CERTIFICATES / f"{who}.pem", CERTIFICATES / f"{who}.key")
    return context


async def ask_tls(port: int, context: ssl.SSLContext) -> int:
    stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=context)
    async with Client(stream) as client:  # type: ignore[arg-type]
        return (await client.ask("GET", "/version")).status


async def test_tls_is_spoken(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, LOOPBACK, Tls=True, **TLS) as served:
        served.engine.register("version", recorder(served))
        assert await ask_tls(served.port, trusting()) == 200
        async with await served.connect_tcp() as client:
            await client.send(request("GET", "/_ping"))
            assert b"200" not in await client.rest()


async def test_with_verification_only_our_clients_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, LOOPBACK, **VERIFY) as served:
        served.engine.register("version", recorder(served))
        assert await ask_tls(served.port, trusting("client")) == 200
        assert served.jobs[0].peer is not None and served.jobs[0].peer.certificate == "client"
        for stranger in ("", "rogue"):
            with pytest.raises((trio.BrokenResourceError, EOFError)):
                await ask_tls(served.port, trusting(stranger))
        assert len(served.jobs) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_is_refused(tmp_path: Path) -> None:
    context = trusting()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(tmp_path, {}, LOOPBACK, Tls=True, **TLS) as served:
        with pytest.raises(trio.BrokenResourceError):
            await ask_tls(served.port, context)


async def test_a_client_that_never_shakes_hands_is_given_up(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, {}, LOOPBACK, limits=QUICK, Tls=True, **TLS) as served,
        await served.connect_tcp() as client,
    ):
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"Tls": True}, "needs TlsCert"),
        ({"Tls": True, "TlsCert": TLS["TlsCert"]}, "needs TlsKey"),
        (TLS | {"TlsVerify": True}, "needs TlsCa"),
        (TLS | {"TlsVerify": True, "TlsCa": "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file"),
        (TLS | {"TlsVerify": True, "TlsCa": TLS["TlsKey"]}, "TlsCa"),
        (TLS | {"Tls": True, "TlsKey": f"{CERTIFICATES}/client.key"}, "TlsCert and TlsKey"),
        (TLS | {"Tls": True, "TlsCert": __file__}, "TlsCert and TlsKey"),
    ],
)
async def test_without_its_files_tls_does_not_start(env: dict[str, Any], why: str) -> None:
    assert why in await refused(LOOPBACK, **env)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)
    yield
