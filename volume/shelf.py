"""All volumes of this daemon; who holds them, who uses them.

A *holder* is a container that is configured to have the volume, a *user* is one that runs with it. Neither is kept
on disk: the daemon tells at its start, from the containers' own rows.

Each step on one volume is under its lock, so that nobody holds what is being deleted; a driver that does not answer
keeps its own volumes waiting and no others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from windlass.engine import Engine
from windlass.engine.errors import Conflict, JobError, NotFound
from windlass.jobs.events import Log

from .drivers import Drivers, VolumeDriver, ask
from .local import LocalDriver, check_name
from .model import LOCAL, Volume
from .store import Store

logger = logging.getLogger("windlass.volume")


class Shelf:
    """See the top of this file. `program` is the program whose mode `copyup` fills new volumes."""

    def __init__(self, engine: Engine, nursery: trio.Nursery, store: Store, folder: Path, program: str) -> None:
        self.engine = engine
        self.nursery = nursery
        self.store = store
        self.program = program
        self.local = LocalDriver(folder)
        self.drivers = Drivers(engine, self.local)
        self.volumes: dict[str, Volume] = {}
        self._unreadable: set[str] = set()
        self._holders: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        self._locks: dict[str, trio.Lock] = {}

    async def load(self) -> None:
        """Read the rows, and bring the folders to agree with them."""
        removing = await trio.to_thread.run_sync(self.local.removing)
        await self.store.remove(*removing)
        for name in removing:
            await trio.to_thread.run_sync(self.local.discard, name)
        known = await self.store.load()
        adopted = await trio.to_thread.run_sync(self.local.settle, known)
        await self.store.add(*adopted)
        self.volumes = {each.name: each for each in (*filter(None, known.values()), *adopted)}
        self._unreadable = {name for name, volume in known.items() if volume is None}
        self.nursery.start_soon(self._sweep)

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        if name not in self.volumes:
            raise NotFound("no such volume")
        return self.volumes[name]

    def driver(self, volume: Volume) -> VolumeDriver:
        """Raises NotFound."""
        return self.drivers.get(volume.driver)

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Be the only one who does something with the volume `name`, whether it is there or not."""
        lock = self._locks.setdefault(name, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(name, None)

    # -- coming and going; the lock is held ----------------------------------------------------------------------

    async def ensure(
        self, name: str, driver: str, options: dict[str, str] | None, labels: dict[str, str] | None
    ) -> Volume:
        """Return the volume `name`, made when it is not there: content first, then the row.

        Raises Conflict when it has another driver, and what drivers raise; nothing is left then.
        """
        if name in self._unreadable:
            raise Conflict("its record cannot be read")
        if volume := self.volumes.get(name):
            if driver and self.drivers.get(driver).name != volume.driver:
                raise Conflict(f"driver '{volume.driver}' already has volume '{name}': volume name must be unique")
            return volume
        volume = Volume(name, driver or LOCAL, time.time_ns(), options or None, labels or None)
        maker = self.driver(volume)
        check_name(name)
        with trio.CancelScope(shield=True):
            async with AsyncExitStack() as undo:
                await ask(volume.driver, maker.create(volume))
                undo.push_async_callback(self._undo_create, maker, volume)
                await self.store.add(volume)
                undo.pop_all()
            self.volumes[name] = volume
        await self.tell(volume, "create")
        return volume

    async def delete(self, name: str, force: bool = False) -> None:
        """Delete a volume, content first. Raises NotFound, Conflict while it is held, and what drivers raise."""
        volume = self.get(name)
        if holders := self.holders(name):
            raise Conflict(f"volume is in use - [{', '.join(sorted(holders))}]")
        with trio.CancelScope(shield=True):
            try:
                await ask(volume.driver, self.driver(volume).remove(volume))
            except JobError:
                if not force or volume.driver == LOCAL:
                    raise
            try:
                await self.store.remove(name)
            except BaseException:
                if volume.driver == LOCAL:
                    await trio.to_thread.run_sync(self.local.restore, name)
                raise
            del self.volumes[name]
            self._users.pop(name, None)
            if volume.driver == LOCAL:
                await trio.to_thread.run_sync(self.local.discard, name)
                self.nursery.start_soon(self._sweep)
        await self.tell(volume, "destroy")

    async def _undo_create(self, maker: VolumeDriver, volume: Volume) -> None:
        await ask(volume.driver, maker.remove(volume))
        if volume.driver == LOCAL:
            await trio.to_thread.run_sync(self.local.discard, volume.name)

    async def _sweep(self) -> None:
        try:
            while await trio.to_thread.run_sync(self.local.trash.empty):
                continue
        except OSError:
            logger.exception("what was removed of volumes could not be unlinked; the next start tries again")

    # -- holders and users ---------------------------------------------------------------------------------------

    def hold(self, name: str, container: str) -> None:
        self._holders.setdefault(name, set()).add(container)

    def release(self, name: str, container: str) -> None:
        if (holders := self._holders.get(name)) is not None:
            holders.discard(container)
            if not holders:
                del self._holders[name]

    def holders(self, name: str) -> set[str]:
        return self._holders.get(name, set())

    def users(self, name: str) -> set[str]:
        return self._users.get(name, set())

    async def mount(self, volume: Volume, container: str) -> str:
        """Add a user; return where the content is. The lock is held. The driver is asked for the first one alone."""
        driver, users = self.driver(volume), self._users.setdefault(volume.name, set())
        try:
            call = driver.path(volume) if users else driver.mount(volume)
            path = await ask(volume.driver, call)
        except BaseException:
            if not users:
                del self._users[volume.name]
            raise
        users.add(container)
        return path

    async def unmount(self, volume: Volume, container: str) -> bool:
        """Take a user away; False when it was none. The lock is held."""
        users = self._users.get(volume.name, set())
        if container not in users:
            return False
        users.discard(container)
        if not users:
            del self._users[volume.name]
            await ask(volume.driver, self.driver(volume).unmount(volume))
        return True

    def take_over(self, held: dict[str, list[str]], used: dict[str, list[str]]) -> list[Volume]:
        """Learn at the start who holds and who uses what; return the volumes that nobody uses."""
        for table, told in ((self._holders, held), (self._users, used)):
            for name, containers in told.items():
                table.setdefault(name, set()).update(containers)
        return [each for each in self.volumes.values() if each.name not in self._users]

    # -- telling -------------------------------------------------------------------------------------------------

    async def tell(self, volume: Volume, action: str, **attributes: str) -> None:
        told = {"driver": volume.driver} | attributes
        with suppress(JobError):
            await self.engine.call(Log(action=action, id=volume.name, type="volume", attributes=told))


@contextmanager
def naming(operation: str, name: str) -> Iterator[None]:
    """Begin errors with what was to be done with which volume, as dockerd does: `remove web: volume is in use`."""
    try:
        yield
    except JobError as exc:
        raise type(exc)(f"{operation} {name}: {exc.message}", **exc.detail) from exc
