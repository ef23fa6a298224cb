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


def _object(size_bytes: int) -> int:
    """The descriptor of a new object without a name."""
    made = posix_ipc.SharedMemory(None, posix_ipc.O_CREX, size=0)
    made.unlink()
    fd: int = made.fd
    try:
        os.ftruncate(fd, size_bytes)
    except BaseException:
        os.close(fd)
        raise
    return fd


class _Copy:
    """A snapshot."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self.created_ns = time.time_ns()


class _Volume:
    def __init__(self, size_bytes: int) -> None:
        self.fd = _object(size_bytes)
        self.size_bytes = size_bytes
        self.snapshots: dict[str, _Copy] = {}  # oldest first

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            os.close(self.snapshots.pop(name).fd)


class Memory(Store):
    def __init__(self) -> None:
        self._volumes: dict[str, _Volume] = {}

    # ---- volumes ----

    def create(self, name: str, size_bytes: int) -> None:
        self._volumes[name] = _Volume(size_bytes)

    def remove(self, name: str) -> None:
        volume = self._volumes.pop(name)
        volume.drop(builtins.list(volume.snapshots))
        os.close(volume.fd)

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
        for name in builtins.list(self._volumes):
            self.remove(name)

    # ---- snapshots ----

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        volume = self._volumes[name]
        deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        fd = _object(0)
        try:
            sparse.copy(volume.fd, fd, deadline)
        except BaseException:
            os.close(fd)
            raise
        volume.snapshots[snapshot] = _Copy(fd, volume.size_bytes)

    def snapshot_rollback(self, name: str, snapshot: str) -> None:
        volume = self._volumes[name]
        kept = volume.snapshots[snapshot]
        fd = _object(0)
        try:
            sparse.copy(kept.fd, fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(volume.fd)
        volume.fd, volume.size_bytes = fd, kept.size_bytes
        names = builtins.list(volume.snapshots)
        volume.drop(names[names.index(snapshot) + 1 :])

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        self._volumes[name].drop([snapshot])

    def snapshot_list(self, name: str) -> Iterable[Snapshot]:
        return [
            Snapshot(snapshot, copy.size_bytes, sparse.allocated(copy.fd), copy.created_ns)
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
