# SPDX-License-Identifier: MIT
"""What data is moved between: volumes, files, pipes."""

import fcntl
import os
import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

import shmclient
from shmclient.cli import ranges
from shmclient.cli.pump import SLOT_BYTES, Piece
from shmclient.cli.ranges import GRAIN_BYTES, Range
from shmclient.console import Failure, doing
from shmclient.units import format_size

REQUEST_BYTES = 256 << 10
REQUESTS_MAX = 128  # of a batch
SECTOR_BYTES = 512
PIPE_BYTES = 1 << 20  # what any user may have

_ZEROES = memoryview(bytes(REQUEST_BYTES))

Slots = tuple[memoryview, memoryview]


def sectors(length_bytes: int) -> int:
    """Rounded up to what the size of a volume may be."""
    return whole(length_bytes, SECTOR_BYTES)


def unit_of(volume: shmclient.Volume) -> int:
    """What the size of this volume has to be a multiple of so that all of it can be written."""
    return max(SECTOR_BYTES, volume.limits.block_bytes)


def grain_of(*volumes: shmclient.Volume) -> int:
    """What requests have to be aligned to so that each of the volumes takes them."""
    return max(GRAIN_BYTES, *(volume.limits.block_bytes for volume in volumes))


def whole(length_bytes: int, unit_bytes: int) -> int:
    """Rounded up to a multiple."""
    return length_bytes + -length_bytes % unit_bytes


def slots(volume: shmclient.Volume) -> Slots:
    """Shared memory: requests of this volume on it are not copied."""
    slot_bytes = min(SLOT_BYTES, volume.limits.arena_bytes // 4)
    slot_bytes = max(slot_bytes - slot_bytes % grain_of(volume), grain_of(volume))
    with doing("get memory to share with the server"):
        return memoryview(volume.buffer(slot_bytes)), memoryview(volume.buffer(slot_bytes))


def _widen_pipe(fd: int) -> None:
    """64 KiB at a time are slow."""
    with suppress(OSError):  # it is no pipe, or this user has enough of them
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def portions(
    found: Iterable[Range], slot_bytes: int, grain_bytes: int = GRAIN_BYTES
) -> Iterator[list[Range]]:
    """Cuts ranges into requests, as many at a time as have room in a slot."""
    request_bytes = max(REQUEST_BYTES, grain_bytes)
    portion: list[Range] = []
    room = slot_bytes
    for offset, length, zero in found:
        if zero:
            portion.append(Range(offset, length, True))
            continue
        while length:
            if room == 0 or len(portion) >= REQUESTS_MAX:
                yield portion
                portion, room = [], slot_bytes
            part = min(length, request_bytes, room)
            portion.append(Range(offset, part, False))
            room -= part + -part % GRAIN_BYTES
            offset, length = offset + part, length - part
    if portion:
        yield portion


def placed(portion: Iterable[Range], slot: memoryview) -> list[Piece]:
    """Gives the data of each its place in the slot, page by page."""
    pieces = []
    at = 0
    for offset, length, zero in portion:
        pieces.append(Piece(offset, length, None if zero else slot[at : at + length]))
        if not zero:
            at += length + -length % GRAIN_BYTES
    return pieces


# ---- sources -----------------------------------------------------------------------------------


class VolumeSource:
    """A stretch of a volume, to the byte; `grain_bytes` is what all requests are aligned to."""

    def __init__(
        self,
        volume: shmclient.Volume,
        what: str,
        offset_bytes: int,
        length_bytes: int,
        *,
        slot_bytes: int,
        grain_bytes: int,
    ) -> None:
        self._volume = volume
        self._doing = f"read {what}"
        self._start = offset_bytes
        self._end = offset_bytes + length_bytes
        start, end = offset_bytes - offset_bytes % grain_bytes, whole(self._end, grain_bytes)
        size = min(end, volume.size_bytes)
        behind = Range(size, end - size, True)  # where the volume ends within a block
        found = chain(ranges.of_volume(volume, start, size - start), [behind])
        wide = ranges.widened(found, start, end, grain_bytes)
        self._portions = portions(wide, slot_bytes, grain_bytes)

    def next(self, slot: memoryview) -> list[Piece]:
        with doing(self._doing):
            pieces = placed(next(self._portions, []), slot)
            requests = [
                shmclient.Read(piece.data, piece.offset_bytes)
                for piece in pieces
                if piece.data is not None
            ]
            counts = self._volume.batch(requests)
        read = (piece for piece in pieces if piece.data is not None)
        for count, piece in zip(counts, read, strict=True):
            if piece.offset_bytes + count < min(piece.end_bytes, self._end):
                raise Failure(f"cannot {self._doing}: it became smaller")
        return [piece.within(self._start, self._end) for piece in pieces]

    def stop(self) -> None:
        self._volume.close()


class FileSource:
    """A file that can be sought in; it ends with zeroes to a full sector."""

    def __init__(
        self, fd: int, what: str, length_bytes: int, slot_bytes: int, grain_bytes: int
    ) -> None:
        self._fd = fd
        self._what = what
        self.length_bytes = length_bytes
        found = ranges.of_file(fd, sectors(length_bytes))
        wide = ranges.widened(found, 0, sectors(length_bytes), grain_bytes)
        self._portions = portions(wide, slot_bytes, grain_bytes)

    def next(self, slot: memoryview) -> list[Piece]:
        with doing(f"read {self._what}"):
            pieces = placed(next(self._portions, []), slot)
            for piece in pieces:
                if piece.data is not None:
                    self._fill(piece.data, piece.offset_bytes)
        return pieces

    def _fill(self, data: memoryview, offset: int) -> None:
        due = min(len(data), self.length_bytes - offset)
        have = 0
        while have < due:
            count = os.preadv(self._fd, [data[have:due]], offset + have)
            if count == 0:
                raise Failure(f"cannot read {self._what}: it became shorter while it was read")
            have += count
        data[due:] = bytes(len(data) - due)

    def stop(self) -> None:
        pass


class StreamSource:
    """A pipe, a terminal, a device: read from front to back, however little comes at a time."""

    def __init__(self, fd: int, what: str, grain_bytes: int) -> None:
        self._fd = fd
        self._what = what
        self._grain_bytes = grain_bytes
        self._stop = os.eventfd(0)
        self._ended = False
        self.length_bytes = 0
        _widen_pipe(fd)

    def next(self, slot: memoryview) -> list[Piece]:
        with doing(f"read {self._what}"):
            have = self._read(slot)
            if have + self.length_bytes == 0:
                raise Failure(f"cannot import {self._what}: it is empty")
        padded = sectors(have)
        slot[have:padded] = bytes(padded - have)
        start = self.length_bytes
        self.length_bytes += have
        found = Range(start, padded, False)
        return placed(next(portions([found], len(slot), self._grain_bytes), []), slot)

    def _read(self, slot: memoryview) -> int:
        """Until the slot is full or nothing comes any more."""
        readable = select.poll()
        readable.register(self._fd, select.POLLIN)
        readable.register(self._stop, select.POLLIN)
        have = 0
        while have < len(slot) and not self._ended:
            if self._stop in (fd for fd, _ in readable.poll()):
                break
            count = os.readv(self._fd, [slot[have:]])
            self._ended = count == 0
            have += count
        return have

    def stop(self) -> None:
        os.eventfd_write(self._stop, 1)


# ---- targets -----------------------------------------------------------------------------------


class VolumeTarget:
    """An open volume.

    fresh: it is known to be zero all over.  growing: it gets as long as what is written.  Its size
    is a multiple of its blocks; data that ends within one is followed by zeroes.
    """

    def __init__(
        self, volume: shmclient.Volume, what: str, *, fresh: bool, growing: bool = False
    ) -> None:
        self._volume = volume
        self._what = what
        self._fresh = fresh
        self._growing = growing
        self._grain_bytes = grain_of(volume)
        self._unit_bytes = unit_of(volume)
        self._end_bytes = 0

    def write(self, pieces: Sequence[Piece]) -> int:
        requests = _Requests(self._volume)
        with doing(f"write {self._what}"):
            for piece in pieces:
                self._end_bytes = whole(piece.end_bytes, self._unit_bytes)
                self._check_room()
                if piece.data is None:
                    length = self._end_bytes - piece.offset_bytes
                    self._make_zero(Range(piece.offset_bytes, length, True), requests)
                else:
                    self._put(piece.offset_bytes, piece.data, requests)
            requests.run()
        return requests.data_bytes

    def finish(self) -> None:
        """Whatever is behind what was written becomes zero."""
        requests = _Requests(self._volume)
        with doing(f"write {self._what}"):
            self._grow(self._end_bytes)
            rest_bytes = self._volume.size_bytes - self._end_bytes
            self._make_zero(Range(self._end_bytes, rest_bytes, True), requests)
            requests.run()
            self._volume.flush()

    def stop(self) -> None:
        self._volume.close()

    def _check_room(self) -> None:
        size = self._volume.size_bytes
        if self._end_bytes > size and not self._growing:
            raise Failure(f"cannot write {self._what}: there is more than its {format_size(size)}")

    def _grow(self, end_bytes: int) -> None:
        if end_bytes > self._volume.size_bytes:
            self._volume.resize(end_bytes)

    def _put(self, offset_bytes: int, data: memoryview, requests: "_Requests") -> None:
        for offset, length, zero in ranges.zero_runs(offset_bytes, data, self._grain_bytes):
            padding = -length % self._unit_bytes
            if zero:
                self._make_zero(Range(offset, length + padding, True), requests)
                continue
            self._grow(offset + length + padding)
            run = data[offset - offset_bytes :][:length]
            aligned = length - length % self._unit_bytes
            if aligned:
                requests.write(run[:aligned], offset)
            if padding:
                last = bytes(run[aligned:]) + bytes(padding)
                requests.write(memoryview(last), offset + aligned)

    def _make_zero(self, run: Range, requests: "_Requests") -> None:
        """Nothing for what is zero already; data, for a store that knows nothing else."""
        if self._fresh or run.length_bytes == 0:
            return
        can_zero = "write-zeroes" in self._volume.limits.capabilities
        for offset, length, zero in ranges.of_volume(self._volume, *run[:2]):
            if not zero and can_zero:
                requests.write_zeroes(length, offset)
            elif not zero:
                for at in range(0, length, len(_ZEROES)):
                    requests.write(_ZEROES[: length - at], offset + at)


class _Requests:
    """Requests that may be done in any order, run in batches."""

    def __init__(self, volume: shmclient.Volume) -> None:
        self._volume = volume
        self._ready: list[shmclient.Write | shmclient.WriteZeroes] = []
        self.data_bytes = 0

    def write(self, data: memoryview, offset_bytes: int) -> None:
        self.data_bytes += len(data)
        self._add(shmclient.Write(data, offset_bytes))

    def write_zeroes(self, length_bytes: int, offset_bytes: int) -> None:
        self._add(shmclient.WriteZeroes(length_bytes, offset_bytes))

    def _add(self, request: shmclient.Write | shmclient.WriteZeroes) -> None:
        self._ready.append(request)
        if len(self._ready) == REQUESTS_MAX:
            self.run()

    def run(self) -> None:
        self._volume.batch(self._ready)
        self._ready = []


class FileTarget:
    """A file that can be sought in.  fresh: it is a hole all over, of its final size."""

    def __init__(self, fd: int, what: str, *, fresh: bool) -> None:
        self._fd = fd
        self._what = what
        self._fresh = fresh

    def write(self, pieces: Sequence[Piece]) -> int:
        with doing(f"write {self._what}"):
            return sum(self._put(piece) for piece in pieces)

    def _put(self, piece: Piece) -> int:
        written = 0
        for offset, data in _runs(piece, skip_zeroes=self._fresh):
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], offset + done)
            written += done
        return written

    def finish(self) -> None:
        with doing(f"sync {self._what}"):
            os.fsync(self._fd)

    def stop(self) -> None:
        pass


class StreamTarget:
    """A pipe, a terminal, a device: written from front to back."""

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what
        _widen_pipe(fd)

    def write(self, pieces: Sequence[Piece]) -> int:
        with doing(f"write {self._what}"):
            return sum(self._put(piece) for piece in pieces)

    def _put(self, piece: Piece) -> int:
        written = 0
        for _, data in _runs(piece, skip_zeroes=False):
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
            written += done
        return written

    def finish(self) -> None:
        pass

    def stop(self) -> None:
        pass


def _runs(piece: Piece, *, skip_zeroes: bool) -> Iterator[tuple[int, memoryview]]:
    """What of a piece has to be written, and where."""
    if piece.data is None:
        if not skip_zeroes:
            for at in range(0, piece.length_bytes, len(_ZEROES)):
                yield piece.offset_bytes + at, _ZEROES[: piece.length_bytes - at]
    elif not skip_zeroes:
        yield piece.offset_bytes, piece.data
    else:
        for run in ranges.zero_runs(piece.offset_bytes, piece.data, GRAIN_BYTES):
            if not run.zero:
                at = run.offset_bytes - piece.offset_bytes
                yield run.offset_bytes, piece.data[at : at + run.length_bytes]
