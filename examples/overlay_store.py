# SPDX-License-Identifier: MIT
"""A copy-on-write store: volumes begin as a raw image, which is read and never changed.

    shmserver --store examples.overlay_store:OverlayStore --pool /srv/vms \\
        --store-arg base=/srv/images/debian.raw
    shmclient create vm1 20G

A new volume shows as much of the base as it is long, and zeroes beyond the base.  What is written
is kept apart, in clusters of 64 KiB.

On disk, in POOL:
    catalog.json   the volumes, and the base they were made for; always replaced as a whole
    ID.data        sparse; clusters that were written, where they are in the volume
    ID.map         a byte per cluster, as of the last flush: 0 in the base, 1 in ID.data, 2 zeroes
    ID.now         the same as of now, behind the id of this boot of the machine

Promise: before a client is told that its write is done, the data is in ID.data and then the map in
ID.now; the kernel has both, and the death of the server takes nothing away.  Power loss is another
matter: the kernel writes to disk in any order, and the map might be there without the data.  So
ID.now is good for one boot only.  A flush, and closing the volume, syncs ID.data, then writes and
syncs ID.map.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from shmserver import Extent, Store

CLUSTER = 64 << 10
BASE, DATA, ZERO = range(3)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_bytes()
SUFFIXES = (".data", ".map", ".now")
PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
libc = ctypes.CDLL(None, use_errno=True)


class Entry(NamedTuple):
    """A volume in the catalog."""

    id: str
    size_bytes: int
    base_bytes: int  # so much of the base belongs to it


class Volume:
    """The files of an open volume, and which of its clusters is where."""

    def __init__(self, name: str, path: Path, entry: Entry) -> None:
        self.name = name
        self.base_bytes = entry.base_bytes
        self.lock = threading.Lock()  # to change states
        self.flushing = threading.Lock()
        self.failed_flush: OSError | None = None
        self.data = os.open(path.with_suffix(".data"), os.O_RDWR)
        self.map = os.open(path.with_suffix(".map"), os.O_RDWR)
        now = path.with_suffix(".now")
        known = now.read_bytes() if now.exists() else b""
        if known.startswith(BOOT_ID):
            known = known.removeprefix(BOOT_ID)
        else:
            known = path.with_suffix(".map").read_bytes()
        self.states = bytearray(known)
        self.grow(entry.size_bytes)
        self.unsaved = (0, len(self.states))  # from, to: where ID.map may differ
        replace(now, BOOT_ID + self.states)
        self.now = os.open(now, os.O_RDWR)

    def close(self) -> None:
        for fd in (self.data, self.map, self.now):
            os.close(fd)

    def grow(self, size_bytes: int) -> None:
        missing = -(-size_bytes // CLUSTER) - len(self.states)
        self.states.extend(bytes([BASE]) * missing)

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Parts of the range with the same state: state, begin, end."""
        clusters = range(begin // CLUSTER, -(-end // CLUSTER))
        for state, run in groupby(clusters, self.states.__getitem__):
            stop = min(end, (list(run)[-1] + 1) * CLUSTER)
            yield state, begin, stop
            begin = stop

    def mark(self, first: int, last: int, state: int) -> None:
        """Clusters first to before last have that state; the caller has the lock."""
        states = bytes([state]) * (last - first)
        write_at(self.now, states, len(BOOT_ID) + first)
        self.states[first:last] = states
        self.unsaved = (min(first, self.unsaved[0]), max(last, self.unsaved[1]))


class OverlayStore(Store):
    """`pool`: a directory, of one server at a time.  `base`: a raw image, which must not change."""

    threads = 4

    def __init__(self, pool: str, base: str) -> None:
        self._pool = Path(pool)
        self._catalog = self._pool / "catalog.json"
        self._lock = threading.Lock()  # for the catalog
        self._volumes: dict[str, Entry] = {}
        self._open: dict[str, Volume] = {}
        with ExitStack() as opened:
            lock = opened.enter_context((self._pool / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EBUSY, f'another server has the pool "{pool}"') from None
            self._base = os.open(base, os.O_RDONLY)
            opened.callback(os.close, self._base)
            status = os.fstat(self._base)
            self._base_is = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            self._load()
            self._opened = opened.pop_all()

    def _load(self) -> None:
        if self._catalog.exists():
            catalog = json.loads(self._catalog.read_text())
            if catalog["base"] != self._base_is:
                raise OSError(errno.ESTALE, f'the base of "{self._pool}" has been changed')
            self._volumes = {name: Entry(**entry) for name, entry in catalog["volumes"].items()}
        # What a server left that was killed in create() or remove():
        ids = {entry.id for entry in self._volumes.values()}
        for path in self._pool.iterdir():
            if path.suffix in SUFFIXES and path.stem not in ids:
                path.unlink()

    def shutdown(self) -> None:
        self._opened.close()

    # ---- management ----

    def create(self, name: str, size_bytes: int) -> None:
        entry = Entry(uuid.uuid4().hex, size_bytes, min(size_bytes, self._base_is["size_bytes"]))
        for suffix in (".data", ".map"):
            (self._pool / entry.id).with_suffix(suffix).touch()
        self._change(name, entry)

    def remove(self, name: str) -> None:
        path = self._path(name)
        self._change(name, None)
        for suffix in SUFFIXES:
            path.with_suffix(suffix).unlink(missing_ok=True)

    def resize(self, name: str, size_bytes: int) -> None:
        if volume := self._open.get(name):
            with volume.lock:
                volume.grow(size_bytes)
        self._change(name, self._volumes[name]._replace(size_bytes=size_bytes))

    def size(self, name: str) -> int:
        return self._volumes[name].size_bytes

    def allocated(self, name: str) -> int:
        return self._path(name).with_suffix(".data").stat().st_blocks * 512

    def list(self) -> builtins.list[str]:
        return builtins.list(self._volumes)

    def open(self, name: str) -> Volume:
        volume = self._open[name] = Volume(name, self._path(name), self._volumes[name])
        return volume

    def close(self, volume: Volume) -> None:
        del self._open[volume.name]
        try:
            self.flush(volume)
        finally:
            volume.close()

    def _path(self, name: str) -> Path:
        return self._pool / self._volumes[name].id

    def _change(self, name: str, entry: Entry | None) -> None:
        """Durable when it returns; a crash leaves the old catalog or the new one."""
        with self._lock:
            volumes = {other: self._volumes[other] for other in self._volumes if other != name}
            if entry:
                volumes[name] = entry
            entries = {name: entry._asdict() for name, entry in volumes.items()}
            catalog = json.dumps({"base": self._base_is, "volumes": entries}, indent=1)
            replace(self._catalog, catalog.encode(), sync=True)
            self._volumes = volumes

    # ---- data ----

    def pread(self, volume: Volume, buffer: memoryview, offset_bytes: int) -> None:
        for state, begin, end in volume.runs(offset_bytes, offset_bytes + len(buffer)):
            part = buffer[begin - offset_bytes : end - offset_bytes]
            done = 0
            if state == DATA:
                done = os.preadv(volume.data, [part], begin)
            elif state == BASE and begin < volume.base_bytes:
                done = os.preadv(self._base, [part[: volume.base_bytes - begin]], begin)
            part[done:] = bytes(len(part) - done)

    def pwrite(self, volume: Volume, buffer: memoryview, offset_bytes: int) -> None:
        end = offset_bytes + len(buffer)
        if any(state != DATA for state, *_ in volume.runs(offset_bytes, end)):
            with volume.lock:
                self._allocate(volume, buffer, offset_bytes)
        else:
            write_at(volume.data, buffer, offset_bytes)

    def _allocate(self, volume: Volume, buffer: memoryview, offset_bytes: int) -> None:
        """Writes what is new, and around it what its clusters had; only then it counts."""
        end = offset_bytes + len(buffer)
        first, last = offset_bytes // CLUSTER, -(-end // CLUSTER)
        if volume.states[first] != DATA:
            self._copy(volume, first * CLUSTER, offset_bytes)
        if volume.states[last - 1] != DATA:
            self._copy(volume, end, last * CLUSTER)
        write_at(volume.data, buffer, offset_bytes)
        volume.mark(first, last, DATA)

    def _copy(self, volume: Volume, begin: int, end: int) -> None:
        old = memoryview(bytearray(end - begin))
        self.pread(volume, old, begin)
        write_at(volume.data, old, begin)

    def flush(self, volume: Volume) -> None:
        with volume.flushing:
            if volume.failed_flush:  # nobody knows any more what the disk has
                raise OSError(errno.EIO, "an earlier flush failed") from volume.failed_flush
            with volume.lock:
                first, last = volume.unsaved
                states = bytes(volume.states[first:last])
                volume.unsaved = (len(volume.states), 0)
            try:
                os.fdatasync(volume.data)
                if states:
                    write_at(volume.map, states, first)
                    os.fdatasync(volume.map)
            except OSError as error:
                volume.failed_flush = error
                raise

    def discard(self, volume: Volume, length_bytes: int, offset_bytes: int) -> None:
        """Whole clusters become zeroes; what the base has there must not come back."""
        self._zero(volume, length_bytes, offset_bytes, punch=True)

    def write_zeroes(
        self, volume: Volume, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        end = offset_bytes + length_bytes
        head_end = min(end, -(-offset_bytes // CLUSTER) * CLUSTER)
        tail = max(head_end, end // CLUSTER * CLUSTER)
        for begin, stop in ((offset_bytes, head_end), (tail, end)):
            if begin < stop:
                self.pwrite(volume, memoryview(bytes(stop - begin)), begin)
        self._zero(volume, length_bytes, offset_bytes, punch=may_unmap)

    def _zero(self, volume: Volume, length_bytes: int, offset_bytes: int, *, punch: bool) -> None:
        first, last = -(-offset_bytes // CLUSTER), (offset_bytes + length_bytes) // CLUSTER
        if first >= last:
            return
        with volume.lock:
            volume.mark(first, last, ZERO)
            if punch:
                punch_hole(volume.data, first * CLUSTER, (last - first) * CLUSTER)

    def block_status(
        self, volume: Volume, length_bytes: int, offset_bytes: int
    ) -> Iterator[Extent]:
        """What the base has is data as well: only this store knows that it is not in ID.data."""
        for state, begin, end in volume.runs(offset_bytes, offset_bytes + length_bytes):
            if state == DATA:
                yield Extent(end - begin)
            elif state == ZERO:
                yield Extent(end - begin, hole=True, zero=True)
            else:
                yield from self._base_status(begin, end, volume.base_bytes)

    def _base_status(self, begin: int, end: int, base_bytes: int) -> Iterator[Extent]:
        shown = min(end, base_bytes)
        while begin < shown:
            try:
                data = min(shown, os.lseek(self._base, begin, os.SEEK_DATA))
            except OSError:  # ENXIO: there is none
                break
            if data > begin:
                yield Extent(data - begin, hole=True, zero=True)
            begin = min(shown, os.lseek(self._base, data, os.SEEK_HOLE))
            if begin > data:
                yield Extent(begin - data)
        if begin < end:
            yield Extent(end - begin, hole=True, zero=True)


def write_at(fd: int, data: bytes | memoryview, offset_bytes: int) -> None:
    """All of it; os.pwrite() may take less than it was given."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, memoryview(data)[done:], offset_bytes + done)


def punch_hole(fd: int, offset_bytes: int, length_bytes: int) -> None:
    offset, length = ctypes.c_int64(offset_bytes), ctypes.c_int64(length_bytes)
    if libc.fallocate(fd, PUNCH_HOLE, offset, length) != 0:
        raise OSError(ctypes.get_errno(), "cannot punch a hole")


def replace(path: Path, content: bytes, *, sync: bool = False) -> None:
    """A process that dies leaves the old content or the new; with sync also a machine that does."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
