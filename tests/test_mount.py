# SPDX-License-Identifier: MIT
"""The mount: files are volumes and volumes are files, with every store.

Method: real mounts of a `shmserver`, used by the tools people use and by system calls.
"""

import fcntl
import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run, wait_until
from mounts import STORES, Mounted, is_mounted, mount, mount_point, needs_mount

__all__ = ["mount", "mount_point"]
pytestmark = needs_mount

MIB = 1 << 20
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
# Those whose volumes have sizes to the byte.
EXACT = ["memory", "file", "file direct"]


@pytest.fixture(params=EXACT)
def mounted(request: pytest.FixtureRequest, mount: Callable[..., Mounted]) -> Mounted:
    return mount(request.param)


def shell(script: str, directory: Path) -> str:
    """Its output, without the newline at the end."""
    return run(["sh", "-euc", script], cwd=directory).stdout.rstrip("\n")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def fallocate(path: Path, mode: int, offset: int, length: int) -> None:
    switches = {0: [], FALLOC_KEEP_SIZE: ["-n"], FALLOC_PUNCH_HOLE: ["-p"]}
    run(
        [
            "fallocate",
            *(switches.get(mode) or (["-z"] if mode & FALLOC_ZERO_RANGE else [])),
            *(["-n"] if mode == FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE else []),
            *("-o", str(offset), "-l", str(length), str(path)),
        ]
    )


@pytest.mark.parametrize("store", STORES)
def test_truncate_makes_a_volume_for_clients(mount, store):
    mounted = mount(store)
    shell("truncate -s 10G vol", mounted.path)
    assert mounted.volumes() == {"vol": 10 << 30}
    assert (mounted.path / "vol").stat().st_size == 10 << 30
    shell("truncate -s 11G vol", mounted.path)
    assert mounted.volumes() == {"vol": 11 << 30}
    mounted.server.stop()
    assert not is_mounted(mounted.path)


@pytest.mark.parametrize("store", STORES)
def test_data_is_the_same_on_both_sides(mount, store):
    mounted = mount(store)
    path = mounted.path / "vol"
    data = random.Random(1).randbytes(3 * MIB)
    with mounted.connect() as connection:
        connection.create("vol", 8 * MIB)
        with connection.open("vol", writable=True) as volume:
            volume.pwrite(data, 512)
    assert path.read_bytes()[: 512 + len(data)] == bytes(512) + data
    shell("dd if=vol of=vol bs=512 skip=1 count=1 seek=9999 conv=notrunc status=none", mounted.path)
    with mounted.connect() as connection, connection.open("vol") as volume:
        assert volume.pread(512, 9999 * 512) == data[:512]


def test_files_keep_every_byte(mounted):
    assert shell("echo hi > f; cat f; stat -c %s f", mounted.path) == "hi\n3"
    assert shell("printf more >> f; cat f; stat -c %s f", mounted.path) == "hi\nmore7"
    assert shell("echo x > f; cat f", mounted.path) == "x"
    assert shell(": > f; stat -c %s f", mounted.path) == "0"
    assert mounted.volumes() == {"f": 0}


def test_clients_see_whole_sectors_of_odd_files(mounted):
    (mounted.path / "odd").write_bytes(b"a" * 1000)
    assert mounted.volumes() == {"odd": 512}
    with mounted.connect() as connection, connection.open("odd") as volume:
        assert volume.pread(512, 0) == b"a" * 512
    assert (mounted.path / "odd").read_bytes() == b"a" * 1000


def test_what_was_cut_off_comes_back_as_zeroes(mounted):
    path = mounted.path / "f"
    path.write_bytes(b"x" * 10000)
    os.truncate(path, 4999)
    os.truncate(path, 20000)
    assert path.read_bytes() == b"x" * 4999 + bytes(15001)


def test_allocation_is_told_in_blocks(mounted):
    path = mounted.path / "sparse"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(4 * MIB)
        file.write(b"x" * 65536)
    assert 65536 <= path.stat().st_blocks * 512 <= 2 * MIB
    assert shell("ls -ls sparse", mounted.path).split()[5] == str(8 * MIB)


def test_names_come_and_go(mounted):
    shell("echo a > a; echo b > b; mv a c; mv -f c b; test ! -e a; test ! -e c", mounted.path)
    assert shell("cat b; ls", mounted.path) == "a\nb"
    assert shell("mv -n b b2; echo x > y; mv -n y b2; ls; cat b2", mounted.path) == "b2\ny\na"
    shell("rm y b2", mounted.path)
    assert mounted.volumes() == {}
    for name in ("", "y", "b2"):
        assert not (mounted.path / name).is_file()


def test_copies_are_equal_and_sparse(mounted):
    source = mounted.path / "source"
    with source.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(MIB)
        file.write(os.urandom(100000))
    shell("cp --sparse=always source copy; cp -p source kept", mounted.path)
    assert (mounted.path / "copy").stat().st_blocks * 512 < 8 * MIB
    assert (mounted.path / "kept").stat().st_mtime == source.stat().st_mtime
    shell("cmp source copy; cmp source kept", mounted.path)


def test_holes_are_found(mounted):
    with (mounted.path / "f").open("w+b", buffering=0) as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"x" * 65536)
        fd = file.fileno()
        data = os.lseek(fd, 0, os.SEEK_DATA)
        assert 0 < data <= MIB
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        assert MIB + 65536 <= hole < 4 * MIB
        assert os.lseek(fd, 10, os.SEEK_HOLE) == 10
        for offset, whence in ((hole, os.SEEK_DATA), (4 * MIB, os.SEEK_HOLE)):
            with pytest.raises(OSError, match="No such device or address"):
                os.lseek(fd, offset, whence)


@pytest.mark.parametrize("store", ["memory", "file"])
def test_what_is_not_written_back_yet_is_no_hole(mount, store):
    path = mount(store, "--mount-option", "cache=writeback").path / "f"
    with path.open("w+b", buffering=0) as file:
        file.truncate(4 * MIB)
        os.pwrite(file.fileno(), b"x" * MIB, MIB)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) <= MIB
        assert os.lseek(file.fileno(), MIB, os.SEEK_DATA) == MIB
        run(["cp", "--sparse=auto", path, path.with_name("copy")])
    assert path.with_name("copy").read_bytes() == bytes(MIB) + b"x" * MIB + bytes(2 * MIB)


def test_fallocate_punches_zeroes_and_allocates(mounted):
    path = mounted.path / "f"
    path.write_bytes(b"x" * MIB)
    fallocate(path, FALLOC_PUNCH_HOLE, 4096, 65536)
    fallocate(path, FALLOC_PUNCH_HOLE, 200001, 777)
    fallocate(path, FALLOC_ZERO_RANGE, 300000, 70000)
    fallocate(path, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, MIB - 10, 4096)
    expected = bytearray(b"x" * MIB)
    for start, length in ((4096, 65536), (200001, 777), (300000, 70000), (MIB - 10, 10)):
        expected[start : start + length] = bytes(length)
    assert path.read_bytes() == expected
    fallocate(path, FALLOC_KEEP_SIZE, 0, 2 * MIB)
    assert path.stat().st_size == MIB
    before = path.stat().st_blocks
    fallocate(path, 0, 0, 2 * MIB)
    assert path.read_bytes() == expected + bytes(MIB)
    assert path.stat().st_blocks * 512 >= before * 512 + MIB


def test_fsync_and_synchronous_writes_succeed(mounted):
    for flags in (os.O_SYNC, os.O_DSYNC, os.O_DIRECT):
        fd = os.open(mounted.path / "f", os.O_RDWR | os.O_CREAT | flags)
        with os.fdopen(fd, "r+b", buffering=0), mmap.mmap(-1, 4096) as aligned:
            assert os.pwritev(fd, [aligned], 0) == 4096
            os.fsync(fd)
            os.fdatasync(fd)


def test_attributes_are_kept(mounted):
    path = mounted.path / "f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.chown(path, 12, 34)
    os.utime(path, (1000, 2000))
    shell("mv f g; touch new", mounted.path)
    status = (mounted.path / "g").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)
    assert (status.st_atime, status.st_mtime) == (1000, 2000)
    (mounted.path / "g").write_bytes(b"y")
    assert (mounted.path / "g").stat().st_mtime > 2000
    os.utime(mounted.path / "g", (-1000, -2000))
    assert (mounted.path / "g").stat().st_mtime == -2000


def test_directories_are_directories(mounted):
    shell("mkdir -p a/b empty; echo x > a/b/vol; mkdir a/c; mv empty a/c/", mounted.path)
    assert mounted.volumes() == {"a/b/vol": 0}
    assert shell("ls a a/b a/c", mounted.path) == "a:\nb\nc\n\na/b:\nvol\n\na/c:\nempty"
    shell("rm a/b/vol; test -d a/b; ! rmdir a 2> /dev/null; mv a/b a/d; rm -r a", mounted.path)
    assert names_in(mounted.path) == []


def test_names_of_volumes_imply_directories(mounted):
    with mounted.connect() as connection:
        connection.create("x/y/vol", 4096)
        assert shell("find . -type f -o -type d | sort", mounted.path) == (
            ".\n./x\n./x/y\n./x/y/vol"
        )
        shell("sync x x/y; mv x/y/vol x/y/other; rm -r x", mounted.path)
        assert connection.list() == []
    assert names_in(mounted.path) == []


def test_moving_a_directory_moves_its_volumes(mounted):
    shell("mkdir d; echo one > d/1; truncate -s 1M d/2; mv d e; cat e/1; test ! -e d", mounted.path)
    assert mounted.volumes() == {"e/1": 0, "e/2": MIB}


def test_statfs_tells_sizes(mounted):
    status = os.statvfs(mounted.path)
    assert 0 < status.f_bavail <= status.f_blocks
    assert status.f_namemax == 255


def test_what_the_mount_does_not_have_is_refused(mounted):
    path = mounted.path
    (path / "f").write_bytes(b"")
    for call in (
        lambda: (path / "link").symlink_to("f"),
        lambda: os.link(path / "f", path / "link"),
        lambda: os.mkfifo(path / "fifo"),
        lambda: (path / ".openvstorage").mkdir(),
        lambda: (path / ".openvstorage").write_bytes(b""),
        lambda: (path / "f").rename(path / ".openvstorage"),
    ):
        with pytest.raises(PermissionError):
            call()
    assert not (path / ".openvstorage").exists()
    assert names_in(path) == ["f"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\nb", "Invalid argument"),
        ("a\x7f", "Invalid argument"),
        ("n" * 255, "File name too long"),
        ("n" * 300, "File name too long"),
    ],
)
def test_names_that_no_volume_can_have_are_refused(mounted, name, reason):
    with pytest.raises(OSError, match=reason):
        (mounted.path / name).write_bytes(b"")
    assert names_in(mounted.path) == []


def test_strange_names_are_names(mounted):
    names = ["-rf", "a b", "ü", "%s", "'\"", "*", "n" * 254, "...", "a:b,c=d"]
    for name in names:
        (mounted.path / name).write_bytes(name.encode())
    assert names_in(mounted.path) == sorted(names)
    assert set(mounted.volumes()) == set(names)
    for name in names:
        assert (mounted.path / name).read_bytes() == name.encode()


def test_many_volumes_are_listed(mounted):
    names = [f"vol{number:04}" for number in range(300)]
    with mounted.connect() as connection:
        for name in names:
            connection.create(name, 512)
    assert names_in(mounted.path) == names
    assert len(shell("ls -l", mounted.path).splitlines()) == 301


def test_clients_changes_are_seen_at_once(mounted):
    path = mounted.path / "vol"
    with mounted.connect() as connection:
        connection.create("vol", 4096)
        assert path.stat().st_size == 4096
        connection.resize("vol", 8192)
        wait_until(lambda: path.stat().st_size == 8192, 0.9)
        connection.remove("vol")
        wait_until(lambda: not path.exists(), 0.9)
        connection.create("vol", 512)
        assert path.stat().st_size == 512


def test_locks_are_the_kernels(mounted):
    with (mounted.path / "f").open("wb") as one, (mounted.path / "f").open("rb+") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
