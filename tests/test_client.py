# SPDX-License-Identifier: MIT
"""shmclient, the binding: every call once for what it does, and for how it fails."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmclient
from shmclient import Connection
from shmserver import Server

MIB = 1 << 20


@pytest.fixture
def path(short_dir: Path) -> Iterator[Path]:
    with Server("memory", socket=short_dir / "s.sock"):
        yield short_dir / "s.sock"


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    with shmclient.connect(path) as one:
        yield one


def test_written_bytes_are_read_back(connection):
    connection.create("vol", MIB)
    with connection.open("vol", writable=True) as volume:
        data = os.urandom(100_001)
        assert volume.pwrite(data, 12_345) == len(data)
        assert volume.pwrite(memoryview(data)[:512], 0, fua=True) == 512
        volume.flush()
        assert volume.pread(len(data), 12_345) == data
        buffer = bytearray(600)
        assert volume.preadinto(buffer, 0) == 600
        assert buffer == data[:512] + bytes(88)


def test_reads_are_short_at_the_end_and_empty_beyond(connection):
    connection.create("vol", 1024)
    with connection.open("vol") as volume:
        assert len(volume.pread(4096, 512)) == 512
        assert volume.pread(4096, 1024) == b""
        assert volume.pread(0, 0) == b""


def test_requests_longer_than_the_limit_are_split(short_dir):
    with (
        Server("memory", socket=short_dir / "t.sock", request_bytes_max=65536),
        shmclient.connect(short_dir / "t.sock") as connection,
    ):
        connection.create("vol", 8 * MIB)
        with connection.open("vol", writable=True) as volume:
            data = os.urandom(5 * MIB)
            assert volume.pwrite(data, 1) == len(data)
            assert volume.pread(len(data), 1) == data


def test_zeroes_discard_and_block_status(connection):
    connection.create("vol", 4 * MIB)
    with connection.open("vol", writable=True) as volume:
        volume.pwrite(b"x" * MIB, MIB)
        volume.write_zeroes(4096, MIB)
        assert volume.pread(4097, MIB) == bytes(4096) + b"x"
        volume.discard(4096, MIB + 8192)
        extents = volume.block_status(4 * MIB, 0)
        assert 0 < sum(one.length_bytes for one in extents) <= 4 * MIB
        assert all(isinstance(one.hole, bool) and isinstance(one.zero, bool) for one in extents)


def test_volume_follows_a_resize(connection):
    connection.create("vol", MIB)
    with connection.open("vol", writable=True) as volume:
        volume.resize(2 * MIB)
        assert volume.size_bytes == volume.stat().size_bytes == 2 * MIB
        connection.resize("vol", 3 * MIB)
        assert volume.stat().size_bytes == 3 * MIB


def test_limits_are_those_of_the_server(connection):
    connection.create("vol", MIB)
    with connection.open("vol", depth=7) as volume:
        assert volume.limits.depth == 7
        assert volume.limits.request_bytes_max == connection.hello.request_bytes_max
        assert "write" in volume.limits.capabilities


def test_writer_role_can_be_given_and_taken(connection):
    connection.create("vol", MIB)
    with connection.open("vol", writable=True) as first, connection.open("vol") as second:
        with pytest.raises(OSError, match=r"vol.*writ") as caught:
            second.set_writable(True)
        assert caught.value.errno == errno.EBUSY
        first.set_writable(False)
        second.set_writable(True)
        assert second.pwrite(b"x", 0) == 1


def test_volume_outlives_its_connection(path):
    connection = shmclient.connect(path)
    connection.create("vol", MIB)
    with connection.open("vol") as volume:
        connection.close()
        assert volume.pread(512, 0) == bytes(512)


def test_threads_share_a_volume(connection):
    connection.create("vol", MIB)
    failures = []
    with connection.open("vol", writable=True) as volume:

        def work(number: int) -> None:
            block = bytes([number]) * 4096
            for _ in range(200):
                volume.pwrite(block, number * 4096)
                if volume.pread(4096, number * 4096) != block:
                    failures.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failures == []


def test_records_print_and_compare_by_value(connection):
    connection.create("vol", MIB)
    one = connection.stat("vol")
    assert one == connection.stat("vol")
    assert repr(one).startswith("VolumeInfo(")
    assert "'name': 'vol'" in repr(one)
    assert one._asdict()["size_bytes"] == MIB


@pytest.mark.parametrize(
    ("number", "kind", "call"),
    [
        (errno.ENOENT, FileNotFoundError, lambda c: c.stat("nothing")),
        (errno.ENOENT, FileNotFoundError, lambda c: c.open("nothing")),
        (errno.ENOENT, FileNotFoundError, lambda c: c.remove("nothing")),
        (errno.EEXIST, FileExistsError, lambda c: c.create("vol", MIB)),
        (errno.EINVAL, OSError, lambda c: c.create("bad/", MIB)),
        (errno.EINVAL, OSError, lambda c: c.create("x", 1000)),
        (errno.ENAMETOOLONG, OSError, lambda c: c.create("x" * 255, MIB)),
        (errno.EPERM, PermissionError, lambda c: c.resize("vol", 512)),
        (errno.EBADF, OSError, lambda c: c.open("vol").pwrite(b"x", 0)),
        (errno.EFBIG, OSError, lambda c: c.open("vol", writable=True).pwrite(b"xx", MIB - 1)),
    ],
)
def test_refusals_are_os_errors_with_errno_and_reason(connection, number, kind, call):
    connection.create("vol", MIB)
    with pytest.raises(kind) as caught:
        call(connection)
    assert caught.value.errno == number
    assert caught.value.strerror


def test_no_server_is_a_file_not_found_error_that_names_the_socket(short_dir):
    with pytest.raises(FileNotFoundError, match=r"none\.sock"):
        shmclient.connect(short_dir / "none.sock")


def test_caller_using_what_is_closed_gets_a_value_error(connection, path):
    connection.create("vol", MIB)
    volume = connection.open("vol")
    volume.close()
    volume.close()
    assert volume.closed
    for call in (volume.flush, volume.stat, lambda: volume.size_bytes, lambda: volume.pread(1, 0)):
        with pytest.raises(ValueError, match="closed"):
            call()
    other = shmclient.connect(path)
    other.close()
    with pytest.raises(ValueError, match="closed"):
        other.list()


def test_caller_with_a_nul_or_a_negative_number_is_refused(connection):
    with pytest.raises(ValueError, match="null"):
        connection.create("a\0b", MIB)
    with pytest.raises(TypeError):
        connection.create("vol", -1)


def test_caller_with_a_read_only_buffer_is_refused(connection):
    connection.create("vol", MIB)
    with connection.open("vol") as volume, pytest.raises(BufferError):
        volume.preadinto(b"const", 0)
