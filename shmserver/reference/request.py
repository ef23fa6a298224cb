# SPDX-License-Identifier: MIT
"""A request in the hands of a store: what shmserver.store.Request promises.

The data of a read or write that is one range is the client's own memory.  Several ranges go through
a copy, as a store gets one buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from shmclient.reference import wire
from shmclient.reference.tables import Memory
from shmserver.dispatch import Dispatcher
from shmserver.manage import OpenVolume
from shmserver.reference.entry import EXTENTS_MAX, Checked
from shmserver.store import Extent, Op

if TYPE_CHECKING:
    from shmserver.reference.queue import Queue


class ServerRequest:
    """complete() and fail() may come from any thread; the first counts."""

    def __init__(
        self,
        queue: Queue,
        entry: Checked,
        opened: OpenVolume,
        dispatcher: Dispatcher,
        arena: memoryview,
    ) -> None:
        self.op = Op(entry.op.op)
        self.opened = opened
        self.volume = opened.handle
        self.offset_bytes = entry.offset_bytes
        self.length_bytes = entry.length_bytes
        self.fua = bool(entry.flags & wire.SQE_FUA)
        self.may_unmap = bool(entry.flags & wire.SQE_MAY_UNMAP)
        self.extents_max = 0
        self.buffer: memoryview | None = None
        self.entry = entry
        self.taken_ns = 0
        self.result = 0
        self.copied_bytes = 0
        self._queue = queue
        self._dispatcher = dispatcher
        self._extents: list[Extent] = []
        self._unended = [True]  # whoever pops it ends the request
        if entry.op.memory is Memory.EXTENTS:
            room = entry.ranges[0].length_bytes // wire.sizeof("extent")
            self.extents_max = min(room, EXTENTS_MAX)
        elif entry.op.memory is Memory.DATA:
            self.buffer = self._data(arena)

    def _data(self, arena: memoryview) -> memoryview:
        ranges = self.entry.ranges
        if len(ranges) == 1:
            start = ranges[0].start
            return arena[start : start + self.length_bytes]
        self.copied_bytes = self.length_bytes
        if self.op is Op.READ:
            return memoryview(bytearray(self.length_bytes))
        return memoryview(b"".join(arena[one.start : sum(one)] for one in ranges))

    # ---- for the store ----

    @property
    def ended(self) -> bool:
        # One of a client that is gone is not: its volume is given up when it is done (12.1).
        return not self._unended or self._queue.closed

    def complete(self, extents: Iterable[Extent] = ()) -> None:
        result = 0
        found: list[Extent] = []
        if self.entry.op.memory is Memory.DATA:
            result = self.length_bytes
        elif self.entry.op.memory is Memory.EXTENTS:
            try:
                found = self._dispatcher.extents(extents, self.length_bytes, self.extents_max)
            except Exception as error:
                self.fail(error)
                return
            result = len(found)
        self._end(result, found)

    def fail(self, error: BaseException) -> None:
        if self._unended:
            self._end(-self._dispatcher.failed(self.op, self.opened, error), [])

    def _end(self, result: int, extents: list[Extent]) -> None:
        try:
            self._unended.pop()
        except IndexError:
            return
        self.result = result
        self._extents = extents
        self._queue.finished(self)

    # ---- for the server, when it publishes the completion ----

    def deliver(self, arena: memoryview) -> None:
        """Put into the arena what the store has not put there itself."""
        if self._extents:
            data = b"".join(
                wire.pack(
                    "extent",
                    length_bytes=one.length_bytes,
                    flags=(wire.EXTENT_HOLE if one.hole else 0)
                    | (wire.EXTENT_ZERO if one.zero else 0),
                )
                for one in self._extents
            )
            start = self.entry.ranges[0].start
            arena[start : start + len(data)] = data
        elif self.copied_bytes and self.op is Op.READ and self.result > 0:
            assert self.buffer is not None
            at = 0
            for start, length in self.entry.ranges:
                part = self.buffer[at : at + length]
                arena[start : start + len(part)] = part
                at += len(part)
