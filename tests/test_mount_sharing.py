# SPDX-License-Identifier: MIT
"""Files of the mount and clients of shared memory on the same volume: never two who write.

Method: both at once; and both directions with the stock QEMU.
"""

import mmap
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run
from mounts import Mounted, mount, mount_point, needs_mount
from qemu.tools import made_for

import shmclient

__all__ = ["mount", "mount_point"]
pytestmark = needs_mount

MIB = 1 << 20


@pytest.fixture(params=["memory", "file"])
def mounted(request: pytest.FixtureRequest, mount: Callable[..., Mounted]) -> Mounted:
    mounted = mount(request.param)
    with (mounted.path / "vol").open("wb") as file:
        file.truncate(MIB)
    return mounted


def test_writer_over_shared_memory_is_busy_for_files(mounted):
    path = mounted.path / "vol"
    with mounted.connect() as connection, connection.open("vol", writable=True) as volume:
        for flags in (os.O_WRONLY, os.O_RDWR):
            with pytest.raises(OSError, match="busy"):
                os.open(path, flags)
        for call in (path.unlink, lambda: path.rename(mounted.path / "other")):
            with pytest.raises(OSError, match="busy"):
                call()
        with pytest.raises(OSError, match="busy"):
            os.truncate(path, 512)
        volume.pwrite(b"x" * 512, 0)
        assert path.read_bytes() == b"x" * 512 + bytes(MIB - 512)
        os.truncate(path, 2 * MIB)
        assert volume.size_bytes == 2 * MIB


def test_file_open_for_writing_is_busy_for_clients(mounted):
    with mounted.connect() as connection:
        with (mounted.path / "vol").open("r+b", buffering=0) as file:
            with pytest.raises(OSError, match="mount"):
                connection.open("vol", writable=True)
            file.write(b"y" * 512)
            with connection.open("vol") as volume:
                assert volume.pread(512, 0) == b"y" * 512
            with pytest.raises(OSError, match=r"busy|open"):
                connection.remove("vol")
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"z", 0)


def test_many_files_may_write(mounted):
    path = mounted.path / "vol"
    with path.open("r+b", buffering=0) as one, path.open("r+b", buffering=0) as two:
        one.write(b"1")
        two.seek(1)
        two.write(b"2")
        assert path.read_bytes()[:2] == b"12"


def test_readers_share(mounted):
    path = mounted.path / "vol"
    with path.open("rb"), mounted.connect() as connection, connection.open("vol") as volume:
        assert volume.pread(1, 0) == b"\0"
        assert path.read_bytes() == bytes(MIB)
        with connection.open("vol", writable=True) as writer:
            writer.pwrite(b"x", 0)
        assert path.read_bytes()[:1] == b"x"


def test_closed_files_are_never_busy(mounted):
    """close(2) returns before the kernel tells the server about it."""
    path = mounted.path / "loop"
    with mounted.connect() as connection:
        for turn in range(60):
            size = (turn + 1) * 512
            run(["truncate", "-s", str(size), path])
            with connection.open("loop", writable=True) as volume:
                assert volume.size_bytes == size
            path.write_bytes(b"x" * size)
            if turn % 2:
                connection.remove("loop")
            else:
                path.unlink()


def test_inherited_descriptors_live_on(mounted):
    """Each child closes its copy, which looks like the end of the file."""
    path = mounted.path / "vol"
    with path.open("r+b", buffering=0) as file, mounted.connect() as connection:
        for _ in range(3):
            subprocess.run(["true"], stdout=file, check=True, timeout=30)
            file.write(b"x" * 512)
            with pytest.raises(OSError, match="mount"):
                connection.open("vol", writable=True)


def test_writes_find_room_while_a_client_rolls_back(mounted):
    """A volume that is shorter than a write is made longer, also at the last moment."""
    stop = threading.Event()
    path = mounted.path / "short"
    path.write_bytes(b"y" * 512)

    def roll_back(connection: shmclient.Connection) -> None:
        while not stop.is_set():
            connection.snapshot_rollback("short", "snapshot")

    with mounted.connect() as connection, path.open("r+b", buffering=0) as file:
        connection.snapshot_create("short", "snapshot")
        thread = threading.Thread(target=roll_back, args=(connection,))
        thread.start()
        try:
            for _ in range(3000):
                assert os.pwrite(file.fileno(), b"x" * 512, 65536) == 512
        finally:
            stop.set()
            thread.join(60)
            assert not thread.is_alive()


def test_mapped_files_are_busy_after_close_and_rename(mount):
    """It takes the five seconds that clients wait for a file that was closed."""
    mounted = mount("memory", "--mount-option", "cache=writeback")
    path = mounted.path / "vol"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 4096)
        memory[0] = 1
    path.rename(mounted.path / "moved")
    with memory, mounted.connect() as connection:
        with pytest.raises(OSError, match="mapped into memory"):
            connection.open("moved", writable=True)
        memory[1] = 2
        memory.flush()
        with connection.open("moved") as volume:
            assert volume.pread(3, 0) == b"\1\2\0"


def test_files_that_seemed_closed_keep_their_size(mounted):
    """A closed copy and a rename close the volume in the server; what grows it opens it again."""
    path = mounted.path / "vol"
    with path.open("r+b", buffering=0) as file:
        file.write(b"x" * MIB)
        os.close(os.dup(file.fileno()))
        path.rename(mounted.path / "moved")
        os.posix_fallocate(file.fileno(), 0, 10)
        assert os.fstat(file.fileno()).st_size == MIB
    assert (mounted.path / "moved").read_bytes() == b"x" * MIB


def test_open_files_survive_a_rename(mounted):
    path = mounted.path / "vol"
    with path.open("r+b", buffering=0) as file, mounted.connect() as connection:
        file.write(b"one")
        path.rename(mounted.path / "moved")
        file.write(b"two")
        with pytest.raises(OSError, match="mount"):
            connection.open("moved", writable=True)
    assert (mounted.path / "moved").read_bytes()[:6] == b"onetwo"


def test_open_files_keep_their_volume_from_being_removed(mounted):
    path = mounted.path / "vol"
    (mounted.path / "other").write_bytes(b"x")
    with path.open("rb") as file:
        for call in (path.unlink, lambda: (mounted.path / "other").rename(path)):
            with pytest.raises(OSError, match="busy"):
                call()
        assert file.read(1) == b"\0"
    path.unlink()


def test_snapshots_follow_a_volume(mounted):
    path = mounted.path / "vol"
    path.write_bytes(b"1" * 512)
    with mounted.connect() as connection:
        connection.snapshot_create("vol", "snap")
        path.write_bytes(b"2" * 512)
        path.rename(mounted.path / "moved")
        connection.snapshot_rollback("moved", "snap")
        assert (mounted.path / "moved").read_bytes() == b"1" * 512


def test_cached_reads_see_what_a_client_has_written(mount):
    mounted = mount("memory", "--mount-option", "cache=auto")
    path = mounted.path / "vol"
    path.write_bytes(bytes(8192))
    with path.open("rb") as file, mounted.connect() as connection:
        assert file.read(1) == b"\0"
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(b"x" * 8192, 0)
    assert path.read_bytes() == b"x" * 8192


def test_names_change_under_many_hands(mounted):
    """Creating, moving, removing and clients at once: each call succeeds or says why."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        mine = mounted.path / f"mine{number}"
        try:
            for turn in range(40):
                mine.write_bytes(b"%d" % turn)
                mine.rename(mounted.path / f"shared{turn % 3}")
        except OSError as error:
            if error.errno != 16:
                errors.append(error)

    def connect() -> None:
        with mounted.connect() as connection:
            for turn in range(60):
                name = f"shared{turn % 3}"
                try:
                    with connection.open(name, writable=True) as volume:
                        assert volume.size_bytes == 0
                    connection.remove(name)
                except OSError:
                    pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=connect))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    for path in mounted.path.iterdir():
        path.unlink()
    assert mounted.volumes() == {}


@pytest.mark.qemu
def test_qemu_and_tools_see_the_same(mounted: Mounted, tmp_path: Path) -> None:
    qemu = made_for("stock", mounted.server)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(4 * MIB) + bytes(4 * MIB))
    run(["cp", "--sparse=always", source, mounted.path / "image"])
    qemu.img("compare", "-f", "raw", "-F", "raw", source, "openvstorage:image")
    name = qemu.create("dir/vol", 8 * MIB)
    qemu.img("convert", "-n", "-f", "raw", "-O", "raw", source, name)
    run(["cmp", source, mounted.path / "dir" / "vol"])
    qemu.img("compare", "-f", "raw", "-F", "raw", mounted.path / "image", name)


def test_fio_verifies_on_the_mount(mounted, tmp_path):
    words = ["--rw=randrw", "--bsrange=512-64k", "--size=8m", "--verify=crc32c", "--fsync=32"]
    words += ["--direct=0", "--bs_unaligned", "--verify_fatal=1"]
    run(
        ["fio", "--name=verify", "--ioengine=psync", f"--filename={mounted.path / 'fio'}", *words],
        cwd=tmp_path,
        timeout=120,
    )
    with mounted.connect() as connection:
        assert isinstance(connection, shmclient.Connection)
        assert connection.stat("fio").size_bytes == 8 * MIB
