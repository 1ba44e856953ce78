"""Debian's docker-registry on a port of loopback, and skopeo: a registry and a client that are not ours."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from .packages import program

START_LIMIT = 30.0  # seconds
LIMIT = 120.0
USER, PASSWORD = "ann", "secret-of-ann"
HTPASSWD = "ann:$2y$05$agvFgUPDN.W2IWH5GAv6iuSeBIe1pTJbSdi1Wi7dtPzNCnTIrg3aG\n"


@cache
def skopeo() -> str:
    """Return the program, installed by apt where it is missing: it needs libraries."""
    if found := shutil.which("skopeo"):
        return found
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", "skopeo"]):
        subprocess.run([*apt, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return shutil.which("skopeo") or "/usr/bin/skopeo"


def copy(*words: str) -> None:
    """Let skopeo copy an image; it must succeed."""
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    done = subprocess.run([skopeo(), "copy", *tls, *words], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


class Registry:
    """A registry that keeps its blobs in a folder; whoever makes it closes it."""

    def __init__(self, folder: Path, *, htpasswd: bool = False, **http: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host = f"127.0.0.1:{free_port()}"
        self.folder, self.log = folder, folder / "log"
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "debug"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "root")}, "delete": {"enabled": True}},
            "http": {"addr": self.host, **http},
        }
        if htpasswd:
            (folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(config))
        argv = [program("docker-registry", "docker-registry", "usr/bin/docker-registry"), "serve"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*argv, str(folder / "config.yml")], stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(tuple(self.host.split(":")), 1):  # type: ignore
            return True
        return False

    def get(self, path: str) -> Any:
        """Ask the registry something; return what its JSON says, None for 404."""
        accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
        request = urllib.request.Request(f"http://{self.host}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            assert exc.code == 404, exc
            return None

    def put(self, name: str, archive: bytes) -> str:
        """Let skopeo bring an OCI layout here as `name`; return its reference."""
        path = self.folder / "incoming.tar"
        path.write_bytes(archive)
        copy(f"oci-archive:{path}", f"docker://{self.host}/{name}")
        return f"{self.host}/{name}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(LIMIT)
