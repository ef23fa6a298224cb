# SPDX-License-Identifier: MIT
"""A request of the user on its way: cut into pieces that the server takes, one after the other.

A piece has one entry and one completion.  Its memory is, for the server, one range of the arena,
a list of segments in the arena, or a copy in the arena (a bounce buffer).
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from shmclient.reference import tables, wire
from shmclient.reference.arena import Arena, Part
from shmclient.reference.arguments import COUNT_MAX
from shmclient.reference.memory import Buffers, Range, Ranges
from shmclient.reference.records import Limits

EXTENTS_MAX = 1024  # asked for at a time
ERRNO_MAX = 4095


class Place(NamedTuple):
    """Where the arena is, and who has what of it."""

    view: memoryview
    arena: Arena
    buffers: Buffers
    segments_max: int  # 0: without the feature


class Piece:
    """What is in flight: all that it takes to submit it again (section 12.2)."""

    def __init__(self, task: Task, length_bytes: int, entry: dict[str, int]) -> None:
        self.task = task
        self.length_bytes = length_bytes
        self.entry = entry
        self.held: Part | None = None  # of the arena, for this piece only
        self.bounced = False


class Task:
    """result is None until it is done: bytes, 0, number of extents, or -errno."""

    def __init__(
        self,
        name: str,
        offset_bytes: int = 0,
        length_bytes: int = 0,
        flags: int = 0,
        memory: Ranges | None = None,
    ) -> None:
        self.name = name
        self.op = tables.OPS[name]
        self.flags = flags
        self.offset_bytes = offset_bytes
        self.length_bytes = length_bytes
        self.memory = memory
        self.done_bytes = 0
        self.result: int | None = None
        self.extents: list[Any] = []
        self.abandoned = False  # nobody waits for it any more

    # ---- before ----

    def settle(self, limits: Limits, size_bytes: int, writable: bool) -> None:
        """The results that need no server: it would see at the last piece that the end is near."""
        longest = self._longest(limits)
        if self.op.limit is not None and self.length_bytes == 0:
            self.result = 0
        elif self._end_bytes > COUNT_MAX:
            self.result = -errno.EINVAL
        elif self.op.changes and not writable:
            self.result = -errno.EBADF
        elif self.op.changes and self.length_bytes > longest and self._end_bytes > size_bytes:
            self.result = -errno.EFBIG

    @property
    def _end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes

    def _longest(self, limits: Limits) -> int:
        return getattr(limits, self.op.limit) if self.op.limit else 0

    def next_piece(self, limits: Limits, place: Place, *, alone: bool) -> Piece | None:
        """None: the arena has no room now.  alone: nothing in flight will give any back."""
        length = min(self.length_bytes - self.done_bytes, self._longest(limits))
        piece = Piece(
            self,
            length,
            {
                "op": self.op.op,
                "flags": self.flags,
                "offset_bytes": self.offset_bytes + self.done_bytes,
                "length_bytes": length,
            },
        )
        if self.op.memory is tables.Memory.NONE:
            return piece
        if self.op.memory is tables.Memory.EXTENTS:
            return self._with_extents(piece, place, alone)
        assert self.memory is not None
        ranges = self.memory.part(self.done_bytes, length)
        offsets = [place.buffers.offset(one) for one in ranges]
        if None not in offsets and self._in_place(piece, place, ranges, offsets):
            return piece
        return self._with_copy(piece, place, limits.block_bytes, alone)

    def _in_place(
        self, piece: Piece, place: Place, ranges: list[Range], offsets: list[Any]
    ) -> bool:
        """The user's memory is in the arena; several ranges need a list of segments (8.8)."""
        if len(ranges) == 1:
            piece.entry["buffer_offset"] = offsets[0]
            return True
        if len(ranges) > place.segments_max:
            return False
        segments = b"".join(
            wire.pack("segment", buffer_offset=offset, length_bytes=len(one.view))
            for one, offset in zip(ranges, offsets, strict=True)
        )
        piece.held = place.arena.allocate(len(segments))
        if piece.held is None:
            return False
        start = piece.held.offset
        place.view[start : start + len(segments)] = segments
        piece.entry["buffer_offset"] = start
        piece.entry["segment_count"] = len(ranges)
        piece.entry["flags"] |= wire.SQE_SEGMENTS
        return True

    def _with_copy(self, piece: Piece, place: Place, block_bytes: int, alone: bool) -> Piece | None:
        """A bounce buffer; a shorter one when nothing that is in flight will make room."""
        length = piece.length_bytes
        piece.held = place.arena.allocate(length)
        while piece.held is None and alone and length > block_bytes:
            length = max(length // 2 // block_bytes, 1) * block_bytes
            piece.held = place.arena.allocate(length)
        if piece.held is None:
            self._no_room(alone)
            return None
        piece.bounced = True
        piece.length_bytes = piece.entry["length_bytes"] = length
        piece.entry["buffer_offset"] = start = piece.held.offset
        if self.name == "write":
            assert self.memory is not None
            self.memory.copy_in(self.done_bytes, place.view[start : start + length])
        return piece

    def _with_extents(self, piece: Piece, place: Place, alone: bool) -> Piece | None:
        room = EXTENTS_MAX * wire.sizeof("extent")
        piece.held = place.arena.allocate(room)
        if piece.held is None:
            self._no_room(alone)
            return None
        piece.entry["buffer_offset"] = piece.held.offset
        piece.entry["buffer_bytes"] = room
        return piece

    def _no_room(self, alone: bool) -> None:
        if alone:
            self.result = -errno.ENOMEM

    # ---- after ----

    def finish_piece(self, piece: Piece, result: int, view: memoryview) -> bool:
        """Take a completion.  False: no such completion is possible."""
        if not self._possible(piece, result):
            return False
        if piece.held is not None and result > 0 and not self.abandoned:
            start = piece.held.offset
            if self.name == "read" and piece.bounced:
                assert self.memory is not None
                self.memory.copy_out(self.done_bytes, view[start : start + result])
            elif self.name == "block-status":
                length = result * wire.sizeof("extent")
                if not self._take_extents(bytes(view[start : start + length]), piece):
                    return False
        self._advance(piece, result)
        return True

    def _possible(self, piece: Piece, result: int) -> bool:
        """Sections 8.1 to 8.7."""
        if result < 0:
            return result >= -ERRNO_MAX
        if self.name == "read":
            return result <= piece.length_bytes
        if self.name == "write":
            return result == piece.length_bytes
        if self.name == "block-status":
            return result <= EXTENTS_MAX
        return result == 0

    def _take_extents(self, data: bytes, piece: Piece) -> bool:
        """Section 8.6: not empty, within the range, known flags."""
        left = piece.length_bytes
        step = wire.sizeof("extent")
        for at in range(0, len(data), step):
            extent = wire.unpack("extent", data[at : at + step])
            if not 0 < extent.length_bytes <= left or extent.resv:
                return False
            if extent.flags & ~(wire.EXTENT_HOLE | wire.EXTENT_ZERO):
                return False
            left -= extent.length_bytes
            self.extents.append(extent)
        return True

    def _advance(self, piece: Piece, result: int) -> None:
        moved = self.op.memory is tables.Memory.DATA
        if result < 0:
            self.result = result
            return
        if self.name == "block-status":
            self.result = result  # who wants more asks again from there
            return
        self.done_bytes += result if moved else piece.length_bytes
        short = moved and result < piece.length_bytes
        if short or self.done_bytes == self.length_bytes:
            self.result = self.done_bytes if moved else 0
