# SPDX-License-Identifier: MIT
"""A store that compresses: zstd for each 64 KiB of a volume, all in one SQLite database.

    pip install 'openvstorage-shm[examples]'
    shmserver --store examples.zstd_store:ZstdStore --pool /srv/zpool --store-arg level=3

Why SQLite: an extent that has shrunk or grown must go where there is room for it, and after a crash
it must be certain which one is valid.  That is a free list and a log, which SQLite has, tested.

On disk: POOL/volumes.sqlite with two tables.
    volumes (id, name, size_bytes)
    extents (volume, number, data)   what begins at number * 64 KiB, as a zstd frame with its
                                     checksum; no row: zeroes
Room that becomes free is used again; `sqlite3 POOL/volumes.sqlite VACUUM`, while no server runs,
gives it back to the file system.

Promise: a write is a transaction in SQLite's write-ahead log, which the kernel has before the
client is told: it survives the death of the server.  A flush waits until the disk has the log: it
survives power loss.  Data that is not what was written is an EIO and a line in the log.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import zstandard

from shmserver import Extent, Store

log = logging.getLogger("shmserver.zstd")

EXTENT = 64 << 10
ZEROES = bytes(EXTENT)
SCHEMA = """
CREATE TABLE IF NOT EXISTS volumes (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, size_bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS extents (
    volume INTEGER, number INTEGER, data BLOB NOT NULL, PRIMARY KEY (volume, number));
CREATE TABLE IF NOT EXISTS flushes (count INTEGER NOT NULL);
INSERT INTO flushes SELECT 0 WHERE NOT EXISTS (SELECT * FROM flushes);
"""
# Neighbours have the same distance to their row number.
RUNS = """
SELECT min(number), max(number) + 1 FROM (
    SELECT number, number - row_number() OVER (ORDER BY number) AS run FROM extents
    WHERE volume = ? AND number >= ? AND number < ?)
GROUP BY run ORDER BY 1
"""


class ZstdStore(Store):
    """`pool`: a directory, of one server at a time.  `level`: of zstd, 1 (fast) to 19 (small)."""

    threads = 4  # readers work side by side; one at a time writes

    def __init__(self, pool: str, level: str = "3") -> None:
        self._compressor = zstandard.ZstdCompressor(int(level), write_checksum=True)
        self._path = Path(pool) / "volumes.sqlite"
        self._local = threading.local()
        self._writing = threading.Lock()
        self._failed_flush: Exception | None = None
        with ExitStack() as opened:
            lock = opened.enter_context((Path(pool) / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EBUSY, f'another server has the pool "{pool}"') from None
            self._writer = opened.enter_context(closing(self._connect()))
            self._writer.executescript(SCHEMA)
            self._opened = opened.pop_all()

    def shutdown(self) -> None:
        self._opened.close()

    # ---- the database ----

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # flush() syncs the log, nobody else need
        return db

    @property
    def _reader(self) -> sqlite3.Connection:
        """The calling thread's own connection: it sees what is committed and waits for nobody."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = self._connect()
        return db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; at the end the kernel has it."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException as error:
                self._writer.rollback()
                if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                    raise OSError(errno.ENOSPC, "the pool is full") from error
                raise

    # ---- management ----

    def create(self, name: str, size_bytes: int) -> None:
        with self._transaction() as db:
            db.execute("INSERT INTO volumes (name, size_bytes) VALUES (?, ?)", (name, size_bytes))
        self._sync()

    def remove(self, name: str) -> None:
        volume = self.open(name)
        with self._transaction() as db:
            db.execute("DELETE FROM extents WHERE volume = ?", (volume,))
            db.execute("DELETE FROM volumes WHERE id = ?", (volume,))
        self._sync()

    def resize(self, name: str, size_bytes: int) -> None:
        with self._transaction() as db:
            db.execute("UPDATE volumes SET size_bytes = ? WHERE name = ?", (size_bytes, name))
        self._sync()

    def size(self, name: str) -> int:
        return self._volume(name)[1]

    def allocated(self, name: str) -> int:
        total = "SELECT total(length(data)) FROM extents WHERE volume = ?"
        return int(self._reader.execute(total, (self.open(name),)).fetchone()[0])

    def list(self) -> builtins.list[str]:
        return [name for (name,) in self._reader.execute("SELECT name FROM volumes")]

    def open(self, name: str) -> int:
        return self._volume(name)[0]

    def _volume(self, name: str) -> tuple[int, int]:
        found = "SELECT id, size_bytes FROM volumes WHERE name = ?"
        for row in self._reader.execute(found, (name,)):
            return row[0], row[1]
        raise KeyError(name)

    # ---- data ----

    def pread(self, volume: int, buffer: memoryview, offset_bytes: int) -> None:
        for number, begin, end, at in pieces(offset_bytes, len(buffer)):
            buffer[at : at + end - begin] = self._load(self._reader, volume, number)[begin:end]

    def pwrite(self, volume: int, buffer: memoryview, offset_bytes: int) -> None:
        with self._transaction() as db:
            for number, begin, end, at in pieces(offset_bytes, len(buffer)):
                self._patch(db, volume, number, begin, bytes(buffer[at : at + end - begin]))

    def flush(self, volume: int) -> None:
        del volume  # one log for all
        self._sync()

    def discard(self, volume: int, length_bytes: int, offset_bytes: int) -> None:
        """Only what fills whole extents; nothing is gained by the rest."""
        with self._transaction() as db:
            self._drop(db, volume, length_bytes, offset_bytes)

    def write_zeroes(
        self, volume: int, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        del may_unmap  # zeroes take no room here, whatever is asked for
        with self._transaction() as db:
            self._drop(db, volume, length_bytes, offset_bytes)
            for number, begin, end, _ in pieces(offset_bytes, length_bytes):
                if end - begin < EXTENT:
                    self._patch(db, volume, number, begin, bytes(end - begin))

    def block_status(
        self, volume: int, length_bytes: int, offset_bytes: int
    ) -> builtins.list[Extent]:
        at, end = offset_bytes, offset_bytes + length_bytes
        extents = []
        for first, last in self._reader.execute(RUNS, (volume, at // EXTENT, -(-end // EXTENT))):
            if first * EXTENT > at:
                extents.append(Extent(first * EXTENT - at, hole=True, zero=True))
                at = first * EXTENT
            extents.append(Extent(last * EXTENT - at))
            at = last * EXTENT
        if at < end:
            extents.append(Extent(end - at, hole=True, zero=True))
        return extents

    # ---- extents ----

    def _load(self, db: sqlite3.Connection, volume: int, number: int) -> bytes:
        found = "SELECT data FROM extents WHERE volume = ? AND number = ?"
        row = db.execute(found, (volume, number)).fetchone()
        if row is None:
            return ZEROES
        try:
            if zstandard.frame_content_size(row[0]) != EXTENT:
                raise zstandard.ZstdError("not the size of an extent")
            return zstandard.ZstdDecompressor().decompress(row[0], allow_extra_data=False)
        except zstandard.ZstdError as error:
            where = f"volume {volume} is damaged at {number * EXTENT}"
            log.error("%s: %s", where, error)
            raise OSError(errno.EIO, where) from error

    def _patch(
        self, db: sqlite3.Connection, volume: int, number: int, begin: int, data: bytes
    ) -> None:
        if len(data) < EXTENT:
            old = self._load(db, volume, number)
            data = old[:begin] + data + old[begin + len(data) :]
        if data == ZEROES:
            self._drop(db, volume, EXTENT, number * EXTENT)
        else:
            put = "INSERT OR REPLACE INTO extents VALUES (?, ?, ?)"
            db.execute(put, (volume, number, self._compressor.compress(data)))

    def _drop(
        self, db: sqlite3.Connection, volume: int, length_bytes: int, offset_bytes: int
    ) -> None:
        """All extents that lie within."""
        first, end = -(-offset_bytes // EXTENT), (offset_bytes + length_bytes) // EXTENT
        gone = "DELETE FROM extents WHERE volume = ? AND number >= ? AND number < ?"
        db.execute(gone, (volume, first, end))

    def _sync(self) -> None:
        """With one more transaction the log goes to disk, and all that is before it in the log."""
        with self._writing:
            if self._failed_flush:  # nobody knows any more what the disk has
                raise OSError(errno.EIO, "an earlier flush failed") from self._failed_flush
            self._writer.execute("PRAGMA synchronous = FULL")
            try:
                self._writer.execute("UPDATE flushes SET count = count + 1")
            except sqlite3.Error as error:
                self._failed_flush = error
                raise
            finally:
                self._writer.execute("PRAGMA synchronous = NORMAL")


def pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """The range by extents: number, begin and end within it, and where that is in the range."""
    at = 0
    while at < length_bytes:
        number, begin = divmod(offset_bytes + at, EXTENT)
        end = min(EXTENT, begin + length_bytes - at)
        yield number, begin, end, at
        at += end - begin
