# SPDX-License-Identifier: MIT
"""shmclient: Buffers that outlive their volume, and many requests with one call."""

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from conftest import wait_until

import shmclient
from shmclient import Discard, Flush, Read, Write, WriteZeroes
from shmserver import Server

MIB = 1 << 20


@pytest.fixture
def connection(short_dir: Path) -> Iterator[shmclient.Connection]:
    with (
        Server("memory", socket=short_dir / "s.sock"),
        shmclient.connect(short_dir / "s.sock") as connection,
    ):
        connection.create("vol", 4 * MIB)
        yield connection


@pytest.fixture
def volume(connection: shmclient.Connection) -> Iterator[shmclient.Volume]:
    with connection.open("vol", writable=True, depth=8, arena_bytes=MIB) as volume:
        yield volume


# ---- buffers ----


def test_buffers_are_read_into_and_written_from(volume):
    data = os.urandom(8192)
    with volume.buffer(8192) as one, volume.buffer(8192) as other:
        assert len(one) == 8192
        memoryview(one)[:] = data
        assert volume.pwrite(one, 4096) == 8192
        assert volume.preadinto(other, 4096) == 8192
        assert bytes(other) == data
        part = memoryview(other)[100:612]
        assert volume.preadinto(part, 4096) == 512
        assert bytes(part) == data[:512]
        assert volume.preadv([memoryview(other)[4096:], memoryview(other)[:512]], 0) == 4608
        part.release()


def test_buffers_are_not_copied(volume):
    """Requests on a Buffer need no other room in the arena, however full it is."""
    buffer = volume.buffer(MIB)
    assert volume.preadinto(buffer, 0) == MIB
    with pytest.raises(OSError, match="arena") as caught:
        volume.pread(4096, 0)
    assert caught.value.errno == errno.ENOMEM
    buffer.release()
    assert volume.pread(4096, 0) == bytes(4096)


def test_buffers_are_memory_for_numpy(volume):
    volume.pwrite(numpy.arange(512, dtype="<u8"), 0)
    buffer = volume.buffer(4096)
    array = numpy.frombuffer(buffer, dtype="<u8")
    volume.preadinto(array, 0)
    assert array.sum() == 511 * 512 // 2
    array[:] = 7
    assert volume.pwrite(array[10:20], 8192) == 80
    assert volume.pread(80, 8192) == bytes([7, 0, 0, 0, 0, 0, 0, 0]) * 10


def test_buffer_stays_valid_after_the_volume_is_closed(connection):
    volume = connection.open("vol", writable=True)
    buffer = volume.buffer(65536)
    view = memoryview(buffer)
    volume.pwrite(b"x" * 65536, 0)
    volume.preadinto(buffer, 0)
    volume.close()
    wait_until(lambda: connection.sessions() == [])
    del volume
    gc.collect()
    assert bytes(view) == b"x" * 65536
    view[:] = b"y" * 65536
    assert bytes(memoryview(buffer)[-5:]) == b"yyyyy"
    del buffer
    gc.collect()
    assert view[0] == ord("y")
    view.release()


def test_buffer_of_a_closed_volume_is_ordinary_memory_for_another(connection):
    with connection.open("vol", writable=True) as volume:
        buffer = volume.buffer(4096)
        memoryview(buffer)[:] = b"z" * 4096
    with connection.open("vol", writable=True) as volume:
        volume.pwrite(buffer, 0)
        assert volume.pread(4096, 0) == b"z" * 4096
    buffer.release()


def test_buffers_are_given_back(volume):
    for _ in range(100):
        volume.buffer(MIB).release()
        with volume.buffer(MIB):
            pass
        buffer = volume.buffer(MIB)
        del buffer
    with volume.buffer(MIB), pytest.raises(OSError, match="arena is full") as caught:
        volume.buffer(512)
    assert caught.value.errno == errno.ENOMEM


def test_caller_releasing_what_is_in_use_is_refused(volume):
    buffer = volume.buffer(4096)
    view = memoryview(buffer)
    with pytest.raises(BufferError, match="in use"):
        buffer.release()
    assert not buffer.released
    view.release()
    buffer.release()
    buffer.release()
    assert buffer.released
    assert len(buffer) == 0
    for call in (memoryview, lambda b: volume.preadinto(b, 0), lambda b: volume.pwrite(b, 0)):
        with pytest.raises(ValueError, match="released"):
            call(buffer)


def test_caller_asking_for_an_impossible_buffer_is_refused(volume):
    with pytest.raises(OSError, match="arena is full"):
        volume.buffer(2**62)
    with pytest.raises(ValueError, match="0 bytes"):
        volume.buffer(0)
    with pytest.raises(ValueError, match="negative"):
        volume.buffer(-1)
    with pytest.raises(OverflowError):
        volume.buffer(2**64)
    with pytest.raises(TypeError):
        volume.buffer(1.5)
    with pytest.raises(TypeError):
        shmclient.Buffer()


# ---- batches ----


def test_batch_gives_results_in_order(volume):
    blocks = [os.urandom(4096) for _ in range(5)]
    assert volume.batch([Write(block, 4096 * i) for i, block in enumerate(blocks)]) == [4096] * 5
    into = [bytearray(4096) for _ in range(4)]
    arena = volume.buffer(4096)
    requests = [Read(one, 4096 * i) for i, one in enumerate(into)]
    requests += [Read(arena, 4 * 4096), Read(bytearray(4096), 4 * MIB - 100), Flush()]
    assert volume.batch(iter(requests)) == [4096] * 5 + [100, 0]
    assert [*map(bytes, into), bytes(arena)] == blocks
    assert volume.batch([]) == []
    assert volume.batch((Read(bytearray(), 0), Write(b"", 0))) == [0, 0]


def test_batch_takes_every_kind_of_request(volume):
    volume.pwrite(b"x" * 16384, 0)
    requests = [
        Write(b"y" * 4096, 0, fua=True),
        WriteZeroes(4096, 4096),
        WriteZeroes(length_bytes=4096, offset_bytes=8192, may_unmap=False, fua=True),
        Discard(4096, 12288),
    ]
    assert volume.batch(requests) == [4096, 0, 0, 0]
    assert volume.pread(12288, 0) == b"y" * 4096 + bytes(8192)


def test_batch_may_be_longer_than_the_queue_is_deep(volume):
    data = os.urandom(2 * MIB)
    view = memoryview(data)
    size = 1000
    offsets = range(0, len(data) - size, size)
    volume.batch([Write(view[offset : offset + size], offset) for offset in offsets])
    into = bytearray(len(data))
    view = memoryview(into)
    results = volume.batch([Read(view[offset : offset + size], offset) for offset in offsets])
    assert results == [size] * len(offsets)
    assert into[: results.count(size) * size] == data[: results.count(size) * size]


def test_batch_longer_than_the_arena_is_done_in_turns(volume):
    """Each request needs half of the arena, and one more than it has."""
    blocks = [bytes([i]) * (MIB // 2) for i in range(6)]
    volume.batch([Write(block, i * MIB // 2) for i, block in enumerate(blocks)])
    into = [bytearray(2 * MIB), bytearray(MIB)]
    assert volume.batch([Read(into[0], 0), Read(into[1], 2 * MIB)]) == [2 * MIB, MIB]
    assert b"".join(into) == b"".join(blocks)


def test_batch_raises_the_first_failure_with_all_results(volume):
    requests = [
        Write(b"x" * 512, 0),
        Write(b"x" * 512, 4 * MIB),
        Read(bytearray(512), 2**63 - 1),
        Read(bytearray(512), 0),
    ]
    with pytest.raises(OSError, match=r"write of 512 bytes at 4194304 of volume \"vol\"") as caught:
        volume.batch(requests)
    expected = [512, -errno.EFBIG, -errno.EINVAL, 512]
    assert caught.value.errno == errno.EFBIG
    assert caught.value.results == expected
    assert volume.batch(requests, check=False) == expected
    with pytest.raises(OSError, match=r"beyond 2\^63") as caught:
        volume.batch(requests[2:])
    assert caught.value.errno == errno.EINVAL


def test_caller_with_a_wrong_request_in_a_batch_submits_nothing(volume):
    good = Write(b"x" * 512, 0)
    for wrong, kind in (
        ("read", TypeError),
        (Read(b"read-only", 0), BufferError),
        (Read(5, 0), TypeError),
        (Write(memoryview(bytes(100))[::2], 0), BufferError),
    ):
        with pytest.raises(kind):
            volume.batch([good, wrong])
    with pytest.raises(TypeError):
        volume.batch(5)
    assert volume.pread(512, 0) == bytes(512)


def test_requests_say_what_they_are(volume):
    buffer = bytearray(1)
    read = Read(offset_bytes=5, buffer=buffer)
    assert read.buffer is buffer
    assert read.offset_bytes == 5
    write = Write(b"d", 6)
    assert (write.data, write.offset_bytes, write.fua) == (b"d", 6, False)
    zeroes = WriteZeroes(7, 8)
    assert (zeroes.length_bytes, zeroes.offset_bytes, zeroes.may_unmap, zeroes.fua) == (7, 8, 1, 0)
    discard = Discard(9, 10)
    assert (discard.length_bytes, discard.offset_bytes) == (9, 10)
    with pytest.raises(AttributeError):
        read.offset_bytes = 1


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: Read(bytearray(1)), TypeError, "missing required argument 'offset_bytes'"),
        (lambda: Read(bytearray(1), 0, 0), TypeError, "at most 2"),
        (lambda: Read(bytearray(1), offset=0), TypeError, "unexpected keyword argument 'offset'"),
        (lambda: Read(bytearray(1), 0, buffer=1), TypeError, "multiple values"),
        (lambda: Read(bytearray(1), -1), ValueError, "offset_bytes must not be negative"),
        (lambda: Read(bytearray(1), 2**63), OverflowError, "less than"),
        (lambda: Read(bytearray(1), "1"), TypeError, "integer"),
        (lambda: Discard(-1, 0), ValueError, "length_bytes must not be negative"),
        (lambda: Flush(1), TypeError, "at most 0"),
        (lambda: Read.__new__(Read), TypeError, "Read"),
    ],
)
def test_caller_making_an_impossible_request_is_refused(make, kind, text):
    with pytest.raises(kind, match=text):
        make()
