# SPDX-License-Identifier: MIT
"""shmclient, the binding: every call once for what it does, and for how it fails."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import wait_until

import shmclient
from shmclient import Connection, aio
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


@pytest.mark.parametrize("client", ["native", "reference", "asyncio"])
def test_volume_that_ends_within_a_block(short_dir, client):
    """It is read, and its extents are told, by requests of whole blocks."""
    path = short_dir / "b.sock"
    size = MIB + 512
    with Server("fault", socket=path, options={"block-bytes": "4096"}):
        with shmclient.connect(path) as connection:
            connection.create("vol", size)

        async def look() -> list[shmclient.Extent]:
            async with await aio.connect(path) as server, await server.open("vol") as volume:
                assert len(await volume.pread(MIB + 4096, 0)) == size
                with pytest.raises(OSError, match="block"):
                    _ = [one async for one in volume.block_status(512, 0)]
                return [one async for one in volume.block_status()]

        if client == "asyncio":
            extents = asyncio.run(look())
        else:
            with (
                shmclient.connect(path, implementation=client) as connection,
                connection.open("vol") as volume,
            ):
                assert len(volume.pread(MIB + 4096, 0)) == size
                with pytest.raises(OSError, match="block"):
                    list(volume.block_status(512, 0))
                extents = list(volume.block_status())
    (whole,) = extents
    assert (whole.offset_bytes, whole.length_bytes) == (0, size)


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


def test_vectors_are_one_range(connection):
    connection.create("vol", MIB)
    with connection.open("vol", writable=True) as volume:
        parts = [b"one", bytearray(b"two!"), memoryview(b"-three-")[1:6], b""]
        assert volume.pwritev(parts, 1000) == 12
        assert volume.pread(12, 1000) == b"onetwo!three"
        into = [bytearray(5), bytearray(0), bytearray(7)]
        assert volume.preadv(iter(into), 1000) == 12
        assert b"".join(into) == b"onetwo!three"
        assert volume.preadv(into, MIB - 6) == 6
        assert volume.preadv([], 0) == volume.pwritev([], 0, fua=True) == 0


def test_a_read_far_beyond_the_end_takes_no_more_memory_than_the_volume(connection):
    connection.create("vol", 1024)
    with connection.open("vol", writable=True) as volume:
        volume.pwrite(b"x" * 1024, 0)
        assert volume.pread(2**62, 512) == b"x" * 512


def test_zeroes_discard_and_block_status(connection):
    connection.create("vol", 4 * MIB)
    with connection.open("vol", writable=True) as volume:
        volume.pwrite(b"x" * MIB, MIB)
        volume.write_zeroes(4096, MIB)
        assert volume.pread(4097, MIB) == bytes(4096) + b"x"
        volume.discard(4096, MIB + 8192)
        extents = list(volume.block_status())
        assert extents[0].offset_bytes == 0
        for before, after in pairwise(extents):
            assert before.offset_bytes + before.length_bytes == after.offset_bytes
            assert (before.hole, before.zero) != (after.hole, after.zero)
        assert sum(one.length_bytes for one in extents) == 4 * MIB
        (part,) = volume.block_status(4096, 2 * MIB - 4096)
        assert (part.offset_bytes, part.length_bytes) == (2 * MIB - 4096, 4096)
        assert not part.hole
        assert not part.zero
        assert list(volume.block_status(4096, 4 * MIB)) == []


def test_block_status_of_many_extents_comes_in_portions(connection):
    connection.create("vol", 64 * MIB)
    with connection.open("vol", writable=True) as volume:
        written = range(0, 64 * MIB, 16384)
        volume.batch([shmclient.Write(bytes([1]) * 4096, offset) for offset in written])
        data = [one.offset_bytes for one in volume.block_status() if not one.hole]
        assert data == list(written)


def test_block_status_ends_when_the_volume_is_closed(connection):
    connection.create("vol", 64 * MIB)
    with connection.open("vol", writable=True) as volume:
        for offset in range(0, 32 * MIB, 32768):
            volume.pwrite(b"x" * 4096, offset)
        extents = volume.block_status()
        next(extents)
    with pytest.raises(ValueError, match="closed"):
        list(extents)


def test_events_tell_of_a_resize_and_of_the_end(path, cleanup):
    server = cleanup.enter_context(Server("memory", socket=path.parent / "e.sock"))
    connection = cleanup.enter_context(shmclient.connect(path.parent / "e.sock"))
    connection.create("vol", MIB)
    volume = cleanup.enter_context(connection.open("vol"))
    assert volume.events() == []
    assert volume.wait_event(0) is None
    connection.resize("vol", 2 * MIB)
    event = volume.wait_event(60)
    assert (event.kind, event.value) == ("resized", 2 * MIB)
    connection.resize("vol", 3 * MIB)
    connection.resize("vol", 4 * MIB)
    assert [one.value for one in volume.events()] == [3 * MIB, 4 * MIB]
    server.stop()
    kinds = [volume.wait_event(60).kind]
    while kinds[-1] != "ended":
        kinds.append(volume.wait_event(60).kind)
    with pytest.raises(OSError, match="ended") as caught:
        volume.wait_event(60)
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(ValueError, match="negative"):
        volume.wait_event(-1)


def test_sessions_tell_who_does_what(connection):
    connection.create("vol", MIB)
    with connection.open("vol", writable=True) as volume:
        volume.pwrite(b"x" * 4096, 0)
        volume.pread(4096, 0)
        (session,) = connection.sessions()
        assert (session.volume, session.mode, session.pid) == ("vol", "write", os.getpid())
        assert (session.reads, session.writes, session.others) == (1, 1, 0)
        assert (session.read_bytes, session.written_bytes) == (4096, 4096)
        assert sum(session.latency_counts) == 2
    wait_until(lambda: connection.sessions() == [])


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
    assert repr(one).startswith("VolumeInfo(name='vol', size_bytes=")
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
    with pytest.raises(ValueError, match="negative"):
        connection.create("vol", -1)


def test_caller_with_a_read_only_buffer_is_refused(connection):
    connection.create("vol", MIB)
    with connection.open("vol") as volume, pytest.raises(BufferError):
        volume.preadinto(b"const", 0)
