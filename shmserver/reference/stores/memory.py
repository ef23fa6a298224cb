# SPDX-License-Identifier: MIT
"""Volumes in POSIX shared memory, gone when the server ends.

Each is an object that loses its name as soon as it has one: nothing is left in /dev/shm, however
the server ends.  Only what was touched takes memory.  Snapshots are copies.
"""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Iterable

import posix_ipc

from shmserver.reference.stores import sparse
from shmserver.store import Extent, Snapshot, Store


class _Object(sparse.File):
    """A new object without a name."""

    def __init__(self, size_bytes: int) -> None:
        made = posix_ipc.SharedMemory(None, posix_ipc.O_CREX, size=0)
        made.unlink()
        super().__init__(made.fd)
        os.ftruncate(self.fd, size_bytes)


class _Copy:
    """The contents and size of another object as they are now."""

    def __init__(self, of: _Object, size_bytes: int, deadline: float | None = None) -> None:
        self.object = _Object(0)
        self.size_bytes = size_bytes
        self.created_ns = time.time_ns()
        sparse.copy(of.fd, self.object.fd, deadline)


class _Volume:
    def __init__(self, size_bytes: int) -> None:
        self.object = _Object(size_bytes)
        self.size_bytes = size_bytes
        self.snapshots: dict[str, _Copy] = {}  # oldest first

    @property
    def fd(self) -> int:
        return self.object.fd


class Memory(Store):
    def __init__(self) -> None:
        self._volumes: dict[str, _Volume] = {}

    # ---- volumes ----

    def create(self, name: str, size_bytes: int) -> None:
        self._volumes[name] = _Volume(size_bytes)

    def remove(self, name: str) -> None:
        del self._volumes[name]

    def size(self, name: str) -> int:
        return self._volumes[name].size_bytes

    def allocated(self, name: str) -> int:
        return sparse.allocated(self._volumes[name].fd)

    def list(self) -> Iterable[str]:
        return builtins.list(self._volumes)

    def resize(self, name: str, size_bytes: int) -> None:
        volume = self._volumes[name]
        os.ftruncate(volume.fd, size_bytes)
        volume.size_bytes = size_bytes

    def shutdown(self) -> None:
        self._volumes.clear()

    # ---- snapshots ----

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        volume = self._volumes[name]
        deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        volume.snapshots[snapshot] = _Copy(volume.object, volume.size_bytes, deadline)

    def snapshot_rollback(self, name: str, snapshot: str) -> None:
        volume = self._volumes[name]
        kept = volume.snapshots[snapshot]
        volume.object = _Copy(kept.object, kept.size_bytes).object
        volume.size_bytes = kept.size_bytes
        names = builtins.list(volume.snapshots)
        for newer in names[names.index(snapshot) + 1 :]:
            del volume.snapshots[newer]

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        del self._volumes[name].snapshots[snapshot]

    def snapshot_list(self, name: str) -> Iterable[Snapshot]:
        return [
            Snapshot(snapshot, copy.size_bytes, sparse.allocated(copy.object.fd), copy.created_ns)
            for snapshot, copy in self._volumes[name].snapshots.items()
        ]

    # ---- data ----

    def open(self, name: str) -> _Volume:
        return self._volumes[name]

    def pread(self, volume: _Volume, buffer: memoryview, offset_bytes: int) -> None:
        sparse.read(volume.fd, buffer, offset_bytes)

    def pwrite(self, volume: _Volume, buffer: memoryview, offset_bytes: int) -> None:
        sparse.write(volume.fd, buffer, offset_bytes)

    def discard(self, volume: _Volume, length_bytes: int, offset_bytes: int) -> None:
        sparse.discard(volume.fd, length_bytes, offset_bytes)

    def write_zeroes(
        self, volume: _Volume, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        sparse.zero(volume.fd, length_bytes, offset_bytes, unmap=may_unmap)

    def block_status(
        self, volume: _Volume, length_bytes: int, offset_bytes: int
    ) -> Iterable[Extent]:
        return sparse.extents(volume.fd, length_bytes, offset_bytes)
