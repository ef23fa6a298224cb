# SPDX-License-Identifier: MIT
"""Clients that write anything anywhere at any time, and hundreds of sessions: nothing breaks.

Scribblers are processes of their own, so they write while the server reads.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import wire
from conftest import ServerProcess
from hostile import Attack, Stage, resident_bytes, running_stage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rawclient import Ended, RawClient, RawVolume

ROUNDS = 40
KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate(2)
GROWTH_BYTES_MAX = 4 << 20


@pytest.fixture(scope="module", params=["daemon", "asan", "asan-file", "reference"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with running_stage(request.param) as stage:
        yield stage


@contextmanager
def meanwhile(act: Callable[[random.Random], None]) -> Iterator[None]:
    """Runs act(random) again and again in a process that shares the mappings, until the end."""
    child = os.fork()
    if child == 0:
        source = random.Random(os.getpid())
        try:
            while True:
                act(source)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def submit_and_look(volume: RawVolume, **fields: Any) -> None:
    """Submits if there is room by what the ring says, which may be nonsense."""
    queue = volume.queue
    queue.push(wire.pack("sqe", **fields))
    queue.publish()
    queue.words.cq_head = queue.words.cq_tail


def attack_until_ended(volume: RawVolume, act: Callable[[], None]) -> None:
    """At most so often; the client may be thrown out before."""
    try:
        for _ in range(ROUNDS):
            act()
            volume.client.status()
    except (Ended, BrokenPipeError, ConnectionResetError):
        pass


# ---- scribbling ----


@pytest.mark.parametrize("part", ["everything", "rings", "words", "arena"])
def test_client_scribbles_over_its_region(stage: Stage, part: str) -> None:
    with stage.attack(violations=None) as attack:
        for seed in range(8):
            volume = attack.open(mode=wire.MODE_READ if seed % 2 else wire.MODE_WRITE, depth=64)
            first, last = {
                "everything": (0, volume.header.region_bytes),
                "rings": (4096, volume.arena_offset),
                "words": (4096, 4096 + 512),
                "arena": (volume.arena_offset, volume.header.region_bytes),
            }[part]

            def scribble(
                source: random.Random, volume: RawVolume = volume, a: int = first, b: int = last
            ) -> None:
                start = source.randrange(a, b)
                data = source.randbytes(min(source.choice([1, 4, 16, 64, 4096]), b - start))
                volume.map[start : start + len(data)] = data

            def submit(volume: RawVolume = volume) -> None:
                submit_and_look(volume, op=wire.OP_READ, length_bytes=65536)

            with meanwhile(scribble):
                attack_until_ended(volume, submit)
            volume.client.close()


def test_client_changes_segments_while_they_are_read(stage: Stage) -> None:
    good = wire.pack("segment", buffer_offset=0, length_bytes=512)
    bad = [
        wire.pack("segment", buffer_offset=2**64 - 256, length_bytes=512),
        wire.pack("segment", buffer_offset=0, length_bytes=2**32 - 1),
        wire.pack("segment", buffer_offset=0, length_bytes=512, region=7),
        wire.pack("segment", buffer_offset=1 << 40, length_bytes=512),
    ]
    with stage.attack(violations=None) as attack:
        for number in range(12):
            volume = attack.open(depth=64)
            volume.put(65536, good * 1024)

            def flip(source: random.Random, volume: RawVolume = volume, n: int = number) -> None:
                at = 65536 + 16 * source.randrange(1024)
                volume.put(at, bad[n % 4])
                volume.put(at, good)

            def submit(volume: RawVolume = volume) -> None:
                for _ in range(16):
                    submit_and_look(
                        volume,
                        op=wire.OP_READ,
                        flags=wire.SQE_SEGMENTS,
                        buffer_offset=65536,
                        segment_count=1024,
                        length_bytes=512 * 1024,
                    )

            with meanwhile(flip):
                attack_until_ended(volume, submit)
            volume.client.close()


def test_client_changes_entries_while_they_are_read(stage: Stage) -> None:
    good = wire.pack("sqe", op=wire.OP_WRITE, length_bytes=4096)
    bad = wire.pack("sqe", op=wire.OP_WRITE, length_bytes=4096, buffer_offset=2**64 - 4096)
    with stage.attack(violations=None) as attack:
        for _ in range(12):
            volume = attack.open(depth=64)
            sqes = volume.header.queues_offset + volume.header.sqes_offset

            def flip(source: random.Random, volume: RawVolume = volume, sqes: int = sqes) -> None:
                at = sqes + 64 * source.randrange(64)
                volume.map[at : at + 64] = bad
                volume.map[at : at + 64] = good

            def submit(volume: RawVolume = volume) -> None:
                for _ in range(16):
                    submit_and_look(volume, op=wire.OP_WRITE, length_bytes=4096)

            with meanwhile(flip):
                attack_until_ended(volume, submit)
            volume.client.close()


def test_client_punches_holes_into_its_region(stage: Stage) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    with stage.attack(violations=None) as attack:
        volume = attack.open(depth=64)

        def punch(source: random.Random) -> None:
            start = source.randrange(volume.header.region_bytes // 4096) * 4096
            assert libc.fallocate(volume.fds[0], PUNCH_HOLE | KEEP_SIZE, start, 4096) == 0

        def submit() -> None:
            submit_and_look(volume, op=wire.OP_WRITE, length_bytes=65536)

        with meanwhile(punch):
            attack_until_ended(volume, submit)


# ---- Hypothesis: entries from anywhere between good and impossible ----

EDGES = [0, 1, 2, 15, 16, 511, 512, 4095, 4096, 65536, 2**20 - 1, 2**20, 2**20 + 1, 2**30, 2**31]


def numbers(bits: int) -> st.SearchStrategy[int]:
    top = 2**bits
    edges = [n for n in [*EDGES, 2**32, 2**63 - 512, 2**63] if n < top]
    return st.one_of(st.sampled_from(edges + [top - 1 - n for n in edges]), st.integers(0, top - 1))


def mostly(value: int, bits: int) -> st.SearchStrategy[int]:
    return st.one_of(st.just(value), st.just(value), st.just(value), numbers(bits))


ENTRY = st.fixed_dictionaries(
    {
        "op": mostly(wire.OP_READ, 8) | st.integers(1, 6),
        "flags": st.sampled_from([0, 0, 0, 1, 2, 4, 4, 5]) | numbers(8),
        "region": mostly(0, 16),
        "length_bytes": numbers(32) | st.sampled_from([0, 512, 4096]),
        "offset_bytes": numbers(64) | st.sampled_from([0, 512]),
        "buffer_offset": numbers(64) | st.sampled_from([0, 4096]),
        "user_data": numbers(64),
        "buffer_bytes": mostly(0, 32),
        "segment_count": st.sampled_from([0, 0, 1, 2, 1024]) | numbers(32),
        "resv": st.sampled_from([[0, 0, 0]] * 8 + [[1, 0, 0]]),
    }
)
SEGMENT = st.fixed_dictionaries(
    {
        "buffer_offset": numbers(64),
        "length_bytes": numbers(32),
        "region": mostly(0, 16),
        "resv": mostly(0, 16),
    }
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(entries=st.lists(ENTRY, min_size=1, max_size=6), segments=st.lists(SEGMENT, max_size=4))
def test_any_entries_are_served_or_refused(
    stage: Stage, entries: list[dict[str, Any]], segments: list[dict[str, Any]]
) -> None:
    with stage.attack(violations=None) as attack:
        volume = attack.open(mode=wire.MODE_WRITE, depth=16)
        listing = b"".join(wire.pack("segment", **fields) for fields in segments)
        volume.put(0, listing)
        volume.put(4096, listing)
        for fields in entries:
            volume.queue.push(wire.pack("sqe", **fields))
        volume.queue.publish()
        try:
            done = volume.queue.wait(len(entries))
        except Ended:
            return
        assert sorted(c.user_data for c in done) == sorted(e["user_data"] for e in entries)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(words=st.lists(st.tuples(st.integers(0, 127), numbers(32)), min_size=1, max_size=20))
def test_any_ring_words_are_survived(stage: Stage, words: list[tuple[int, int]]) -> None:
    with stage.attack(violations=None) as attack:
        volume = attack.open(depth=16)
        shared = wire.ffi.cast("uint32_t *", volume.queue.words)
        for index, value in words:
            shared[index] = value
            volume.queue.ring()
        try:
            volume.client.status()
        except (Ended, BrokenPipeError, ConnectionResetError):
            return


# ---- growth ----


def one_session(attack: Attack, number: int) -> None:
    volume = attack.open(queues=4, depth=256, mode=wire.MODE_WRITE)
    for queue in volume.queues:
        queue.submit(op=wire.OP_READ, length_bytes=65536)
        queue.submit(op=wire.OP_BLOCK_STATUS, length_bytes=65536, buffer_bytes=16384)
    volume.put(1 << 19, wire.pack("segment", length_bytes=512) * 64)
    volume.queue.submit(
        op=wire.OP_READ,
        flags=wire.SQE_SEGMENTS,
        buffer_offset=1 << 19,
        segment_count=64,
        length_bytes=64 * 512,
    )
    if number % 3 == 0:
        volume.queue.submit(op=99)
        volume.client.wait_ended()
    elif number % 3 == 1:
        volume.queue.wait(3)
    volume.client.close()


def test_sessions_do_not_grow_the_server(stage: Stage) -> None:
    def sessions(count: int) -> None:
        with stage.attack(violations=None) as attack:
            for number in range(count):
                one_session(attack, number)

    sessions(100)
    before = resident_bytes(stage.server.pid)
    sessions(300)
    grown = resident_bytes(stage.server.pid) - before
    if "bare_server" in stage.server.process.args[0]:
        return  # ASan keeps freed memory for a while on purpose; its leak check comes at the end
    assert grown < GROWTH_BYTES_MAX


@pytest.mark.parametrize("lists", ["extents", "segments"])
def test_lists_in_flight_cost_bounded_memory(
    lists: str, server: Callable[..., ServerProcess]
) -> None:
    """The store never answers, so everything that is taken stays in flight."""
    options = ["inner=memory", "never-op=block-status,read"]
    process = server("--store", "fault", *(f"--store-option={option}" for option in options))
    with RawClient(process.socket) as client:
        client.create("target", 1 << 20)
        before = resident_bytes(process.pid)
        volume = client.open("target", queues=8, depth=4096)
        volume.put(0, wire.pack("segment", length_bytes=16) * 1024)
        entry = {
            "extents": wire.pack(
                "sqe", op=wire.OP_BLOCK_STATUS, length_bytes=512, buffer_bytes=16384
            ),
            "segments": wire.pack(
                "sqe",
                op=wire.OP_READ,
                flags=wire.SQE_SEGMENTS,
                segment_count=1024,
                length_bytes=16384,
            ),
        }[lists]
        for queue in volume.queues:
            for _ in range(4096):
                queue.push(entry)
            queue.publish()
        for queue in volume.queues:
            while queue.words.sq_head < 16:  # it takes no more than these
                client.status()
        assert resident_bytes(process.pid) - before < GROWTH_BYTES_MAX
    process.kill()
