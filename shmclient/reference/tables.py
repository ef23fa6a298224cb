# SPDX-License-Identifier: MIT
"""The rules of docs/PROTOCOL.md as data; both sides act by these tables and have no rules beside.

Names are those of the document, numbers come from the wire header, `section` says where the text
is.  tests/test_reference_tables.py reads the document and compares, in both directions.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from shmclient.reference import wire

# ---- section 10: states of a session ----


class State(enum.Enum):
    NEW = "new"
    READY = "ready"
    OPEN = "open"
    DRAINING = "draining"
    ENDED = "ended"


class Input(enum.Enum):
    """Everything that can happen to a session."""

    HELLO = "hello, common version"
    HELLO_OF_ANOTHER_VERSION = "hello, no common version"
    MANAGE = "status, sessions, volume and snapshot messages"
    OPEN = "open, good"
    OPEN_WITHOUT_MODE = "open, no such mode"
    SET_MODE = "set mode"
    MALFORMED = "malformed message"
    UNKNOWN = "unknown message"
    ENTRIES = "entries in a ring"
    BROKEN_RING = "broken ring rule"
    CLOSED = "client closes the socket, or dies"
    STOPPING = "server begins to stop"
    DRAINED = "server's drain is over"


class Outcome(NamedTuple):
    """What the server does: "reply", "served", an errno, a violation, or nothing ("")."""

    action: str
    next: State | None = None  # None: the state stays
    section: str = ""


def outcome(cell: str) -> Outcome | None:
    """A cell as the document writes it: action and next state; "-" cannot happen."""
    if cell == "-":
        return None
    section = ""
    if cell.endswith(")"):
        cell, _, section = cell[:-1].rpartition(" (")
    states = {state.value: state for state in State}
    if cell in states:
        return Outcome("", states[cell], section)
    action, _, following = cell.partition("; ")
    return Outcome(action, states[following] if following else None, section)


_STATES = (State.NEW, State.READY, State.OPEN, State.DRAINING)
_CELLS = {
    Input.HELLO: ("reply; ready", "V3; ended", "V3; ended", "V3; ended"),
    Input.HELLO_OF_ANOTHER_VERSION: (
        "-EPROTONOSUPPORT; ended",
        "V3; ended",
        "V3; ended",
        "V3; ended",
    ),
    Input.MANAGE: ("V3; ended", "reply", "reply", "reply"),
    Input.OPEN: ("V3; ended", "reply; open", "-EINVAL", "-ESHUTDOWN"),
    Input.OPEN_WITHOUT_MODE: ("V3; ended", "-EINVAL", "-EINVAL", "-EINVAL"),
    Input.SET_MODE: ("V3; ended", "-EINVAL", "reply", "reply"),
    Input.MALFORMED: ("V6; ended", "V6; ended", "V6; ended", "V6; ended"),
    Input.UNKNOWN: ("V3; ended", "V4; ended", "V4; ended", "V4; ended"),
    Input.ENTRIES: ("-", "-", "served", "served"),
    Input.BROKEN_RING: ("-", "-", "V10; ended", "V10; ended"),
    Input.CLOSED: ("ended", "ended", "ended (12.1)", "ended"),
    Input.STOPPING: ("new", "draining", "draining", "-"),
    Input.DRAINED: ("-", "-", "-", "ended (12.3)"),
}
TRANSITIONS: dict[Input, dict[State, Outcome | None]] = {
    row: {state: outcome(cell) for state, cell in zip(_STATES, cells, strict=True)}
    for row, cells in _CELLS.items()
}

# ---- section 4: control messages ----


class Message(NamedTuple):
    """A type of message: its payloads by the names of their structs, without the prefix ovsshm_."""

    section: str
    type: int
    request: str | None
    reply: str | None
    element: str | None = None  # follows the reply, any number of times
    descriptors: bool = False  # come with the reply
    capability: str | None = None  # that the store needs, else EOPNOTSUPP
    feature: str | None = None  # that must be in force, else V4
    errors: tuple[str, ...] = ()  # that the section names


_VOLUME = ("EINVAL", "ENAMETOOLONG")
_SNAPSHOT = ("EBUSY", *_VOLUME)

MESSAGES: dict[str, Message] = {
    "HELLO": Message(
        "4.1",
        wire.MSG_HELLO,
        "msg_hello",
        "msg_hello_reply",
        errors=("EPROTONOSUPPORT", "EACCES", "EUSERS"),
    ),
    "STATUS": Message("4.2", wire.MSG_STATUS, None, "status"),
    "SESSIONS": Message(
        "4.7",
        wire.MSG_SESSIONS,
        "msg_sessions",
        "msg_list_reply",
        element="session_info",
        feature="FEATURE_SESSIONS",
    ),
    "CREATE": Message(
        "4.3",
        wire.MSG_CREATE,
        "msg_volume",
        None,
        capability="CAP_MANAGE",
        errors=("EEXIST", "ENOSPC", *_VOLUME),
    ),
    "REMOVE": Message(
        "4.3",
        wire.MSG_REMOVE,
        "msg_volume",
        None,
        capability="CAP_MANAGE",
        errors=("ENOENT", "EBUSY", *_VOLUME),
    ),
    "RESIZE": Message(
        "4.3",
        wire.MSG_RESIZE,
        "msg_volume",
        None,
        capability="CAP_RESIZE",
        errors=("ENOENT", "EPERM", *_VOLUME),
    ),
    "STAT": Message("4.3", wire.MSG_STAT, "msg_volume", "volume_info", errors=("ENOENT", *_VOLUME)),
    "LIST": Message(
        "4.3", wire.MSG_LIST, "msg_volume", "msg_list_reply", element="volume_info", errors=_VOLUME
    ),
    "SNAPSHOT_CREATE": Message(
        "4.4",
        wire.MSG_SNAPSHOT_CREATE,
        "msg_snapshot",
        None,
        capability="CAP_SNAPSHOT",
        errors=("ENOENT", "EEXIST", "ENOSPC", "ETIMEDOUT", *_SNAPSHOT),
    ),
    "SNAPSHOT_LIST": Message(
        "4.4",
        wire.MSG_SNAPSHOT_LIST,
        "msg_snapshot",
        "msg_list_reply",
        element="snapshot_info",
        capability="CAP_SNAPSHOT",
        errors=_VOLUME,
    ),
    "SNAPSHOT_ROLLBACK": Message(
        "4.4",
        wire.MSG_SNAPSHOT_ROLLBACK,
        "msg_snapshot",
        None,
        capability="CAP_SNAPSHOT",
        errors=("ENOENT", *_SNAPSHOT),
    ),
    "SNAPSHOT_REMOVE": Message(
        "4.4",
        wire.MSG_SNAPSHOT_REMOVE,
        "msg_snapshot",
        None,
        capability="CAP_SNAPSHOT",
        errors=("ENOENT", *_VOLUME),
    ),
    "SNAPSHOT_IS_SYNCED": Message(
        "4.4",
        wire.MSG_SNAPSHOT_IS_SYNCED,
        "msg_snapshot",
        "msg_synced_reply",
        capability="CAP_SNAPSHOT",
        errors=("ENOENT", *_VOLUME),
    ),
    "OPEN": Message(
        "4.5",
        wire.MSG_OPEN,
        "msg_open",
        "msg_open_reply",
        descriptors=True,
        errors=("ENOENT", "EBUSY", "EROFS", "EINVAL", "ENAMETOOLONG", "ESHUTDOWN", "ENOMEM"),
    ),
    "SET_MODE": Message(
        "4.5", wire.MSG_SET_MODE, "msg_set_mode", None, errors=("EBUSY", "EROFS", "EINVAL")
    ),
    "EVENT": Message("4.6", wire.MSG_EVENT, "msg_event", None),
}
SERVER_ONLY = frozenset({"EVENT"})
MESSAGE_NAMES = {message.type: name for name, message in MESSAGES.items()}

MODES = {"READ": wire.MODE_READ, "WRITE": wire.MODE_WRITE}  # section 4.5
EVENTS = {  # section 4.6
    "RESIZED": wire.EVENT_RESIZED,
    "DRAINING": wire.EVENT_DRAINING,
    "ENDED": wire.EVENT_ENDED,
}
FEATURES = wire.FEATURE_SEGMENTS | wire.FEATURE_EVENTS | wire.FEATURE_SESSIONS  # section 4.1

# ---- section 8: requests ----


class Memory(enum.Enum):
    """What of the arena an op uses."""

    NONE = "no"
    DATA = "`length_bytes` at `buffer_offset`, or segments"
    EXTENTS = "`buffer_bytes` at `buffer_offset`"


class Op(NamedTuple):
    """What an op uses (section 8); all else is 0."""

    section: str
    op: int
    limit: str | None  # of its length: a field of the hello reply; None: it has no range
    memory: Memory
    flags: tuple[str, ...]
    capability: str | None = None
    changes: bool = False  # the volume: needs the writer's role, and must not reach beyond the end


OPS: dict[str, Op] = {
    "read": Op("8.1", wire.OP_READ, "request_bytes_max", Memory.DATA, ("SEGMENTS",)),
    "write": Op(
        "8.2",
        wire.OP_WRITE,
        "request_bytes_max",
        Memory.DATA,
        ("FUA", "SEGMENTS"),
        capability="CAP_WRITE",
        changes=True,
    ),
    "flush": Op("8.3", wire.OP_FLUSH, None, Memory.NONE, ()),
    "discard": Op(
        "8.4",
        wire.OP_DISCARD,
        "range_bytes_max",
        Memory.NONE,
        (),
        capability="CAP_DISCARD",
        changes=True,
    ),
    "write-zeroes": Op(
        "8.5",
        wire.OP_WRITE_ZEROES,
        "range_bytes_max",
        Memory.NONE,
        ("FUA", "MAY_UNMAP"),
        capability="CAP_WRITE_ZEROES",
        changes=True,
    ),
    "block-status": Op(
        "8.6",
        wire.OP_BLOCK_STATUS,
        "range_bytes_max",
        Memory.EXTENTS,
        (),
        capability="CAP_BLOCK_STATUS",
    ),
}
OP_NAMES = {op.op: name for name, op in OPS.items()}


def flag_bits(flags: tuple[str, ...]) -> int:
    return sum(wire.CONSTANTS[f"OVSSHM_SQE_{flag}"] for flag in flags)


class RequestError(NamedTuple):
    """Section 8.7: what completes a request with an error, in the order of the checks."""

    error: str
    ops: frozenset[str]


_ALL = frozenset(OPS)
REQUEST_ERRORS = (
    RequestError("EOPNOTSUPP", _ALL - {"read", "flush"}),
    RequestError("EBADF", frozenset({"write", "discard", "write-zeroes"})),
    RequestError("EINVAL", _ALL - {"flush"}),
    RequestError("EFBIG", frozenset({"write", "discard", "write-zeroes"})),
    RequestError("ENOSPC", frozenset({"write", "write-zeroes", "flush"})),
    RequestError("EIO", _ALL),
)

# ---- section 11: violations ----

CONTROL_PLANE = ("V1", "V2", "V3", "V4", "V5", "V6")
DATA_PLANE = ("V7", "V8", "V9", "V10", "V11", "V12", "V13", "V14", "V15", "V16")
