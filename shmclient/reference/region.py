# SPDX-License-Identifier: MIT
"""The shared region of a session (section 5): its plan, how it is made, how it is attached to."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from contextlib import suppress
from typing import Any, NamedTuple

from shmclient.reference import wire

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PAGE = wire.PAGE_BYTES

_WORD = struct.Struct("Q")
_VOLUME_BYTES_OFFSET = wire.ffi.offsetof("struct ovsshm_region_header", "volume_bytes")


class BadRegion(Exception):
    """What the server passed is not what section 5 describes."""


def plan(queues: int, depth: int, arena_bytes: int) -> dict[str, int]:
    """The layout that follows from what open asked for: fields of the region header."""
    entries = 1 << (depth - 1).bit_length()
    sqes_offset = wire.sizeof("ring_words")
    cqes_offset = sqes_offset + entries * wire.sizeof("sqe")
    queue_bytes = cqes_offset + entries * wire.sizeof("cqe")
    stride_bytes = (queue_bytes + PAGE - 1) // PAGE * PAGE
    arena_offset = PAGE + queues * stride_bytes
    return {
        "magic": wire.REGION_MAGIC,
        "version": wire.VERSION,
        "header_bytes": wire.sizeof("region_header"),
        "region_bytes": arena_offset + arena_bytes,
        "queue_count": queues,
        "depth": depth,
        "entries": entries,
        "queues_offset": PAGE,
        "queue_stride_bytes": stride_bytes,
        "sqes_offset": sqes_offset,
        "cqes_offset": cqes_offset,
        "arena_offset": arena_offset,
        "arena_bytes": arena_bytes,
    }


class QueueMemory(NamedTuple):
    """Pointers into the region; entries are indexed."""

    words: Any
    sqes: Any
    cqes: Any
    entries: int


class Region:
    """A mapped region.  `layout` is a private copy of its header, which is never read again.

    The descriptor belongs to the region.  Views of the arena may outlive close(): the mapping goes
    with the last of them.
    """

    def __init__(self, fd: int, region_bytes: int) -> None:
        self.fd = fd
        self.map = mmap.mmap(fd, region_bytes)
        self._window = wire.ffi.from_buffer(self.map)
        self.layout = wire.unpack("region_header", self._window)

    def queue(self, index: int) -> QueueMemory:
        layout = self.layout
        start = self._window + layout.queues_offset + index * layout.queue_stride_bytes
        return QueueMemory(
            wire.at("ring_words", start),
            wire.at("sqe", start + layout.sqes_offset),
            wire.at("cqe", start + layout.cqes_offset),
            layout.entries,
        )

    def arena(self) -> memoryview:
        start = self.layout.arena_offset
        return memoryview(self.map)[start : start + self.layout.arena_bytes]

    @property
    def volume_bytes(self) -> int:
        """The volume's size as the server last told it; it only informs.  One load of 8 bytes."""
        value: int = _WORD.unpack_from(self.map, _VOLUME_BYTES_OFFSET)[0]
        return value

    @volume_bytes.setter
    def volume_bytes(self, value: int) -> None:
        _WORD.pack_into(self.map, _VOLUME_BYTES_OFFSET, value)

    def close(self) -> None:
        """Pointers from queue() must not be used any more."""
        if self.fd >= 0:
            wire.ffi.release(self._window)
            with suppress(BufferError):  # somebody keeps a view of the arena
                self.map.close()
            os.close(self.fd)
            self.fd = -1


def create(layout: dict[str, int]) -> Region:
    """Server: a memfd of its own for one session, sealed before anybody else sees it."""
    fd = os.memfd_create("ovsshm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, layout["region_bytes"])
        os.pwrite(fd, wire.pack("region_header", **layout), 0)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return Region(fd, layout["region_bytes"])
    except BaseException:
        os.close(fd)
        raise


def _check_layout(layout: Any, region_bytes: int) -> None:
    """Everything that a client computes addresses from must be what the plan gives."""
    if not (
        1 <= layout.queue_count <= wire.QUEUES_MAX
        and wire.DEPTH_MIN <= layout.depth <= wire.DEPTH_MAX
        and layout.region_bytes == region_bytes
    ):
        raise BadRegion("a shared region of impossible size")
    for name, value in plan(layout.queue_count, layout.depth, layout.arena_bytes).items():
        if getattr(layout, name) != value:
            raise BadRegion(f"a shared region with {name} {getattr(layout, name)}")
    if not (wire.is_zero(layout.resv0) and wire.is_zero(layout.resv1)):
        raise BadRegion("a shared region with reserved members set")


def attach(fd: int, region_bytes: int) -> Region:
    """Client: the region that came with the open reply.  BadRegion; takes the descriptor anyway."""
    region = None
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise BadRegion("a shared region that could shrink")
        if not wire.sizeof("region_header") <= region_bytes == os.fstat(fd).st_size:
            raise BadRegion("a shared region of another size")
        region = Region(fd, region_bytes)
        _check_layout(region.layout, region_bytes)
        return region
    except BaseException:
        if region is not None:
            region.close()
        else:
            os.close(fd)
        raise
