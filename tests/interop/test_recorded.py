# SPDX-License-Identifier: MIT
"""The bytes of live sessions: each client on each server, recorded, against the rules of the text.

A tour of all messages and ops is made through a recorder.  Every packet and entry must be what
docs/PROTOCOL.md says; what one client sends and one server answers is what all the others do, but
for the fields that are a side's own (names of programs, ids, places in the arena, times, counters).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
import wire

from interop.client import Connection, Event
from interop.conftest import MIB, Running, refused
from interop.pairs import Pair, pairs
from interop.recorder import Packet, Recorder, Region
from shmclient.reference import region, tables

DEPTH = 64
SHARED = [b"one" * 100, b"two" * 200, b"three" * 10]  # 930 bytes and a bit, in three places
NEEDS = {"describe", "ranges", "events", "set_mode", "shared", "sessions", "depth", "fua"}
TRAITS = {"complete"}
pytestmark = [pytest.mark.needs(*NEEDS), pytest.mark.servers(*TRAITS)]
FIRST = pairs(NEEDS, TRAITS)[0]  # the one that the others are compared with
NAME = "recorded/{}"  # of the volume of a client


def tour(connection: Connection, name: str) -> None:
    """Every message and op once, in an order that leaves each entry a slot of its own."""
    connection.create(name, MIB)
    connection.create(name + "-gone", 512)
    connection.remove(name + "-gone")
    with refused(errno.EEXIST):
        connection.create(name, MIB)
    connection.stat(name)
    connection.list()
    connection.snapshot_create(name, "monday", -1)
    connection.snapshot_is_synced(name, "monday")
    connection.snapshots(name)
    connection.snapshot_rollback(name, "monday")
    connection.snapshot_remove(name, "monday")
    connection.status()
    with connection.open(name, writable=True, depth=DEPTH) as volume:
        volume.write(b"w" * 4096, 4096, fua=True)
        volume.read(4096, 4096)
        volume.read(4096, MIB - 512)
        volume.flush()
        volume.discard(8192, 65536)
        volume.write_zeroes(512, 4096, may_unmap=True)
        volume.write_zeroes(512, 4608, may_unmap=False, fua=True)
        volume.block_status(65536, 0)
        with refused(errno.EFBIG):
            volume.write(b"e" * 512, MIB)
        connection.sessions()
        connection.resize(name, 2 * MIB)
        assert volume.next_event() == Event("resized", 2 * MIB)
        volume.write_shared(SHARED, 8192)
        volume.set_writable(False)


class Session(NamedTuple):
    packets: list[Packet]
    region: Region


@pytest.fixture(scope="module")
def sessions(running) -> Iterator[Any]:
    """sessions(pair): the recorded tour of that pair."""
    with ExitStack() as stack:
        made: dict[Pair, Session] = {}

        def record(pair: Pair) -> Session:
            if pair not in made:
                server: Running = running(pair.server_name)
                path = f"{server.socket}-{pair.client_name}"
                recorder = stack.enter_context(Recorder(path, server.socket))
                stack.callback(os.unlink, path)
                with pair.client.connect(path) as connection:
                    tour(connection, NAME.format(pair.client_name))
                (only,) = recorder.regions
                made[pair] = Session(recorder.packets, only)
            return made[pair]

        yield record


@pytest.fixture
def session(pair: Pair, sessions: Any) -> Session:
    return sessions(pair)


# ---- decoding ----


def fields_of(struct: str, data: bytes) -> dict[str, Any]:
    """Members as numbers and bytes; reserved ones must be 0, text must end and be clean after."""
    value = wire.unpack(struct, data)
    found: dict[str, Any] = {}
    for field in wire.STRUCTS["ovsshm_" + struct].fields:
        raw = bytes(data[field.offset : field.offset + field.size])
        if field.name.startswith(("resv", "pad")):
            assert not any(raw), f"{struct}.{field.name} is not 0"
            continue
        member = getattr(value, field.name)
        if isinstance(member, int):
            found[field.name] = member
        elif field.size in (wire.NAME_BYTES, wire.IDENT_BYTES) and "char" in str(member):
            text, nul, rest = raw.partition(b"\0")
            assert nul, f"{struct}.{field.name} does not end"
            assert not any(rest), f"{struct}.{field.name} has something after its end"
            found[field.name] = text.decode()
        else:
            found[field.name] = raw
    return found


def structs_of(name: str, packet: Packet) -> list[tuple[str, dict[str, Any]]]:
    """The payload as section 4 describes it, to its last byte."""
    message = tables.MESSAGES[name]
    if not packet.from_client and packet.head.status < 0:
        parts = ["msg_reason"]
    elif name == "EVENT" or packet.from_client:
        parts = [message.request] if message.request else []
    else:
        parts = [message.reply] if message.reply else []
    data = packet.payload
    found = []
    for part in parts:
        found.append((part, fields_of(part, data[: wire.sizeof(part)])))
        data = data[wire.sizeof(part) :]
    if found and found[0][0] == "msg_list_reply":
        assert message.element
        step = wire.sizeof(message.element)
        assert len(data) == found[0][1]["count"] * step
        while data:
            found.append((message.element, fields_of(message.element, data[:step])))
            data = data[step:]
    assert data == b"", f"{len(data)} bytes beyond {parts}"
    return found


def name_of(packet: Packet) -> str:
    return tables.MESSAGE_NAMES[packet.head.type]


# ---- the rules ----


def test_every_packet_is_a_message_of_section_4(session: Session) -> None:
    for packet in session.packets:
        head = packet.head
        assert head.magic == wire.MAGIC
        assert head.payload_bytes == len(packet.payload)
        assert list(head.resv) == [0, 0, 0]
        structs_of(name_of(packet), packet)
        if packet.from_client:
            assert (head.flags, head.status, packet.fd_count) == (0, 0, 0)
        elif name_of(packet) == "EVENT":
            assert (head.flags, head.id, head.status, packet.fd_count) == (0, 0, 0, 0)
        else:
            assert head.flags == wire.MSG_REPLY
            assert -4095 <= head.status <= 0
            has_fds = name_of(packet) == "OPEN" and head.status == 0
            assert packet.fd_count == (3 if has_fds else 0)


def test_every_request_has_one_reply_with_its_type_and_id(session: Session) -> None:
    connections = {packet.connection for packet in session.packets}
    for connection in connections:
        packets = [
            packet
            for packet in session.packets
            if packet.connection == connection and name_of(packet) != "EVENT"
        ]
        assert name_of(packets[0]) == "HELLO"
        for request, reply in zip(packets[::2], packets[1::2], strict=True):
            assert (request.from_client, reply.from_client) == (True, False)
            assert (request.head.type, request.head.id) == (reply.head.type, reply.head.id)


def test_the_tour_is_of_all_messages(session: Session) -> None:
    assert {name_of(packet) for packet in session.packets} == set(tables.MESSAGES)


def test_the_region_is_that_of_section_5(session: Session) -> None:
    (opened,) = [packet for packet in session.packets if packet.fd_count]
    (asked,) = [
        structs_of("OPEN", packet)[0][1]
        for packet in session.packets
        if packet.from_client and name_of(packet) == "OPEN"
    ]
    (reply,) = structs_of("OPEN", opened)
    header = fields_of("region_header", session.region.map[:])
    expected = region.plan(asked["queues"], asked["depth"], asked["arena_bytes"])
    expected |= {"features": tables.FEATURES, "block_bytes": reply[1]["block_bytes"]}
    assert header == expected | {"volume_bytes": 2 * MIB}
    assert session.region.seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert all(flags & os.O_NONBLOCK for flags in session.region.doorbell_flags)


# ---- the entries ----

# op, offset, length, flags besides SEGMENTS, result
TOUR_OF_OPS = [
    ("write", 4096, 4096, "FUA", 4096),
    ("read", 4096, 4096, "", 4096),
    ("read", MIB - 512, 4096, "", 512),
    ("flush", 0, 0, "", 0),
    ("discard", 65536, 8192, "", 0),
    ("write-zeroes", 4096, 512, "MAY_UNMAP", 0),
    ("write-zeroes", 4608, 512, "FUA", 0),
    ("block-status", 0, 65536, "", None),
    ("write", MIB, 512, "", -errno.EFBIG),
    ("write", 8192, sum(map(len, SHARED)), "", sum(map(len, SHARED))),
]


def test_every_entry_is_what_was_asked_for(session: Session) -> None:
    """Section 8: op, range and flags; members that an op does not use are 0."""
    words = session.region.words()
    entries = session.region.entries("sqe", words.sq_tail)
    results = {cqe.user_data: cqe for cqe in session.region.entries("cqe", words.cq_tail)}
    assert words.sq_tail == words.sq_head == words.cq_tail == words.cq_head == len(TOUR_OF_OPS)
    assert len(results) == len(entries)
    for entry, (name, offset, length, flag, result) in zip(entries, TOUR_OF_OPS, strict=True):
        op = tables.OPS[name]
        assert (entry.op, entry.offset_bytes, entry.length_bytes) == (op.op, offset, length)
        expected = tables.flag_bits((flag,)) if flag else 0
        assert entry.flags & ~wire.SQE_SEGMENTS == expected
        assert entry.region == wire.REGION_ARENA
        assert list(entry.resv) == [0, 0, 0]
        assert results[entry.user_data].resv == 0
        if result is not None:
            assert results[entry.user_data].result == result
        check_memory(session.region, entry, op, results[entry.user_data].result)


def check_memory(region: Region, entry: Any, op: tables.Op, result: int) -> None:
    arena_bytes = region.header.arena_bytes
    if op.memory is tables.Memory.EXTENTS:
        assert entry.buffer_bytes >= wire.sizeof("extent")
        assert entry.buffer_offset + entry.buffer_bytes <= arena_bytes
        assert 1 <= result <= entry.buffer_bytes // wire.sizeof("extent")
    else:
        assert entry.buffer_bytes == 0
    if entry.flags & wire.SQE_SEGMENTS:
        segments_of(region, entry)
    else:
        assert entry.segment_count == 0
        if op.memory is tables.Memory.DATA:
            assert entry.buffer_offset + entry.length_bytes <= arena_bytes
        elif op.memory is tables.Memory.NONE:
            assert entry.buffer_offset == 0


def segments_of(region: Region, entry: Any) -> list[Any]:
    """Section 8.8; the list is in the arena still, as nothing came after it."""
    size = wire.sizeof("segment")
    data = region.arena(entry.buffer_offset, entry.segment_count * size)
    assert len(data) == entry.segment_count * size
    found = [
        wire.unpack("segment", data[at : at + size])
        for at in range(0, entry.segment_count * size, size)
    ]
    assert 1 <= entry.segment_count <= wire.SEGMENTS_MAX
    assert sum(segment.length_bytes for segment in found) == entry.length_bytes
    for segment in found:
        assert (segment.region, segment.resv) == (wire.REGION_ARENA, 0)
        assert segment.buffer_offset + segment.length_bytes <= region.header.arena_bytes
    return found


def test_buffers_in_the_arena_travel_as_segments(session: Session) -> None:
    entry = session.region.entries("sqe", len(TOUR_OF_OPS))[-1]
    assert entry.flags == wire.SQE_SEGMENTS
    segments = segments_of(session.region, entry)
    data = [
        session.region.arena(segment.buffer_offset, segment.length_bytes) for segment in segments
    ]
    assert data == SHARED


# ---- one as the others ----

OWN = {  # members that are a side's own, by struct
    "msg_hello": {"client"},
    "msg_hello_reply": {"server", "store"},
    "msg_reason": {"reason"},
    "msg_event": {"reason"},
    "volume_info": {"allocated_bytes"},
    "snapshot_info": {"allocated_bytes", "created_ns"},
    "msg_sessions": {"after"},
}
COUNTS = {"LIST", "SNAPSHOT_LIST", "SESSIONS"}  # how often to ask is a client's own


def said(session: Session, client_name: str, *, from_client: bool) -> dict[int, list[Any]]:
    """What one side said on each connection, in order, without what is its own."""
    all_said: dict[int, list[Any]] = {}
    for packet in session.packets:
        name = name_of(packet)
        if packet.from_client != from_client or name == "STATUS":
            continue
        found = all_said.setdefault(packet.connection, [])
        if name in COUNTS:
            found += [name] if found[-1] != name else []
            continue
        structs = [
            (struct, comparable(struct, fields, client_name))
            for struct, fields in structs_of(name, packet)
        ]
        found.append((name, packet.head.status, structs))
    return all_said


def comparable(struct: str, fields: dict[str, Any], client_name: str) -> dict[str, Any]:
    """Without a side's own members; volumes are called after the client that made them."""
    return {
        key: value.replace(NAME.format(client_name), "name") if isinstance(value, str) else value
        for key, value in fields.items()
        if key not in OWN.get(struct, ())
    }


def test_all_clients_send_the_same(pair: Pair, session: Session, sessions: Any) -> None:
    first = said(sessions(FIRST), FIRST.client_name, from_client=True)
    assert said(session, pair.client_name, from_client=True) == first


def test_all_servers_answer_the_same(pair: Pair, session: Session, sessions: Any) -> None:
    first = said(sessions(FIRST), FIRST.client_name, from_client=False)
    assert said(session, pair.client_name, from_client=False) == first
