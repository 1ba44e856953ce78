"""Job `image_commit`: an image of another one and a layer on top of it."""

from __future__ import annotations

from typing import Any

import msgspec

from windlass.engine import Job
from windlass.engine.errors import BadParameter
from windlass.jobs.images import ImageCommit, ImageName

from . import changes, config
from .apply import apply
from .events import tell
from .import_ import new_name
from .keep import keeping
from .store import Image, Store

EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # of a tar without an entry


async def image_name(store: Store, job: Job[ImageName]) -> str:
    """Check what an image is to be called; gives the name in full as people write it, empty for none."""
    name = new_name(job.params.repo, job.params.tag)
    return name.familiar if name else ""


async def image_commit(store: Store, job: Job[ImageCommit]) -> str:
    """Make an image of another one and a layer on top of it; an empty layer is left out."""
    params = job.params
    name = new_name(params.repo, params.tag)
    run = config.check_run(changes.apply(params.run, changes.lines(params.changes)))
    async with store.work(), keeping(store) as keeper:
        parent = await store.base(params.parent)
        if len(parent.layers) >= config.LAYERS_MAX:
            raise BadParameter(f"max depth exceeded: an image may have {config.LAYERS_MAX} layers")
        layer, diff_id = await apply(store, keeper, None, parent.chain or None, params.layer)
        is_empty = diff_id == EMPTY
        raw = _document(parent, run, params, None if is_empty else diff_id)
        layers = list(parent.layers) if is_empty else [*parent.layers, layer]
        id = await store.add(raw, layers, [name] if name else [])
    if name:
        await tell(job, "tag", id, name.familiar)
    return id


def _document(parent: Image, run: dict[str, Any], params: ImageCommit, diff_id: str | None) -> bytes:
    """The image's configuration: the parent's platform, layers and history, and what comes on top."""
    created = config.now()
    told = {"author": params.author, "comment": params.comment}
    step = {"created": created, "created_by": params.created_by, **told, "empty_layer": diff_id is None}
    old = parent.config
    diff_ids = old["rootfs"]["diff_ids"]
    kept = {key: old[key] for key in ("architecture", "variant", "os", "os.version", "os.features") if old.get(key)}
    document = {
        **kept,
        **{key: value for key, value in told.items() if value},
        "created": created,
        "container": params.container,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids, diff_id] if diff_id else diff_ids},
        "history": [*(old.get("history") or []), {key: value for key, value in step.items() if value}],
    }
    return msgspec.json.encode(document)
