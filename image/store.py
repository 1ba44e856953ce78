"""Images on record: configurations by digest, names, and the layers that they stand on.

An image's id is the digest of its configuration, byte for byte. Layers belong to the graph driver; an image's row
names the topmost one, and each layer of the chain is in `image_layers`, so that a layer nobody needs can be told.
A row is written when all its layers are there, so an image that is listed always runs.

An image that is deleted under a stopped container leaves a *tombstone*: a row that nobody finds, and that keeps the
layers until no container has the image's id any more.

A layer's *blobs* are the compressed tars that it came as; they are kept as long as the layer is, in the blob store, but
a row may tell of a blob that is known by its digest alone.

Layers are taken away by nobody but `collect`, and never while somebody is at `work`: what an import has just applied
belongs to no image yet. A crash leaves layers without an image, and the next `collect` takes them away.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from windlass.engine.errors import BadParameter, NotFound
from windlass.graphdriver.driver import Driver
from windlass.graphdriver.layers import chain_id
from windlass.jobs.images import Blob, Document, ImageContent
from windlass.lib import reference
from windlass.lib.blobs import Blobs
from windlass.lib.database import Database
from windlass.lib.reference import InvalidReference, Reference

from . import records

PACKERS = min(4, os.cpu_count() or 1)  # layers that are compressed at a time

MIGRATIONS = [
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY, config BLOB NOT NULL, chain TEXT NOT NULL, size INTEGER NOT NULL,
        stored_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL, layer TEXT NOT NULL,
        size INTEGER NOT NULL, PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_by_layer ON image_layers (layer);
    CREATE TABLE tags (
        repository TEXT NOT NULL, tag TEXT NOT NULL, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
        PRIMARY KEY (repository, tag)
    ) WITHOUT ROWID;
    CREATE INDEX tags_by_image ON tags (image);
    """,
    """
    ALTER TABLE images ADD COLUMN is_tombstone INTEGER NOT NULL DEFAULT 0;
    CREATE VIEW live_images AS SELECT * FROM images WHERE NOT is_tombstone;
    """,
    """
    CREATE TABLE repo_digests (
        repository TEXT NOT NULL, digest TEXT NOT NULL, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX repo_digests_by_image ON repo_digests (image);
    CREATE TABLE manifests (
        image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, digest TEXT NOT NULL, media_type TEXT NOT NULL,
        content BLOB NOT NULL, PRIMARY KEY (image, digest)
    ) WITHOUT ROWID;
    CREATE TABLE layer_blobs (
        layer TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY (layer, digest)
    ) WITHOUT ROWID;
    CREATE INDEX layer_blobs_by_digest ON layer_blobs (digest);
    CREATE TABLE blob_sources (
        digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)
    ) WITHOUT ROWID;
    """,
]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: its chain id, the bytes of its files, and the blobs that it is known as."""

    chain: str
    size: int
    blobs: tuple[Blob, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """How a registry knows an image: as `repository@digest`, with that manifest."""

    repository: str
    digest: str
    manifest: Document


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `config` is the whole configuration; `layers` are lowest first; `tags` and `digests` are familiar."""

    id: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int

    @property
    def chain(self) -> str:
        return self.layers[-1].chain if self.layers else ""

    @property
    def run_config(self) -> dict[str, Any]:
        """What a container takes over: Cmd, Env …"""
        config = self.config.get("config")
        return config if isinstance(config, dict) else {}


class Store:
    """Images in the durable database, on one graph driver's layers. `tombstones` are ids of deleted images."""

    def __init__(self, database: Database, graph: Driver, blobs: Blobs) -> None:
        self.graph = graph
        self.blobs = blobs
        self._database = database
        self._workers = 0
        self._collecting = trio.Lock()
        self.packing = trio.CapacityLimiter(PACKERS)
        database.migrate("image", MIGRATIONS)
        rows = database.read_now(lambda db: db.execute("SELECT id FROM images WHERE is_tombstone").fetchall())
        self.tombstones = {id for (id,) in rows}

    async def add(
        self,
        config: bytes,
        layers: list[Layer],
        names: list[Reference],
        origin: Origin | None = None,
        *,
        manifest: Document | None = None,
    ) -> str:
        """Put an image on record with its names, which move if another has them; return its id.

        `manifest` is the one that it came with, when it did not come from a registry.
        """
        id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        size = sum(layer.size for layer in layers)

        def insert(db: sqlite3.Connection) -> None:
            chain = layers[-1].chain if layers else ""
            row = (id, config, chain, size, time.time_ns())
            db.execute(
                "INSERT INTO images (id, config, chain, size, stored_ns) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET is_tombstone = 0",
                row,
            )
            rows = [(id, at, layer.chain, layer.size) for at, layer in enumerate(layers)]
            db.executemany("INSERT INTO image_layers VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
            records.set_blobs(db, [(layer.chain, blob) for layer in layers for blob in layer.blobs])
            if origin is not None:
                records.set_origin(db, id, origin.repository, origin.digest, origin.manifest)
            if manifest is not None:
                records.set_manifest(db, id, manifest)
            _set_tags(db, id, names)

        await self._database.write(insert)
        self.tombstones.discard(id)
        return id

    async def set_tag(self, id: str, name: Reference) -> None:
        await self._database.write(lambda db: _set_tags(db, id, [name]))

    async def drop_names(self, names: list[Reference]) -> None:
        """Take tags and digests away."""

        def delete(db: sqlite3.Connection) -> None:
            for name in names:
                query = "DELETE FROM {} WHERE repository = ? AND {} = ?".format(*_column(name))
                db.execute(query, (name.repository, name.digest or name.tag))

        await self._database.write(delete)

    async def remove(self, id: str, *, bury: bool) -> list[str]:
        """Take an image off the record; return the layers that no other image stands on, topmost first.

        With `bury` it becomes a tombstone and none of its layers goes.
        """

        def delete(db: sqlite3.Connection) -> list[str]:
            if bury:
                db.execute("UPDATE images SET is_tombstone = 1 WHERE id = ?", (id,))
                db.execute("DELETE FROM tags WHERE image = ?", (id,))
                db.execute("DELETE FROM repo_digests WHERE image = ?", (id,))
                return []
            query = """SELECT layer FROM image_layers AS mine WHERE image = ? AND NOT EXISTS (
                SELECT 1 FROM image_layers WHERE layer = mine.layer AND image != mine.image
            ) ORDER BY position DESC"""
            orphans = [layer for (layer,) in db.execute(query, (id,))]
            db.execute("DELETE FROM images WHERE id = ?", (id,))
            return orphans

        orphans = await self._database.write(delete)
        if bury:
            self.tombstones.add(id)
        await self.collect()
        return orphans

    async def forget(self, ids: set[str]) -> None:
        """Take those tombstones away, and the layers that they kept."""
        rows = [(id,) for id in ids]
        query = "DELETE FROM images WHERE id = ? AND is_tombstone"
        await self._database.write(lambda db: db.executemany(query, rows))
        self.tombstones -= ids
        await self.collect()

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """While inside, no layer is taken away; at the end, what a failure has left is."""
        async with self._collecting:
            self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1
            with trio.CancelScope(shield=True):
                await self.collect()

    async def collect(self) -> None:
        """Take the layers away that no image stands on, unless somebody is at work: who ends last does it then."""
        async with self._collecting:
            if self._workers:
                return
            rows = await self._database.read(lambda db: db.execute("SELECT layer FROM image_layers").fetchall())
            for layer in await self.graph.layers() - {layer for (layer,) in rows}:
                await self.graph.remove(layer)
            await self.blobs.remove(await self._database.write(records.drop_blobs))
            await self.blobs.sweep(await self._database.read(records.known_blobs))

    async def all(self) -> list[Image]:
        return await self._database.read(
            lambda db: [_image(db, row) for row in db.execute("SELECT * FROM live_images")]
        )

    async def stored(self) -> dict[str, int]:
        """When each image came here, by id, in nanoseconds since the epoch."""
        return await self._database.read(
            lambda db: dict(db.execute("SELECT id, stored_ns FROM live_images").fetchall())
        )

    async def find(self, name: str) -> Image:
        """The image with the reference, id or unique id prefix `name`. Raises NotFound, BadParameter."""
        return await self._database.read(lambda db: _image(db, _find(db, name)))

    async def base(self, id: str) -> Image:
        """The image with this id, even if it was deleted under a container. Raises NotFound."""
        query = "SELECT * FROM images WHERE id = ?"
        return await self._database.read(lambda db: _image(db, _found(db.execute(query, (id,)).fetchone(), id)))

    async def contents(self, name: str) -> ImageContent:
        """What the image `name` consists of. Raises NotFound."""
        return await self._database.read(lambda db: records.contents(db, _find(db, name)))

    async def keep(self, id: str, repository: str, manifest: Document, blobs: list[Blob]) -> None:
        """Remember that `repository` has the image, as that manifest with those blobs. Raises NotFound."""
        chains = [layer.chain for layer in (await self.find(id)).layers]

        def insert(db: sqlite3.Connection) -> None:
            records.set_blobs(db, list(zip(chains, blobs, strict=True)))
            records.set_origin(db, id, repository, manifest.digest, manifest)

        await self._database.write(insert)

    async def blobs_of(self, chain: str) -> list[Blob]:
        """The blobs that a layer is known as."""
        return await self._database.read(lambda db: records.blobs(db, chain))

    async def add_blob(self, chain: str, blob: Blob) -> None:
        """Remember that a layer is that blob, too; one that was made here and that nobody else has goes."""
        await self.blobs.remove(await self._database.write(lambda db: records.add_blob(db, chain, blob)))

    async def sources(self, digest: str) -> list[str]:
        """The repositories that have the blob."""
        query = "SELECT repository FROM blob_sources WHERE digest = ? ORDER BY repository"
        return await self._database.read(lambda db: [row[0] for row in db.execute(query, (digest,))])

    async def owner(self, name: Reference) -> str:
        """The id of the image that has the tag `name`; empty when none has."""
        query = "SELECT image FROM tags WHERE repository = ? AND tag = ?"
        row = await self._database.read(lambda db: db.execute(query, (name.repository, name.tag)).fetchone())
        return row[0] if row else ""

    async def tags_of(self, repository: str) -> list[str]:
        """The tags that a repository has here."""
        query = "SELECT tag FROM tags WHERE repository = ? ORDER BY tag"
        return await self._database.read(lambda db: [tag for (tag,) in db.execute(query, (repository,))])

    async def strangers(self, digests: set[str]) -> set[str]:
        """Those of `digests` that no layer has."""
        return digests - await self._database.read(records.known_blobs)

    @property
    def is_shared(self) -> bool:
        """True while more than one is at work."""
        return self._workers > 1

    async def find_tag(self, name: str) -> Reference | None:
        """The tag or digest that `name` is, when it is one that an image has."""
        try:
            parsed = reference.parse(name).tagged()
        except InvalidReference:
            return None
        query = "SELECT 1 FROM {} WHERE repository = ? AND {} = ?".format(*_column(parsed))
        where = (parsed.repository, parsed.digest or parsed.tag)
        return parsed if await self._database.read(lambda db: db.execute(query, where).fetchone()) else None


def _column(name: Reference) -> tuple[str, str]:
    """The table and the column of a tag or a digest."""
    return ("repo_digests", "digest") if name.digest else ("tags", "tag")


def _set_tags(db: sqlite3.Connection, id: str, names: list[Reference]) -> None:
    if db.execute("SELECT 1 FROM live_images WHERE id = ?", (id,)).fetchone() is None:
        raise NotFound(f"No such image: {id}")
    rows = [(name.repository, name.tag, id) for name in names]
    db.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", rows)


def _image(db: sqlite3.Connection, row: sqlite3.Row) -> Image:
    layers = db.execute("SELECT layer, size FROM image_layers WHERE image = ? ORDER BY position", (row["id"],))
    tags = db.execute("SELECT repository, tag FROM tags WHERE image = ? ORDER BY repository, tag", (row["id"],))
    digests = db.execute("SELECT repository, digest FROM repo_digests WHERE image = ? ORDER BY 1, 2", (row["id"],))
    return Image(
        row["id"],
        msgspec.json.decode(row["config"]),
        tuple(Layer(*layer) for layer in layers),
        tuple(f"{reference.parse(repository).familiar_name}:{tag}" for repository, tag in tags),
        tuple(f"{reference.parse(repository).familiar_name}@{digest}" for repository, digest in digests),
        row["size"],
    )


def _find(db: sqlite3.Connection, name: str) -> sqlite3.Row:
    digits = name.removeprefix("sha256:")
    is_hex = bool(digits) and all(c in "0123456789abcdef" for c in digits)
    if is_hex and len(digits) == 64:
        row = db.execute("SELECT * FROM live_images WHERE id = ?", (f"sha256:{digits}",)).fetchone()
        return _found(row, name)
    try:
        parsed = reference.parse(name).tagged()
    except InvalidReference as exc:
        if not is_hex:
            raise BadParameter(str(exc), key="name") from None
        return _by_prefix(db, digits, name, name)
    query = "SELECT * FROM live_images WHERE id = (SELECT image FROM {} WHERE repository = ? AND {} = ?)"
    query = query.format(*_column(parsed))
    row = db.execute(query, (parsed.repository, parsed.digest or parsed.tag)).fetchone()
    if row is None and is_hex:
        return _by_prefix(db, digits, name, parsed.familiar)
    if row is None and parsed.digest:
        row = db.execute("SELECT * FROM live_images WHERE id = ?", (parsed.digest,)).fetchone()
    return _found(row, parsed.familiar)


def _by_prefix(db: sqlite3.Connection, digits: str, name: str, shown: str) -> sqlite3.Row:
    rows = db.execute("SELECT * FROM live_images WHERE id >= ? AND id < ? LIMIT 2", _range(digits)).fetchall()
    if len(rows) > 1:
        raise NotFound(f"No such image: {name}: the id prefix is ambiguous")
    return _found(rows[0] if rows else None, shown)


def _range(digits: str) -> tuple[str, str]:
    return f"sha256:{digits}", f"sha256:{digits}g"


def _found(row: sqlite3.Row | None, name: str) -> sqlite3.Row:
    if row is None:
        raise NotFound(f"No such image: {name}")
    return row


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer in a list of diff ids, lowest first."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(chain_id(chains[-1] if chains else None, diff_id))
    return chains
