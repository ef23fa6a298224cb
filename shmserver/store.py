# SPDX-License-Identifier: MIT
"""A store in Python: subclass Store, implement what you have, and a server serves it.

    class Memory(shmserver.Store):
        def __init__(self):
            self.volumes = {}

        def create(self, name, size_bytes):
            self.volumes[name] = bytearray(size_bytes)

        def size(self, name):
            return len(self.volumes[name])

        def list(self):
            return self.volumes

        def open(self, name):
            return memoryview(self.volumes[name])

        def pread(self, volume, buffer, offset_bytes):
            buffer[:] = volume[offset_bytes : offset_bytes + len(buffer)]

        def pwrite(self, volume, buffer, offset_bytes):
            volume[offset_bytes : offset_bytes + len(buffer)] = buffer

This file is what a store looks like from both sides; it does not know who serves it.  The C server
(shmserver.Server) and the reference server (shmserver.reference) serve the same classes.
"""

from __future__ import annotations

import builtins
import enum
import errno
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeGuard

ERRNO_MAX = 4095  # of Linux


class Op(enum.IntEnum):
    """What a request asks for; the numbers of the wire (docs/PROTOCOL.md, section 8)."""

    READ = 1
    WRITE = 2
    FLUSH = 3
    DISCARD = 4
    WRITE_ZEROES = 5
    BLOCK_STATUS = 6


class Extent(NamedTuple):
    """A stretch of a volume that is all alike.  hole: not allocated; zero: reads as zeroes."""

    length_bytes: int
    hole: bool = False
    zero: bool = False


class Snapshot(NamedTuple):
    """A snapshot as snapshot_list() tells it."""

    name: str
    size_bytes: int
    allocated_bytes: int = 0
    created_ns: int = 0  # since the epoch


class Request(Protocol):
    """A request in the hands of Store.submit().

    It lies within the volume and is aligned to block_bytes.  Buffers are memory of a client, which
    may change it at any moment: read it once.  The client has it back when the request is complete;
    a view that is kept longer stays safe to touch, as it holds the memory, but must not be written.
    A request that the store forgets (nothing refers to it any more) fails with EIO.
    """

    op: Op
    """What to do."""

    volume: Any
    """What open() returned."""

    offset_bytes: int
    """Where in the volume."""

    length_bytes: int
    """How much of it; flush: 0."""

    buffer: memoryview | None
    """Of bytes.  Read: to fill; write: the data, read-only; else None."""

    fua: bool
    """Write, write-zeroes: durable when complete."""

    may_unmap: bool
    """Write-zeroes: the range may become a hole."""

    extents_max: int
    """Block-status: at most so many are passed on."""

    def complete(self, extents: Iterable[Extent] = ()) -> None:
        """It is done, all of it.  Once, from any thread; later calls do nothing."""

    def fail(self, error: BaseException) -> None:
        """It is not; the client gets errno_of(error).  Once, from any thread."""


class Store:
    """Base of all stores.

    size() and pread(), or submit(), are needed; the others are for what the store can do.

    Every method may also be `async def`; those run on one event loop, in a thread of the store.

    Threads: data methods (pread to block_status, submit) are called from one reactor thread unless
    `threads` says otherwise, management methods from other threads, so that what both touch needs a
    lock or a single dict operation.  Management calls that name the same volume never overlap.

    Errors: an OSError arrives at the client with its errno and, for management calls, its text;
    errno_of() has the rest.  What it does not know is a bug, and logged with its traceback.  The
    server goes on in any case.

    Names and sizes have been checked (docs/PROTOCOL.md, section 3); what the store answers will be,
    and names that break the rules are left out of lists.
    """

    # ---- what the store declares ----

    read_only: bool = False
    """Volumes cannot be opened for writing."""

    block_bytes: int = 1
    """A power of two that requests are aligned to; one may still end where the volume ends."""

    threads: int = 0
    """0: plain data methods run in the reactor, which is fastest; they must not block long, nor use
    a volume of their own server.  Above: so many threads of the store run them, several at once."""

    deadline_s: float | None = None
    """A request that takes longer ends with ETIMEDOUT; whether it was done is not known.  Data goes
    through private memory then, and data methods never run in the reactor; coroutines are
    cancelled.  close() and snapshots come when the store has let go of all of them."""

    can_discard: bool | None = None
    """None: when the method is implemented.  Stores with submit() declare what it can do."""

    can_write_zeroes: bool | None = None
    """As can_discard."""

    can_block_status: bool | None = None
    """As can_discard."""

    can_fua: bool = False
    """True: pwrite and write_zeroes get fua=True where the client wants the data durable; False:
    flush() is called after them instead."""

    # ---- management ----

    def create(self, name: str, size_bytes: int) -> None:
        """Make a volume that reads as zeroes.  Only called for names that size() does not know."""
        raise _absent(self, "create")

    def remove(self, name: str) -> None:
        """Remove a volume and its snapshots; it is not open."""
        raise _absent(self, "remove")

    def size(self, name: str) -> int:
        """The size in bytes; KeyError or FileNotFoundError when there is no such volume.  Clients
        see what there is up to a multiple of 512, a mount all of it."""
        raise _absent(self, "size")

    def allocated(self, name: str) -> int:
        """The bytes it takes; by default its size."""
        return self.size(name)

    def list(self) -> Iterable[str]:
        """The names of all volumes, in any order."""
        return ()

    def resize(self, name: str, size_bytes: int) -> None:
        """Grow a volume, perhaps an open one; the new part reads as zeroes."""
        raise _absent(self, "resize")

    def truncate(self, name: str, size_bytes: int) -> None:
        """Grow or shrink a volume, perhaps an open one, to any number of bytes; cheaply, durable
        with the next flush().  What was cut off reads as zeroes when it grows again.  For a mount,
        as rename(); without it a mount can grow volumes by whole sectors, where there is resize().
        """
        raise _absent(self, "truncate")

    def rename(self, name: str, new_name: str) -> None:
        """Give a volume and its snapshots another name, in the place of what has it; neither is
        open."""
        raise _absent(self, "rename")

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        """Keep the contents as they are now; no request is in flight.  Only called for new names.

        timeout_s: > 0 wait at most so long for the snapshot to be safe, else TimeoutError; 0 for
        ever; < 0 do not wait.
        """
        raise _absent(self, "snapshot_create")

    def snapshot_rollback(self, name: str, snapshot: str) -> None:
        """Put the contents and the size back, drop newer snapshots; no request is in flight.

        This and the next are only called for snapshots in snapshot_list().
        """
        raise _absent(self, "snapshot_rollback")

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        """Forget one of those in snapshot_list()."""
        raise _absent(self, "snapshot_remove")

    def snapshot_list(self, name: str) -> Iterable[Snapshot]:
        """Oldest first."""
        return ()

    def snapshot_is_synced(self, name: str, snapshot: str) -> bool:
        """Is it safe in the store?"""
        return True

    # ---- open volumes ----

    def open(self, name: str) -> Any:
        """Whatever data methods shall get as `volume`; called once, however many clients use it."""
        return name

    def close(self, volume: Any) -> None:
        """No client uses it any more, and no request of it is in flight."""

    # ---- data ----

    def pread(self, volume: Any, buffer: memoryview, offset_bytes: int) -> int | None:
        """Fill buffer.  None: done; a number other than len(buffer) is an error (EIO)."""
        raise _absent(self, "pread")

    def pwrite(self, volume: Any, buffer: memoryview, offset_bytes: int) -> int | None:
        """Take all of buffer.  Returns as pread.  With can_fua there is a keyword fua."""
        raise _absent(self, "pwrite")

    def flush(self, volume: Any) -> None:
        """Make durable what has been written.  Not implemented: nothing is ever cached."""

    def discard(self, volume: Any, length_bytes: int, offset_bytes: int) -> None:
        """These bytes are not needed any more."""
        raise _absent(self, "discard")

    def write_zeroes(
        self, volume: Any, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        """They shall read as zeroes.  With can_fua there is a keyword fua."""
        raise _absent(self, "write_zeroes")

    def block_status(self, volume: Any, length_bytes: int, offset_bytes: int) -> Iterable[Extent]:
        """Extents from offset_bytes on, at least one; may end early, and go beyond the range."""
        raise _absent(self, "block_status")

    def submit(self, requests: builtins.list[Request]) -> None:
        """Start all of these; each is ended by its complete() or fail(), here or later.

        Implemented, it gets every data request, pread to block_status are not called, and it sees
        to fua itself.  What it raises fails those of the requests that have not been ended.
        """
        raise _absent(self, "submit")

    # ---- the server around it ----

    def startup(self) -> None:
        """Before the first call, with `async def` on the store's loop."""

    def shutdown(self) -> None:
        """After the last."""


def _absent(store: Store, method: str) -> NotImplementedError:
    return NotImplementedError(f'store "{type(store).__name__}" has no {method}()')


def implements(store: Store, method: str) -> bool:
    """Has a subclass, or the object itself, put something in the place of Store's method?"""
    return getattr(getattr(store, method), "__func__", None) is not getattr(Store, method)


class Ability(NamedTuple):
    """What a store can do: as the server tells it to clients, and what only a mount asks for."""

    write: bool
    discard: bool
    write_zeroes: bool
    block_status: bool
    resize: bool
    snapshot: bool
    manage: bool
    truncate: bool
    rename: bool


def abilities(store: Store) -> Ability:
    """What it implements and declares, together."""
    vectorised = implements(store, "submit")

    def can(op: str) -> bool:
        declared = getattr(store, f"can_{op}")
        return implements(store, op) if declared is None else bool(declared)

    writable = not store.read_only
    return Ability(
        write=writable and (vectorised or implements(store, "pwrite")),
        discard=writable and can("discard"),
        write_zeroes=writable and can("write_zeroes"),
        block_status=can("block_status"),
        resize=writable and implements(store, "resize"),
        truncate=writable and implements(store, "truncate"),
        rename=writable and implements(store, "rename"),
        snapshot=implements(store, "snapshot_create"),
        manage=writable and implements(store, "create"),
    )


def errno_of(error: BaseException, *, management: bool = False) -> int:
    """The errno a client gets for an exception of a store.

    management: a KeyError is a name that does not exist (ENOENT), as a dict of volumes says it.
    """
    if isinstance(error, OSError) and _is_errno(error.errno):
        return error.errno
    if management and isinstance(error, KeyError):
        return errno.ENOENT
    for kind, number in _ERRNO.items():
        if isinstance(error, kind):
            return number
    return errno.EIO


def _is_errno(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and 0 < number <= ERRNO_MAX


_ERRNO: dict[type[BaseException], int] = {
    NotImplementedError: errno.EOPNOTSUPP,
    MemoryError: errno.ENOMEM,
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
}
