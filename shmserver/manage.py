# SPDX-License-Identifier: MIT
"""Management calls on a Python store: what it answers is checked, what it raises becomes OSError.

A server calls them from any thread, those that name the same volume one after the other.
"""

import builtins
import errno
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import islice
from threading import Condition, Thread
from typing import Any, NamedTuple

from shmserver.complaints import Complaints, failure, log
from shmserver.names import (
    SIZE_BYTES_MAX,
    name_bytes,
    snapshot_name_fault,
    volume_name_fault,
)
from shmserver.store import Ability, Snapshot, Store, implements
from shmserver.workers import Loop

VOLUMES_MAX = 1_000_000
LATE_S = 5.0  # that calls wait for requests that have timed out and are still with the store


class VolumeStat(NamedTuple):
    name: str
    size_bytes: int
    allocated_bytes: int
    snapshots: int


class OpenVolume:
    """A volume between the store's open() and close()."""

    def __init__(self, name: str, handle: Any, size_bytes: int) -> None:
        self.name = name
        self.handle = handle  # what open() returned
        self.size_bytes = size_bytes
        self.running: set[object] = set()  # requests the store works on; under Manager's lock
        self.closing = False


class Manager:
    """The management half of a dispatcher."""

    def __init__(
        self, store: Store, ability: Ability, loop: Loop | None, complaints: Complaints
    ) -> None:
        self._store = store
        self._ability = ability
        self._loop = loop
        self._complaints = complaints
        self._left = Condition()  # the store has let go of a request, or closed a volume
        self._open: dict[str, OpenVolume] = {}
        self._listing: tuple[set[str], builtins.list[str]] = (set(), [])

    # ---- calls ----

    def ask(self, method: str, *args: Any) -> Any:
        """The store's method, plain or async; whatever it raises is an OSError then."""
        try:
            return self.call(method, *args)
        except BaseException as error:
            known = isinstance(error, OSError | NotImplementedError | KeyError)
            if not known or (isinstance(error, KeyError) and method in ("create", "list")):
                self._complaints.tell(f"{method}()", error)
            if method != "size":  # that is how it says that there is no such volume
                log.debug("%s%r raised", method, args, exc_info=True)
            raise failure(error, management=method not in ("create", "list")) from None

    def call(self, method: str, *args: Any) -> Any:
        """As ask(), but what it raises comes through."""
        result = getattr(self._store, method)(*args)
        if not hasattr(result, "__await__"):
            return result
        if self._loop is None:
            raise TypeError(f"{method}() returned an awaitable and is not async def")
        return self._loop.call(_await(result))

    def _number(self, method: str, value: Any, most: int = SIZE_BYTES_MAX) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            number = -1
        if not 0 <= number <= most:
            self._complaints.say(f"{method}()", f"{value!r:.100} is not a size in bytes")
            raise OSError(errno.EIO, f"the store says a size of {value!r:.100}")
        return number

    # ---- volumes ----

    def size(self, name: str) -> int:
        return self._number("size", self.ask("size", name))

    def exists(self, name: str) -> bool:
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def create(self, name: str, size_bytes: int) -> None:
        if self.exists(name):
            raise OSError(errno.EEXIST, f'volume "{name}" exists already')
        self.ask("create", name, size_bytes)

    def remove(self, name: str) -> None:
        self._wait_closed(name)
        self.size(name)
        self.ask("remove", name)

    def stat(self, name: str) -> VolumeStat:
        size_bytes = allocated_bytes = self.size(name)
        if implements(self._store, "allocated"):
            allocated_bytes = self._number("allocated", self.ask("allocated", name))
        snapshots = len(self.snapshots(name)) if self._ability.snapshot else 0
        return VolumeStat(name, size_bytes, allocated_bytes, snapshots)

    def list(self, after: str, count: int) -> builtins.list[VolumeStat]:
        """At most `count` volumes in order of their names' bytes, from behind `after` on."""
        names = self._names(after)
        page: builtins.list[VolumeStat] = []
        for name in islice(names, bisect_right(names, name_bytes(after), key=name_bytes), None):
            try:
                page.append(self.stat(name))
            except OSError as error:
                # FileNotFoundError: removed since.  Others must not hide all the rest.
                if error.errno != errno.ENOENT:
                    self._complaints.tell(f"stat of {name!r} for a list", error)
            if len(page) == count:
                break
        self._listing = ({stat.name for stat in page}, names)
        return page

    def _names(self, after: str) -> builtins.list[str]:
        """All of them, sorted; the store does not list again for each page."""
        page, names = self._listing
        if after in page:
            return names
        return sorted(self._kept("list", self.ask("list"), volume_name_fault), key=name_bytes)

    def _kept(
        self, method: str, names: Any, fault_of: Callable[[object], str | None]
    ) -> Iterable[str]:
        """Those that can be told to a client, once each."""
        kept = {}
        for name in self._some(method, names):
            fault = fault_of(name)
            if fault is None:
                kept[name] = True
            else:
                self._complaints.say(f"{method}()", f"left out {name!r:.300}: it {fault}")
        return kept

    def _some(self, method: str, items: Any) -> builtins.list[Any]:
        try:
            some = builtins.list(islice(items, VOLUMES_MAX + 1))
        except BaseException as error:
            self._complaints.tell(f"{method}()", error)
            raise failure(error) from None
        if len(some) > VOLUMES_MAX:
            self._complaints.say(f"{method}()", f"left out all but the first {VOLUMES_MAX}")
        return some[:VOLUMES_MAX]

    def resize(self, name: str, size_bytes: int) -> int:
        """The size it has then."""
        self.ask("resize", name, size_bytes)
        return self.size(name)

    def truncate(self, name: str, size_bytes: int) -> int:
        """The size it has then."""
        self._wait_quiet(name)
        self.ask("truncate", name, size_bytes)
        return self.size(name)

    def rename(self, name: str, new_name: str) -> None:
        self._wait_closed(name)
        self._wait_closed(new_name)
        self.size(name)
        self.ask("rename", name, new_name)

    # ---- snapshots ----

    def snapshots(self, name: str) -> builtins.list[Snapshot]:
        kept = []
        for item in self._some("snapshot_list", self.ask("snapshot_list", name)):
            try:
                snapshot = Snapshot(*item)
            except TypeError:
                self._complaints.say("snapshot_list()", f"left out {item!r:.300}")
                continue
            fault = snapshot_name_fault(snapshot.name)
            if fault is None:
                kept.append(self._checked(snapshot))
            else:
                text = f"left out {snapshot.name!r:.300}: it {fault}"
                self._complaints.say("snapshot_list()", text)
        return kept

    def _checked(self, snapshot: Snapshot) -> Snapshot:
        return snapshot._replace(
            size_bytes=self._number("snapshot_list", snapshot.size_bytes),
            allocated_bytes=self._number("snapshot_list", snapshot.allocated_bytes),
            created_ns=self._number("snapshot_list", snapshot.created_ns),
        )

    def snapshot_list(self, name: str, after: str, count: int) -> builtins.list[Snapshot]:
        """At most `count`, oldest first, from behind the one named `after` on."""
        known = self.snapshots(name)
        first = 1 + self._position(known, after) if after else 0
        return known[first : first + count]

    def _position(self, known: builtins.list[Snapshot], snapshot: str) -> int:
        for position, one in enumerate(known):
            if one.name == snapshot:
                return position
        raise OSError(errno.ENOENT, f'there is no snapshot "{snapshot}"')

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        self._wait_quiet(name)
        if any(one.name == snapshot for one in self.snapshots(name)):
            raise OSError(errno.EEXIST, f'snapshot "{snapshot}" exists already')
        self.ask("snapshot_create", name, snapshot, timeout_s)

    def snapshot_rollback(self, name: str, snapshot: str) -> int:
        """The size the volume has then."""
        self._wait_quiet(name)
        self._position(self.snapshots(name), snapshot)
        self.ask("snapshot_rollback", name, snapshot)
        return self.size(name)

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        self._position(self.snapshots(name), snapshot)
        self.ask("snapshot_remove", name, snapshot)

    def snapshot_is_synced(self, name: str, snapshot: str) -> bool:
        self._position(self.snapshots(name), snapshot)
        return bool(self.ask("snapshot_is_synced", name, snapshot))

    # ---- open volumes ----

    def open(self, name: str) -> OpenVolume:
        self._wait_closed(name)
        size_bytes = self.size(name)
        volume = OpenVolume(name, self.ask("open", name), size_bytes)
        with self._left:
            self._open[name] = volume
        return volume

    def close(self, volume: OpenVolume) -> None:
        """Does not wait: the store's close() may have to, for requests that were given up on."""
        with self._left:
            volume.closing = True
            idle = not volume.running
        if idle:
            self._finish(volume)

    def enter(self, request: object, volume: OpenVolume) -> None:
        """The store begins to work on a request, in a way that its server cannot wait for."""
        with self._left:
            volume.running.add(request)

    def leave(self, request: object, volume: OpenVolume) -> None:
        with self._left:
            if request not in volume.running:
                return
            volume.running.discard(request)
            last = volume.closing and not volume.running
            self._left.notify_all()
        if last:  # not here: this may be the loop, or a thread that others wait for
            Thread(target=self._finish, args=(volume,), daemon=True).start()

    def _finish(self, volume: OpenVolume) -> None:
        try:
            self.call("close", volume.handle)
        except BaseException as error:
            self._complaints.tell(f"close() of {volume.name!r}", error)
        with self._left:
            del self._open[volume.name]
            self._left.notify_all()

    def _wait_closed(self, name: str) -> None:
        """Who had it open before may have left requests that timed out."""
        self._wait(name, lambda: name not in self._open or not self._open[name].closing)

    def _wait_quiet(self, name: str) -> None:
        self._wait(name, lambda: name not in self._open or not self._open[name].running)

    def _wait(self, name: str, condition: Callable[[], bool]) -> None:
        with self._left:
            if not self._left.wait_for(condition, LATE_S):
                text = f'volume "{name}" still has requests in the store that timed out'
                raise OSError(errno.EBUSY, text)

    def wait_all_closed(self, timeout_s: float) -> bool:
        """Before the store is shut down.  False: some stay open, and the log says which."""
        with self._left:
            closed = self._left.wait_for(lambda: not self._late(), timeout_s)
            for volume in self._late():
                text = 'volume "%s" is not closed, the store has %d requests of it under way'
                log.warning(text, volume.name, len(volume.running))
        return closed

    def _late(self) -> builtins.list[OpenVolume]:
        return [volume for volume in self._open.values() if volume.closing]


async def _await(awaitable: Any) -> Any:
    return await awaitable
