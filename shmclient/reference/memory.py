# SPDX-License-Identifier: MIT
"""The user's memory: anything with the buffer protocol, and buffers that are in the arena."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from shmclient.reference import wire
from shmclient.reference.arena import Part


class Range(NamedTuple):
    """Contiguous bytes: a view to copy from and to, and where it is."""

    view: memoryview
    address: int


def flat(buffer: Any, *, writable: bool) -> Range:
    """The bytes of a buffer whatever its elements are.  TypeError, BufferError."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise BufferError("the buffer is not contiguous")
    if writable and view.readonly:
        raise BufferError("the buffer is read-only")
    window = wire.ffi.from_buffer("char[]", view)
    return Range(memoryview(wire.ffi.buffer(window)), int(wire.ffi.cast("uintptr_t", window)))


class Ranges:
    """Several of them, read or filled one after the other."""

    def __init__(self, ranges: list[Range]) -> None:
        self._ranges = ranges
        self.length_bytes = sum(len(one.view) for one in ranges)

    def part(self, start: int, length_bytes: int) -> list[Range]:
        """What bytes start to start + length_bytes of the whole are made of; none is empty."""
        found = []
        for one in self._ranges:
            take = one.view[start : start + length_bytes]
            if len(take):
                found.append(Range(take, one.address + start))
                length_bytes -= len(take)
            start = max(0, start - len(one.view))
        return found

    def copy_in(self, start: int, to: memoryview) -> None:
        at = 0
        for one in self.part(start, len(to)):
            to[at : at + len(one.view)] = one.view
            at += len(one.view)

    def copy_out(self, start: int, data: memoryview) -> None:
        at = 0
        for one in self.part(start, len(data)):
            one.view[:] = data[at : at + len(one.view)]
            at += len(one.view)


class Buffer(mmap.mmap):
    """Memory of a volume's arena: requests on it, or on any part of it, are not copied.

    A second mapping of that part of the region, so that it stays valid after the volume was closed,
    until release() or until nobody refers to it.  Any use of the buffer protocol works: memoryview,
    numpy.  Aligned to 4096; contents undefined.
    """

    def __new__(
        cls, fd: int, length_bytes: int, offset: int, give_back: Callable[[], None]
    ) -> Self:
        self = super().__new__(cls, fd, length_bytes, offset=offset)
        self._give_back = weakref.finalize(self, give_back)
        self._give_back.atexit = False
        return self

    _give_back: weakref.finalize[..., Self]

    @property
    def released(self) -> bool:
        return self.closed

    def release(self) -> None:
        """Give the memory back; again is fine.  BufferError while there are views of it."""
        self.close()
        self._give_back()

    def __exit__(self, *_: object) -> None:
        self.release()


class Buffers:
    """Where buffers are: from an address to an offset in the arena.  Changed at any moment."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, Part], ...] = ()

    def add(self, address: int, part: Part) -> None:
        self._known = (*self._known, (address, part))

    def remove(self, address: int) -> None:
        self._known = tuple(one for one in self._known if one[0] != address)

    def offset(self, one: Range) -> int | None:
        """Of a range that is inside of one buffer, None of any other."""
        for address, part in self._known:
            start = one.address - address
            if start >= 0 and start + len(one.view) <= part.length_bytes:
                return part.offset + start
        return None
