"""Rows of what registries know of images: manifests, repository digests, and the blobs of layers.

Functions on a connection, for the store's transactions.
"""

from __future__ import annotations

import sqlite3

import msgspec

from windlass.jobs.images import Blob, Document, ImageContent, KeptLayer


def set_blobs(db: sqlite3.Connection, blobs: list[tuple[str, Blob]]) -> None:
    """Record which blob a layer, by its chain id, is known as."""
    rows = [(chain, blob.digest, blob.media_type, blob.size) for chain, blob in blobs]
    db.executemany("INSERT INTO layer_blobs VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


def add_blob(db: sqlite3.Connection, chain: str, blob: Blob) -> set[str]:
    """Record one more blob of a layer; forget those that no registry has, and return what no other layer is."""
    local = (
        "DELETE FROM layer_blobs WHERE layer = ? AND digest NOT IN (SELECT digest FROM blob_sources) RETURNING digest"
    )
    digests = {digest for (digest,) in db.execute(local, (chain,)).fetchall()}
    set_blobs(db, [(chain, blob)])
    return digests - known_blobs(db)


def set_origin(db: sqlite3.Connection, id: str, repository: str, digest: str, manifest: Document) -> None:
    """Record that `repository` has the image as `digest`, with that manifest and so with its blobs."""
    db.execute("INSERT OR REPLACE INTO repo_digests VALUES (?, ?, ?)", (repository, digest, id))
    set_manifest(db, id, manifest)
    layers = msgspec.json.decode(manifest.content)["layers"]
    rows = [(layer["digest"], repository) for layer in layers]
    db.executemany("INSERT INTO blob_sources VALUES (?, ?) ON CONFLICT DO NOTHING", rows)


def set_manifest(db: sqlite3.Connection, id: str, manifest: Document) -> None:
    """Record one more manifest of an image."""
    row = (id, manifest.digest, manifest.media_type, manifest.content)
    db.execute("INSERT INTO manifests VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


def drop_blobs(db: sqlite3.Connection) -> set[str]:
    """Forget the blobs of layers that no image has; return the digests that no other layer has."""
    gone = "DELETE FROM layer_blobs WHERE layer NOT IN (SELECT layer FROM image_layers) RETURNING digest"
    digests = {digest for (digest,) in db.execute(gone).fetchall()} - known_blobs(db)
    db.executemany("DELETE FROM blob_sources WHERE digest = ?", [(digest,) for digest in digests])
    return digests


def known_blobs(db: sqlite3.Connection) -> set[str]:
    return {digest for (digest,) in db.execute("SELECT DISTINCT digest FROM layer_blobs")}


def contents(db: sqlite3.Connection, row: sqlite3.Row) -> ImageContent:
    """What the image in `row` consists of."""
    diff_ids = msgspec.json.decode(row["config"])["rootfs"]["diff_ids"]
    chains = db.execute("SELECT layer FROM image_layers WHERE image = ? ORDER BY position", (row["id"],)).fetchall()
    manifests = db.execute("SELECT digest, media_type, content FROM manifests WHERE image = ?", (row["id"],))
    tags = db.execute("SELECT repository, tag FROM tags WHERE image = ? ORDER BY repository, tag", (row["id"],))
    return ImageContent(
        id=row["id"],
        config=row["config"],
        layers=[KeptLayer(chain, diff, blobs(db, chain)) for (chain,), diff in zip(chains, diff_ids, strict=True)],
        manifests=[Document(*manifest) for manifest in manifests],
        names=[f"{repository}:{tag}" for repository, tag in tags],
    )


def blobs(db: sqlite3.Connection, chain: str) -> list[Blob]:
    """The blobs that a layer is known as."""
    query = "SELECT digest, size, media_type FROM layer_blobs WHERE layer = ? ORDER BY digest"
    return [Blob(*blob) for blob in db.execute(query, (chain,))]
