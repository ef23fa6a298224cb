# SPDX-License-Identifier: MIT
"""Data of a volume in a sparse file, given by its descriptor; what memory and file have in common.

Holes read as zeroes and take no space.  Everything is a system call on the descriptor, so that a
full disk is ENOSPC and never a signal.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
import weakref
from collections.abc import Iterable

from shmserver.store import Extent

CHUNK_BYTES = 1 << 20
COPY_BYTES = 16 << 20  # between two looks at the clock
_ZEROES = memoryview(bytes(CHUNK_BYTES))


class File:
    """Owns a descriptor: it is closed with the last reference, if not by close() before."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.close = weakref.finalize(self, os.close, fd)


def read(fd: int, buffer: memoryview, offset_bytes: int) -> None:
    """Fill it; beyond the end of the file there are zeroes."""
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset_bytes + done)
        if count == 0:
            buffer[done:] = bytes(len(buffer) - done)
            return
        done += count


def write(fd: int, data: memoryview, offset_bytes: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset_bytes + done)


def _write_zeroes(fd: int, start: int, end: int) -> None:
    for at in range(start, end, CHUNK_BYTES):
        write(fd, _ZEROES[: min(CHUNK_BYTES, end - at)], at)


def zero(fd: int, length_bytes: int, offset_bytes: int, *, unmap: bool) -> None:
    """Make them read as zeroes, with unmap by giving up the space of whole pages."""
    end = offset_bytes + length_bytes
    page = mmap.ALLOCATIONGRANULARITY
    first, last = -(-offset_bytes // page) * page, end // page * page
    if not unmap or first >= last:
        _write_zeroes(fd, offset_bytes, end)
        return
    _write_zeroes(fd, offset_bytes, first)
    punch(fd, last - first, first)
    _write_zeroes(fd, last, end)


def punch(fd: int, length_bytes: int, offset_bytes: int) -> None:
    """A hole of whole pages; Python has no fallocate(2) for it, this madvise(2) does the same."""
    with mmap.mmap(fd, length_bytes, offset=offset_bytes) as window:
        window.madvise(mmap.MADV_REMOVE)


def can_punch(fd: int) -> bool:
    """Does this file system do that?  Makes the file as long as a page."""
    os.ftruncate(fd, mmap.PAGESIZE)
    try:
        punch(fd, mmap.PAGESIZE, 0)
    except OSError:
        return False
    return True


def discard(fd: int, length_bytes: int, offset_bytes: int) -> None:
    """Whole pages of the range become a hole; what is left and right of them stays."""
    page = mmap.ALLOCATIONGRANULARITY
    first = -(-offset_bytes // page) * page
    last = (offset_bytes + length_bytes) // page * page
    if first < last:
        punch(fd, last - first, first)


def _seek(fd: int, offset_bytes: int, whence: int) -> int | None:
    """None: there is no such place before the end of the file."""
    try:
        return os.lseek(fd, offset_bytes, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def extents(fd: int, length_bytes: int, offset_bytes: int) -> Iterable[Extent]:
    """From offset_bytes on, as the file system tells them; the last may go beyond the range."""
    at, end = offset_bytes, offset_bytes + length_bytes
    while at < end:
        data = _seek(fd, at, os.SEEK_DATA)
        if data is None:
            yield Extent(end - at, hole=True, zero=True)
            return
        if data > at:
            yield Extent(data - at, hole=True, zero=True)
        hole = _seek(fd, data, os.SEEK_HOLE)
        at = end if hole is None else hole
        if at > data:
            yield Extent(at - data)


def allocated(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def copy(from_fd: int, to_fd: int, deadline: float | None = None) -> None:
    """Data and holes into an empty file; file systems that can share the space.  TimeoutError."""
    size = os.fstat(from_fd).st_size
    os.ftruncate(to_fd, size)
    at: int | None = 0
    while (at := _seek(from_fd, at or 0, os.SEEK_DATA)) is not None and at < size:
        end = min(os.lseek(from_fd, at, os.SEEK_HOLE), size)
        while at < end:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the copy took too long")
            count = os.copy_file_range(from_fd, to_fd, min(end - at, COPY_BYTES), at, at)
            if count == 0:
                raise OSError(errno.EIO, "the source has become shorter")
            at += count
