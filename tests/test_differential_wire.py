# SPDX-License-Identifier: MIT
"""Both servers judge the same bytes alike: messages and entries, right but for a member or two.

Method: a bare client sends each case to the C server and to the reference server, on stores that
hold the same; what they answer, refuse, or end must be equal.  The same cases in every run;
OVS_DIFFERENTIAL_EXAMPLES=20000 for a long night, at random.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from interop.conftest import Running
from interop.servers import DEPTH_MAX, REQUEST_BYTES_MAX
from rawclient import Ended, RawClient, RawVolume, Refused
from test_differential import profile

from shmclient.reference import tables

VOLUME_BYTES = 1 << 20
ARENA_BYTES = 1 << 17
LIST_OFFSET = 1 << 16  # of segment lists in the arena
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
CASES = 250


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


# ---- messages ----

NAMES = [
    b"v",
    b"v",
    b"new",
    b"dir/new",
    b"none",
    b"",
    b"/v",
    b"v/",
    b"a\nb",
    b"a\x7fb",
    b"\xff\xfe",
    b"..",
    b".openvstorage",
    b"n" * 254,
    b"n" * 255,
    b"n" * 256,
    b"v\0x",
]
SNAPSHOTS = [b"s", b"s", b"none", b"", b"a/b", b"n" * 256]
NUMBERS: dict[str, list[int]] = {
    "size_bytes": [0, 512, VOLUME_BYTES, 2 * VOLUME_BYTES, 1000, 1 << 63, U64],
    "mode": [1, 2, 2, 0, 3, U32],
    "queues": [1, 2, 0, 64, 65, U32],
    "depth": [1, 7, DEPTH_MAX, 0, DEPTH_MAX + 1, U32],
    "arena_bytes": [4096, 8192, 0, 1, 4097, 1 << 28, (1 << 28) + 4096, 1 << 40, U64],
    "version_min": [1, 1, 0, 2, U32],
    "version_max": [1, 1, 0, 2, U32],
    "features": [0, 1, 3, 7, U64],
    "timeout_s": [0, -1, 1, -(1 << 63), (1 << 63) - 1],
    "after": [0, 0, 1, U64],
    "event": [1],
    "value": [0],
}
TEXT = {"name": NAMES, "volume": NAMES, "snapshot": SNAPSHOTS, "client": [b"c", b"", b"c" * 64]}
TEXT["reason"] = [b""]


def fields_of(struct: str) -> st.SearchStrategy[dict[str, Any]]:
    """Each member from its list; reserved ones nearly always 0."""
    members: dict[str, st.SearchStrategy[Any]] = {}
    for field in wire.STRUCTS["ovsshm_" + struct].fields:
        if field.name.startswith("resv"):
            members[field.name] = one_of(*[0] * 15, 1)
        elif field.name in TEXT:
            members[field.name] = one_of(*TEXT[field.name])
        else:
            members[field.name] = one_of(*NUMBERS[field.name])
    return st.fixed_dictionaries(members)


def packed(struct: str | None, fields: dict[str, Any]) -> bytes:
    """Text may fill its field, or have something after its end."""
    if struct is None:
        return b""
    data = bytearray(wire.pack(struct, **{k: v for k, v in fields.items() if isinstance(v, int)}))
    for field in wire.STRUCTS["ovsshm_" + struct].fields:
        value = fields.get(field.name)
        if isinstance(value, bytes):
            value = value[: field.size]
            data[field.offset : field.offset + len(value)] = value
    return bytes(data)


class Control(NamedTuple):
    """A packet, and how many descriptors go with it."""

    state: str
    packet: bytes
    fds: int


@st.composite
def controls(draw: Callable[..., Any]) -> Control:
    name = draw(one_of(*tables.MESSAGES))
    kind = draw(one_of(*[tables.MESSAGES[name].type] * 12, 0, 37, 50, 51, 52, 65535))
    struct = tables.MESSAGES[name].request
    payload = packed(struct, draw(fields_of(struct)) if struct else {})
    payload = draw(one_of(*[payload] * 12, payload[:-1], payload + b"\0", b"", payload * 2))
    spoiled = draw(one_of(*[{}] * 12, {"flags": 1}, {"flags": 2}, {"status": -1}, {"status": 1}))
    spoiled |= draw(one_of(*[{}] * 12, {"resv": [0, 0, 1]}, {"magic": 0}, {"payload_bytes": 1}))
    packet = wire.message(kind, payload, ident=draw(one_of(1, 0, U32)), **spoiled)
    packet = draw(one_of(*[packet] * 12, packet[:31], packet[:4], packet + b"\0" * 8))
    state = draw(one_of("new", "ready", "ready", "open", "open"))
    return Control(state, packet, draw(one_of(*[0] * 12, 1)))


# After these the server closes, and a question would only disturb that.
LAST_WORDS = {-errno.EPROTO, -errno.EPROTONOSUPPORT}


def seen(client: RawClient) -> tuple[int, ...]:
    """The next message: its header, how long it is, and what an event says."""
    message = client.receive()
    for fd in message.fds:
        os.close(fd)
    event = message.type == wire.MSG_EVENT
    value = wire.unpack("msg_event", message.payload).value if event else 0
    # Of a name too long and a bad number, either may be what is refused.
    status = -errno.EINVAL if message.status == -errno.ENAMETOOLONG else message.status
    return *message[:3], status, len(message.payload), len(message.fds), value


class Side:
    """A server that is put back to one volume, "v" with snapshot "s", before each case."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self.socket = Running(name, stack).socket
        self.manager = stack.enter_context(RawClient(self.socket))

    def reset(self) -> None:
        for name in ("v", "new", "dir/new", "n" * 254, "\udcff\udcfe"):
            with suppress(Refused):
                self.manager.remove(name)
        self.manager.create("v", VOLUME_BYTES)
        with suppress(Refused):  # a store without snapshots
            payload = wire.pack("msg_snapshot", volume="v", snapshot="s")
            self.manager.call(wire.MSG_SNAPSHOT_CREATE, payload)

    def control(self, case: Control) -> list[Any]:
        """What the server says to the packet, and to a question after it if it goes on."""
        self.reset()
        said: list[Any] = []
        with RawClient(self.socket, hello=case.state != "new") as client:
            if case.state == "open":
                client.open("v", arena_bytes=4096)
            with ExitStack() as stack:
                pipes = os.pipe() if case.fds else ()
                for fd in pipes:
                    stack.callback(os.close, fd)
                client.send(case.packet, pipes[: case.fds])
            with suppress(Ended):
                while not said or said[-1][0] == wire.MSG_EVENT or said[-1][3] in LAST_WORDS:
                    said.append(seen(client))
                client.send(wire.message(wire.MSG_STATUS, ident=0xFEED))
                while said[-1][2] != 0xFEED:
                    said.append(seen(client))
                return said
        return [*said, "ended"]

    def entries(self, case: Case) -> list[Any]:
        """The result of each entry, alone in the ring; or that it has ended the session."""
        self.reset()
        said: list[Any] = []
        with RawClient(self.socket) as client:
            mode = wire.MODE_WRITE if case.writable else wire.MODE_READ
            volume = client.open("v", mode=mode, arena_bytes=ARENA_BYTES)
            volume.put(0, bytes(range(256)) * (LIST_OFFSET // 256))
            for entry, segments in case.entries:
                volume.put(LIST_OFFSET, segments)
                volume.queue.push(entry)
                volume.queue.publish()
                try:
                    (done,) = volume.queue.wait()
                except Ended:
                    return [*said, *((event.event, event.value) for event in client.events)]
                said.append(answer_of(volume, entry, done))
                if entry[0] == wire.OP_DISCARD:  # it reads as zeroes or as before
                    volume.queue.run(op=wire.OP_WRITE_ZEROES, length_bytes=VOLUME_BYTES)
        return said


def answer_of(volume: RawVolume, data: bytes, done: Any) -> Any:
    """Result and data; how many extents there are is a store's own."""
    entry = wire.unpack("sqe", data)
    assert done.user_data == entry.user_data
    if entry.op == wire.OP_BLOCK_STATUS and done.result > 0:
        return "extents"
    if entry.op == wire.OP_READ and done.result > 0 and not entry.flags:
        return done.result, volume.get(entry.buffer_offset, done.result)
    return done.result


# ---- entries ----


class Case(NamedTuple):
    writable: bool
    entries: list[tuple[bytes, bytes]]  # each with the segment list that is in the arena then


LENGTHS = [0, 1, 511, 512, 513, 4096, 65536, REQUEST_BYTES_MAX + 1, 1 << 30, (1 << 30) + 1, U32]
OFFSETS = [0, 1, 512, 4096, VOLUME_BYTES - 512, VOLUME_BYTES - 1, VOLUME_BYTES]
OFFSETS += [VOLUME_BYTES + 512, 1 << 40, (1 << 63) - 512, 1 << 63, U64 - 511, U64]
PLACES = [0, 1, 7, 512, ARENA_BYTES - 512, ARENA_BYTES - 1, ARENA_BYTES, 1 << 40, U64]
SPOILED: dict[str, list[Any]] = {
    "op": [0, 1, 2, 3, 4, 5, 6, 7, 255],
    "flags": [0, 1, 2, 3, 4, 5, 7, 8, 255],
    "region": [1, 65535],
    "length_bytes": LENGTHS,
    "offset_bytes": OFFSETS,
    "buffer_offset": PLACES,
    "user_data": [0, U64],
    "buffer_bytes": [0, 1, 15, 16, 17, 160, ARENA_BYTES, ARENA_BYTES + 16, U32],
    "segment_count": [0, 1, 2, 3, 1024, 1025, U32],
    "resv": [[1, 0, 0], [0, 0, 1]],
}


def segment_lists(length: int) -> st.SearchStrategy[bytes]:
    """Parts that add up, but for one that may be wrong."""

    def build(cuts: list[int], wrong: dict[str, int]) -> bytes:
        places = [0, *sorted(cut for cut in cuts if cut <= length), length]
        parts = [
            {"buffer_offset": at * 3 % 8192, "length_bytes": end - at}
            for at, end in itertools.pairwise(places)
        ]
        parts[-1] |= wrong
        return b"".join(wire.pack("segment", **part) for part in parts)

    wrong = one_of(
        *[{}] * 6,
        {"length_bytes": 0},
        {"length_bytes": U32},
        {"buffer_offset": ARENA_BYTES},
        {"buffer_offset": U64},
        {"buffer_offset": ARENA_BYTES - 1},
        {"region": 1},
        {"resv": 1},
    )
    return st.builds(build, st.lists(st.integers(0, 8192), max_size=3), wrong)


@st.composite
def entries(draw: Callable[..., Any], number: int) -> tuple[bytes, bytes]:
    """An entry that is right for its op, then up to two members that may not be."""
    name = draw(one_of(*tables.OPS))
    op = tables.OPS[name]
    length = draw(one_of(512, 4096, 8192)) if op.limit else 0
    fields: dict[str, Any] = {"op": op.op, "user_data": number + 1, "length_bytes": length}
    segments = b""
    if op.limit:
        fields["offset_bytes"] = draw(one_of(0, 4096, VOLUME_BYTES - 512, VOLUME_BYTES))
    if op.memory is tables.Memory.EXTENTS:
        fields["buffer_bytes"] = draw(one_of(16, 160, 4096))
    if op.flags:
        fields["flags"] = tables.flag_bits(tuple(draw(st.sets(one_of(*op.flags)))))
        if fields["flags"] & wire.SQE_SEGMENTS:
            segments = draw(segment_lists(length))
            fields["segment_count"] = len(segments) // wire.sizeof("segment")
            fields["buffer_offset"] = LIST_OFFSET
    for member in draw(st.lists(one_of(*SPOILED), max_size=2, unique=True)):
        fields[member] = draw(one_of(*SPOILED[member]))
    return wire.pack("sqe", **fields), segments


def cases() -> st.SearchStrategy[Case]:
    some = st.integers(1, 3).flatmap(
        lambda count: st.tuples(*(entries(number) for number in range(count))).map(list)
    )
    return st.builds(Case, st.booleans(), some)


# ---- both ----

PAIRS = [("c-memory", "ref-memory"), ("py-full", "ref-full"), ("c-null", "ref-null")]


@pytest.fixture(scope="module", params=PAIRS, ids="-as-".join)
def sides(request: pytest.FixtureRequest) -> Iterator[list[Side]]:
    log = logging.getLogger("shmserver")
    with ExitStack() as stack:
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL)  # each case would be a warning
        yield [Side(name, stack) for name in request.param]


def compare(sides: list[Side], ask: Callable[[Side], list[Any]]) -> None:
    first, second = (ask(side) for side in sides)
    assert first == second


def test_servers_judge_messages_alike(sides: list[Side]) -> None:
    @profile(CASES)
    @given(controls())
    def check(case: Control) -> None:
        compare(sides, lambda side: side.control(case))

    check()


def test_servers_judge_entries_alike(sides: list[Side]) -> None:
    @profile(CASES)
    @given(cases())
    def check(case: Case) -> None:
        compare(sides, lambda side: side.entries(case))

    check()
