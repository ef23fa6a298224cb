# SPDX-License-Identifier: MIT
"""Reads and writes: every pair moves the same bytes and refuses the same requests.

What a store keeps, and in which blocks, is said by `kind`; the refusal is asserted where it is due.
"""

from __future__ import annotations

import errno
import random

import pytest

from interop.client import Discard, Flush, Read, Write, WriteZeroes
from interop.conftest import MIB, refused
from interop.servers import DEPTH_MAX, REQUEST_BYTES_MAX


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def test_what_is_written_is_read(volume, kind):
    data = noise(MIB)
    assert volume.read(MIB, 0) == bytes(MIB)
    assert volume.write(data, 0) == MIB
    assert volume.read(MIB, 0) == kind.kept(data)


LENGTHS = [1, 511, 512, 513, 1024, 4095, 4096, 4097, 10000]
LENGTHS += [k * REQUEST_BYTES_MAX + d for k in (1, 2, 5) for d in (-512, -1, 0, 1, 512)]


def test_lengths_around_the_limits_leave_the_neighbours_alone(volume, kind):
    """The longer ones are split: as long as the server's requests may be, and beyond."""
    for number, length in enumerate(LENGTHS):
        if length % kind.block_bytes:
            continue
        offset = kind.block_bytes * (number + 1)
        volume.write(bytes(MIB), 0)
        data = noise(length, number)
        assert volume.write(data, offset) == length
        assert volume.read(length, offset) == kind.kept(data)
        around = volume.read(length + 2 * kind.block_bytes, offset - kind.block_bytes)
        edge = bytes(kind.block_bytes)
        assert around == edge + kind.kept(data) + edge


def test_a_caller_off_the_blocks_is_refused_where_there_are_blocks(volume, kind):
    for offset, length in ((1, 512), (512, 1), (256, 512), (0, 700)):
        data = noise(length)
        if kind.block_bytes > 1:
            with refused(errno.EINVAL):
                volume.write(data, offset)
            with refused(errno.EINVAL):
                volume.read(length, offset)
            assert volume.read(4096, 0) == bytes(4096)
        else:
            assert volume.write(data, offset) == length
            assert volume.read(length, offset) == kind.kept(data)


def test_a_read_ends_where_the_volume_ends(volume, kind):
    data = noise(1024)
    volume.write(data, MIB - 1024)
    assert volume.read(2048, MIB - 1024) == kind.kept(data)
    assert volume.read(512, MIB) == b""
    assert volume.read(512, 1 << 40) == b""
    assert volume.read(3 * REQUEST_BYTES_MAX, MIB - 1024) == kind.kept(data)


BEYOND = [
    (MIB - 512, 1024),
    (MIB, 512),
    (1 << 40, 512),
    ((1 << 63) - 1024, 512),
    (MIB - REQUEST_BYTES_MAX, 2 * REQUEST_BYTES_MAX),
]


def test_a_caller_writing_beyond_the_end_is_refused_and_writes_nothing(volume):
    for offset, length in BEYOND:
        with refused(errno.EFBIG):
            volume.write(b"x" * length, offset)
    assert volume.read(2 * REQUEST_BYTES_MAX, MIB - 2 * REQUEST_BYTES_MAX) == bytes(
        2 * REQUEST_BYTES_MAX
    )


@pytest.mark.needs("exact_sizes")
def test_a_caller_reading_or_writing_beyond_2_to_the_63_is_refused(volume):
    for call in (lambda: volume.read(512, (1 << 63) - 256), lambda: volume.write(b"x", 1 << 63)):
        with pytest.raises((OSError, ValueError, OverflowError)) as caught:
            call()
        if isinstance(caught.value, OSError):
            assert caught.value.errno == errno.EINVAL


@pytest.mark.needs("empty")
def test_a_request_of_no_bytes_does_nothing(volume):
    assert volume.read(0, 0) == b""
    assert volume.read(0, 2 * MIB) == b""
    assert volume.write(b"", 0) == 0


def test_flush_works(volume):
    volume.flush()
    volume.write(noise(4096), 0)
    volume.flush()


@pytest.mark.needs("fua")
def test_a_durable_write_is_a_write(volume, kind):
    data = noise(3 * REQUEST_BYTES_MAX)
    assert volume.write(data, 512, fua=True) == len(data)
    assert volume.read(len(data), 512) == kind.kept(data)


PARTS = [
    [512],
    [256, 256],
    [1, 510, 1],
    [1000, 24],
    [4096] * 16,
    [7] * 512,
    [512, REQUEST_BYTES_MAX, 512],
    [3 * REQUEST_BYTES_MAX + 100, 412],
]


@pytest.mark.needs("vectored")
def test_several_buffers_make_one_request(volume, kind):
    for parts in PARTS:
        data = noise(sum(parts))
        starts = [sum(parts[:i]) for i in range(len(parts))]
        chunks = [data[at : at + part] for at, part in zip(starts, parts, strict=True)]
        assert volume.writev(chunks, 512) == len(data)
        assert volume.read(len(data) + 1024, 0) == bytes(512) + kind.kept(data) + bytes(512)
        assert volume.readv(parts, 512) == [kind.kept(chunk) for chunk in chunks]
        volume.write(bytes(len(data)), 512)


@pytest.mark.needs("depth")
@pytest.mark.parametrize("depth", [1, 3, DEPTH_MAX])
def test_more_requests_than_the_queue_is_deep_are_all_done(make, kind, depth):
    volume = make(depth=depth)
    blocks = [noise(1024, number) for number in range(3 * depth + 1)]
    writes = [Write(block, number * 1024) for number, block in enumerate(blocks)]
    assert volume.batch(writes) == [1024] * len(blocks)
    reads = [Read(1024, number * 1024) for number in range(len(blocks))]
    assert volume.batch(reads) == [kind.kept(block) for block in blocks]


@pytest.mark.needs("depth")
def test_a_caller_asking_for_more_depth_than_there_is_is_refused(connection, name):
    connection.create(name, MIB)
    with refused(errno.EINVAL):
        connection.open(name, depth=DEPTH_MAX + 1)


def test_many_requests_in_flight_each_get_their_own_data(volume, kind):
    """Of all lengths, some of them split; in any order; twice over the same memory."""
    data = noise(MIB)
    volume.write(data, 0)
    pick = random.Random(1)
    for _ in range(2):
        places = []
        for _ in range(100):
            offset = pick.randrange(MIB // 512) * 512
            places.append((pick.randrange(1, 300) * 512, offset))
        results = volume.batch([Read(length, offset) for length, offset in places])
        for (length, offset), result in zip(places, results, strict=True):
            assert result == kind.kept(data)[offset : offset + length]


def test_a_failure_among_many_is_that_requests_alone(volume, kind):
    data = noise(4096)
    results = volume.batch(
        [
            Write(data, 0),
            Write(data, MIB - 512),
            Write(data, 8192),
            Flush(),
            Write(data, MIB),
            Write(data, 16384),
        ]
    )
    assert results == [4096, -errno.EFBIG, 4096, 0, -errno.EFBIG, 4096]
    kept = kind.kept(data)
    assert volume.read(20480, 0) == kept + bytes(4096) + kept + bytes(4096) + kept


@pytest.mark.needs("ranges")
def test_all_ops_go_together(volume, kind):
    """They may be done in any order, so each has a range of its own."""
    data = noise(4096)
    volume.write(data * 4, 0)
    results = volume.batch(
        [Write(data, 65536), Discard(4096, 4096), WriteZeroes(4096, 8192), Read(4096, 0), Flush()]
    )
    discard = 0 if kind.can("discard") else -errno.EOPNOTSUPP
    zeroes = 0 if kind.can("write-zeroes") else -errno.EOPNOTSUPP
    assert results == [4096, discard, zeroes, kind.kept(data), 0]
    assert volume.read(4096, 65536) == kind.kept(data)
    assert volume.read(4096, 8192) == (kind.kept(data) if zeroes else bytes(4096))
