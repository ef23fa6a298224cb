# SPDX-License-Identifier: MIT
"""The stores of the reference server, under it and under the C server."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import wire
from conftest import run
from rawclient import RawClient

import shmclient
import shmserver
from shmserver.reference import Server
from shmserver.reference.stores import STORES, File, Null

MIB = 1 << 20


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "s.sock"


def made_store(name: str, tmp_path: Path) -> Any:
    return File(tmp_path) if name == "file" else STORES[name]()


@pytest.mark.parametrize("server_type", [Server, shmserver.Server])
@pytest.mark.parametrize("name", STORES)
def test_stores_run_under_both_servers(
    name: str, server_type: Any, path: Path, tmp_path: Path
) -> None:
    with (
        server_type(made_store(name, tmp_path), socket=path),
        shmclient.connect(path) as connection,
    ):
        connection.create("dir/vol", 4 * MIB)
        with connection.open("dir/vol", writable=True) as volume:
            data = os.urandom(100_000)
            volume.pwrite(data, 5)
            kept = data if name != "null" else bytes(len(data))
            assert volume.pread(len(data), 5) == kept
            volume.write_zeroes(50_000, 5)
            volume.write_zeroes(10, 50_005, may_unmap=False)
            volume.discard(65536, MIB)
            volume.flush()
            assert volume.pread(len(data), 5) == bytes(50_010) + kept[50_010:]
            extents = list(volume.block_status())
            assert sum(extent.length_bytes for extent in extents) == 4 * MIB
            assert any(extent.zero for extent in extents)
            volume.resize(8 * MIB)
            assert volume.pread(1, 8 * MIB - 1) == b"\0"
        assert [info.name for info in connection.list()] == ["dir/vol"]
        connection.remove("dir/vol")
        assert connection.list() == []


@pytest.mark.parametrize("name", ["memory", "file"])
def test_snapshots_keep_what_was_there(name: str, path: Path, tmp_path: Path) -> None:
    with (
        Server(made_store(name, tmp_path), socket=path),
        shmclient.connect(path) as connection,
    ):
        connection.create("vol", MIB)
        with connection.open("vol", writable=True) as volume:
            for number in range(3):
                volume.pwrite(bytes([number + 1]) * 4096, 4096 * number)
                connection.snapshot_create("vol", f"s{number}")
            volume.resize(2 * MIB)
            assert [one.name for one in connection.snapshot_list("vol")] == ["s0", "s1", "s2"]
            assert connection.snapshot_is_synced("vol", "s1")
            connection.snapshot_rollback("vol", "s1")
            assert volume.size_bytes == MIB
            assert volume.pread(3 * 4096, 0) == b"\1" * 4096 + b"\2" * 4096 + bytes(4096)
            assert [one.name for one in connection.snapshot_list("vol")] == ["s0", "s1"]
            volume.pwrite(b"goes on", 0)
            connection.snapshot_remove("vol", "s0")
        assert connection.stat("vol").snapshots == 1
        connection.snapshot_rollback("vol", "s1")
        with connection.open("vol") as volume:
            assert volume.pread(7, 0) == b"\1" * 7
        connection.remove("vol")


def test_pool_goes_from_one_server_to_the_other(path: Path, pool: Path) -> None:
    """What one left is what the other finds: volumes, sizes, data, snapshots in their order."""
    kinds = [Server, shmserver.Server] * 2
    for turn, kind in enumerate(kinds):
        with kind("file", pool=pool, socket=path), shmclient.connect(path) as connection:
            if turn == 0:
                connection.create("dir/vol", MIB)
            names = [one.name for one in connection.snapshot_list("dir/vol")]
            assert names == [f"s{number}" for number in range(turn)]
            assert connection.stat("dir/vol").size_bytes == MIB + 512 * turn
            with connection.open("dir/vol", writable=True) as volume:
                assert volume.pread(turn, 0) == bytes(range(1, turn + 1))
                volume.pwrite(bytes([turn + 1]), turn)
                volume.resize(MIB + 512 * (turn + 1))
            connection.snapshot_create("dir/vol", f"s{turn}")
    for kind in kinds[:2]:
        with kind("file", pool=pool, socket=path), shmclient.connect(path) as connection:
            (*_, older, newest) = [one.name for one in connection.snapshot_list("dir/vol")]
            connection.snapshot_rollback("dir/vol", older)
            with connection.open("dir/vol") as volume:
                length = int(older[1:]) + 1
                assert volume.pread(8, 0) == bytes(range(1, length + 1)).ljust(8, b"\0")
            assert newest not in [one.name for one in connection.snapshot_list("dir/vol")]
    files = sorted(str(one.relative_to(pool)) for one in pool.rglob("*") if one.is_file())
    own = ".openvstorage"
    assert files == [
        f"{own}/lock",
        f"{own}/snapshots/dir/vol/s0",
        f"{own}/snapshots/dir/vol/s1",
        "dir/vol",
    ]


def test_pool_has_one_server(path: Path, pool: Path) -> None:
    with Server("file", pool=pool, socket=path):
        for kind in (Server, shmserver.Server):
            with pytest.raises(OSError, match=rf"in use by another server \(pid {os.getpid()}\)"):
                kind("file", pool=pool, socket=path.with_name("t.sock"))


def test_pool_keeps_only_what_was_finished(pool: Path, path: Path) -> None:
    """What a killed server left under construction is gone; so are snapshots without a volume."""
    with Server("file", pool=pool, socket=path), shmclient.connect(path) as connection:
        connection.create("vol", MIB)
        connection.snapshot_create("vol", "s")
    (pool / ".openvstorage/tmp/77").write_bytes(b"half")
    (pool / "vol").unlink()  # as remove() does first
    with Server("file", pool=pool, socket=path), shmclient.connect(path) as connection:
        assert list((pool / ".openvstorage/tmp").iterdir()) == []
        connection.create("vol", MIB)
        assert connection.snapshot_list("vol") == []


@pytest.mark.parametrize("make", ["symlink", "fifo", "directory"])
def test_pool_has_no_volumes_but_files(make: str, pool: Path, path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 512)
    if make == "symlink":
        (pool / "vol").symlink_to(tmp_path / "secret")
        (pool / "link").symlink_to(tmp_path)
    elif make == "fifo":
        os.mkfifo(pool / "vol")
    else:
        (pool / "vol").mkdir()
    (pool / "odd").write_bytes(b"x" * 1000)
    with Server("file", pool=pool, socket=path), shmclient.connect(path) as connection:
        assert [(info.name, info.size_bytes) for info in connection.list()] == [("odd", 512)]
        for name in ("vol", "link/secret"):
            with pytest.raises(FileNotFoundError):
                connection.open(name)
            with pytest.raises(FileNotFoundError):
                connection.stat(name)
        with pytest.raises(FileExistsError):
            connection.create("vol", 512)


def test_full_store_is_enospc_and_no_signal(path: Path) -> None:
    """RLIMIT_FSIZE stands for a disk; the default action of its signal would be to die."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from shmserver.reference.stores import Memory\n"
        "store = Memory(); store.create('vol', 8 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "store.pwrite(store.open('vol'), memoryview(bytes(4096)), 0)\n"
        "store.pwrite(store.open('vol'), memoryview(bytes(4096)), 4 << 20)\n"
    )
    result = run([sys.executable, "-c", code], check=False)
    assert "OSError: [Errno 27]" in result.stderr


def test_failed_flush_makes_all_later_ones_fail(
    pool: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = File(pool)
    with Server(store, socket=path), RawClient(path) as client:
        client.create("vol", MIB)
        volume = client.open("vol")

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "gone")

        with monkeypatch.context() as patch:
            patch.setattr("shmserver.reference.stores.file.os.fdatasync", fail)
            assert volume.queue.run(op=wire.OP_FLUSH) == -errno.EIO
        assert volume.queue.run(op=wire.OP_FLUSH) == -errno.EIO
        volume.client.close()
        with RawClient(path) as other:
            assert other.open("vol").queue.run(op=wire.OP_FLUSH) == 0


def test_null_store_forgets(path: Path) -> None:
    with Server(Null(), socket=path), RawClient(path) as client:
        client.create("vol", MIB)
        volume = client.open("vol")
        volume.write(0, b"x" * 4096)
        assert volume.read(0, 4096) == bytes(4096)
