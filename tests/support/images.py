"""Build images in memory: a busybox root file system, docker-archives and OCI layouts.

Made from Debian's static busybox, so that no registry and no image from outside is needed.
"""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from functools import cache
from typing import Any

import zstandard

from .packages import static_busybox

CREATED = "2024-01-01T00:00:00Z"
PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\ndaemon:x:1:\nstaff:x:50:nobody\nnogroup:x:65534:\n"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Tar:
    """A tar that is being written into memory."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115

    def file(self, name: str, data: bytes | str, mode: int = 0o644) -> None:
        data = data.encode() if isinstance(data, str) else data
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), mode, 1704067200
        self._tar.addfile(info, io.BytesIO(data))

    def folder(self, name: str, mode: int = 0o755) -> None:
        self.special(name, tarfile.DIRTYPE, mode=mode)

    def link(self, name: str, target: str) -> None:
        self.special(name, tarfile.SYMTYPE, linkname=target, mode=0o777)

    def special(self, name: str, kind: bytes, **fields: Any) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mtime = kind, 1704067200
        for key, value in fields.items():
            setattr(info, key, value)
        self._tar.addfile(info)

    def finish(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


@cache
def busybox_rootfs() -> bytes:
    """Return the tar of a root file system: busybox, its applets as links, passwd and group."""
    busybox = static_busybox()
    tar = Tar()
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var"):
        tar.folder(name)
    tar.folder("tmp", mode=0o1777)
    tar.file("bin/busybox", busybox.read_bytes(), mode=0o755)
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            tar.link(f"bin/{applet}", "busybox")
    tar.file("etc/passwd", PASSWD)
    tar.file("etc/group", GROUP)
    return tar.finish()


def layer(**files: str) -> bytes:
    """Return the tar of a layer that holds only these files, at the top of the tree."""
    tar = Tar()
    for name, text in files.items():
        tar.file(name, text)
    return tar.finish()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_blob(layers: list[bytes], **config: Any) -> bytes:
    """Return an image configuration whose diff ids are those of the plain layers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {"Cmd": ["sh"], "Env": [PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n, _ in enumerate(layers)],
        }
    ).encode()


def compress(data: bytes, how: str) -> bytes:
    """Compress with "plain", "gzip" or "zstd"."""
    match how:
        case "plain":
            return data
        case "gzip":
            return gzip.compress(data, 1, mtime=0)
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(data)
    raise ValueError(how)


def docker_archive(layers: list[bytes], *tags: str, **config: Any) -> bytes:
    """Return what `docker save` of an image with these layers and tags would write."""
    blob = config_blob(layers, **config)
    names = [f"{digest(data)[7:]}/layer.tar" for data in layers]
    tar = Tar()
    tar.file(f"{digest(blob)[7:]}.json", blob)
    for name, data in zip(names, layers, strict=True):
        tar.file(name, data)
    manifest = [{"Config": f"{digest(blob)[7:]}.json", "RepoTags": list(tags), "Layers": names}]
    tar.file("manifest.json", json.dumps(manifest))
    return tar.finish()


def oci_layout(layers: list[bytes], tag: str, compression: str = "gzip", **config: Any) -> bytes:
    """Return an OCI image layout as a tar, its layers compressed, its manifest named by annotation.

    Source: OCI image-spec, image-layout.md; containerd's annotation `io.containerd.image.name`.
    """
    suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]
    tar = Tar()

    def blob(data: bytes, media: str, **more: Any) -> dict[str, Any]:
        tar.file(f"blobs/sha256/{digest(data)[7:]}", data)
        return {"mediaType": media, "digest": digest(data), "size": len(data), **more}

    media = "application/vnd.oci.image."
    configuration = blob(config_blob(layers, **config), f"{media}config.v1+json")
    packed = [blob(compress(data, compression), f"{media}layer.v1.tar{suffix}") for data in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}manifest.v1+json",
        "config": configuration,
        "layers": packed,
    }
    full = f"docker.io/{tag}" if "/" in tag else f"docker.io/library/{tag}"
    names = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag}
    entry = blob(json.dumps(manifest).encode(), f"{media}manifest.v1+json", annotations=names)
    tar.file("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    tar.file("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
    return tar.finish()
