"""pull and push of an image of 4 layers, 150 MB in 5,000 files, with Debian's docker-registry on loopback."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from cases import Case, Samples, now, ping
from cases import connect as connect_to
from peers import Peer

LAYERS, FILES, SIZE = 4, 5000, 150 << 20
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG, LAYER = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@cache
def layers() -> list[bytes]:
    """Make the layers' tars: files of very different sizes, half of their bytes random, half of them text."""
    dice = random.Random(1)
    per_layer, mean = FILES // LAYERS, SIZE // FILES
    found = []
    for number in range(LAYERS):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for at in range(per_layer):
                size = int(dice.expovariate(1 / mean))
                info = tarfile.TarInfo(f"layer{number}/{at % 50}/file{at}")
                info.size = size
                data = dice.randbytes(size // 2)
                tar.addfile(info, io.BytesIO(data + b"some text that compresses well\n" * (size // 62 + 1)))
        found.append(buffer.getvalue())
    return found


@cache
def config() -> bytes:
    diff_ids = [digest(layer) for layer in layers()]
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "bench"} for _ in diff_ids],
        }
    ).encode()


@contextmanager
def registry(root: Path | None = None, pid: int | None = None) -> Iterator[str]:
    """Run a registry on `root`, else an empty one, in the network namespace of process `pid`; yield its HOST:PORT."""
    pid = pid or os.getpid()
    enter = ["nsenter", "-t", str(pid), "-n"]
    subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-registry-"))
    port = random.SystemRandom().randrange(20000, 30000)
    storage = {"filesystem": {"rootdirectory": str(root or folder / "root")}}
    http = {"addr": f"127.0.0.1:{port}"}
    text = json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": http})
    (folder / "config.yml").write_text(text)
    with (folder / "log").open("ab") as log:
        argv = [*enter, "docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        while f":{port:04X} 00000000:0000 0A" not in Path(f"/proc/{pid}/net/tcp").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def fill(host: str) -> None:
    """Put the image into the registry as `bench`."""
    blobs = [gzip.compress(layer, 6, mtime=0) for layer in layers()]
    for blob in [config(), *blobs]:
        begun = urllib.request.urlopen(urllib.request.Request(f"http://{host}/v2/bench/blobs/uploads/", method="POST"))
        location = begun.headers["Location"]
        put(f"{location}&digest={digest(blob)}", blob, "application/octet-stream")
    descriptors = [{"mediaType": LAYER, "size": len(blob), "digest": digest(blob)} for blob in blobs]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config()), "digest": digest(config())},
        "layers": descriptors,
    }
    put(f"http://{host}/v2/bench/manifests/latest", json.dumps(manifest).encode(), MANIFEST)


def put(url: str, data: bytes, kind: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": kind}, method="PUT")).close()


@contextmanager
def pinged(peer: Peer, spans: list[float]) -> Iterator[None]:
    """Ask `_ping` every few milliseconds meanwhile, and note how long each answer took."""
    done = threading.Event()

    def ask() -> None:
        with connect_to(peer) as client:
            while not done.wait(0.005):
                spans.append(ping(client))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def pull_and_push(peer: Peer) -> Samples:
    """Pull from a registry, push to one that is empty."""
    spans: list[float] = []
    with registry(source(), peer.pid()) as host, registry(pid=peer.pid()) as target:
        with pinged(peer, spans):
            began = now()
            ask(peer, f"/images/create?{urlencode({'fromImage': f'{host}/bench', 'tag': 'latest'})}")
            pulled = now() - began
        try:
            peer.wire.post(f"/images/{host}/bench/tag?{urlencode({'repo': f'{target}/bench', 'tag': 'latest'})}")
            began = now()
            ask(peer, f"/images/{target}/bench/push?tag=latest")
            pushed = now() - began
        finally:
            for name in (f"{host}/bench", f"{target}/bench"):
                with contextlib.suppress(Exception):
                    peer.wire.delete(f"/images/{name}:latest?force=1")
    return {
        "pull, ms": pulled * 1e3,
        "push, ms": pushed * 1e3,
        "slowest _ping while pulling, ms": max(spans) * 1e3,
    }


@cache
def source() -> Path:
    """The root of a registry with the image; `close` deletes it."""
    root = Path(tempfile.mkdtemp(prefix="bench-registry-root-"))
    with registry(root) as host:
        fill(host)
    return root


def close() -> None:
    """Delete what all samples share."""
    if source.cache_info().currsize:
        shutil.rmtree(source())
        source.cache_clear()


def ask(peer: Peer, path: str) -> None:
    """POST, and see that the stream of progress tells of no error."""
    out = peer.wire.request("POST", path, kind="application/json", headers={"X-Registry-Auth": "e30="})
    text = out if isinstance(out, bytes) else json.dumps(out).encode()
    assert b"errorDetail" not in text, text[-500:]


CASES = [
    Case(
        "registry",
        "pull from and push to docker-registry: 4 layers, 150 MB, 5,000 files",
        5,
        pull_and_push,
        {
            "pull, ms": "≤ 0.7 of dockerd",
            "push, ms": "≤ 0.7 of dockerd",
            "slowest _ping while pulling, ms": "≤ 50 ms",
        },
    ),
]
