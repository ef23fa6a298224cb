# SPDX-License-Identifier: MIT
"""The golden messages and entries as Python packs them; samples.c says the same in C.

A version bump rewrites the files:  python tests/golden/samples.py
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import wire

HERE = Path(__file__).resolve().parent


def messages() -> dict[str, bytes]:
    hello = wire.pack(
        "msg_hello",
        version_min=wire.VERSION,
        version_max=wire.VERSION,
        features=wire.FEATURE_SEGMENTS | wire.FEATURE_EVENTS,
        client="golden",
    )
    hello_reply = wire.pack(
        "msg_hello_reply",
        version=wire.VERSION,
        queues_max=wire.QUEUES_MAX,
        features=wire.FEATURE_SEGMENTS,
        depth_max=wire.DEPTH_MAX,
        request_bytes_max=wire.REQUEST_BYTES_DEFAULT,
        range_bytes_max=wire.RANGE_BYTES_MAX,
        segments_max=wire.SEGMENTS_MAX,
        arena_bytes_max=256 << 20,
        capabilities=wire.CAP_WRITE | wire.CAP_DISCARD | wire.CAP_SNAPSHOT,
        server="golden server 1.0",
        store="memory",
    )
    create = wire.pack("msg_volume", name="dir/vol", size_bytes=10 << 30)
    snapshot = wire.pack("msg_snapshot", volume="dir/vol", snapshot="monday", timeout_s=-1)
    open_ = wire.pack(
        "msg_open", name="dir/vol", mode=wire.MODE_WRITE, queues=2, depth=100, arena_bytes=1 << 20
    )
    open_reply = wire.pack(
        "msg_open_reply",
        region_bytes=0x107000,
        size_bytes=10 << 30,
        block_bytes=512,
        queues=2,
        depth=100,
    )
    info = wire.pack(
        "volume_info",
        name="dir/vol",
        size_bytes=10 << 30,
        allocated_bytes=4096,
        block_bytes=512,
        writers=1,
        readers=2,
        snapshots=3,
    )
    snapshot_info = wire.pack(
        "snapshot_info",
        name="monday",
        size_bytes=10 << 30,
        allocated_bytes=4096,
        created_ns=1_700_000_000_000_000_001,
    )
    status = wire.pack(
        "status",
        uptime_ns=1,
        connections=2,
        sessions=3,
        reactors=4,
        pid=5,
        requests=6,
        errors=7,
        read_bytes=8,
        written_bytes=9,
        doorbells=10,
        sleeps=11,
        violations=12,
    )
    session = wire.pack(
        "session_info",
        id=(1 << 40) + 1,
        pid=2,
        uid=3,
        client="golden",
        volume="dir/vol",
        mode=wire.MODE_WRITE,
        queues=4,
        in_flight=5,
        uptime_ns=6,
        reads=7,
        writes=8,
        others=9,
        errors=10,
        read_bytes=11,
        written_bytes=12,
        latency_ns=13,
        latency_counts=[14, *[0] * (wire.LATENCY_BUCKETS - 2), 15],
        doorbells=16,
    )
    event = wire.pack("msg_event", event=wire.EVENT_ENDED, value=-71, reason="bad index")
    reply = wire.MSG_REPLY
    return {
        "hello": wire.message(wire.MSG_HELLO, hello, ident=1),
        "hello-reply": wire.message(wire.MSG_HELLO, hello_reply, ident=1, flags=reply),
        "create": wire.message(wire.MSG_CREATE, create, ident=2),
        "refused": wire.message(
            wire.MSG_CREATE,
            wire.pack("msg_reason", reason="volume dir/vol exists"),
            ident=2,
            flags=reply,
            status=-17,
        ),
        "list-reply": wire.message(
            wire.MSG_LIST,
            wire.pack("msg_list_reply", count=1, more=1) + info,
            ident=3,
            flags=reply,
        ),
        "snapshot-create": wire.message(wire.MSG_SNAPSHOT_CREATE, snapshot, ident=4),
        "snapshot-list-reply": wire.message(
            wire.MSG_SNAPSHOT_LIST,
            wire.pack("msg_list_reply", count=1) + snapshot_info,
            ident=5,
            flags=reply,
        ),
        "is-synced-reply": wire.message(
            wire.MSG_SNAPSHOT_IS_SYNCED,
            wire.pack("msg_synced_reply", synced=1),
            ident=6,
            flags=reply,
        ),
        "open": wire.message(wire.MSG_OPEN, open_, ident=7),
        "open-reply": wire.message(wire.MSG_OPEN, open_reply, ident=7, flags=reply),
        "set-mode": wire.message(
            wire.MSG_SET_MODE, wire.pack("msg_set_mode", mode=wire.MODE_READ), ident=8
        ),
        "status": wire.message(wire.MSG_STATUS, ident=9),
        "status-reply": wire.message(wire.MSG_STATUS, status, ident=9, flags=reply),
        "sessions": wire.message(
            wire.MSG_SESSIONS, wire.pack("msg_sessions", after=1 << 40), ident=10
        ),
        "sessions-reply": wire.message(
            wire.MSG_SESSIONS,
            wire.pack("msg_list_reply", count=1, more=1) + session,
            ident=10,
            flags=reply,
        ),
        "event": wire.message(wire.MSG_EVENT, event, ident=0),
    }


def entries() -> dict[str, bytes]:
    place = {"offset_bytes": 0x1122334455667000, "length_bytes": 0x10000}
    buffer = {"buffer_offset": 0x8899AABBCC}
    segments = wire.pack(
        "segment", buffer_offset=0x1000, length_bytes=0xF000, region=wire.REGION_ARENA
    ) + wire.pack("segment", buffer_offset=0x7FFF0, length_bytes=0x1000)
    return {
        "sqe-read": wire.pack("sqe", op=wire.OP_READ, user_data=1, **place, **buffer),
        "sqe-read-segments": wire.pack(
            "sqe",
            op=wire.OP_READ,
            flags=wire.SQE_SEGMENTS,
            region=wire.REGION_ARENA,
            segment_count=2,
            user_data=2,
            **place,
            **buffer,
        ),
        "segments": segments,
        "sqe-write-fua": wire.pack(
            "sqe", op=wire.OP_WRITE, flags=wire.SQE_FUA, user_data=3, **place, **buffer
        ),
        "sqe-flush": wire.pack("sqe", op=wire.OP_FLUSH, user_data=4),
        "sqe-discard": wire.pack("sqe", op=wire.OP_DISCARD, user_data=5, **place),
        "sqe-write-zeroes": wire.pack(
            "sqe", op=wire.OP_WRITE_ZEROES, flags=wire.SQE_MAY_UNMAP, user_data=6, **place
        ),
        "sqe-block-status": wire.pack(
            "sqe", op=wire.OP_BLOCK_STATUS, buffer_bytes=160, user_data=2**64 - 1, **place, **buffer
        ),
        "cqe": wire.pack("cqe", user_data=2**64 - 1, result=10),
        "cqe-error": wire.pack("cqe", user_data=3, result=-28),
        "extent": wire.pack(
            "extent", length_bytes=0x10000, flags=wire.EXTENT_HOLE | wire.EXTENT_ZERO
        ),
    }


def region_header() -> bytes:
    """What csrc/shared/region.c plans for the open message above (PROTOCOL.md, section 5)."""
    queue_stride_bytes = 512 + 128 * (64 + 16) + 1536  # up to a multiple of 4096
    return wire.pack(
        "region_header",
        magic=wire.REGION_MAGIC,
        version=wire.VERSION,
        header_bytes=192,
        features=wire.FEATURE_SEGMENTS,
        region_bytes=4096 + 2 * queue_stride_bytes + (1 << 20),
        queue_count=2,
        depth=100,
        entries=128,
        block_bytes=512,
        queues_offset=4096,
        queue_stride_bytes=queue_stride_bytes,
        sqes_offset=512,
        cqes_offset=512 + 128 * 64,
        arena_offset=4096 + 2 * queue_stride_bytes,
        arena_bytes=1 << 20,
        volume_bytes=10 << 30,
    )


def samples() -> dict[str, bytes]:
    return messages() | entries() | {"region-header": region_header()}


def dump(data: bytes) -> str:
    """Offset and 16 bytes a line; one `*` stands for lines that repeat the one above."""
    lines: list[str] = []
    last = b""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        if row != last or start + 16 >= len(data):
            lines.append(f"{start:06x}  {row.hex(' ')}")
        elif lines[-1] != "*":
            lines.append("*")
        last = row
    return "\n".join(lines) + "\n"


def write_all() -> None:
    for old in HERE.glob("*.hex"):
        old.unlink()
    for name, data in samples().items():
        (HERE / f"{name}.hex").write_text(dump(data))


if __name__ == "__main__":
    write_all()
