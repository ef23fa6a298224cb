# SPDX-License-Identifier: MIT
"""The mechanism of the reference, without a socket: rings, doorbells, the arena, memory, names.

Both sides of a region are in this process; what they say is compared with models.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire
from golden import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from shmclient.reference import doorbell, names, region
from shmclient.reference.arena import Arena
from shmclient.reference.memory import Ranges, flat
from shmclient.reference.queue import Queue
from shmclient.reference.ring import ImpossibleIndex, Ring

DEPTH = 5
ENTRIES = 8


@pytest.fixture
def shared() -> Iterator[region.Region]:
    made = region.create(region.plan(1, DEPTH, 4096))
    yield made
    made.close()


# ---- rings ----


@settings(deadline=None, database=None, derandomize=True)
@given(
    start=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32 - 5]),
    steps=st.lists(st.sampled_from(["push", "take"]), max_size=60),
)
def test_ring_is_a_queue_wherever_its_indexes_are(start: int, steps: list[str]) -> None:
    made = region.create(region.plan(1, DEPTH, 4096))
    memory = made.queue(0)
    producer = Ring(memory.words, "sq_tail", "sq_head", ENTRIES)
    consumer = Ring(memory.words, "sq_head", "sq_tail", ENTRIES)
    producer.own = consumer.own = start
    producer.publish()
    consumer.publish()
    model: deque[int] = deque()
    slots: dict[int, int] = {}
    for number, step in enumerate(steps):
        if step == "push" and len(model) < ENTRIES:
            assert producer.unconsumed() == len(model)
            slots[producer.slot] = number
            producer.advance()
            producer.publish()
            model.append(number)
        elif step == "take" and model:
            assert slots[consumer.slot] == model.popleft()
            consumer.advance()
            consumer.publish()
        assert consumer.available() == len(model)
    made.close()


@pytest.mark.parametrize("ahead", [ENTRIES + 1, 2**31, 2**32 - 1])
def test_index_that_cannot_be_is_noticed(shared: region.Region, ahead: int) -> None:
    words = shared.queue(0).words
    ring = Ring(words, "sq_head", "sq_tail", ENTRIES)
    words.sq_tail = ahead
    with pytest.raises(ImpossibleIndex):
        ring.available()
    other = Ring(words, "cq_tail", "cq_head", ENTRIES)
    words.cq_head = 2**32 - ahead
    with pytest.raises(ImpossibleIndex):
        other.unconsumed()


def test_golden_entries_go_through_a_ring_unchanged(shared: region.Region) -> None:
    """What a client pushes is what lies in the slot; what lies there is what it reaps."""
    bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    memory = shared.queue(0)
    queue = Queue(memory, *bells)
    entries = {name: data for name, data in samples.entries().items() if name.startswith("sqe-")}
    for data in list(entries.values())[:DEPTH]:
        slot = queue.sq.slot
        queue.push(data)
        assert bytes(wire.ffi.buffer(memory.sqes + slot)) == data
    for slot, name in enumerate(["cqe", "cqe-error"]):
        wire.ffi.memmove(memory.cqes + slot, samples.entries()[name], wire.sizeof("cqe"))
    memory.words.cq_tail = 2
    assert queue.reap() == [(2**64 - 1, 10, 0), (3, -28, 0)]
    assert memory.words.cq_head == 2
    queue.close()


# ---- doorbells ----


def test_sleeper_is_rung_once_for_each_arming(shared: region.Region) -> None:
    words = shared.queue(0).words
    assert not doorbell.needed(words, "server_armed")
    doorbell.arm(words, "server_armed")
    assert doorbell.needed(words, "server_armed")
    assert not doorbell.needed(words, "server_armed")
    doorbell.arm(words, "server_armed")
    doorbell.disarm(words, "server_armed")
    assert not doorbell.needed(words, "server_armed")


def test_bell_wakes_is_cleared_and_never_blocks() -> None:
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    assert doorbell.wait([bell], 0) == []
    doorbell.clear(bell)
    doorbell.ring(bell)
    doorbell.ring(bell)
    assert doorbell.wait([bell], None) == [bell]
    doorbell.clear(bell)
    assert doorbell.wait([bell], 0) == []
    os.eventfd_write(bell, 2**64 - 2)
    doorbell.ring(bell)
    os.close(bell)


# ---- the arena ----


@settings(deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), max_size=60))
def test_parts_of_the_arena_never_overlap_and_all_come_back(steps: list[tuple[bool, int]]) -> None:
    arena = Arena(65536)
    held = []
    for take, number in steps:
        if take:
            align = 4096 if number % 2 else 512
            part = arena.allocate(number, align)
            if part is not None:
                assert part.offset % align == 0
                assert number <= part.length_bytes
                assert part.offset + part.length_bytes <= 65536
                for other in held:
                    ends = (sum(part), sum(other))
                    assert part.offset >= ends[1] or other.offset >= ends[0]
                held.append(part)
        elif held:
            arena.free(held.pop(number % len(held)))
    for part in held:
        arena.free(part)
    assert arena.allocate(65536) == (0, 65536)


# ---- memory ----


@settings(deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 60), st.integers(0, 120))
def test_ranges_are_one_memory(lengths: list[int], start: int, length: int) -> None:
    source = [os.urandom(n) for n in lengths]
    whole = b"".join(source)
    ranges = Ranges([flat(one, writable=False) for one in source])
    assert ranges.length_bytes == len(whole)
    assert b"".join(one.view for one in ranges.part(start, length)) == whole[start : start + length]
    wanted = whole[start : start + length]
    copy = bytearray(len(wanted))
    ranges.copy_in(start, memoryview(copy))
    assert copy == wanted
    parts = [bytearray(n) for n in lengths]
    target = Ranges([flat(one, writable=True) for one in parts])
    target.copy_out(start, memoryview(wanted))
    filled = b"".join(parts)
    assert filled[start : start + length] == wanted
    assert not any(filled[:start]) or start > len(whole)


# ---- the region ----


@settings(deadline=None, database=None, derandomize=True)
@given(
    queues=st.integers(1, wire.QUEUES_MAX),
    depth=st.integers(wire.DEPTH_MIN, wire.DEPTH_MAX),
    pages=st.integers(1, 1000),
)
def test_plan_keeps_its_parts_apart(queues: int, depth: int, pages: int) -> None:
    plan = region.plan(queues, depth, pages * 4096)
    assert plan["entries"] & (plan["entries"] - 1) == 0
    assert depth <= plan["entries"] < 2 * depth or depth == plan["entries"] == 1
    assert plan["queues_offset"] >= plan["header_bytes"]
    assert plan["cqes_offset"] == plan["sqes_offset"] + plan["entries"] * wire.sizeof("sqe")
    end = plan["cqes_offset"] + plan["entries"] * wire.sizeof("cqe")
    assert end <= plan["queue_stride_bytes"] < end + 4096
    assert plan["arena_offset"] % 4096 == 0
    assert plan["region_bytes"] == plan["arena_offset"] + pages * 4096


def test_region_that_could_shrink_is_refused(tmp_path: Path) -> None:
    fd = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 65536)
    with pytest.raises(region.BadRegion, match="shrink"):
        region.attach(fd, 65536)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# ---- names (section 3) ----


@pytest.mark.parametrize("name", ["v", "a/b/c", "..a", "a..", "ä" * 127, "a b", "x" * 254])
def test_good_names(name: str) -> None:
    names.check_volume(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        ("/a", "starts"),
        ("a/", "empty component"),
        ("a//b", "empty component"),
        ("a/../b", "component"),
        (".", "component"),
        (".openvstorage/x", "reserved"),
        ("a\x1fb", "control"),
        ("a\x7f", "control"),
        ("ä" * 128, "longer than 254"),
    ],
)
def test_bad_names(name: str, words: str) -> None:
    for check in (names.check_volume, names.check_snapshot):
        with pytest.raises(OSError, match=words):
            check(name)


def test_snapshots_have_no_directories() -> None:
    with pytest.raises(OSError, match='"/"'):
        names.check_snapshot("a/b")
