# SPDX-License-Identifier: MIT
"""Who has which part of the arena.  Deals in offsets; the books are in private memory."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from shmclient.reference import wire

UNIT_BYTES = wire.SECTOR_BYTES


class Part(NamedTuple):
    """A part of the arena that somebody holds until he frees it."""

    offset: int
    length_bytes: int


class Arena:
    """First fit over a list of free parts, in order of offset.

    One thread at a time may allocate; free() may come at any moment, also from the garbage
    collector.
    """

    def __init__(self, length_bytes: int) -> None:
        self._free = [Part(0, length_bytes)]
        self._returned: deque[Part] = deque()

    def allocate(self, length_bytes: int, align_bytes: int = UNIT_BYTES) -> Part | None:
        """The first part that is long enough, or None."""
        self._take_back()
        wanted = -(-length_bytes // UNIT_BYTES) * UNIT_BYTES
        for index, free in enumerate(self._free):
            start = -(-free.offset // align_bytes) * align_bytes
            end = free.offset + free.length_bytes
            if start + wanted <= end:
                rest = [
                    Part(free.offset, start - free.offset),
                    Part(start + wanted, end - start - wanted),
                ]
                self._free[index : index + 1] = [part for part in rest if part.length_bytes]
                return Part(start, wanted)
        return None

    def free(self, part: Part) -> None:
        self._returned.append(part)

    def _take_back(self) -> None:
        """Neighbours that are free become one."""
        if not self._returned:
            return
        parts = list(self._free)
        while self._returned:
            parts.append(self._returned.popleft())
        merged: list[Part] = []
        for part in sorted(parts):
            if merged and sum(merged[-1]) == part.offset:
                merged[-1] = Part(merged[-1].offset, merged[-1].length_bytes + part.length_bytes)
            else:
                merged.append(part)
        self._free = merged
