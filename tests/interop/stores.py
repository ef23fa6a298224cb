# SPDX-License-Identifier: MIT
"""Stores in Python for the suite: the same memory, said in the three ways a store can be written.

Plain is the least a writable store is.  Async and Batch do the same with `async def` and submit().
Full has everything: snapshots, discard, zeroes, block status, FUA, blocks of 512 bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from shmserver.store import Extent, Op, Request, Snapshot, Store

BLOCK_BYTES = 512


class Plain(Store):
    """Volumes as bytearrays: plain methods; no extras."""

    def __init__(self) -> None:
        self.volumes: dict[str, bytearray] = {}

    def create(self, name: str, size_bytes: int) -> None:
        self.volumes[name] = bytearray(size_bytes)

    def remove(self, name: str) -> None:
        del self.volumes[name]

    def size(self, name: str) -> int:
        return len(self.volumes[name])

    def list(self) -> Iterable[str]:
        return list(self.volumes)

    def open(self, name: str) -> memoryview:
        return memoryview(self.volumes[name])

    def pread(self, volume: memoryview, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = volume[offset_bytes : offset_bytes + len(buffer)]

    def pwrite(self, volume: memoryview, buffer: memoryview, offset_bytes: int) -> None:
        volume[offset_bytes : offset_bytes + len(buffer)] = buffer


class Threads(Plain):
    """As Plain, its data methods in threads of the store."""

    threads = 2


class Deadline(Plain):
    """As Plain, with a time limit that nothing reaches."""

    deadline_s = 300.0


class Async(Store):
    """As Plain, every method `async def`."""

    def __init__(self) -> None:
        self.volumes: dict[str, bytearray] = {}

    async def create(self, name: str, size_bytes: int) -> None:
        self.volumes[name] = bytearray(size_bytes)

    async def remove(self, name: str) -> None:
        del self.volumes[name]

    async def size(self, name: str) -> int:
        return len(self.volumes[name])

    async def list(self) -> Iterable[str]:
        return list(self.volumes)

    async def open(self, name: str) -> memoryview:
        return memoryview(self.volumes[name])

    async def pread(self, volume: memoryview, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = volume[offset_bytes : offset_bytes + len(buffer)]

    async def pwrite(self, volume: memoryview, buffer: memoryview, offset_bytes: int) -> None:
        volume[offset_bytes : offset_bytes + len(buffer)] = buffer

    async def write_zeroes(
        self, volume: memoryview, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        volume[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)


class Batch(Plain):
    """As Plain, vectorised; each batch is answered last request first."""

    can_discard = True
    can_write_zeroes = True

    def submit(self, requests: list[Request]) -> None:
        for request in reversed(requests):
            end = request.offset_bytes + request.length_bytes
            match request.op:
                case Op.READ:
                    assert request.buffer is not None
                    request.buffer[:] = request.volume[request.offset_bytes : end]
                case Op.WRITE:
                    request.volume[request.offset_bytes : end] = request.buffer
                case Op.WRITE_ZEROES | Op.DISCARD:
                    request.volume[request.offset_bytes : end] = bytes(request.length_bytes)
            request.complete()


class _Disk:
    """A volume of Full: the blocks that are there, and the snapshots, oldest first."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.blocks: dict[int, bytes] = {}
        self.snapshots: dict[str, tuple[int, dict[int, bytes], int]] = {}


class Full(Store):
    """Sparse, in blocks; can everything, with its own FUA."""

    block_bytes = BLOCK_BYTES
    can_fua = True

    def __init__(self) -> None:
        self.disks: dict[str, _Disk] = {}

    def create(self, name: str, size_bytes: int) -> None:
        self.disks[name] = _Disk(size_bytes)

    def remove(self, name: str) -> None:
        del self.disks[name]

    def size(self, name: str) -> int:
        return self.disks[name].size_bytes

    def allocated(self, name: str) -> int:
        return len(self.disks[name].blocks) * BLOCK_BYTES

    def list(self) -> Iterable[str]:
        return list(self.disks)

    def resize(self, name: str, size_bytes: int) -> None:
        self.disks[name].size_bytes = size_bytes

    def open(self, name: str) -> _Disk:
        return self.disks[name]

    # ---- snapshots ----

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        disk = self.disks[name]
        if snapshot in disk.snapshots:
            raise FileExistsError(17, f"{name} has a snapshot {snapshot} already")
        disk.snapshots[snapshot] = (disk.size_bytes, dict(disk.blocks), time.time_ns())

    def _snapshot(self, name: str, snapshot: str) -> tuple[int, dict[int, bytes], int]:
        return self.disks[name].snapshots[snapshot]

    def snapshot_rollback(self, name: str, snapshot: str) -> None:
        disk = self.disks[name]
        disk.size_bytes, blocks, _ = self._snapshot(name, snapshot)
        disk.blocks = dict(blocks)
        names = list(disk.snapshots)
        for newer in names[names.index(snapshot) + 1 :]:
            del disk.snapshots[newer]

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        del self.disks[name].snapshots[snapshot]

    def snapshot_list(self, name: str) -> Iterable[Snapshot]:
        return [
            Snapshot(snapshot, size_bytes, len(blocks) * BLOCK_BYTES, created_ns)
            for snapshot, (size_bytes, blocks, created_ns) in self.disks[name].snapshots.items()
        ]

    # ---- data ----

    def pread(self, volume: _Disk, buffer: memoryview, offset_bytes: int) -> int:
        for at in range(0, len(buffer), BLOCK_BYTES):
            block = volume.blocks.get((offset_bytes + at) // BLOCK_BYTES, bytes(BLOCK_BYTES))
            buffer[at : at + BLOCK_BYTES] = block
        return len(buffer)

    def pwrite(
        self, volume: _Disk, buffer: memoryview, offset_bytes: int, *, fua: bool = False
    ) -> int:
        for at in range(0, len(buffer), BLOCK_BYTES):
            block = bytes(buffer[at : at + BLOCK_BYTES])
            volume.blocks[(offset_bytes + at) // BLOCK_BYTES] = block
        return len(buffer)

    def flush(self, volume: _Disk) -> None:
        pass

    def discard(self, volume: _Disk, length_bytes: int, offset_bytes: int) -> None:
        for number in range(
            offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes) // BLOCK_BYTES
        ):
            volume.blocks.pop(number, None)

    def write_zeroes(
        self,
        volume: _Disk,
        length_bytes: int,
        offset_bytes: int,
        may_unmap: bool,
        *,
        fua: bool = False,
    ) -> None:
        if may_unmap:
            self.discard(volume, length_bytes, offset_bytes)
        else:
            for number in range(
                offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes) // BLOCK_BYTES
            ):
                volume.blocks[number] = bytes(BLOCK_BYTES)

    def block_status(self, volume: _Disk, length_bytes: int, offset_bytes: int) -> Iterable[Extent]:
        """A block at a time: the server may stop early, and the client asks again."""
        for number in range(
            offset_bytes // BLOCK_BYTES, (offset_bytes + length_bytes) // BLOCK_BYTES
        ):
            block = volume.blocks.get(number)
            yield Extent(BLOCK_BYTES, hole=block is None, zero=block is None or not any(block))


class ReadOnly(Plain):
    """One volume, "image", which nobody can change."""

    read_only = True

    def __init__(self) -> None:
        super().__init__()
        self.volumes["image"] = bytearray(bytes(range(256)) * 16)


class Gate(Plain):
    """Answers nothing before release(); then all that it holds, the last first, and what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)  # one for each request
        self._lock = threading.Lock()
        self._held: list[tuple[Request, memoryview | None]] = []
        self._open = False

    def submit(self, requests: list[Request]) -> None:
        with self._lock:
            self._held += [(request, request.buffer) for request in requests]
        for _ in requests:
            self.arrived.release()
        if self._open:
            self.release()

    def release(self) -> None:
        self._open = True
        with self._lock:
            held, self._held = self._held, []
        for request, buffer in reversed(held):
            if request.op == Op.READ:
                assert buffer is not None  # and safe to touch, should the request be over
                end = request.offset_bytes + request.length_bytes
                buffer[:] = request.volume[request.offset_bytes : end]
            request.complete()
