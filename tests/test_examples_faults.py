# SPDX-License-Identifier: MIT
"""The stores of examples/ when what is under them fails, or was left in the middle of something."""

import errno
import fcntl
import logging
import os
import random
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from conftest import TOP, run
from example_stores import MIB, Place, raises, read, write

import examples.overlay_store
from examples.overlay_store import CLUSTER
from examples.zstd_store import EXTENT

RANDOM = random.Random(11)


# ---- zstd --------------------------------------------------------------------------------------


@pytest.fixture
def zstd(tmp_path: Path) -> Place:
    return Place("zstd", tmp_path)


def zstd_volume(place: Place, *contents: bytes) -> None:
    """A volume, an extent for each of these."""
    with place.store() as store:
        store.create("vol", 64 * EXTENT)
        volume = store.open("vol")
        for number, content in enumerate(contents):
            write(store, volume, content, number * EXTENT)


def database(place: Place) -> Any:
    return closing(sqlite3.connect(place.pool / "volumes.sqlite"))


@pytest.mark.parametrize("byte", range(12))
def test_zstd_damage_is_an_error_and_a_line_in_the_log(
    zstd: Place, byte: int, caplog: pytest.LogCaptureFixture
) -> None:
    zstd_volume(zstd, b"a" * EXTENT, RANDOM.randbytes(EXTENT), b"c" * EXTENT)
    with database(zstd) as db:
        ((frame,),) = db.execute("SELECT data FROM extents WHERE number = 1")
        at = byte if byte < 6 else len(frame) * (byte - 5) // 7
        damaged = frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :]
        db.execute("UPDATE extents SET data = ? WHERE number = 1", (damaged,))
        db.commit()
    with zstd.store() as store:
        volume = store.open("vol")
        with raises(errno.EIO, "damaged"):
            read(store, volume, 512, EXTENT + EXTENT // 2)
        assert [r.levelno for r in caplog.records] == [logging.ERROR]
        assert f"damaged at {EXTENT}" in caplog.text
        with raises(errno.EIO, "damaged"):  # what is around it must not be lost
            write(store, volume, b"x" * 512, EXTENT)
        assert read(store, volume, EXTENT) == b"a" * EXTENT
        assert read(store, volume, EXTENT, 2 * EXTENT) == b"c" * EXTENT
        write(store, volume, b"x" * EXTENT, EXTENT)
        assert read(store, volume, EXTENT, EXTENT) == b"x" * EXTENT


def test_zstd_write_that_finds_no_room_changes_nothing(zstd: Place) -> None:
    zstd_volume(zstd, b"old" * (EXTENT // 3))
    with zstd.store() as store:
        volume = store.open("vol")
        before = read(store, volume, 64 * EXTENT)
        ((pages,),) = store._writer.execute("PRAGMA page_count")
        store._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
        with raises(errno.ENOSPC):
            write(store, volume, RANDOM.randbytes(8 * EXTENT))
        assert read(store, volume, 64 * EXTENT) == before
        write(store, volume, b"new" * 512)
        assert read(store, volume, 1536) == b"new" * 512


def test_zstd_room_of_what_is_overwritten_and_removed_is_used_again(zstd: Place) -> None:
    def fill(store: Any) -> int:
        volume = store.open("vol")
        for number in range(64):
            write(store, volume, RANDOM.randbytes(EXTENT), number * EXTENT)
        store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (zstd.pool / "volumes.sqlite").stat().st_size

    with zstd.store() as store:
        store.create("vol", 64 * EXTENT)
        size = fill(store)
        assert 64 * EXTENT < size < 64 * EXTENT * 1.1
        assert fill(store) < size * 1.1
        store.remove("vol")
        store.create("vol", 64 * EXTENT)
        assert fill(store) < size * 1.1


def test_zstd_flush_that_failed_is_not_forgotten(zstd: Place) -> None:
    zstd_volume(zstd)
    with zstd.store() as store:
        volume = store.open("vol")
        store.flush(volume)
        store._writer.execute("PRAGMA query_only = 1")
        with pytest.raises(sqlite3.OperationalError):
            store.flush(volume)
        store._writer.execute("PRAGMA query_only = 0")
        with raises(errno.EIO, "earlier flush"):
            store.flush(volume)
    with zstd.store() as store:
        store.flush(store.open("vol"))


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: scripts/install-debs test")
def test_zstd_flush_syncs_the_log_and_a_write_does_not(zstd: Place, tmp_path: Path) -> None:
    zstd_volume(zstd)
    code = (
        "import os, sys\n"
        "from examples.zstd_store import ZstdStore\n"
        "store = ZstdStore(sys.argv[1])\n"
        "volume = store.open('vol')\n"
        "store.pwrite(volume, memoryview(bytes(range(256)) * 16), 0)\n"
        "os.write(1, b'written')\n"
        "store.flush(volume)\n"
        "os.write(1, b'flushed')\n"
    )
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,write,fsync,fdatasync"
    python = [sys.executable, "-c", code, str(zstd.pool)]
    run(["strace", "-f", "-y", "-e", calls, "-o", trace, "--", *python], cwd=TOP)
    seen = re.findall(
        r"(pwrite64|fsync|fdatasync)\(\d+<[^>]*(-wal)>|write\(1<.*(written|flushed)",
        trace.read_text(),
    )
    steps = [name or mark for name, _, mark in seen]
    first, then = steps.index("written"), steps.index("flushed")
    assert steps[:first] == ["pwrite64"] * first
    assert first > 0
    assert steps[first + 1 : then][-1] in ("fsync", "fdatasync")


# ---- overlay -----------------------------------------------------------------------------------


@pytest.fixture
def overlay(tmp_path: Path) -> Place:
    return Place("overlay", tmp_path)


def test_overlay_never_writes_to_its_base(overlay: Place) -> None:
    before = overlay.base_path.stat()
    overlay.base_path.chmod(0o444)
    with overlay.store() as store:
        store.create("vol", 2 * len(overlay.base))
        volume = store.open("vol")
        assert Path(f"/proc/self/fd/{store._base}").readlink() == overlay.base_path
        assert fcntl.fcntl(store._base, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        write(store, volume, b"x" * len(overlay.base))
        store.discard(volume, len(overlay.base), 0)
        store.close(volume)
    assert overlay.base_path.read_bytes() == overlay.base
    assert overlay.base_path.stat().st_mtime_ns == before.st_mtime_ns


def test_overlay_of_a_base_that_was_changed_is_refused(overlay: Place) -> None:
    with overlay.store() as store:
        store.create("vol", MIB)
    with overlay.base_path.open("r+b") as file:
        file.write(b"changed")
    with raises(errno.ESTALE, "base .* changed"), overlay.store():
        pass


def test_overlay_shorter_than_its_base_grows_with_zeroes(overlay: Place) -> None:
    """What the base has there was never the volume's."""
    size = CLUSTER + 1024
    with overlay.store() as store:
        store.create("vol", size)
        volume = store.open("vol")
        write(store, volume, b"x" * 512, CLUSTER)
        store.resize("vol", len(overlay.base))
        expected = overlay.base[:CLUSTER] + b"x" * 512 + overlay.base[CLUSTER + 512 : size]
        expected += bytes(len(overlay.base) - size)
        assert read(store, volume, len(overlay.base)) == expected
        store.close(volume)


def test_overlay_block_status_knows_data_of_the_base_from_its_holes(overlay: Place) -> None:
    with overlay.store() as store:
        store.create("vol", 8 * CLUSTER)
        volume = store.open("vol")
        store.write_zeroes(volume, CLUSTER, 0, may_unmap=True)
        write(store, volume, b"x" * 512, 2 * CLUSTER)
        found = [tuple(extent) for extent in store.block_status(volume, 8 * CLUSTER, 0)]
        assert found == [
            (CLUSTER, True, True),
            (CLUSTER // 2, False, False),
            (CLUSTER // 2, True, True),
            (CLUSTER, False, False),
            (CLUSTER, True, True),
            (CLUSTER // 4, False, False),
            (8 * CLUSTER - len(overlay.base), True, True),
        ]
        store.close(volume)


class Disk:
    """What a power failure may leave of a pool: of each file what was synced, or what is there."""

    def __init__(self, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool = pool
        self.synced: dict[str, bytes] = {}
        self.syncs: list[str] = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._sync)

    def _sync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_file():
            self.synced[path.suffix] = path.read_bytes()
            self.syncs.append(path.suffix)

    def lose_power(self, *lost: str) -> None:
        for path in self.pool.iterdir():
            if path.suffix in lost:
                path.write_bytes(self.synced.get(path.suffix, b""))


LOSSES = [lost for n in range(4) for lost in combinations((".data", ".map", ".now"), n)]


@pytest.mark.parametrize("lost", LOSSES, ids="".join)
@pytest.mark.parametrize("flushes", [1, 2])
def test_overlay_has_what_was_flushed_before_the_power_failed(
    overlay: Place, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...], flushes: int
) -> None:
    disk = Disk(overlay.pool, monkeypatch)
    store = overlay.make()
    store.create("vol", 8 * CLUSTER)
    volume = store.open("vol")
    write(store, volume, b"1" * 1024, 512)
    write(store, volume, b"2" * CLUSTER, 2 * CLUSTER)
    store.flush(volume)
    if flushes == 2:
        write(store, volume, b"3" * 512, CLUSTER)
        store.flush(volume)
    flushed = read(store, volume, 8 * CLUSTER)
    # Not flushed: new clusters, a changed one, a zeroed one.
    write(store, volume, b"4" * 512, 4 * CLUSTER)
    write(store, volume, b"5" * 512, 2 * CLUSTER + 512)
    store.write_zeroes(volume, CLUSTER, 0, may_unmap=True)
    latest = read(store, volume, 8 * CLUSTER)
    store.shutdown()
    disk.lose_power(*lost)
    monkeypatch.setattr(examples.overlay_store, "BOOT_ID", b"after the power came back\n")
    with overlay.store() as store:
        volume = store.open("vol")
        found = read(store, volume, 8 * CLUSTER)
        for at in range(0, len(found), 512):
            sector = found[at : at + 512]
            assert sector in (flushed[at : at + 512], latest[at : at + 512]), at
        store.close(volume)


def test_overlay_flush_syncs_the_data_before_the_map(
    overlay: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with overlay.store() as store:
        store.create("vol", MIB)
        volume = store.open("vol")
        disk = Disk(overlay.pool, monkeypatch)
        write(store, volume, b"x" * 512)
        assert disk.syncs == []
        store.flush(volume)
        assert disk.syncs == [".data", ".map"]
        write(store, volume, b"y" * 512)
        store.close(volume)
        assert disk.syncs == [".data", ".map", ".data"]


def test_overlay_flush_that_failed_is_not_forgotten(
    overlay: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    with overlay.store() as store:
        store.create("vol", MIB)
        volume = store.open("vol")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with raises(errno.EIO, "disk is gone"):
                store.flush(volume)
        with raises(errno.EIO, "earlier flush"):
            store.flush(volume)
        with raises(errno.EIO, "earlier flush"):
            store.close(volume)
        store.flush(volume := store.open("vol"))
        store.close(volume)


def test_overlay_drops_files_that_no_volume_has(overlay: Place) -> None:
    with overlay.store() as store:
        store.create("vol", MIB)
        store.close(store.open("vol"))
    kept = sorted(overlay.pool.iterdir())
    for name in ("0123.data", "0123.map", "0123.now"):
        (overlay.pool / name).touch()
    with overlay.store() as store:
        assert sorted(overlay.pool.iterdir()) == kept
        store.remove("vol")
    assert sorted(path.name for path in overlay.pool.iterdir()) == ["catalog.json", "lock"]
