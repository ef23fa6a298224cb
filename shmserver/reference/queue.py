# SPDX-License-Identifier: MIT
"""The server's side of a queue: entries in, completions out (sections 6 and 7).

The client can write every byte of the rings at any time.  So an entry is copied once, the copy is
checked, and only the copy is used; our own indexes are in private memory (section 6, rules 2, 3).

All but finished() is called by the server's thread only.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from shmclient.reference import doorbell, wire
from shmclient.reference.region import Region
from shmclient.reference.ring import ImpossibleIndex, Ring
from shmserver.reference import entry as entries
from shmserver.reference.entry import Violation
from shmserver.reference.request import ServerRequest

if TYPE_CHECKING:
    from shmserver.reference.opened import Opened

BATCH = 64  # entries taken at a time, so that everybody has his turn ...
BATCH_BYTES = 16 << 20  # ... and how much they may ask for, all but the last
COPIES_BYTES_MAX = 16 << 20  # private memory that requests in flight may cost us


class Queue:
    def __init__(self, opened: Opened, region: Region, index: int) -> None:
        memory = region.queue(index)
        self._opened = opened
        self._arena = region.arena()
        self._words = memory.words
        self._sqes = memory.sqes
        self._cqes = memory.cqes
        self._sq = Ring(memory.words, "sq_head", "sq_tail", memory.entries)
        self._cq = Ring(memory.words, "cq_tail", "cq_head", memory.entries)
        self._depth = region.layout.depth
        self._copied_bytes = 0
        self._unpublished: list[int] = []  # when each of these was taken
        self.in_flight = 0  # taken, and not completed
        self.ended = False  # the session is over: results go nowhere
        self.closed = False
        self.server_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # we sleep on it
        try:
            self.client_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            os.close(self.server_fd)
            raise

    def close(self) -> None:
        """The region may be unmapped after this; results of what is in flight go nowhere."""
        self.ended = self.closed = True
        self._arena.release()
        del self._words, self._sqes, self._cqes, self._sq, self._cq
        os.close(self.server_fd)
        os.close(self.client_fd)

    # ---- sleeping: as doorbell.arm() and disarm(), for many queues with one fence ----

    def arm(self) -> None:
        self._words.server_armed = 1

    def disarm(self) -> None:
        doorbell.disarm(self._words, "server_armed")

    def has_entries(self) -> bool:
        """Is there anything to take?  An impossible index is, too."""
        try:
            return bool(self._sq.available())
        except ImpossibleIndex:
            return True

    # ---- entries in ----

    def _count(self) -> int:
        """How many may be taken; there is room for all their completions (section 6, rule 5)."""
        try:
            available = self._sq.available()  # first: a client publishes cq_head before it
        except ImpossibleIndex as index:
            raise Violation("V7", f"impossible submission index, {index} ahead") from None
        if not available:
            return 0
        try:
            unconsumed = self._cq.unconsumed()
        except ImpossibleIndex as index:
            raise Violation("V9", f"impossible completion index, {index} behind") from None
        if available + self.in_flight + unconsumed > self._depth:
            raise Violation("V8", f"more than {self._depth} requests in flight")
        return available

    def take(self) -> list[ServerRequest]:
        """Entries for the store; the others are completed.  Violation: none of them is done."""
        requests: list[ServerRequest] = []
        taken_bytes = 0
        taken_ns = time.monotonic_ns()
        try:
            for _ in range(min(self._count(), BATCH)):
                entry = wire.unpack("sqe", self._sqes + self._sq.slot)
                if taken_bytes >= BATCH_BYTES or self._must_wait(entry):
                    break
                taken_bytes += entry.length_bytes
                self._sq.advance()
                checked = entries.check_form(entry, self._opened.limits, self._arena)
                self._take(checked, taken_ns, requests)
        except Violation:
            self.in_flight -= len(requests)  # dropped (section 12.1)
            raise
        self._sq.publish()
        return requests

    def _must_wait(self, entry: object) -> bool:
        """Copies of segmented data cost memory of ours while they are in flight."""
        segmented = getattr(entry, "flags", 0) & wire.SQE_SEGMENTS
        return bool(segmented) and self._copied_bytes > COPIES_BYTES_MAX

    def _take(self, checked: entries.Checked, taken_ns: int, requests: list[ServerRequest]) -> None:
        volume = self._opened.against()
        result = entries.early_result(checked, volume)
        if result is not None:
            self._opened.books.completed(checked.op.op, result)
            self._put(checked.user_data, result, taken_ns)
            return
        request = self._opened.request(self, entries.shortened(checked, volume), self._arena)
        request.taken_ns = taken_ns
        self._copied_bytes += request.copied_bytes
        self.in_flight += 1
        requests.append(request)

    # ---- completions out ----

    def finished(self, request: ServerRequest) -> None:
        """By the store, from any thread."""
        self._opened.finished(self, request)

    def complete(self, request: ServerRequest) -> None:
        """The store is done with it."""
        self.in_flight -= 1
        self._copied_bytes -= request.copied_bytes
        self._opened.books.completed(request.op, request.result)
        if not self.ended:
            request.deliver(self._arena)
            self._put(request.entry.user_data, request.result, request.taken_ns)

    def _put(self, user_data: int, result: int, taken_ns: int) -> None:
        """Into the next slot; not published yet."""
        completion = wire.pack("cqe", user_data=user_data, result=result)
        wire.ffi.memmove(self._cqes + self._cq.slot, completion, len(completion))
        self._cq.advance()
        self._unpublished.append(taken_ns)

    def publish(self) -> bool:
        """All completions are the client's; False: there was none."""
        if not self._unpublished:
            return False
        self._cq.publish()
        now_ns = time.monotonic_ns()
        for taken_ns in self._unpublished:
            self._opened.books.published(now_ns - taken_ns)
        self._unpublished.clear()
        return True

    def must_ring(self) -> bool:
        """After publish() and F2: does the client sleep?"""
        return doorbell.take_arming(self._words, "client_armed")
