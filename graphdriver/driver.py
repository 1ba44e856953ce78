"""The graph driver's interface: it keeps layers, and makes root file systems out of chains of them.

Terms. A *layer* is the set of changes that one step of an image makes to the one below, its `parent`. Its *id* is
its chain id (OCI image spec: the digest of the parent's chain id and its own diff id), 64 hex characters: the same
content on the same base is the same layer, whoever brings it. A *container layer* is a writable one on top of a
chain; its id is the container's. A *diff id* is the sha256 digest of a layer's uncompressed tar.

Importing a layer. `apply(id, parent, tar)` unpacks into an ingest folder in a confined child, hashes on the way,
syncs, and renames into place: a layer is there whole or not at all, and applying one that is there already only
reads the stream. Two callers may apply the same layer at once; one wins and both return.

Running a container. `create(id, parent)` makes its writable layer. It is not synced: it is on disk with the caller's
next commit on the same journalling file system, and can be made again if a power cut took it. `rootfs(id)` says
what the exec driver mounts; nothing is mounted by the graph driver on that path, so nothing can leak. `remove(id)`
forgets a layer of either kind; its files may be unlinked after the answer.

Conformance: `tests/suites/graphdriver.py` runs against every driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import trio

from windlass.lib.rootfs import RootFS


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the parent: Docker's kinds 0, 1, 2 are modified, added, deleted."""

    path: str
    kind: Literal[0, 1, 2]


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` found: the digest of the uncompressed tar, and the bytes of the files in it."""

    diff_id: str
    size: int


class LayerError(Exception):
    """A layer's stream is refused (broken tar, traversal, a digest that does not fit); nothing of it is kept."""


class Driver(Protocol):
    """Keeps layers under one folder of the data root."""

    name: str

    def status(self) -> list[tuple[str, str]]:
        """What `info` shows as DriverStatus."""
        ...

    async def apply(
        self,
        id: str | None,
        parent: str | None,
        tar: AsyncIterator[bytes],
        wait_parent: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> tuple[str, Applied]:
        """Keep the layer whose uncompressed tar is `tar` on top of `parent`; return its id.

        A parent that is on its way itself is waited for by `wait_parent`, as late as the driver can.

        With `id` None the id is computed from what arrives; otherwise a stream that gives another is refused.
        Raises LayerError, or OSError (ENOSPC …) naming the path; nothing is kept then.
        """
        ...

    async def has(self, id: str) -> bool: ...

    async def size(self, id: str) -> int:
        """Bytes of the files in layer `id`, without its parents. Raises FileNotFoundError."""
        ...

    def can_limit_size(self) -> bool:
        """Whether a writable layer can be kept to a size here."""
        ...

    async def create(self, id: str, parent: str | None, size: int = 0) -> None:
        """Make an empty writable layer, of `size` bytes at most unless that is 0.

        Raises FileExistsError, FileNotFoundError (the parent), OSError where a size cannot be kept to.
        """
        ...

    async def rootfs(self, id: str) -> RootFS:
        """What to mount as the root of container layer `id`. Raises FileNotFoundError."""
        ...

    async def view(self, id: str) -> RootFS:
        """What to mount, read-only, to see layer `id` on all that is below it. Raises FileNotFoundError."""
        ...

    async def remove(self, id: str) -> None:
        """Forget a layer. Does nothing when it is not there. The caller knows that nobody stands on it."""
        ...

    async def sweep(self) -> None:
        """Unlink the files of what was removed. May take long; cancel it whenever you like."""
        ...

    async def changes(self, id: str) -> list[Change]:
        """What container layer `id` changed, sorted by path."""
        ...

    def diff(self, id: str, changes: Sequence[Change]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A layer's tar of those `changes` of container layer `id`; what has gone since is left out.

        The same content gives the same bytes. A stream that raises was not whole.
        """
        ...

    async def layers(self) -> set[str]:
        """The ids of all read-only layers, for reconcile."""
        ...

    async def containers(self) -> set[str]:
        """The ids of all container layers, for reconcile."""
        ...
