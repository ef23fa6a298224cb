# SPDX-License-Identifier: MIT
"""Hostile clients on the rings end their own session and nothing else (PROTOCOL.md 8.7 and 11).

Each attack is made on the real daemon and on a server under ASan and UBSan, beside a witness.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Any

import pytest
import wire
from hostile import STAGES, VOLUME_BYTES, Stage, running_stage
from rawclient import RawVolume

ARENA = 1 << 20
MAX32 = 2**32 - 1
MAX64 = 2**64 - 1
READ, WRITE, FLUSH = wire.OP_READ, wire.OP_WRITE, wire.OP_FLUSH
DISCARD, ZEROES, STATUS = wire.OP_DISCARD, wire.OP_WRITE_ZEROES, wire.OP_BLOCK_STATUS
FUA, UNMAP, SEGMENTS = wire.SQE_FUA, wire.SQE_MAY_UNMAP, wire.SQE_SEGMENTS


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with running_stage(request.param) as stage:
        yield stage


def broken_entry(stage: Stage, reason: str, *, features: int | None = None, **fields: Any) -> None:
    """Submits it between good ones: the session ends, for that reason."""
    with stage.attack(reason=reason) as attack:
        client = attack.connect(hello=features is None)
        if features is not None:
            client.hello(features=features)
        volume = client.open("target")
        volume.write(0, b"before")
        volume.queue.submit(**fields)
        told = client.wait_ended()
        assert told or features == 0
        assert volume.queue.reap() == []


# ---- ops and flags (V10, V11) ----


@pytest.mark.parametrize("op", [0, 7, 8, 100, 255])
def test_client_submits_an_unknown_op(stage: Stage, op: int) -> None:
    broken_entry(stage, f"unknown op {op}", op=op)


@pytest.mark.parametrize(
    ("op", "flags"),
    [
        *((READ, flags) for flags in (FUA, UNMAP, 8, 128)),
        *((WRITE, flags) for flags in (UNMAP, 255)),
        *((FLUSH, flags) for flags in (FUA, UNMAP, SEGMENTS)),
        *((DISCARD, flags) for flags in (FUA, UNMAP, SEGMENTS)),
        *((ZEROES, flags) for flags in (SEGMENTS, 8)),
        *((STATUS, flags) for flags in (FUA, SEGMENTS, 64)),
    ],
)
def test_client_sets_a_flag_the_op_has_not(stage: Stage, op: int, flags: int) -> None:
    broken_entry(stage, "flags", op=op, flags=flags, buffer_bytes=16 if op == STATUS else 0)


def test_client_uses_segments_without_the_feature(stage: Stage) -> None:
    broken_entry(stage, "flags", features=0, op=READ, flags=SEGMENTS, segment_count=1)


# ---- reserved and unused members, regions (V12, V13) ----


@pytest.mark.parametrize("op", [READ, WRITE, FLUSH, DISCARD, ZEROES, STATUS])
@pytest.mark.parametrize("resv", [[1, 0, 0], [0, 1 << 32, 0], [0, 0, 1 << 63]])
def test_client_sets_reserved_members(stage: Stage, op: int, resv: list[int]) -> None:
    broken_entry(stage, "reserved", op=op, resv=resv, buffer_bytes=16 if op == STATUS else 0)


@pytest.mark.parametrize("op", [READ, WRITE, FLUSH, DISCARD, ZEROES, STATUS])
@pytest.mark.parametrize("region", [1, 0xFFFF])
def test_client_names_an_unknown_region(stage: Stage, op: int, region: int) -> None:
    broken_entry(stage, "region", op=op, region=region, buffer_bytes=16 if op == STATUS else 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": READ, "buffer_bytes": 16},
        {"op": READ, "segment_count": 1},
        {"op": WRITE, "segment_count": MAX32},
        {"op": FLUSH, "offset_bytes": 512},
        {"op": FLUSH, "buffer_offset": 1},
        {"op": FLUSH, "segment_count": 1},
        {"op": DISCARD, "length_bytes": 512, "buffer_offset": 1},
        {"op": ZEROES, "length_bytes": 512, "buffer_offset": MAX64},
        {"op": ZEROES, "length_bytes": 512, "buffer_bytes": 1},
        {"op": STATUS, "length_bytes": 512, "buffer_bytes": 16, "segment_count": 2},
    ],
)
def test_client_sets_members_the_op_has_not(stage: Stage, fields: dict[str, int]) -> None:
    broken_entry(stage, "members", **fields)


# ---- buffers and lengths (V14, V15) ----

OUTSIDE = [
    (ARENA, 1),
    (ARENA - 1, 2),
    (ARENA - 4096, 8192),
    (MAX64, 1),
    (MAX64 - 511, 512),
    (MAX64 - 511, 1024),
    (1 << 63, 4096),
    (1 << 32, 4096),
]


@pytest.mark.parametrize("op", [READ, WRITE])
@pytest.mark.parametrize(("offset", "length"), OUTSIDE)
def test_client_puts_the_buffer_outside(stage: Stage, op: int, offset: int, length: int) -> None:
    broken_entry(stage, "buffer", op=op, buffer_offset=offset, length_bytes=length)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 15), *((o, max(n, 16)) for o, n in OUTSIDE), (0, MAX32)]
)
def test_client_has_no_room_for_extents(stage: Stage, offset: int, length: int) -> None:
    broken_entry(
        stage,
        "block-status",
        op=STATUS,
        length_bytes=512,
        buffer_offset=offset,
        buffer_bytes=length,
    )


@pytest.mark.parametrize(
    ("op", "length"),
    [
        *((op, n) for op in (READ, WRITE) for n in (wire.REQUEST_BYTES_DEFAULT + 1, MAX32)),
        *((FLUSH, n) for n in (1, MAX32)),
        *((op, n) for op in (DISCARD, ZEROES, STATUS) for n in (wire.RANGE_BYTES_MAX + 1, MAX32)),
    ],
)
def test_client_asks_for_too_much(stage: Stage, op: int, length: int) -> None:
    broken_entry(
        stage, "the limit is", op=op, length_bytes=length, buffer_bytes=16 if op == STATUS else 0
    )


# ---- segments (V14, V16) ----


def segment(offset: int, length: int, **fields: int) -> bytes:
    return wire.pack("segment", buffer_offset=offset, length_bytes=length, **fields)


@pytest.mark.parametrize("op", [READ, WRITE])
@pytest.mark.parametrize(
    ("segments", "length"),
    [
        ([segment(ARENA, 512)], 512),
        ([segment(ARENA - 511, 512)], 512),
        ([segment(MAX64, 1)], 1),
        ([segment(MAX64 - 511, 1024)], 1024),
        ([segment(0, MAX32)], 512),
        ([segment(0, 512, region=1)], 512),
        ([segment(0, 512, resv=1)], 512),
        ([segment(0, 512)], 513),
        ([segment(0, 512)], 511),
        ([segment(0, 512), segment(0, 512)], 512),
        ([segment(0, 512), segment(ARENA, 0), segment(ARENA, 1)], 513),
        ([segment(0, 1 << 20)] * 4096, 0),
        ([segment(0, 1024)] * 8 + [segment(1 << 40, 1024)], 9216),
    ],
)
def test_client_submits_bad_segments(
    stage: Stage, op: int, segments: list[bytes], length: int
) -> None:
    with stage.attack(reason="segment") as attack:
        volume = attack.open()
        volume.put(4096, b"".join(segments[:1024]))
        count = len(segments)
        volume.queue.submit(
            op=op, flags=SEGMENTS, buffer_offset=4096, segment_count=count, length_bytes=length
        )
        volume.client.wait_ended()


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        *((0, count) for count in (0, 1025, MAX32)),
        *((offset, 1) for offset in (ARENA, ARENA - 15, MAX64, MAX64 - 15)),
        (ARENA - 16, 2),
        (1 << 63, 1024),
        (MAX64 - 16383, 1024),
    ],
)
def test_client_has_a_bad_segment_list(stage: Stage, offset: int, count: int) -> None:
    broken_entry(
        stage,
        "segments",
        op=READ,
        flags=SEGMENTS,
        buffer_offset=offset,
        segment_count=count,
        length_bytes=512,
    )


def test_longest_segment_list_works(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        data = os.urandom(512 * 1024)
        volume.put(0, data)
        volume.put(1 << 19, b"".join(segment(512 * i, 512) for i in range(1024)))
        fields = {"flags": SEGMENTS, "buffer_offset": 1 << 19, "segment_count": 1024}
        assert volume.queue.run(op=WRITE, length_bytes=512 * 1024, **fields) == 512 * 1024
        volume.put(0, bytes(512 * 1024))
        assert volume.queue.run(op=READ, length_bytes=512 * 1024, **fields) == 512 * 1024
        assert volume.get(0, 512 * 1024) == data


# ---- indexes (V7, V8, V9) ----


@pytest.mark.parametrize("jump", [9, 100, 1 << 31, MAX32, MAX32 - 7])
def test_client_jumps_with_its_tail(stage: Stage, jump: int) -> None:
    with stage.attack(reason="submission index|requests in flight") as attack:
        volume = attack.open(depth=8)
        volume.queue.tail = jump
        volume.queue.publish()
        volume.client.wait_ended()


@pytest.mark.parametrize("back", [1, 2, 8])
def test_client_takes_its_tail_back(stage: Stage, back: int) -> None:
    with stage.attack(reason="submission index") as attack:
        volume = attack.open(depth=8)
        for _ in range(20):
            assert volume.queue.run(op=FLUSH) == 0
        volume.queue.tail -= back
        volume.queue.publish()
        volume.client.wait_ended()


def test_client_has_more_in_flight_than_the_depth(stage: Stage) -> None:
    with stage.attack(reason="more than 5 requests in flight") as attack:
        volume = attack.open(depth=5)
        for number in range(6):
            volume.queue.push(wire.pack("sqe", op=FLUSH, user_data=number))
        volume.queue.publish()
        volume.client.wait_ended()


def test_client_never_consumes_completions(stage: Stage) -> None:
    with stage.attack(reason="requests in flight") as attack:
        volume = attack.open(depth=8)
        for round_ in range(9):
            volume.queue.submit(op=WRITE, length_bytes=512)
            if round_ < 8:
                wait_for_tail(volume, round_ + 1)
        volume.client.wait_ended()


def wait_for_tail(volume: RawVolume, tail: int) -> None:
    """Until so many completions were published, which nobody consumes."""
    while volume.queue.words.cq_tail != tail:
        volume.client.status()


@pytest.mark.parametrize("head", [9, 108, 1 << 31, MAX32])
def test_client_lies_about_what_it_consumed(stage: Stage, head: int) -> None:
    with stage.attack(reason="completion index") as attack:
        volume = attack.open(depth=8)
        for number in range(8):
            volume.queue.submit(op=FLUSH, user_data=number)
        wait_for_tail(volume, 8)
        volume.queue.words.cq_head = head
        volume.queue.submit(op=FLUSH)
        volume.client.wait_ended()


def test_client_that_lies_within_bounds_harms_itself_only(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open(depth=8)
        for number in range(100):
            volume.queue.submit(op=READ, length_bytes=512)
            wait_for_tail(volume, number + 1)
            volume.queue.words.cq_head = number + 1  # without a look at what came


@pytest.mark.parametrize("word", ["sq_head", "cq_tail", "server_armed", "server_cpu"])
def test_client_writes_the_servers_words(stage: Stage, word: str) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        for value in (0, 1, 7, 1 << 31, MAX32):
            setattr(volume.queue.words, word, value)
            volume.queue.submit(op=FLUSH)
            volume.client.status()
            volume.queue.words.cq_head = volume.queue.tail


def test_client_on_another_queue_breaks_the_rules(stage: Stage) -> None:
    with stage.attack(reason="unknown op") as attack:
        volume = attack.open(queues=16)
        for queue in volume.queues[:-1]:
            assert queue.run(op=FLUSH) == 0
        volume.queues[-1].submit(op=99)
        volume.client.wait_ended()


def test_client_breaks_the_rules_on_all_queues_at_once(stage: Stage) -> None:
    with stage.attack(violations=1, reason="unknown op") as attack:
        volume = attack.open(queues=64)
        for queue in volume.queues:
            queue.push(wire.pack("sqe", op=99))
            queue.words.sq_tail = 1
        for queue in volume.queues:
            queue.ring()
        volume.client.wait_ended()


# ---- what completes with an error, and the session goes on (8.7) ----


@pytest.mark.parametrize("op", [WRITE, DISCARD, ZEROES])
@pytest.mark.parametrize(
    ("offset", "length"),
    [
        *((offset, 512) for offset in (VOLUME_BYTES, 1 << 63, MAX64 - 511)),
        *((offset, 1024) for offset in (VOLUME_BYTES - 512, 2**63 - 512)),
        (MAX64 - 511, 4096),
        (MAX64, 1),
    ],
)
def test_change_beyond_the_end_is_refused(stage: Stage, op: int, offset: int, length: int) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        result = volume.queue.run(op=op, offset_bytes=offset, length_bytes=length)
        assert result == -errno.EFBIG
        assert volume.size_bytes == volume.volume_bytes == VOLUME_BYTES


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (VOLUME_BYTES, 512, 0),
        (VOLUME_BYTES - 512, 4096, 512),
        (1 << 63, 4096, 0),
        (MAX64 - 511, 4096, 0),
        (MAX64, 1, 0),
        (0, 0, 0),
    ],
)
def test_read_ends_at_the_end(stage: Stage, offset: int, length: int, expected: int) -> None:
    with stage.attack(violations=0) as attack:
        queue = attack.open().queue
        assert queue.run(op=READ, offset_bytes=offset, length_bytes=length) == expected


@pytest.mark.parametrize("op", [WRITE, DISCARD, ZEROES])
def test_reader_must_not_change_anything(stage: Stage, op: int) -> None:
    with stage.attack(violations=0) as attack:
        queue = attack.open(mode=wire.MODE_READ).queue
        assert queue.run(op=op, length_bytes=512) == -errno.EBADF
        assert queue.run(op=READ, length_bytes=512) == 512


def test_reader_that_was_a_writer_must_not_change_anything(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        volume.client.set_mode(wire.MODE_READ)
        assert volume.queue.run(op=WRITE, length_bytes=512) == -errno.EBADF
        attack.open().write(0, b"the role is free")


# ---- doorbells and the region's descriptor ----


def test_client_storms_the_doorbell(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open(queues=4)
        for number in range(20000):
            os.eventfd_write(volume.queues[number % 4].server_fd, 1)
            if number % 1000 == 0:
                stage.check_witness()
        volume.write(0, b"still served")


def test_client_makes_the_servers_ring_block(stage: Stage) -> None:
    """O_NONBLOCK belongs to the open file, which client and server share."""
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        for fd in (volume.queue.client_fd, volume.queue.server_fd):
            os.set_blocking(fd, True)
        os.eventfd_write(volume.queue.client_fd, 2**64 - 2)
        for _ in range(100):
            volume.queue.words.client_armed = 1
            volume.queue.submit(op=FLUSH)
            while not volume.queue.reap():
                stage.check_witness()
        os.eventfd_read(volume.queue.server_fd)
        stage.check_witness()


def test_client_fills_the_doorbell(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        os.eventfd_write(volume.queue.server_fd, 2**64 - 2)
        volume.queue.push(wire.pack("sqe", op=FLUSH))
        volume.queue.words.sq_tail = volume.queue.tail
        stage.check_witness()


def test_client_closes_its_doorbells(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        volume.queue.words.client_armed = 1
        volume.queue.submit(op=FLUSH)
        volume.close()
        stage.check_witness()


def test_region_cannot_be_shrunk_grown_or_resealed(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open()
        for size in (0, 4096, volume.header.region_bytes + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(volume.fds[0], size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(volume.fds[0], fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_client_overwrites_the_header_and_the_layout_stays(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open(queues=2)
        volume.map[0:4096] = os.urandom(4096)
        volume.write(0, b"layout is private")
        assert volume.read(0, 17) == b"layout is private"
        volume.client.resize("target", VOLUME_BYTES)
        attack.connect().stat("target")


def test_client_may_write_data_while_it_is_written(stage: Stage) -> None:
    with stage.attack(violations=0) as attack:
        volume = attack.open(depth=64)
        for number in range(64):
            volume.queue.submit(op=WRITE, length_bytes=65536, user_data=number)
            volume.put(0, os.urandom(65536))
        assert {done.result for done in volume.queue.wait(64)} == {65536}
