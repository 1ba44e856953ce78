"""What the tests of images do again and again."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.images import Tar, config_blob, digest
from windlass.engine import Engine
from windlass.engine.events import Event, Output
from windlass.engine.streams import source
from windlass.graphdriver.overlay2 import Overlay2
from windlass.jobs.images import ImageSummary


@dataclass
class Images:
    """An engine with the image jobs, and the folders that it works in."""

    engine: Engine
    graph: Overlay2
    root: Path
    said: list[Event] = field(default_factory=list)

    async def run(self, name: str, *args: Any, stdin: bytes = b"", **env: Any) -> Any:
        """Run a job with `stdin`; its events are in `said`."""
        job = self.engine.job(name, *args, **env)
        job.stdin = source(stdin)
        self.said.clear()
        job.on_event = self.said.append
        return await job.run()

    async def list(self, **env: Any) -> list[ImageSummary]:
        found: list[ImageSummary] = await self.run("images", **env)
        return found

    @property
    def output(self) -> str:
        return "".join(event.stream for event in self.said if isinstance(event, Output))

    async def is_empty(self) -> bool:
        """True when no image, no layer and no file on its way in is there."""
        await self.graph.sweep()
        leftovers = [*(self.root / "image").rglob("*"), *(self.graph.root / "ingest").iterdir()]
        files = [path for path in leftovers if not path.is_dir()]
        return not await self.list(all=True) and not await self.graph.layers() and not files


def archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar of files, and of whatever a TarInfo says."""
    tar = Tar()
    for name, content in members.items():
        if isinstance(content, bytes):
            tar.file(name, content)
        else:
            tar.special(name, content.type, linkname=content.linkname)
    return tar.finish()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def manifest(config: str, layers: list[str], *tags: str) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": list(tags), "Layers": layers}]).encode()


def oci(layers: list[bytes], tag: str = "", lies: dict[str, bytes] | None = None) -> bytes:
    """An OCI layout of plain layers; `lies` replace the content of blobs: "config", "manifest", "layer"."""
    config = config_blob(layers)
    blobs = {"config": config} | {f"layer{at}": data for at, data in enumerate(layers)}
    document = {
        "schemaVersion": 2,
        "config": {"digest": digest(config), "size": len(config)},
        "layers": [{"digest": digest(data), "size": len(data)} for data in layers],
    }
    blobs["manifest"] = json.dumps(document).encode()
    entry: dict[str, Any] = {"digest": digest(blobs["manifest"]), "size": len(blobs["manifest"])}
    if tag:
        entry["annotations"] = {"io.containerd.image.name": tag}
    members: dict[str, bytes | tarfile.TarInfo] = {
        f"blobs/sha256/{digest(data)[7:]}": (lies or {}).get(name, data) for name, data in blobs.items()
    }
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return archive(members)
