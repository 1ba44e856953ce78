"""load and save of an image of 4 layers, 150 MB in 5,000 files, whose layers come plain or compressed.

On ext4 a file costs half a millisecond when thousands were deleted there within the last minute, since the kernel looks
for an inode that was not (fs/ext4/ialloc.c, `recently_deleted`): each round pays for the one before, of either peer.
`TMPDIR=/dev/shm` leaves that out.
"""

import gzip
import io
import json
import tarfile
from functools import cache, partial

from cases import Case, Samples, now
from peers import Peer
from registries import LAYERS, SIZE, config, layers, pinged

NAME = "windlass-bench-archive:latest"


@cache
def archive(is_compressed: bool) -> bytes:
    """The image as a docker-archive."""
    blobs = [gzip.compress(layer, 6, mtime=0) if is_compressed else layer for layer in layers()]
    names = [f"{number}/layer.tar" for number in range(LAYERS)]
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": names}]
    members = {"config.json": config(), **dict(zip(names, blobs, strict=True))}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in {**members, "manifest.json": json.dumps(manifest).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def load_and_save(peer: Peer, is_compressed: bool) -> Samples:
    """Load the archive, save the image, delete it; ask `_ping` meanwhile."""
    data, spans = archive(is_compressed), list[float]()
    with pinged(peer, spans):
        began = now()
        out = peer.wire.request("POST", "/images/load?quiet=1", data, kind="application/x-tar")
        loaded = now()
        saved = peer.wire.get(f"/images/{NAME}/get")
        done = now()
    assert "Loaded image" in str(out), out
    peer.wire.delete(f"/images/{NAME}?force=1")
    assert len(saved) > SIZE // 3, f"{peer.name}: saved {len(saved)} bytes"
    return {
        "load, ms": (loaded - began) * 1e3,
        "save, ms": (done - loaded) * 1e3,
        "slowest _ping meanwhile, ms": max(spans) * 1e3,
    }


GOALS = {
    "load, ms": "≤ 0.7 of dockerd",
    "save, ms": "≤ 0.3 of dockerd",
    "slowest _ping meanwhile, ms": "≤ 50 ms",
}
CASES = [
    Case("archive", "load and save, layers compressed", 5, partial(load_and_save, is_compressed=True), GOALS),
    Case("archive-plain", "load and save, plain layers", 5, partial(load_and_save, is_compressed=False), GOALS),
]
