# SPDX-License-Identifier: MIT
"""From an entry that a client wrote to a request that a store can trust (sections 8 and 11).

Works on private copies of entries and segments only.  First what no correct client writes, in the
order of the violations, but lengths before the places that they need; then what completes the
request, in the order of section 8.7.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from shmclient.reference import tables, wire
from shmclient.reference.tables import Memory, Op

EXTENTS_MAX = 1024  # of one block-status reply; the client asks again


class Violation(Exception):
    """What ends a session: a number of section 11, and the words for it."""

    def __init__(self, number: str, reason: str) -> None:
        super().__init__(f"{reason} ({number})")
        self.number = number


class Range(NamedTuple):
    """A part of the arena."""

    start: int
    length_bytes: int


class Checked(NamedTuple):
    """An entry that breaks no rule, and where its memory is."""

    op: Op
    name: str
    offset_bytes: int
    length_bytes: int
    flags: int
    user_data: int
    ranges: list[Range]  # read, write: of the data; block-status: of the extents
    segmented: bool


class Limits(NamedTuple):
    """What the session may do; fixed when it is opened."""

    request_bytes_max: int
    range_bytes_max: int
    arena_bytes: int
    features: int


def inside(start: int, length_bytes: int, all_bytes: int) -> bool:
    """Section 3: arithmetic with ranges never wraps."""
    return length_bytes <= all_bytes and start <= all_bytes - length_bytes


# ---- what no correct client writes ----


def check_form(entry: Any, limits: Limits, arena: memoryview) -> Checked:
    """entry: a private copy.  Violation."""
    name = tables.OP_NAMES.get(entry.op)
    if name is None:
        raise Violation("V10", f"unknown op {entry.op}")
    op = tables.OPS[name]
    _check_flags(entry, name, op, limits)
    _check_unused(entry, name, op)
    if entry.region != wire.REGION_ARENA:
        raise Violation("V13", f"{name} with unknown region {entry.region}")
    _check_length(entry, name, op, limits)
    segmented = bool(entry.flags & wire.SQE_SEGMENTS)
    return Checked(
        op=op,
        name=name,
        offset_bytes=entry.offset_bytes,
        length_bytes=entry.length_bytes,
        flags=entry.flags,
        user_data=entry.user_data,
        ranges=_ranges(entry, op, segmented, limits, arena),
        segmented=segmented,
    )


def _check_flags(entry: Any, name: str, op: Op, limits: Limits) -> None:
    allowed = tables.flag_bits(op.flags)
    if not limits.features & wire.FEATURE_SEGMENTS:
        allowed &= ~wire.SQE_SEGMENTS
    if entry.flags & ~allowed:
        raise Violation("V11", f"{name} with flags 0x{entry.flags:x}")


def _check_unused(entry: Any, name: str, op: Op) -> None:
    if not wire.is_zero(entry.resv):
        raise Violation("V12", f"{name} with reserved members set")
    unused = {
        "offset_bytes": op.limit is None,
        "buffer_offset": op.memory is Memory.NONE,
        "buffer_bytes": op.memory is not Memory.EXTENTS,
        "segment_count": not entry.flags & wire.SQE_SEGMENTS,
    }
    if any(getattr(entry, field) for field, is_unused in unused.items() if is_unused):
        raise Violation("V12", f"{name} with members set that it does not have")


def _check_length(entry: Any, name: str, op: Op, limits: Limits) -> None:
    longest = getattr(limits, op.limit) if op.limit else 0
    if entry.length_bytes > longest:
        raise Violation("V15", f"{name} of {entry.length_bytes} bytes, the limit is {longest}")


def _ranges(entry: Any, op: Op, segmented: bool, limits: Limits, arena: memoryview) -> list[Range]:
    start = entry.buffer_offset
    if op.memory is Memory.NONE:
        return []
    if op.memory is Memory.EXTENTS:
        length = entry.buffer_bytes
        what = f"block-status into {length} bytes at arena offset {start}"
        if length < wire.sizeof("extent"):
            raise Violation("V15", what)
    elif segmented:
        return _segments(entry, limits, arena)
    else:
        length = entry.length_bytes
        what = f"buffer of {length} bytes at arena offset {start}"
    if not inside(start, length, limits.arena_bytes):
        raise Violation("V14", what)
    return [Range(start, length)]


def _segments(entry: Any, limits: Limits, arena: memoryview) -> list[Range]:
    """Section 8.8.  Each segment is read once (section 6, rule 3)."""
    start, count = entry.buffer_offset, entry.segment_count
    what = f"list of {count} segments at arena offset {start}"
    if not 1 <= count <= wire.SEGMENTS_MAX:
        raise Violation("V16", what)
    step = wire.sizeof("segment")
    if not inside(start, count * step, limits.arena_bytes):
        raise Violation("V14", what)
    ranges = []
    copy = bytes(arena[start : start + count * step])
    for index in range(count):
        segment = wire.unpack("segment", copy[index * step : (index + 1) * step])
        if segment.region != wire.REGION_ARENA:
            raise Violation("V13", f"segment {index} is not in the arena")
        if segment.resv:
            raise Violation("V16", f"segment {index} with reserved members set")
        if not inside(segment.buffer_offset, segment.length_bytes, limits.arena_bytes):
            raise Violation("V14", f"segment {index} is not in the arena")
        ranges.append(Range(segment.buffer_offset, segment.length_bytes))
    total = sum(one.length_bytes for one in ranges)
    if total != entry.length_bytes:
        raise Violation("V16", f"segments of {total} bytes for a request of {entry.length_bytes}")
    return ranges


# ---- what a correct client may ask and not get ----


class Volume(NamedTuple):
    """What a request is checked against: the server's own values, none of them shared."""

    size_bytes: int
    block_bytes: int
    writable: bool  # by this session
    capabilities: int


def _lacks_capability(entry: Checked, volume: Volume) -> bool:
    needed = entry.op.capability
    return needed is not None and not volume.capabilities & wire.CONSTANTS[f"OVSSHM_{needed}"]


_CHECKS: dict[str, Callable[[Checked, Volume], bool]] = {
    "EOPNOTSUPP": _lacks_capability,
    "EBADF": lambda entry, volume: not volume.writable,
    "EINVAL": lambda entry, volume: bool(
        entry.offset_bytes % volume.block_bytes or entry.length_bytes % volume.block_bytes
    ),
    "EFBIG": lambda entry, volume: bool(  # nothing reaches nowhere (section 8)
        entry.length_bytes and not inside(entry.offset_bytes, entry.length_bytes, volume.size_bytes)
    ),
}


def early_result(entry: Checked, volume: Volume) -> int | None:
    """The result of a request that the store need not see: -errno or 0.  None: it must."""
    for error, ops in tables.REQUEST_ERRORS:
        check = _CHECKS.get(error)  # the others are the store's
        if check is not None and entry.name in ops and check(entry, volume):
            return -int(getattr(errno, error))
    ranged = entry.op.limit is not None
    if ranged and (entry.length_bytes == 0 or entry.offset_bytes >= volume.size_bytes):
        return 0
    return None


def shortened(entry: Checked, volume: Volume) -> Checked:
    """Reads and block-status end where the volume ends (sections 8.1 and 8.6)."""
    left = volume.size_bytes - entry.offset_bytes
    if entry.op.limit is None or entry.length_bytes <= left:
        return entry
    return entry._replace(length_bytes=left)
