"""Registers the image family."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from windlass.engine import Engine
from windlass.graphdriver.driver import Driver
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database

from . import commit, delete, export, gc, import_, lists, load, pack, set_, tag, usage
from .store import Store


def install(
    engine: Engine,
    *,
    database: Database,
    graph: Driver,
    blobs: Blobs,
    data_root: Path,
    gc_settings: Mapping[str, Any] | None = None,
) -> None:
    """Install the image jobs on `engine`. Blocks for a moment: it makes tables and folders.

    `gc_settings` are those of `image_gc`, by its keys. Raises BadParameter for a policy that cannot be.
    """
    gc_settings = gc_settings or {}
    gc.policy_of(gc_settings)
    ingest = data_root / "image" / "ingest"
    ingest.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store(database, graph, blobs)
    handlers: dict[str, Callable[..., Awaitable[Any]]] = {
        "images": lists.images,
        "image_inspect": lists.image_inspect,
        "image_get": lists.image_get,
        "history": lists.history,
        "tag": tag.tag,
        "image_delete": delete.image_delete,
        "import": import_.import_,
        "image_commit": commit.image_commit,
        "image_name": commit.image_name,
        "system_df": usage.system_df,
        "image_export": export.image_export,
        "image_set": set_.image_set,
        "image_contents": set_.image_contents,
        "image_keep": set_.image_keep,
        "layer_pack": pack.layer_pack,
        "blob_sources": set_.blob_sources,
    }
    for name, handler in handlers.items():
        engine.register(name, partial(handler, store))
    engine.register("images_prune", partial(delete.images_prune, store, trio.Lock()))
    engine.register("image_gc", partial(gc.image_gc, store, gc_settings))
    engine.register("load", partial(load.load, store, data_root))
    engine.around("delete", partial(delete.after_delete, store))
