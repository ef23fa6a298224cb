# SPDX-License-Identifier: MIT
"""An open volume: requests of any length on any memory, done through one queue.

There is one way to do requests, _run(); everything else makes tasks for it.  Threads take turns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

from shmclient.file import File
from shmclient.reference import doorbell, names, region, tables, wire
from shmclient.reference.arena import Arena
from shmclient.reference.arguments import COUNT_MAX, count
from shmclient.reference.memory import Buffer, Buffers, flat
from shmclient.reference.queue import Completion, Queue
from shmclient.reference.records import (
    Event,
    Extent,
    Limits,
    VolumeInfo,
    capability_names,
    record,
)
from shmclient.reference.requests import (
    Request,
    data_task,
    range_task,
    task_of,
    zeroes_task,
)
from shmclient.reference.ring import ImpossibleIndex
from shmclient.reference.session import Session
from shmclient.reference.task import Piece, Place, Task

ARENA_BYTES_DEFAULT = 64 << 20

_volumes: weakref.WeakSet[Volume] = weakref.WeakSet()


class Volume:
    """An open volume.  Made by Connection.open()."""

    def __init__(
        self, socket_path: str, name: str, *, writable: bool, depth: int, arena_bytes: int
    ) -> None:
        self._name = name
        self._turn = threading.RLock()
        self._in_flight: dict[int, Piece] = {}
        self._user_data = 0
        self._closed = False
        self._session = _session(socket_path)
        try:
            self._open(writable, depth, arena_bytes)
        except BaseException:
            self._session.close()
            raise
        _volumes.add(self)

    # ---- open and close (section 4.5) ----

    def _open(self, writable: bool, depth: int, arena_bytes: int) -> None:
        hello = self._session.hello
        self._writable = writable
        depth = depth or min(wire.DEPTH_DEFAULT, hello.depth_max)
        if depth > hello.depth_max:
            allowed = f"the server allows {hello.depth_max}"
            raise OSError(errno.EINVAL, f'cannot open "{self._name}": depth {depth}, {allowed}')
        if not arena_bytes:
            page = wire.PAGE_BYTES
            arena_bytes = min(ARENA_BYTES_DEFAULT, hello.arena_bytes_max) // page * page
        payload = wire.pack(
            "msg_open",
            name=self._name,
            mode=_mode(writable),
            queues=1,
            depth=depth,
            arena_bytes=arena_bytes,
        )
        answer = self._session.call("OPEN", payload, descriptors=3)
        reply = wire.unpack("msg_open_reply", answer.payload)
        region_fd, server_fd, client_fd = answer.fds
        try:
            if not (_is_doorbell(server_fd) and _is_doorbell(client_fd)):
                os.close(region_fd)
                raise self._session.violated("a doorbell that is no eventfd")
            self._region = self._attach(region_fd, reply, depth, arena_bytes)
        except BaseException:
            os.close(server_fd)
            os.close(client_fd)
            raise
        self._queue = Queue(self._region.queue(0), server_fd, client_fd)
        self._limits = _limits(hello, reply, arena_bytes)
        segments = hello.features & wire.FEATURE_SEGMENTS
        self._place = Place(
            self._region.arena(),
            Arena(arena_bytes),
            Buffers(),
            hello.segments_max if segments else 0,
        )

    def _attach(self, fd: int, reply: Any, depth: int, arena_bytes: int) -> region.Region:
        """Section 5: the region must be the one that was asked for."""
        try:
            found = region.attach(fd, reply.region_bytes)
        except region.BadRegion as error:
            raise self._session.violated(str(error)) from None
        hello = self._session.hello
        layout = found.layout
        if (reply.queues, reply.depth, reply.resv) != (1, depth, 0) or (
            layout.queue_count,
            layout.depth,
            layout.arena_bytes,
            layout.features,
            layout.block_bytes,
        ) != (1, depth, arena_bytes, hello.features, reply.block_bytes):
            found.close()
            raise self._session.violated("a shared region that was not asked for")
        if not 1 <= reply.block_bytes <= min(hello.request_bytes_max, hello.range_bytes_max):
            found.close()
            raise self._session.violated("an impossible block size")
        return found

    def close(self) -> None:
        """Close at once; again is fine.  Buffers stay valid, requests in flight are dropped."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._in_flight.clear()
                self._session.close()
                self._queue.close()
                del self._queue  # its pointers end with the region
                self._place.view.release()
                self._region.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        self._session.check_process()
        if self._closed:
            raise ValueError("the volume is closed")

    # ---- what it is ----

    @property
    def name(self) -> str:
        return self._name

    @property
    def writable(self) -> bool:
        """Has this session the writer's role?"""
        self._check_open()
        return self._writable

    @property
    def size_bytes(self) -> int:
        """The size now; follows a resize by anybody (section 12.4)."""
        self._check_open()
        return min(self._region.volume_bytes, COUNT_MAX)

    @property
    def limits(self) -> Limits:
        self._check_open()
        return self._limits

    def stat(self) -> VolumeInfo:
        self._check_open()
        payload = wire.pack("msg_volume", name=self._name)
        return volume_info(self._session, self._session.call("STAT", payload).payload)

    def resize(self, size_bytes: int) -> None:
        self._check_open()
        resize(self._session, self._name, size_bytes)

    def set_writable(self, writable: bool) -> None:
        """Take the writer's role, or give it up."""
        self._check_open()
        self._session.call("SET_MODE", wire.pack("msg_set_mode", mode=_mode(writable)))
        self._writable = writable

    # ---- events (section 4.6) ----

    def events(self) -> list[Event]:
        """Those that have come since the last time."""
        self._check_open()
        self._drain()
        pending = []
        while self._session.events:
            pending.append(self._session.events.popleft())
        return pending

    def wait_event(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None when none came in time.  OSError when none will come any more."""
        self._check_open()
        if timeout_s is not None and timeout_s < 0:
            raise ValueError("the timeout must not be negative")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._drain()
            if self._session.events:
                return self._session.events.popleft()
            if not self._session.alive:
                raise self._session.over()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not doorbell.wait([self._session.socket.fileno()], left):
                return None

    def _drain(self) -> None:
        with suppress(OSError):  # it is over: who waits for something is told so
            self._session.drain()

    # ---- data (section 8) ----

    def pread(self, length_bytes: int, offset_bytes: int) -> bytes:
        """Fewer bytes only at the end of the volume, none beyond it."""
        block_bytes = self.limits.block_bytes
        most = (self.size_bytes // block_bytes + 1) * block_bytes  # memory that can be of use
        data = bytearray(min(count(length_bytes, "length_bytes"), most))
        return bytes(data[: self.preadinto(data, offset_bytes)])

    def preadinto(self, buffer: Any, offset_bytes: int) -> int:
        return self.preadv([buffer], offset_bytes)

    def preadv(self, buffers: Sequence[Any], offset_bytes: int) -> int:
        return self._do(data_task("read", buffers, offset_bytes))

    def pwrite(self, data: Any, offset_bytes: int, *, fua: bool = False) -> int:
        return self.pwritev([data], offset_bytes, fua=fua)

    def pwritev(self, buffers: Sequence[Any], offset_bytes: int, *, fua: bool = False) -> int:
        return self._do(data_task("write", buffers, offset_bytes, fua=fua))

    def flush(self) -> None:
        self._do(Task("flush"))

    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        self._do(range_task("discard", length_bytes, offset_bytes))

    def write_zeroes(
        self, length_bytes: int, offset_bytes: int, *, may_unmap: bool = True, fua: bool = False
    ) -> None:
        self._do(zeroes_task(length_bytes, offset_bytes, may_unmap, fua))

    def block_status(
        self, length_bytes: int | None = None, offset_bytes: int = 0
    ) -> Iterator[Extent]:
        """What the range is made of, to its end or the volume's; neighbours of a kind are one."""
        size_bytes = self.size_bytes
        start = min(count(offset_bytes, "offset_bytes"), size_bytes)
        length = size_bytes if length_bytes is None else count(length_bytes, "length_bytes")
        end = min(start + length, size_bytes)
        # Requests are of whole blocks, also where the volume ends within one.
        slack = -end % self.limits.block_bytes if end == size_bytes else 0
        return _merged(self._extents(start, end, slack))

    def _extents(self, offset_bytes: int, end: int, slack: int) -> Iterator[Extent]:
        while offset_bytes < end:
            task = range_task("block-status", end - offset_bytes + slack, offset_bytes)
            self._do(task)
            if not task.extents:
                return  # it has become shorter meanwhile
            for one in task.extents:
                hole, zero = one.flags & wire.EXTENT_HOLE, one.flags & wire.EXTENT_ZERO
                length = min(one.length_bytes, end - offset_bytes)
                yield Extent(offset_bytes, length, bool(hole), bool(zero))
                offset_bytes += length

    def batch(self, requests: Sequence[Request], *, check: bool = True) -> list[int]:
        """Many requests, in flight together; their results in order.

        With check the first failure is raised, an OSError with all results in its attribute
        `results`; without, a failed one's result is -errno.
        """
        tasks = [task_of(request) for request in requests]
        self._run(tasks)
        results = [task.result or 0 for task in tasks]
        for task, result in zip(tasks, results, strict=True):
            if check and result < 0:
                error = self._error(task, result)
                error.results = results  # type: ignore[attr-defined]
                raise error
        return results

    def file(self, mode: str | None = None) -> File:
        """The volume as a raw binary file, see File."""
        self._check_open()
        return File(self, mode)

    def buffer(self, length_bytes: int) -> Buffer:
        """Memory in the arena, see Buffer.  OSError ENOMEM when the arena is full."""
        self._check_open()
        if count(length_bytes, "length_bytes") == 0:
            raise ValueError("a buffer has at least one byte")
        with self._turn:
            part = self._place.arena.allocate(length_bytes, wire.PAGE_BYTES)
        if part is None:
            reason = "the arena is full: release buffers, or open with more arena_bytes"
            raise OSError(errno.ENOMEM, reason)
        arena, buffers = self._place.arena, self._place.buffers
        address: list[int] = []

        def give_back() -> None:
            for one in address:
                buffers.remove(one)
            arena.free(part)

        made = Buffer(
            self._region.fd, length_bytes, self._region.layout.arena_offset + part.offset, give_back
        )
        address.append(flat(made, writable=True).address)
        buffers.add(address[0], part)
        return made

    # ---- tasks through the queue ----

    def _do(self, task: Task) -> int:
        self._run([task])
        assert task.result is not None
        if task.result < 0:
            raise self._error(task, task.result)
        return task.result

    def _error(self, task: Task, result: int) -> OSError:
        if not self._session.alive and -result == self._session.over().errno:
            return self._session.over()
        what = f"{task.name} of {task.length_bytes} bytes at {task.offset_bytes}"
        return OSError(-result, f'{what} of volume "{self._name}": {os.strerror(-result)}')

    def _run(self, tasks: list[Task]) -> None:
        """Do them all.  Only what ends the session, or the caller's patience, is raised."""
        with self._turn:
            self._check_open()
            if not self._session.alive:
                self._fail_all(tasks)
                return
            for task in tasks:
                task.settle(self._limits, self.size_bytes, self._writable)
            waiting = deque(task for task in tasks if task.result is None)
            try:
                while any(task.result is None for task in tasks):
                    self._submit(waiting)
                    if self._in_flight:
                        self._wait()
                        waiting.extend(self._reap())
            finally:
                for task in tasks:
                    task.abandoned = task.result is None

    def _submit(self, waiting: deque[Task]) -> None:
        """As many pieces as there is room for, published together (section 6, rule 1)."""
        pushed = False
        while waiting and len(self._in_flight) < self._limits.depth:
            alone = not self._in_flight
            piece = waiting[0].next_piece(self._limits, self._place, alone=alone)
            if piece is None and not alone:
                break
            waiting.popleft()
            if piece is not None:
                self._user_data += 1
                entry = wire.pack("sqe", user_data=self._user_data, **piece.entry)
                self._in_flight[self._user_data] = piece
                self._queue.push(entry)
                pushed = True
        if pushed:
            self._queue.publish()

    def _wait(self) -> None:
        """Until there are completions, or the session is over (section 12.2, rule 1)."""
        try:
            while self._session.alive and not self._queue.cq.available():
                socket_fd = self._session.socket.fileno()
                if socket_fd in self._queue.sleep(socket_fd):
                    self._drain()
        except ImpossibleIndex:
            self._session.violated("an impossible completion index")

    def _reap(self) -> list[Task]:
        """Handle the completions that are there; tasks that have another piece to do."""
        unfinished = []
        try:
            completions = self._queue.reap()
        except ImpossibleIndex:
            self._session.violated("an impossible completion index")
            completions = []
        for completion in completions:
            task = self._complete(completion)
            if task is not None and task.result is None and not task.abandoned:
                unfinished.append(task)
        if not self._session.alive:
            self._fail_all(unfinished)
            unfinished.clear()
        return unfinished

    def _complete(self, completion: Completion) -> Task | None:
        piece = self._in_flight.pop(completion.user_data, None)
        if (
            piece is None
            or completion.resv
            or not piece.task.finish_piece(piece, completion.result, self._place.view)
        ):
            self._session.violated("an impossible completion")
        if piece is None:
            return None
        if piece.held is not None:
            self._place.arena.free(piece.held)
        return piece.task

    def _fail_all(self, unfinished: list[Task]) -> None:
        """Section 12.2, rule 3: each exactly once."""
        for task in [*unfinished, *(piece.task for piece in self._in_flight.values())]:
            if task.result is None:
                task.result = -(self._session.over().errno or errno.ENOTCONN)
        for piece in self._in_flight.values():
            if piece.held is not None:
                self._place.arena.free(piece.held)
        self._in_flight.clear()


# ---- pieces of the above that need no volume ----


def _session(socket_path: str) -> Session:
    """The server was there before: that its socket is not is no word about the volume."""
    try:
        return Session(socket_path)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise OSError(errno.ENOTCONN, error.strerror) from None


def _mode(writable: bool) -> int:
    return tables.MODES["WRITE" if writable else "READ"]


def _is_doorbell(fd: int) -> bool:
    """Writing to a pipe could kill us and reading from one stop us: insist on an eventfd."""
    anonymous = stat.S_IFMT(os.fstat(fd).st_mode) == 0
    return anonymous and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def _limits(hello: Any, reply: Any, arena_bytes: int) -> Limits:
    """Lengths that are multiples of the block size, so that pieces are aligned when all is."""
    block = reply.block_bytes
    return Limits(
        block_bytes=block,
        request_bytes_max=hello.request_bytes_max // block * block,
        range_bytes_max=hello.range_bytes_max // block * block,
        depth=reply.depth,
        queues=reply.queues,
        arena_bytes=arena_bytes,
        capabilities=capability_names(hello.capabilities),
    )


def volume_info(session: Session, payload: bytes) -> VolumeInfo:
    info = wire.unpack("volume_info", payload)
    if not wire.has_nul(info.name):
        raise session.violated("a volume name without end")
    found: VolumeInfo = record(VolumeInfo, info)
    return found


def resize(session: Session, name: str, size_bytes: int) -> None:
    names.check_volume(name)
    names.check_size(name, count(size_bytes, "size_bytes"))
    session.call("RESIZE", wire.pack("msg_volume", name=name, size_bytes=size_bytes))


def _merged(extents: Iterator[Extent]) -> Iterator[Extent]:
    last: Extent | None = None
    for one in extents:
        if last is not None and (last.hole, last.zero) == (one.hole, one.zero):
            last = last._replace(length_bytes=last.length_bytes + one.length_bytes)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def _drop_copies() -> None:
    """In a child after fork: the parent's memory and descriptors are not for it."""
    for volume in list(_volumes):
        volume._session.inherited = True
        volume._turn = threading.RLock()
        volume.close()


os.register_at_fork(after_in_child=_drop_copies)
