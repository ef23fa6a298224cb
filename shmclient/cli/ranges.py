# SPDX-License-Identifier: MIT
"""Where the data is: stretches of a volume or file that hold something, and those that are zero."""

import errno
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import shmclient

GRAIN_BYTES = 4096  # shorter runs of zeroes are data
_ZEROES = bytes(1 << 20)


class Range(NamedTuple):
    offset_bytes: int
    length_bytes: int
    zero: bool  # known to read as zeroes

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes


def of_volume(volume: shmclient.Volume, offset_bytes: int, length_bytes: int) -> Iterator[Range]:
    """All data, for a store that cannot tell."""
    if "block-status" not in volume.limits.capabilities:
        yield Range(offset_bytes, length_bytes, False)
        return
    for extent in volume.block_status(length_bytes, offset_bytes):
        yield Range(extent.offset_bytes, extent.length_bytes, extent.zero)


def of_file(fd: int, length_bytes: int) -> Iterator[Range]:
    """The first length_bytes of a file.  All data, for a file system that cannot tell."""
    offset = 0
    while offset < length_bytes:
        data = min(_seek(fd, offset, os.SEEK_DATA, length_bytes), length_bytes)
        if data > offset:
            yield Range(offset, data - offset, True)
        offset = data
        if data < length_bytes:
            hole = min(_seek(fd, data, os.SEEK_HOLE, length_bytes), length_bytes)
            yield Range(data, hole - data, False)
            offset = hole


def _seek(fd: int, offset: int, whence: int, end: int) -> int:
    try:
        return os.lseek(fd, offset, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole from there on
            return end
        if error.errno == errno.EINVAL:  # a device
            return offset if whence == os.SEEK_DATA else end
        raise


def widened(
    ranges: Iterable[Range], start_bytes: int, end_bytes: int, grain_bytes: int
) -> Iterator[Range]:
    """Adjoining ranges from start to end, with data from grain to grain: aligned for requests."""
    done = start_bytes
    for offset, length, zero in ranges:
        end = offset + length
        end += -(end % grain_bytes) if zero and end < end_bytes else -end % grain_bytes
        end = min(end, end_bytes)
        if end > done:
            yield Range(done, end - done, zero)
            done = end


def is_zero(data: memoryview) -> bool:
    """Bytes of any length, at the speed of memory."""
    return all(
        _ZEROES.startswith(data[i : i + len(_ZEROES)]) for i in range(0, len(data), len(_ZEROES))
    )


def zero_runs(offset_bytes: int, data: memoryview, grain_bytes: int) -> Iterator[Range]:
    """Splits data that starts at an offset into what holds something and runs of zeroes."""
    if is_zero(data):
        yield Range(offset_bytes, len(data), True)
        return
    start, was_zero = 0, is_zero(data[:grain_bytes])
    for at in range(grain_bytes, len(data), grain_bytes):
        zero = is_zero(data[at : at + grain_bytes])
        if zero != was_zero:
            yield Range(offset_bytes + start, at - start, was_zero)
            start, was_zero = at, zero
    yield Range(offset_bytes + start, len(data) - start, was_zero)
