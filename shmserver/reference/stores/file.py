# SPDX-License-Identifier: MIT
"""Sparse files under a pool directory, one per volume (docs/STORES.md, file).

The layout is that of the C server's file store: either can serve the pool of the other.
"""

from __future__ import annotations

import builtins
import errno
import logging
import os
import time
from collections.abc import Iterable
from os import PathLike

from shmserver.reference.stores import pool as pools
from shmserver.reference.stores import sparse
from shmserver.store import Extent, Snapshot, Store

log = logging.getLogger("shmserver")

NS_PER_S = 10**9


class _Volume:
    """An open volume; a rollback gives it another file."""

    def __init__(self, fd: int) -> None:
        self.file = sparse.File(fd)
        self.sync_error = 0  # a flush failed: what was lost is unknown

    @property
    def fd(self) -> int:
        return self.file.fd


class File(Store):
    def __init__(self, pool: str | PathLike[str] = "") -> None:
        if not os.fspath(pool):
            raise OSError(errno.EINVAL, "the file store needs a pool directory")
        self._pool = pools.Pool(os.fspath(pool))
        self._open: dict[str, _Volume] = {}
        with self._pool.draft() as draft:
            self.can_discard = sparse.can_punch(draft.fd)

    def shutdown(self) -> None:
        self._pool.close()

    # ---- volumes ----

    def create(self, name: str, size_bytes: int) -> None:
        if pools.exists(self._pool.root, name):
            raise OSError(errno.EEXIST, f'"{name}" exists and is no volume')
        with self._pool.draft() as draft:
            os.ftruncate(draft.fd, size_bytes)
            # Left over when a remove was cut short: not to be taken for snapshots of the new one.
            pools.remove_directory(self._pool.snapshots, name)
            draft.link(self._pool.root, name)

    def remove(self, name: str) -> None:
        # The volume first: cut short here, it is gone and a new one does not inherit its snapshots.
        pools.unlink(self._pool.root, name)
        try:
            pools.remove_directory(self._pool.snapshots, name)
        except OSError as error:
            log.warning('volume "%s" is removed, its snapshots are not: %s', name, error.strerror)

    def size(self, name: str) -> int:
        return pools.status(self._pool.root, name).st_size

    def allocated(self, name: str) -> int:
        return pools.status(self._pool.root, name).st_blocks * 512

    def list(self) -> Iterable[str]:
        return pools.walk(self._pool.root)

    def resize(self, name: str, size_bytes: int) -> None:
        fd = pools.open_regular(self._pool.root, name, os.O_RDWR)
        try:
            os.ftruncate(fd, size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)

    # ---- snapshots ----

    def snapshot_create(self, name: str, snapshot: str, timeout_s: int) -> None:
        deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        known = self.snapshot_list(name)
        fd = pools.open_regular(self._pool.root, name, os.O_RDONLY)
        try:
            with self._pool.draft() as draft:
                sparse.copy(fd, draft.fd, deadline)
                _stamp(draft.fd, known[-1].created_ns if known else 0)
                draft.link(self._pool.snapshots, f"{name}/{snapshot}")
        finally:
            os.close(fd)

    def snapshot_rollback(self, name: str, snapshot: str) -> None:
        """The newer ones go last: cut short, the rollback can be repeated."""
        names = [one.name for one in self.snapshot_list(name)]
        with self._pool.draft() as draft:
            self._fill(draft, f"{name}/{snapshot}", name)
            draft.replace(self._pool.root, name)
            if name in self._open:
                self._switch(self._open[name], draft)
        for newer in reversed(names[names.index(snapshot) + 1 :]):
            pools.unlink(self._pool.snapshots, f"{name}/{newer}")

    def _fill(self, draft: pools.Draft, snapshot: str, name: str) -> None:
        """A copy of the snapshot; whoever may use the volume's file goes on to."""
        fd = pools.open_regular(self._pool.snapshots, snapshot, os.O_RDONLY)
        try:
            sparse.copy(fd, draft.fd)
        finally:
            os.close(fd)
        old = pools.status(self._pool.root, name)
        try:
            os.fchmod(draft.fd, old.st_mode & 0o7777)
            os.fchown(draft.fd, old.st_uid, old.st_gid)
        except OSError as error:  # only root can give it away: no reason to stop
            log.warning('volume "%s": owner or mode not kept: %s', name, error.strerror)

    def _switch(self, volume: _Volume, draft: pools.Draft) -> None:
        volume.file, draft.taken = sparse.File(draft.fd), True
        volume.sync_error = 0

    def snapshot_remove(self, name: str, snapshot: str) -> None:
        pools.unlink(self._pool.snapshots, f"{name}/{snapshot}")

    def snapshot_list(self, name: str) -> builtins.list[Snapshot]:
        pools.status(self._pool.root, name)
        found = [
            Snapshot(snapshot, status.st_size, status.st_blocks * 512, status.st_mtime_ns)
            for snapshot, status in pools.regular_files(self._pool.snapshots, name)
        ]
        return sorted(found, key=lambda one: (one.created_ns, os.fsencode(one.name)))

    # ---- open volumes ----

    def open(self, name: str) -> _Volume:
        volume = _Volume(pools.open_regular(self._pool.root, name, os.O_RDWR))
        self._open[name] = volume
        return volume

    def close(self, volume: _Volume) -> None:
        self._open = {name: one for name, one in self._open.items() if one is not volume}
        volume.file.close()

    # ---- data ----

    def pread(self, volume: _Volume, buffer: memoryview, offset_bytes: int) -> None:
        sparse.read(volume.fd, buffer, offset_bytes)

    def pwrite(self, volume: _Volume, buffer: memoryview, offset_bytes: int) -> None:
        sparse.write(volume.fd, buffer, offset_bytes)

    def flush(self, volume: _Volume) -> None:
        """After a failure nobody knows what the disk has: all later ones fail too."""
        if volume.sync_error:
            raise OSError(volume.sync_error, "an earlier flush has failed")
        try:
            os.fdatasync(volume.fd)
        except OSError as error:
            volume.sync_error = error.errno or errno.EIO
            raise

    def discard(self, volume: _Volume, length_bytes: int, offset_bytes: int) -> None:
        sparse.discard(volume.fd, length_bytes, offset_bytes)

    def write_zeroes(
        self, volume: _Volume, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        unmap = may_unmap and self.can_discard is True
        sparse.zero(volume.fd, length_bytes, offset_bytes, unmap=unmap)

    def block_status(
        self, volume: _Volume, length_bytes: int, offset_bytes: int
    ) -> Iterable[Extent]:
        return sparse.extents(volume.fd, length_bytes, offset_bytes)


def _stamp(fd: int, newest_ns: int) -> None:
    """The time orders the snapshots, so it is after the newest, whatever the clock says.

    File systems that keep whole seconds get the next second.
    """
    wanted = max(time.time_ns(), newest_ns + 1)
    os.utime(fd, ns=(wanted, wanted))
    if os.fstat(fd).st_mtime_ns <= newest_ns:
        wanted = (newest_ns // NS_PER_S + 1) * NS_PER_S
        os.utime(fd, ns=(wanted, wanted))
